"""Served models: the shares of classes over the rows that came, with the alarms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import COLOURS, DASHES, INK
from workbench.watching.alarms import Alarm
from workbench.watching.history import Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BLOCKS = 40
"""Points of a line, at most."""

FEWEST = 25
"""Rows of a point, at least."""

LINES = 6
"""The commonest classes have a line each."""


def class_shares(rows: Sequence[Row], alarms: Sequence[Alarm]) -> Figure:
    """Draw the share of each of the commonest classes, block by block, and a line at each alarm.

    Args:
        rows: The rows of one model whose answer is a class, the first one first.
        alarms: Its alarms.
    """
    import plotly.graph_objects as go

    size = max(FEWEST, -(-len(rows) // BLOCKS))
    blocks = [rows[at : at + size] for at in range(0, len(rows) - size + 1, size)]
    names = [name for name, _ in Counter(row.label for row in rows).most_common(LINES)]
    figure = go.Figure()
    for place, name in enumerate(names):
        figure.add_scatter(
            x=[(at + 1) * size for at in range(len(blocks))],
            y=[100 * sum(row.label == name for row in block) / size for block in blocks],
            mode="lines+markers",
            name=name,
            line={"color": COLOURS[place % len(COLOURS)], "width": 2, "dash": DASHES[place // 3 % len(DASHES)]},
            marker={"size": 5},
            hovertemplate="%{y:.0f} % until row %{x:,}<extra>%{fullData.name}</extra>",
        )
    for alarm in alarms:
        figure.add_vline(
            alarm.row,
            line={"color": INK, "dash": "dash"},
            annotation={"text": f"{alarm.label} {'rose' if alarm.rose else 'fell'}", "font": {"color": INK}},
        )
    figure.update_layout(
        xaxis={"title": "rows answered", "rangemode": "tozero"},
        yaxis={"title": f"% of {size} rows", "rangemode": "tozero"},
        legend={"title": "class", "orientation": "h", "y": -0.25},
        height=380,
        margin={"l": 60, "r": 20, "t": 30, "b": 60},
    )
    return figure
