"""The costs that a front can be drawn over, each in the unit that people read it in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workbench import prices
from workbench.front.view import View
from workbench.quantities import count, dollars, number
from workbench.result import Result


class Axis(NamedTuple):
    """A cost as an axis of a figure.

    Attributes:
        title: The name of the cost, with its unit.
        unit: The unit in which it is read.
        per_unit: How many of the stored unit are one of this unit: an hour is 3,600 seconds.
    """

    title: str
    unit: str
    per_unit: float = 1.0

    @property
    def money(self) -> bool:
        """Whether the cost is in US$."""
        return self.unit == "US$"

    @property
    def counted(self) -> bool:
        """Whether the cost is a number of things, which is never rounded."""
        return self.unit == "labels"

    def text(self, stored: float) -> str:
        """Write a stored amount in this unit: `$0.0021`, `0.35 kWh`, `1,024 labels`."""
        value = stored / self.per_unit
        if self.counted:
            return f"{count(value)} {self.unit}"
        return dollars(value) if self.money else f"{number(float(value))} {self.unit}"


AXES = {
    "usd": Axis("US$, compute + labels (C + D)", "US$"),
    "usd_compute": Axis("US$, compute alone (C)", "US$"),
    "gpu_seconds": Axis("GPU-hours", "GPU-hours", 3600.0),
    "energy_j": Axis("energy, kWh", "kWh", prices.JOULES_PER_KWH),
    "grams_co2e": Axis("g CO2e", "g CO2e"),
    "seconds": Axis("seconds", "s"),
    "labels": Axis("labels bought (D)", "labels"),
}
"""By the name of the cost, as `View.cost` takes it."""


def axes(results: Sequence[Result], view: View) -> list[str]:
    """Return the names of the costs that are known and not 0 for some point. The first cost of the view comes first."""
    points = [r for r in results if r.status == "complete"]
    asked = [
        name for name in AXES if name != "gpu_seconds" or view.offer.gpus
    ]  # elsewhere none is held: all points need not be asked
    known = [name for name in asked if name in view.minimize or any(view.cost(r, name) for r in points)]
    return sorted(known, key=lambda name: name not in view.minimize[:1])
