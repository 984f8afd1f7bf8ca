"""Methods and runs compared: what each method reaches as the budget grows, and how the score of a run grew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import COLOURS, SYMBOLS, cost_axis
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.report.axes import AXES
from workbench.report.text import describe
from workbench.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def by_method(points: Points) -> Figure:
    """Draw a staircase for each method: the best score within a budget (logarithmic). Dominated methods are shown too."""
    import plotly.graph_objects as go

    view, figure = points.view, go.Figure()
    name = view.minimize[0]
    axis = AXES[name]
    # A logarithmic axis has no place for what costs nothing.
    priced = sorted(
        ((cost / axis.per_unit, r.number or 0, r) for r in points.found if (cost := view.cost(r, name))), key=lambda p: p[:2]
    )
    for i, method in enumerate(sorted({r.method for r in points.found})):
        steps: list[tuple[float, float, Result]] = []
        for cost, _, r in priced:
            if r.method == method and (not steps or points.score(r) > steps[-1][1]):
                steps.append((cost, points.score(r), r))
        if not steps:
            continue
        # A larger budget still buys what a smaller one does:
        # each staircase goes on to the dearest point of all.
        if priced[-1][0] > steps[-1][0]:
            steps.append((priced[-1][0], steps[-1][1], steps[-1][2]))
        figure.add_scatter(
            x=[x for x, _, _ in steps],
            y=[y for _, y, _ in steps],
            text=[describe(r) for _, _, r in steps],
            mode="lines+markers",
            name=method,
            line={"shape": "hv", "color": COLOURS[i % len(COLOURS)], "width": 2},
            marker={"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8},
            hovertemplate="%{text}<br>%{y:.1f}<extra></extra>",
        )
    figure.update_layout(
        template="plotly_white",
        height=420,
        margin={"l": 60, "r": 20, "t": 30, "b": 60},
        legend={"title": {"text": "method"}},
        xaxis=cost_axis(axis, [x for x, _, _ in priced], f"budget for one model: {axis.title} (logarithmic)"),
        yaxis={"title": f"best {view.maximize} within it"},
        font={"size": 14},
    )
    return figure


def run_curve(runs: Sequence[Sequence[Result]], view: View) -> Figure:
    """Draw the score of every checkpoint against the epochs trained, a line for each run."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, segments in enumerate(runs):
        known = sorted((r for r in segments if view.maximize in r.scores), key=lambda r: r.epochs)
        figure.add_scatter(
            x=[r.epochs for r in known],
            y=[r.scores[view.maximize] for r in known],
            mode="lines+markers",
            name=f"run {segments[0].trial}",
            line={"color": COLOURS[i % len(COLOURS)], "width": 2},
            marker={"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 9},
            hovertemplate="%{y:.1f} after %{x} epochs<extra></extra>",
        )
    figure.update_layout(
        template="plotly_white",
        height=320,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        xaxis={"title": "epochs", "rangemode": "tozero"},
        yaxis={"title": view.maximize},
        font={"size": 14},
        showlegend=len(runs) > 1,
    )
    return figure


def phases(usd: dict[str, float], *, unit: str) -> Figure:
    """Draw one bar whose parts are the phases of a run, in their order."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, amount) in enumerate(usd.items()):
        figure.add_bar(
            x=[amount],
            y=[""],
            name=name,
            orientation="h",
            # The pattern says again what the colour says,
            # for those who cannot tell the colours apart.
            marker={"color": COLOURS[i % len(COLOURS)], "pattern": {"shape": ("", "/", ".", "x", "-", "\\", "|")[i % 7]}},
            hovertemplate=f"{name}: %{{x:.3g}} {unit}<extra></extra>",
        )
    figure.update_layout(
        template="plotly_white",
        barmode="stack",
        height=150,
        margin={"l": 10, "r": 20, "t": 10, "b": 40},
        # Without this plotly writes $0.0001 as $100μ.
        xaxis={"title": unit, "exponentformat": "none"},
        legend={"orientation": "h", "y": 1.4, "traceorder": "normal"},
        font={"size": 13},
    )
    return figure
