"""What all figures share: colours, shapes, ticks, and the file that holds everything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.quantities import dollars, number
from workbench.result import Axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""

GREY, INK = "#9A9A9A", "#808080"
"""The colours of dominated points and of lines and texts. Both can be seen on a white page and on a
dark one.
"""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x")
"""The shape says again what the colour says."""

DASHES = ("solid", "dash", "dot")
"""Styles of lines. Methods beyond the number of colours take the colours again with the next
style.
"""

MOST_TICKS = 10


def looks(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and symbol of each method, the same for the same methods in all figures."""
    names = sorted(set(methods))
    count = len(COLOURS)
    # After each round of colours the shapes move on by
    # one, so that 49 methods have a pair of their own.
    return {name: (COLOURS[i % count], SYMBOLS[(i + i // count) % count]) for i, name in enumerate(names)}


def log_axis(values: Sequence[float], title: str, *, money: bool) -> dict[str, Any]:
    """Return a logarithmic axis with its ticks written out."""
    known = [value for value in values if value > 0]
    every = ticks(known)
    marks = [mark for mark in every if min(known) / 2 <= mark <= max(known) * 2]
    marks = [mark for mark in every[::3] if mark in marks] if len(marks) > MOST_TICKS else marks  # powers of ten alone
    write = dollars if money else number
    return {"type": "log", "title": title, "tickvals": marks, "ticktext": [write(mark) for mark in marks]}


def cost_axis(axis: Axis, amounts: Sequence[float], title: str) -> dict[str, Any]:
    """Return a logarithmic axis of a cost: its amounts are in its unit, and so are the ticks."""
    marks = ticks(amounts)
    written = [axis.text(mark * axis.per_unit).removesuffix(f" {axis.unit}") for mark in marks]
    return {"type": "log", "title": title, "tickvals": marks, "ticktext": written}


def html(figure: Figure) -> str:
    """Return one page with everything in it, plotly.js too. It needs no network, and is as wide as its window."""
    # A copy: the caller's figure keeps its width.
    fluid = type(figure)(figure).update_layout(width=None)
    return str(fluid.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False, "responsive": True}))


def write_html(figure: Figure, path: Path) -> None:
    """Write the page of `html` to a file."""
    path.write_text(html(figure), encoding="utf-8")


def ticks(costs: Sequence[float]) -> list[float]:
    """Return 1, 2 and 5 times each power of ten that the costs span.

    The caller writes them out, since plotly itself would write $0.0001 as $100μ.
    """
    known = [c for c in costs if c > 0]
    if not known:
        return []
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5)]
