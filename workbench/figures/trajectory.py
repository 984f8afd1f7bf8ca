"""Progress: hypervolume against spend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import COLOURS
from workbench.front.trajectory import Stage
from workbench.quantities import dollars, duration

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def course(stages: Sequence[Stage]) -> Figure:
    """Draw the front's hypervolume against the spend: in US$, or in seconds of work where US$ are unknown."""
    import plotly.graph_objects as go

    # Spending adds up: after one unknown sum all later ones are unknown too.
    money = all(stage.usd is not None for stage in stages)
    last = len(stages) - 1
    # Results that leave the hypervolume as it is lie on a step that is drawn already.
    kept = [s for i, s in enumerate(stages) if i in (0, last) or s.hypervolume > stages[i - 1].hypervolume]
    words = [dollars(stage.usd) if money else duration(stage.seconds) for stage in kept]
    figure = go.Figure()
    figure.add_scatter(
        x=[stage.usd if money else stage.seconds for stage in kept],
        y=[stage.hypervolume for stage in kept],
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS[0], "width": 2.5},
        marker={"size": 6},
        text=[f"{spent} spent, trial {stage.result.trial}" for spent, stage in zip(words, kept, strict=True)],
        hovertemplate="%{text}: %{y:.1f}<extra></extra>",
    )
    axis = {"title": "US$ spent", "tickprefix": "$", "exponentformat": "none"} if money else {"title": "seconds of work"}
    figure.update_layout(
        xaxis=axis | {"rangemode": "tozero", "exponentformat": "none"},
        yaxis={"title": "hypervolume (score x decades of cost)", "rangemode": "tozero"},
        showlegend=False,
        height=360,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
    )
    return figure
