"""Settings: their importance, the score by one of them, and all that vary side by side."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.figures.front import CLOUD
from workbench.figures.style import COLOURS, GREY
from workbench.front.importance import Effect, Importance, setting
from workbench.front.objectives import View
from workbench.quantities import number
from workbench.report.axes import AXES
from workbench.report.importance import short_name, swing_text
from workbench.report.text import describe
from workbench.result import Result

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SCALE = ((0.0, "#56B4E9"), (0.5, "#999999"), (1.0, "#D55E00"))
"""Low to high: seen on white and on black, and by the colour-blind."""

MOST_NAMED = 12
"""More values of a setting than this are not all named on its axis."""


def importance(found: Importance, view: View) -> Figure:
    """Draw the effect of each setting on the score (points) and on the cost (a factor), with its band.

    Full bars are significant, hatched ones are not.
    """
    from plotly.subplots import make_subplots

    titles = [f"{view.maximize}: points between worst and best value"]
    titles.append(f"{AXES[found.cost_name].unit}: factor between cheapest and dearest value")
    figure: Figure = make_subplots(cols=2, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.06)
    order = [effect.name for effect in found.quality][::-1]  # the first stands above
    named: set[bool] = set()  # kinds of bars that are in the legend already
    for column, effects in ((1, found.quality), (2, found.cost)):
        known = {effect.name: effect for effect in effects}
        for sure in (True, False):
            shown = [known[name] for name in order if known[name].sure is sure]
            if shown:
                unit = view.maximize if column == 1 else ""
                figure.add_bar(**_bars(shown, unit, sure=sure, first=sure not in named), col=column, row=1)
                named.add(sure)
    figure.update_yaxes(categoryorder="array", categoryarray=[short_name(name) for name in order])
    largest = max(effect.swing.high for effect in found.cost)
    every = (1, 1.5, 2, 3, 5) if largest < 6 else (1, 2, 5, 10, 20, 50, 100, 1000, 10000)
    marks = [m for m in every if m <= 1.3 * largest]
    figure.update_xaxes(col=2, tickvals=[math.log10(m) for m in marks], ticktext=[f"x {m:g}" for m in marks])
    figure.update_layout(
        barmode="overlay",
        height=140 + 42 * len(order),
        margin={"l": 10, "r": 20, "t": 50, "b": 40},
        legend={"orientation": "h", "y": -0.12 - 0.3 / len(order), "x": 0},
    )
    return figure


def _bars(effects: Sequence[Effect], unit: str, *, sure: bool, first: bool) -> dict[str, Any]:
    # A factor is drawn as its logarithm on a linear axis, so that bars stand
    # on a factor of 1. On an axis of logarithms they would have no foot.
    write = (lambda x: x) if unit else (lambda x: math.log10(max(x, 1.0)))
    values = [write(effect.swing.value) for effect in effects]
    return {
        "y": [short_name(effect.name) for effect in effects],
        "x": values,
        "orientation": "h",
        "name": "told apart from chance" if sure else "could be chance",
        "legendgroup": str(sure),
        "showlegend": first,
        "marker": {
            "color": COLOURS[0] if sure else GREY,
            "opacity": 1.0 if sure else 0.55,
            "pattern": {"shape": "" if sure else "/"},
        },
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [write(e.swing.high) - v for e, v in zip(effects, values, strict=True)],
            "arrayminus": [v - write(e.swing.low) for e, v in zip(effects, values, strict=True)],
            "color": GREY,
            "thickness": 1.5,
        },
        "text": [f"{swing_text(effect, unit)}, best: {number(effect.best)}" for effect in effects],
        "textposition": "none",
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }


def by_setting(
    points: Sequence[Result], view: View, name: str, looks: Mapping[str, tuple[str, str]], members: Collection[str] = ()
) -> Figure:
    """Draw the score by one setting: the best checkpoint of each run that has the setting, members of the front large.

    Args:
        points: The points to draw (`workbench.front.importance.best_of_runs`).
        view: Prices and objectives.
        name: Path of the setting, or `epochs`.
        looks: Colour and symbol of each method.
        members: Recipe ids of the members of the front.
    """
    import plotly.graph_objects as go

    values = [setting(r, name) for r in points]
    numbers = all(isinstance(value, (int, float)) for value in values)
    figure = go.Figure()
    # As in the front: beyond this many marks only the graphics card is quick enough.
    draw = figure.add_scattergl if len(points) > CLOUD else figure.add_scatter
    for method in sorted({r.method for r in points}):
        group = [r for r in points if r.method == method]
        colour, symbol = looks[method]
        draw(
            x=[setting(r, name) if numbers else str(setting(r, name)) for r in group],
            y=[r.scores[view.maximize] for r in group],
            mode="markers",
            name=method,
            marker={
                "color": colour,
                "symbol": symbol,
                "size": [13 if r.recipe_id in members else 8 for r in group],
                "opacity": 1.0,
                "line": {"width": [1.5 if r.recipe_id in members else 0 for r in group], "color": "#222"},
            },
            text=[f"trial {r.trial}: {describe(r)}" for r in group],
            hovertemplate="%{text}<br>%{y:.1f}<extra></extra>",
        )
    axis: dict[str, Any] = {"title": short_name(name)}
    if numbers and values:
        low, high = min(values), max(values)
        distinct = sorted(set(values))
        # Learning rates span decades, numbers of layers do not.
        axis |= {"type": "log"} if low > 0 and high > 4 * low else {}
        if len(distinct) <= MOST_NAMED:
            axis |= {"tickvals": distinct, "ticktext": [number(value) for value in distinct]}
    else:
        axis |= {"type": "category", "categoryorder": "array", "categoryarray": sorted({str(value) for value in values})}
    figure.update_layout(
        xaxis=axis,
        yaxis={"title": f"{view.maximize}, best checkpoint of each run"},
        legend={"title": "method (large: on the front)"},
        height=420,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
    )
    return figure


def parallel(points: Sequence[Result], view: View, names: Sequence[str], cost: str) -> Figure:
    """Draw one line for the best checkpoint of each run, across all settings that vary, its cost and its score.

    The score is the colour of the line too. Settings that all methods call by one name, such as the learning rate, share an
    axis. A setting that a run does not have is a dash at the foot of its axis.
    """
    import plotly.graph_objects as go

    scores = [r.scores[view.maximize] for r in points]
    least = min((amount for r in points if (amount := view.cost(r, cost))), default=1.0)
    costs = [math.log10(view.cost(r, cost) or least) for r in points]  # a logarithm has no place for what costs nothing
    axes = [_axis(label, [_first(r, same) for r in points]) for label, same in _merged(names).items()]
    low, high = (min(costs), max(costs)) if costs else (0.0, 1.0)
    marks = [low + (high - low) * i / 3 for i in range(4)]
    write = AXES[cost].text
    axes.append({"label": AXES[cost].unit, "values": costs, "tickvals": marks, "ticktext": [write(10**mark) for mark in marks]})
    axes.append({"label": view.maximize, "values": scores})
    figure = go.Figure(
        go.Parcoords(
            dimensions=axes,
            line={"color": scores, "colorscale": _SCALE, "showscale": True, "colorbar": {"title": view.maximize}},
            labelside="bottom",
            labelfont={"size": 14},
            tickfont={"size": 13},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # the ticks say it
            unselected={"line": {"opacity": 0.08}},
        )
    )
    figure.update_layout(height=480, margin={"l": 60, "r": 30, "t": 30, "b": 90})
    return figure


def _merged(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the settings by the label of their axis: settings of several methods that have one name share it."""
    groups: dict[str, list[str]] = {}
    for name in names:
        # A setting of the task keeps its whole path: its last part
        # may be that of a method's setting with another meaning.
        groups.setdefault(name if name.startswith("task.") else name.rsplit(".", 1)[-1], []).append(name)
    return {short_name(same[0] if len(same) == 1 else last): same for last, same in groups.items()}


def _first(point: Result, names: Sequence[str]) -> Any:
    """Return the value of the first of these settings that a point has."""
    return next((value for name in names if (value := setting(point, name)) is not None), None)


def _axis(label: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return an axis: numbers in their logarithm where they span more than a factor of 4, other values in turn, a dash for none."""
    known = [value for value in values if value is not None]
    # Parallel coordinates have linear axes only: logarithms and words are
    # turned into positions here, and the ticks say what they stand for.
    place: dict[Any, float]
    if all(isinstance(value, (int, float)) for value in known):
        distinct = sorted(set(known))
        log = bool(distinct) and distinct[0] > 0 and distinct[-1] > 4 * distinct[0]
        place = {value: math.log10(value) if log else float(value) for value in distinct}
    else:
        place = {value: float(i) for i, value in enumerate(sorted(set(known), key=str))}
    named = list(place) if len(place) <= MOST_NAMED else [list(place)[round(i * (len(place) - 1) / 5)] for i in range(6)]
    least, most = min(place.values(), default=0.0), max(place.values(), default=1.0)
    nothing = least - 0.2 * ((most - least) or 1.0)
    ticks = {place[value]: number(value) for value in named} | ({nothing: "–"} if None in values else {})
    at = [nothing if value is None else place[value] for value in values]
    return {"label": label, "values": at, "tickvals": list(ticks), "ticktext": list(ticks.values())}
