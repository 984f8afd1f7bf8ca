"""Data size: quality against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import GREY
from workbench.front.label_curve import MORE, Best, Line
from workbench.front.objectives import View
from workbench.report.text import describe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def labels(groups: Mapping[str, Sequence[Best]], found: Line | None, view: View, looks: Mapping[str, tuple[str, str]]) -> Figure:
    """Draw the best score at each number of labels (logarithmic), a line for each group, and what more labels would add.

    Args:
        groups: The best points of each method or model.
        found: The line through the best of all; None where too few numbers of labels were tried.
        view: Prices and objectives.
        looks: Colour and symbol of each group.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    counts = sorted({best.labels for group in groups.values() for best in group})
    if found is not None:
        _line(figure, found, counts[0])
        counts.append(found.most + MORE)
    for name, group in groups.items():
        colour, symbol = looks[name]
        figure.add_scatter(
            x=[best.labels for best in group],
            y=[best.score for best in group],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2},
            marker={"symbol": symbol, "size": 11},
            text=[f"trial {best.point.trial}: {describe(best.point)}, the best of {best.points}" for best in group],
            hovertemplate="%{text}<br>%{y:.1f} with %{x:,} labels<extra></extra>",
        )
    best = max((best.score for group in groups.values() for best in group), default=0.0)
    top = 1 if best <= 1 else 100 if best <= 100 else None  # a band goes beyond what a score can be
    figure.update_layout(
        xaxis={
            "type": "log",
            "title": "labels used (logarithmic)",
            "tickvals": counts,
            "ticktext": [f"{count:,}" for count in counts],
        },
        yaxis={"title": f"best {view.maximize}"} | ({"range": [0, top * 1.03]} if top else {}),
        height=480,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
    )
    return figure


def _line(figure: Figure, found: Line, least: int) -> None:
    """Draw the line through the best points from the least number of labels on, and its band where it goes beyond them."""
    ahead = [found.most, found.most + MORE]
    at = [found.at(count) for count in ahead]
    figure.add_scatter(
        # A closed outline: along the lower ends of the band, and back along the upper ones.
        x=[*ahead, *ahead[::-1]],
        y=[*(each.low for each in at), *(each.high for each in at[::-1])],
        mode="lines",
        fill="toself",
        fillcolor="rgba(136,136,136,0.25)",
        line={"width": 0},
        hoverinfo="skip",
        name="95 % band",
    )
    # Three points are enough, as the line is straight over the logarithm of the labels.
    whole = [least, *ahead]
    figure.add_scatter(
        x=whole,
        y=[found.at(count).value for count in whole],
        mode="lines",
        line={"color": GREY, "dash": "dash", "width": 2},
        hoverinfo="skip",
        name="line through the best",
    )
