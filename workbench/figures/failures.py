"""Failures: where money went that bought no model, and what fitted into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import COLOURS
from workbench.quantities import duration, many
from workbench.report.failures import Failure, Fit, settings_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_VERDICTS = ("fits", "sometimes", "does not fit")
_SCALE = ("#009E73", "#E69F00", "#D55E00")


def failures(known: Sequence[Failure]) -> Figure:
    """Draw the seconds of work of each type of failure, stacked by phase."""
    import plotly.graph_objects as go

    figure = go.Figure()
    phases = list(dict.fromkeys(phase for failure in known for phase in failure.phases))
    for i, phase in enumerate(phases):
        seconds = [failure.phases[phase].seconds if phase in failure.phases else 0.0 for failure in known]
        figure.add_bar(
            y=[failure.kind for failure in known],
            x=seconds,
            orientation="h",
            name=phase,
            marker={"color": COLOURS[i % len(COLOURS)], "pattern": {"shape": ("", "/", "x", ".", "-", "+", "|")[i % 7]}},
            text=[duration(s) for s in seconds],
            # The text is for the pointer alone: most parts of a bar are too narrow for it.
            textposition="none",
            hovertemplate=f"%{{y}}, {phase}: %{{text}}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        xaxis={"title": "seconds of work that bought no model"},
        # Plotly puts the first category at the bottom; the dearest failure belongs on top.
        yaxis={"autorange": "reversed", "automargin": True},
        legend={"title": "phase", "traceorder": "normal"},
        showlegend=True,
        height=150 + 42 * len(known),
        margin={"l": 10, "r": 20, "t": 20, "b": 60},
    )
    return figure


def memory(known: Sequence[Fit]) -> Figure:
    """Draw which model (across) fits with which settings (down), in words and in colour."""
    import plotly.graph_objects as go

    models = sorted({fit.model for fit in known})
    rows = list(dict.fromkeys(settings_words(fit) for fit in sorted(known, key=lambda fit: fit.rank)))
    cells = {(settings_words(fit), fit.model): fit for fit in known}
    grid = [[cells.get((row, model)) for model in models] for row in rows]
    figure = go.Figure(
        go.Heatmap(
            x=models,
            y=rows,
            # What was never tried stays blank: it is neither fitting nor failing.
            z=[[None if fit is None else _VERDICTS.index(fit.verdict) for fit in row] for row in grid],
            text=[["" if fit is None else _cell(fit) for fit in row] for row in grid],
            texttemplate="%{text}",
            textfont={"color": "#000000"},
            zmin=0,
            zmax=2,
            colorscale=[[0, _SCALE[0]], [0.5, _SCALE[1]], [1, _SCALE[2]]],
            showscale=False,
            xgap=3,
            ygap=3,
            hoverinfo="skip",
        )
    )
    figure.update_layout(
        height=110 + 44 * len(rows),
        margin={"l": 10, "r": 20, "t": 30, "b": 20},
        # Named as categories, or plotly may take names
        # that look like numbers for positions on an axis.
        xaxis={"side": "top", "type": "category", "showgrid": False},
        yaxis={"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False},
    )
    return figure


def _cell(fit: Fit) -> str:
    peak = "" if fit.peak_bytes is None else f", {fit.peak_bytes / 2**30:.1f} GiB"
    tries = f"{fit.fitted} of " if fit.out_of_memory else ""
    return f"{fit.verdict}: {tries}{many(fit.fitted + fit.out_of_memory, 'run')}{peak}"
