"""The front of two costs: both, and the score, in space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.figures.style import COLOURS, GREY, INK, ticks
from workbench.front.points import Points
from workbench.report.axes import AXES, in_unit
from workbench.report.text import describe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SHAPES = ("circle", "square", "diamond", "cross", "x", "circle-open", "square-open")
"""Those that plotly has in space."""


def front_3d(points: Points) -> Figure:
    """Draw the first two costs of the view (logarithmic unless one is 0) against the score.

    Members of the front are large and have the colour and shape of their method; a stalk shows their place on the floor.
    """
    import plotly.graph_objects as go

    view, figure = points.view, go.Figure()
    names = view.minimize[:2]
    for i, method in enumerate(sorted({r.method for r in points.found})):
        for kept in (False, True):
            group = [r for r in points.found if r.method == method and points.on_front(r) == kept]
            if not group:
                continue
            x, y = ([in_unit(view, r, name) or 0.0 for r in group] for name in names)
            figure.add_scatter3d(
                x=x,
                y=y,
                z=[points.score(r) for r in group],
                mode="markers",
                name=method,
                legendgroup=method,
                # Each method once: by its members where it has some, else by its dominated points.
                showlegend=kept or all(r.method != method for r in points.members),
                text=[f"trial {r.trial}: {describe(r)}" for r in group],
                hovertemplate="%{text}<br>%{z:.1f}<extra></extra>",
                marker={
                    "size": 7 if kept else 3,
                    "color": COLOURS[i % len(COLOURS)] if kept else GREY,
                    "symbol": _SHAPES[i % len(_SHAPES)],
                    "opacity": 1.0 if kept else 0.5,
                    "line": {"color": INK, "width": 1 if kept else 0},
                },
                projection={"z": {"show": kept, "opacity": 0.3}},
            )
    scene: dict[str, Any] = {
        "zaxis": {"title": view.maximize},
        "camera": {"eye": {"x": 1.75, "y": 1.75, "z": 0.9}},
        "aspectmode": "cube",
    }
    for side, name in zip(("xaxis", "yaxis"), names, strict=True):
        costs = [in_unit(view, r, name) or 0.0 for r in points.found]
        scene[side] = {
            "title": AXES[name].title,
            # A model that was only asked can cost no labels at all, and 0 has no logarithm.
            "type": "log" if all(c > 0 for c in costs) else "linear",
            "tickvals": ticks(costs),
        }
    figure.update_layout(
        template="plotly_white",
        height=560,
        margin={"l": 0, "r": 0, "t": 10, "b": 0},
        scene=scene,
        legend={"title": {"text": "method"}},
    )
    return figure
