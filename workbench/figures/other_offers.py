"""Prices: what one quality costs at each offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import COLOURS, GREY, SYMBOLS, log_axis
from workbench.quantities import banded, dollars
from workbench.report.other_offers import Elsewhere
from workbench.report.text import describe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TERMS = {"owned": "one's own", "on_demand": "on demand", "reserved": "reserved", "spot": "spot"}


def elsewhere(found: Sequence[Elsewhere], here: str) -> Figure:
    """Draw the US$ at each offer (logarithmic) with their bands, the cheapest on top; colour and shape are the offer's terms.

    Args:
        found: The offers, cheapest first.
        here: The id of the offer that the page is at: its name is bold.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (term, words) in enumerate(TERMS.items()):
        group = [each for each in found if each.offer.commitment == term]
        if group:
            figure.add_scatter(
                x=[each.usd.value for each in group],
                y=[_name(each, here) for each in group],
                mode="markers",
                name=words,
                marker={"color": COLOURS[i], "symbol": SYMBOLS[i], "size": 12},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [each.usd.high - each.usd.value for each in group],
                    "arrayminus": [each.usd.value - each.usd.low for each in group],
                    "color": GREY,
                    "thickness": 1.5,
                },
                text=[f"{banded(e.usd, dollars)}: trial {e.point.trial}, {describe(e.point)}" for e in group],
                hovertemplate="%{y}<br>%{text}<extra></extra>",
            )
    values = [value for each in found for value in (each.usd.low, each.usd.high)]
    figure.update_layout(
        xaxis=log_axis(values, "US$ of one model, from nothing (logarithmic)", money=True),
        # Plotly counts categories from the bottom.
        yaxis={"categoryorder": "array", "categoryarray": [_name(each, here) for each in found][::-1], "automargin": True},
        legend={"title": "terms", "orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        height=130 + 28 * len(found),
        margin={"l": 10, "r": 20, "t": 50, "b": 60},
    )
    return figure


def _name(each: Elsewhere, here: str) -> str:
    name = f"{each.offer.name} ({each.offer.gpu or 'no GPU'})"
    return f"<b>{name}</b>" if each.offer.id == here else name
