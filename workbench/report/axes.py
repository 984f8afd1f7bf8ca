"""The costs that a front can be drawn over, each in the unit that people read it in."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.front.objectives import View
from workbench.result import COSTS, Result

AXES = {name: cost.axis for name, cost in COSTS.items() if cost.axis}
"""By the name of the cost, as `View.cost` takes it."""


def axes(results: Sequence[Result], view: View) -> list[str]:
    """Return the names of the costs that are known and not 0 for some point. The first cost of the view comes first."""
    points = [r for r in results if r.status == "complete"]
    # On a machine without a GPU none is held: all points need not be asked.
    asked = [name for name in AXES if name != "gpu_seconds" or view.offer.gpus]
    known = [name for name in asked if name in view.minimize or any(view.cost(r, name) for r in points)]
    return sorted(known, key=lambda name: name not in view.minimize[:1])


def in_unit(view: View, result: Result, name: str) -> float | None:
    """Return a cost of a point in the unit of its axis; None where it is unknown."""
    cost = view.cost(result, name)
    return None if cost is None else cost / AXES[name].per_unit
