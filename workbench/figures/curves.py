"""Curves: quality as runs go on, one line a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import log_axis
from workbench.front.curves import ALONG, Curve
from workbench.front.objectives import View
from workbench.report.axes import AXES
from workbench.report.text import describe
from workbench.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def curves(shown: Sequence[Curve], view: View, axis: str, looks: Mapping[str, tuple[str, str]]) -> Figure:
    """Draw the score against how far runs had come (logarithmic), a line a run; lines with a member of the front are strong.

    Args:
        shown: The curves.
        view: Prices and objectives.
        axis: The axis that they run along, of `workbench.front.curves.ALONG` or `workbench.report.axes.AXES`.
        looks: Colour and symbol of each method (`workbench.figures.looks`).
    """
    import plotly.graph_objects as go

    cost = AXES.get(axis)
    per_unit = cost.per_unit if cost else 1.0
    figure = go.Figure()
    for method in sorted({curve.last.method for curve in shown}):  # the legend: strong, whatever line of it comes first
        colour, symbol = looks[method]
        style = {"line": {"color": colour, "width": 3}, "marker": {"symbol": symbol, "size": 10}}
        figure.add_scatter(x=[None], y=[None], mode="lines+markers", name=method, legendgroup=method, **style)
    for curve in sorted(shown, key=lambda curve: any(curve.on_front)):  # strong ones on top
        method, strong = curve.last.method, any(curve.on_front)
        colour, symbol = looks[method]
        figure.add_scatter(
            x=[x / per_unit for x in curve.x],
            y=curve.scores,
            mode="lines+markers",
            name=method,
            legendgroup=method,
            showlegend=False,
            # Paler lines cannot be seen on a dark page.
            opacity=1.0 if strong else 0.6,
            line={"color": colour, "width": 3 if strong else 1.2},
            marker={
                "symbol": symbol,
                "opacity": 1.0,  # with sizes of their own plotly would draw them pale
                "size": [13 if front else 6 for front in curve.on_front],
                "line": {"width": [1.5 if front else 0 for front in curve.on_front], "color": "#222"},
            },
            text=[_hover(r, front) for r, front in zip(curve.points, curve.on_front, strict=True)],
            hovertemplate="%{text}<br>%{y:.1f} at %{x}<extra></extra>",
        )
    figure.update_layout(
        xaxis=log_axis(
            [x / per_unit for curve in shown for x in curve.x],
            f"{cost.title if cost else ALONG[axis]} (logarithmic)",
            money=bool(cost and cost.money),
        ),
        yaxis={"title": view.maximize},
        legend={"title": "method (large: on the front)"},
        height=520,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
    )
    return figure


def _hover(point: Result, on_front: bool) -> str:
    return f"trial {point.trial}: {describe(point)}{', on the front' if on_front else ''}"
