"""The front: what each point costs from cold against its score."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench import report
from workbench.figures.style import COLOURS, SYMBOLS, ticks
from workbench.report import View
from workbench.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def front(results: Sequence[Result], view: View, *, title: str = "") -> Figure:
    """Cost from cold (logarithmic) against the score: every checkpoint, and the front as a staircase.

    A method has a colour and a shape; points of the front are large, dominated ones small and pale.
    """
    import plotly.graph_objects as go

    cost = view.minimize[0]
    members = report.front(results, view)
    on_front = {id(r) for r in members}
    points = [r for r in results if view.coordinates(r) is not None]
    figure = go.Figure()
    if members:
        stairs = [(view.cost(r, cost), r.scores[view.maximize]) for r in sorted(members, key=lambda r: view.cost(r, cost) or 0.0)]
        x, y = zip(*stairs, strict=True)
        figure.add_scatter(
            x=x, y=y, mode="lines", line={"shape": "hv", "color": "#555", "width": 1.5}, name="front", hoverinfo="skip"
        )
    for i, method in enumerate(sorted({r.method for r in points})):
        for kept in (True, False):
            group = [r for r in points if r.method == method and (id(r) in on_front) == kept]
            if group:
                named = kept or not any(r.method == method for r in members)
                figure.add_scatter(**_markers(group, view, cost, method, i, kept=kept), showlegend=named)
    marks = ticks([view.cost(r, cost) or 0.0 for r in points])
    money = cost.startswith("usd")
    figure.update_layout(
        title={"text": "<br>".join(textwrap.wrap(title, 80)), "font": {"size": 17}, "x": 0.01, "xanchor": "left"},
        template="plotly_white",
        width=1000,
        height=560,
        margin={"l": 70, "r": 30, "t": 80 if title else 30, "b": 60},
        legend={"title": "method (large: on the front)", "itemsizing": "trace"},
        xaxis={
            "type": "log",
            "title": f"{report.UNITS[cost]} of one run, from nothing to this checkpoint (logarithmic)",
            "tickvals": marks,
            "ticktext": [report.dollars(t) if money else report.number(t) for t in marks],
        },
        yaxis={"title": view.maximize, "rangemode": "tozero"},
        font={"size": 15},
    )
    return figure


def _markers(group: Sequence[Result], view: View, cost: str, method: str, i: int, *, kept: bool) -> dict[str, Any]:
    return {
        "x": [view.cost(r, cost) for r in group],
        "y": [r.scores[view.maximize] for r in group],
        "mode": "markers",
        "name": method,
        "legendgroup": method,
        "text": [f"trial {r.trial}: {report.describe(r)}" for r in group],
        "hovertemplate": "%{text}<br>%{y:.1f} for %{x}<extra></extra>",
        "marker": {
            "color": COLOURS[i % len(COLOURS)],
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "size": 14 if kept else 7,
            "opacity": 1.0 if kept else 0.35,
            "line": {"color": "#222", "width": 1 if kept else 0},
        },
    }
