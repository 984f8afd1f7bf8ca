"""The front: what each point costs from cold against its score."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.style import COLOURS, GREY, INK, SYMBOLS, cost_axis
from workbench.front.objectives import View
from workbench.front.points import Points, baselines
from workbench.report.answers import Pick, cost_text
from workbench.report.axes import AXES, in_unit
from workbench.report.text import describe
from workbench.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CLOUD = 2000
"""Where there are more dominated points than this, one is drawn for each spot of the figure. If
there are still more, the graphics card draws them, and the text under the pointer is short.
"""

NEAR = 0.05
"""Share of the scores' range within which the words on two lines would lie over each other."""

SPOTS = (90, 50)
"""Spots across and up, as many marks as have room beside each other. A browser without a GPU takes
seconds to draw 10,000 marks.
"""

_SAID = {
    "within": "best within the budget",
    "reaching": "cheapest that reaches the target",
    "best": "best",
    "tied": "as good, and cheaper",
    "nearly": "nearly as good, and cheaper",
}


def front(points: Points, *, title: str = "", hidden: Collection[str] = ()) -> Figure:
    """Draw cost from cold (logarithmic) against the score: every checkpoint, and the front as a staircase.

    Members of the front stand in a diamond, with the colour and shape of their method and, where new seeds tell it, a 95 %
    interval. Dominated points are grey. Baselines are dotted lines.

    Args:
        points: The points of a study. The first cost of their view is drawn.
        title: The title above the figure.
        hidden: Ids of the runs whose dominated points are left out.
    """
    import plotly.graph_objects as go

    view = points.view
    axis = AXES[view.minimize[0]]
    figure = go.Figure()
    if points.members:
        _stairs(figure, points)
    methods = sorted({r.method for r in points.found})
    dominated = [r for r in points.found if not points.on_front(r) and r.run_id not in hidden]
    legend = "method (grey: dominated)"
    if len(dominated) > CLOUD:
        dominated, legend = _thinned(dominated, points), "method (grey: dominated, one of each spot)"
    draw = go.Scattergl if len(dominated) > CLOUD else go.Scatter
    # Dominated points first: what is drawn later lies on top, and the front must not be hidden.
    for i, method in enumerate(methods):
        group = [r for r in dominated if r.method == method]
        if group:
            figure.add_trace(
                draw(_markers(group, points, i, kept=False), showlegend=all(m.method != method for m in points.members))
            )
    for i, method in enumerate(methods):
        group = [r for r in points.members if r.method == method]
        if group:
            figure.add_scatter(**_markers(group, points, i, kept=True), **_intervals(group, points))
    _baselines(figure, points)
    scores = [0.0, *map(points.score, points.found)]
    lines = textwrap.wrap(title, 80)
    figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 17}, "x": 0.01, "xanchor": "left"},
        template="plotly_white",
        width=1000,
        height=560,
        # Two lines of title fit into 80.
        margin={"l": 70, "r": 30, "t": 80 + 24 * max(0, len(lines) - 2) if lines else 30, "b": 70},
        legend={"title": {"text": legend}, "itemsizing": "trace"},
        xaxis=cost_axis(
            axis,
            [_cost(r, view) for r in points.found],
            f"{axis.title} (logarithmic)<br><sup>of one run, from nothing to this checkpoint</sup>",
        ),
        yaxis={"title": view.maximize, "range": [1.25 * min(scores), 1.25 * max(scores) or 1.0]},  # room for labels
        font={"size": 15},
        hovermode="closest",
    )
    return figure


def mark(
    figure: Figure,
    points: Points,
    *,
    budget: float | None = None,
    target: float | None = None,
    picks: Sequence[Pick] = (),
    chosen: Result | None = None,
) -> Figure:
    """Add what the reader asked: lines for budget and target, and a label at each point that answers.

    Args:
        figure: What `front` has drawn. It is changed.
        points: The points that it was drawn from.
        budget: What a point may cost, in the unit of the view's first cost; None for no limit.
        target: The score that a point must reach; None for none.
        picks: The points that the answer names (`workbench.report.answers.picks`).
        chosen: A point to put a ring around.
    """
    view = points.view
    axis = AXES[view.minimize[0]]
    line = {"color": INK, "width": 2, "dash": "dash"}
    if budget is not None:
        at = budget / axis.per_unit
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, yref="y domain", line=line)
        # On a logarithmic axis plotly wants the logarithm for
        # an annotation, and the amount itself for a shape.
        label = {"text": f"budget {axis.text(budget)}", "x": math.log10(at), "y": 1, "yref": "y domain", "textangle": 0}
        figure.add_annotation(**label, showarrow=False, xanchor="left", yanchor="top", xshift=4, font={"color": INK})
    if target is not None:
        figure.add_shape(type="line", x0=0, x1=1, xref="x domain", y0=target, y1=target, line=line)
        label = {"text": f"target {target:g}", "x": 1, "xref": "x domain", "y": target}
        figure.add_annotation(**label, showarrow=False, xanchor="right", yanchor="bottom", font={"color": INK})
    for pick in picks:
        figure.add_annotation(**_label(pick, points))
    if chosen is not None:
        ring = {"symbol": "circle-open", "size": 30, "color": "#D55E00", "line": {"width": 3}}
        x, y = [_cost(chosen, view)], [points.score(chosen)]
        figure.add_scatter(x=x, y=y, mode="markers", marker=ring, hoverinfo="skip", showlegend=False, name="chosen")
    return figure


def _cost(r: Result, view: View) -> float:
    return in_unit(view, r, view.minimize[0]) or 0.0


def _thinned(dominated: Sequence[Result], points: Points) -> list[Result]:
    """Return the last point at each spot of the figure: those below it would not be seen."""
    where = np.array([(math.log10(max(_cost(r, points.view), 1e-12)), points.score(r)) for r in dominated])
    # Points that all cost or score the same have no extent to divide by.
    spans = np.maximum(where.max(axis=0) - where.min(axis=0), 1e-12)
    spots = np.round((where - where.min(axis=0)) / spans * SPOTS).astype(int)
    return list({tuple(spot): r for spot, r in zip(spots.tolist(), dominated, strict=True)}.values())


def _stairs(figure: Figure, points: Points) -> None:
    # With two costs a member may be dominated in the
    # first one, and it is no step of this staircase.
    steps = sorted((_cost(r, points.view), points.score(r)) for r in points.members)
    x, y = [list(side) for side in zip(*steps, strict=True)]
    rising = [step for i, step in enumerate(steps) if all(step[1] > before[1] for before in steps[:i])]  # all of them, at one cost
    line = {"shape": "hv", "color": INK, "width": 1.5}
    across, up = [list(side) for side in zip(*rising, strict=True)]
    figure.add_scatter(x=across, y=up, mode="lines", line=line, name="front", hoverinfo="skip", showlegend=False)
    diamond = {"symbol": "diamond-open", "size": 20, "color": INK, "line": {"width": 1}}
    figure.add_scatter(x=x, y=y, mode="markers", marker=diamond, name="on the front", hoverinfo="skip")


def _markers(group: Sequence[Result], points: Points, i: int, *, kept: bool) -> dict[str, Any]:
    """Return one trace with the points of a method. `customdata` is the number in the ledger, for clicks."""
    view, axis = points.view, AXES[points.view.minimize[0]]
    said: dict[str, Any] = {
        "hovertemplate": f"trial %{{customdata}}<br>%{{y:.1f}} for %{{x:{',.0f' if axis.counted else '.3g'}}}<extra></extra>"
    }
    # A text of its own for each of thousands of points makes the page slow to load.
    if kept or len(points.found) <= CLOUD:
        costs = [axis.text(view.cost(r, view.minimize[0]) or 0.0) for r in group]
        said = {
            "text": [
                f"trial {r.trial}: {describe(r)}<br>{cost}{' (contended)' if r.contended else ''}"
                for r, cost in zip(group, costs, strict=True)
            ],
            "hovertemplate": f"%{{text}}<br>{view.maximize} %{{y:.1f}}<extra></extra>",
        }
    return said | {
        # Arrays are sent to the browser as binary data, lists as text.
        "x": np.array([_cost(r, view) for r in group], np.float32),
        "y": np.array([points.score(r) for r in group], np.float32),
        "customdata": np.array([-1 if r.number is None else r.number for r in group], np.int32),
        "mode": "markers",
        "name": group[0].method,
        "legendgroup": group[0].method,
        "marker": {
            "color": COLOURS[i % len(COLOURS)] if kept else GREY,
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "size": 10 if kept else 6,
            "opacity": 1.0 if kept else 0.5,
            "line": {"width": 0},
        },
        # Plotly fades whatever is not selected: a click on one point would make the others vanish.
        "selected": {"marker": {"opacity": 1.0}},
        "unselected": {"marker": {"opacity": 1.0 if kept else 0.5}},
    }


def _intervals(group: Sequence[Result], points: Points) -> dict[str, Any]:
    """Return error bars with the 95 % intervals over new seeds; none where no interval is known."""
    known = [points.confirmed.get(r.recipe_id) for r in group]
    ends = [
        None if k is None or k.score.low is None or k.score.high is None else (k.score.low, k.score.mean, k.score.high)
        for k in known
    ]
    if not any(ends):
        return {}
    above = [0.0 if e is None else e[2] - e[1] for e in ends]
    below = [0.0 if e is None else e[1] - e[0] for e in ends]
    return {"error_y": {"array": above, "arrayminus": below, "symmetric": False, "thickness": 1.5, "width": 5}}


def _baselines(figure: Figure, points: Points) -> None:
    scores, drawn = [*map(points.score, points.found)], list[float]()
    for name, r in baselines(points).items():
        y = points.score(r)
        figure.add_shape(
            type="line", x0=0, x1=1, xref="x domain", y0=y, y1=y, line={"color": INK, "width": 1, "dash": "dot"}, layer="below"
        )
        price = cost_text(points.view, r, points.view.minimize[0])
        text = f"{'best ' if name == 'full tuning' else ''}{name} {y:.1f} for {price}"
        # At the end of the line that the front is further from: it rises from the lower left to the upper right.
        high = y > max(scores) / 2
        place = {"x": 0 if high else 1, "xanchor": "left" if high else "right", "xref": "x domain", "y": y}
        # Of two lines that lie together the second is told of below.
        together = any(abs(y - other) < NEAR * (max(scores) - min(scores)) for other in drawn)
        place["yanchor"] = "top" if together else "bottom"
        drawn.append(y)
        figure.add_annotation(text=text, **place, showarrow=False, font={"size": 12, "color": INK})


def _label(pick: Pick, points: Points) -> dict[str, Any]:
    """Return a label with an arrow at a point. White on a dark ground can be read on a light page and on a dark one.

    It stands above the staircase, where no point can be: left of its own point, or over it where the figure begins.
    """
    view, r = points.view, pick.point
    cost = _cost(r, view)
    costs = [c for p in points.found if (c := _cost(p, view)) > 0]
    from_left = math.log(cost / min(costs)) / math.log(max(costs) / min(costs)) if cost > 0 and max(costs) > min(costs) else 0.0
    first = pick.why in ("within", "best")
    # Offsets in pixels. At the dear end the two labels of an
    # answer get places of their own, or they would overlap there.
    aside, above = (-70 if first else -115, -60 if first else -16) if from_left > 0.5 else (0, -60)
    price = cost_text(view, r, view.minimize[0])
    said = "no better than the commonest answer" if view.by_chance(r) else _SAID[pick.why]
    text = f"{said}<br><b>{view.maximize} {r.scores[view.maximize]:.1f} for {price}</b>"
    return {
        "text": text,
        "x": math.log10(cost) if cost > 0 else 0.0,
        "y": r.scores[view.maximize],
        "ax": aside,
        "ay": above,
        "arrowcolor": INK,
        "arrowwidth": 1.5,
        "standoff": 14,
        "bgcolor": "#333",
        "borderpad": 5,
        "font": {"color": "#fff", "size": 13},
        "align": "left",
    }
