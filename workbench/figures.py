"""Figures of Results and replays for the browser. The only house of `plotly`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import report
from workbench.report import View
from workbench.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x")
"""The shape says again what the colour says."""

DASHES = ("solid", "dash", "dot")
"""Of lines: further methods take the colours again with another one."""


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
    ticks = _ticks([view.cost(r, cost) or 0.0 for r in points])
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
            "tickvals": ticks,
            "ticktext": [report.dollars(t) if money else report.number(t) for t in ticks],
        },
        yaxis={"title": view.maximize, "rangemode": "tozero"},
        font={"size": 15},
    )
    return figure


def regret(record: Mapping[str, Any]) -> Figure:
    """Any-time curves of `workbench replay`: a panel for each table and number of workers, a line for each method.

    Across: share of the budget spent (logarithmic). Up: mean hypervolume regret, from 1 with nothing to 0 with the best front.
    """
    from plotly.subplots import make_subplots

    protocol, tables = record["protocol"], [table["table"] for table in record["tables"]]
    panels = [(table, workers) for table in tables for workers in protocol["workers"]]
    titles = [f"{table}, {workers} worker{'' if workers == 1 else 's'}" for table, workers in panels]
    columns = len(protocol["workers"])
    figure = make_subplots(rows=len(tables), cols=columns, subplot_titles=titles, shared_xaxes=True, shared_yaxes=True)
    for row in record["results"]:
        at, method = panels.index((row["table"], row["workers"])), protocol["methods"].index(row["method"])
        line = {
            "color": COLOURS[method % len(COLOURS)],
            "dash": DASHES[method // len(COLOURS) % len(DASHES)],
            "width": 3 if row["method"] == protocol["against"] else 1.5,
            "shape": "hv",
        }
        more = {"name": row["method"], "legendgroup": row["method"], "showlegend": at == 0, "mode": "lines", "line": line}
        hover = "%{y:.3f} at %{x:.1%} of the budget"
        place = {"row": at // columns + 1, "col": at % columns + 1}
        figure.add_scatter(x=protocol["curve_shares"], y=row["curve"], hovertemplate=hover, **place, **more)
    figure.update_xaxes(type="log", tickvals=list(protocol["shares"]), tickformat=",.0%")
    figure.update_xaxes(title="share of the budget spent (logarithmic)", row=len(tables))
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title="hypervolume regret", col=1)
    figure.update_layout(template="plotly_white", width=max(700, 480 * columns), height=120 + 320 * len(tables), font={"size": 13})
    return figure


def write_html(figure: Figure, path: Path) -> None:
    """One file with everything in it, plotly.js too: it opens without a network."""
    path.write_text(figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False}), encoding="utf-8")


def _ticks(costs: Sequence[float]) -> list[float]:
    """1, 2 and 5 times each power of ten that the costs span: plotly would write $0.0001 as $100μ."""
    known = [c for c in costs if c > 0]
    if not known:
        return []
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5)]


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
