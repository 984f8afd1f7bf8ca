"""How far a replay had come, at every amount spent: the hypervolume of its front against the best that the table holds."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DataError
from workbench.replay.simulation import Trace
from workbench.replay.tables import Table

Numbers = NDArray[np.float64]

CREDITS = ("checkpoints", "finished")
"""Which checkpoints are points of the front: every one, or only the last of a run that was trained
to its end.
"""

COST_SCALES = ("log", "linear")
"""Scales in which the hypervolume measures cost."""

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the budget at which the regret is told."""

AREA_FROM = 0.005
"""Share of the budget from which the area under the regret counts."""


class Staircase:
    """Hypervolume of a growing front, exact. Cost is minimised, quality maximised.

    Args:
        cost: The reference's, at which the front ends.
        quality: The reference's, below which nothing counts.
    """

    def __init__(self, cost: float, quality: float) -> None:
        self.volume = 0.0
        # Step i begins at `_costs[i]` and has the height `_qualities[i]`; both ends are sentinels.
        self._costs, self._qualities = [-math.inf, cost], [quality, math.inf]

    def add(self, cost: float, quality: float) -> float:
        """Add a point and return the growth of the hypervolume: 0 where it is dominated."""
        costs, qualities = self._costs, self._qualities
        at = bisect.bisect_right(costs, cost) - 1  # the last step that is as cheap
        if cost >= costs[-1] or quality <= qualities[at]:
            return 0.0
        end, growth, start = at + 1, 0.0, cost
        level = qualities[at]
        while True:  # over the steps that the new one covers
            growth += (costs[end] - start) * (quality - level)
            if qualities[end] > quality:
                break
            start, level = costs[end], qualities[end]
            end += 1
        first = at if costs[at] == cost else at + 1
        costs[first:end], qualities[first:end] = [cost], [quality]
        self.volume += growth
        return growth


@dataclass(frozen=True, eq=False)
class Goal:
    """The front that a table holds, and how it is measured: fixed before anything is run.

    The reference point is the 5 % quantile of all recorded qualities, at 1.0001 times the highest
    cost.

    Args:
        table: The pool.
        credit: What is a point of the front, out of `CREDITS`.
        cost: The scale of cost, out of `COST_SCALES`.
    """

    table: Table
    credit: str = "checkpoints"
    cost: str = "log"

    @cached_property
    def reference(self) -> tuple[float, float]:
        """Cost, in the table's unit, and quality."""
        # A little beyond the dearest point, or that one would dominate nothing.
        return 1.0001 * float(self.table.points[:, 0].max()), float(np.quantile(self.table.points[:, 1], 0.05))

    @cached_property
    def best(self) -> float:
        """Hypervolume of all points that count. Raises DataError when none is better than the reference."""
        stairs = self.stairs()
        for i, run in enumerate(self.table.runs):
            for stop, quality in enumerate(run.qualities):
                if self.counts(i, stop):
                    stairs.add(self.scale(float(run.costs[stop])), float(quality))
        if stairs.volume <= 0:
            raise DataError(f"{self.table.name} has no point to be found: none that counts is better than its 5 % quantile.")
        return stairs.volume

    def stairs(self) -> Staircase:
        """An empty front."""
        cost, quality = self.reference
        return Staircase(self.scale(cost), quality)

    def scale(self, cost: float) -> float:
        """A cost as the hypervolume measures it."""
        return math.log(cost) if self.cost == "log" else cost

    def counts(self, run: int, stop: int) -> bool:
        """Whether a checkpoint is credited."""
        record = self.table.runs[run]
        return self.credit == "checkpoints" or (not record.failed and stop == len(record.costs) - 1)

    def curve(self, trace: Trace) -> Curve:
        """The regret of a replay, whenever it fell."""
        stairs, spent, time, volume = self.stairs(), [0.0], [0.0], [0.0]
        for when, at, run, stop in zip(
            trace.spent.tolist(), trace.time.tolist(), trace.run.tolist(), trace.stop.tolist(), strict=True
        ):
            if self.counts(run, stop):
                record = self.table.runs[run]
                if stairs.add(self.scale(float(record.costs[stop])), float(record.qualities[stop])):
                    spent.append(when)
                    time.append(at)
                    volume.append(stairs.volume)
        # Growths are added one by one, and their rounding may pass the best.
        share = np.minimum(np.array(volume) / self.best, 1.0)
        return Curve(np.array(spent), np.array(time), 1.0 - share)


@dataclass(frozen=True, eq=False)
class Curve:
    """Normalised hypervolume regret, a step wherever it fell: from 1 with nothing to 0 with the table's whole front.

    Attributes:
        spent: What was spent by each step, increasing, the first 0.
        time: Virtual time of each step.
        regret: From then on.
    """

    spent: Numbers
    time: Numbers
    regret: Numbers

    def at(self, spent: Sequence[float] | Numbers) -> Numbers:
        """Return the regret after each of some amounts spent, in an array of their shape."""
        # Spending is a sum of floats: a checkpoint reached with the last cent counts.
        return self.regret[np.searchsorted(self.spent, np.asarray(spent) * (1 + 1e-9), side="right") - 1]

    def area(self, budget: float) -> float:
        """Mean regret over the logarithm of what was spent, from `AREA_FROM` of the budget to all of it: exact."""
        low = AREA_FROM * budget
        ends = np.unique(np.clip(np.append(self.spent, [low, budget]), low, budget))
        widths = np.diff(np.log(ends))
        return float((self.at(ends[:-1]) * widths).sum() / widths.sum())

    def reach(self, share: float) -> tuple[float, float] | None:
        """Return what was spent, and the virtual time, when the hypervolume reached a share of the
        best; None: it never did.
        """
        places = np.flatnonzero(self.regret <= 1.0 - share + 1e-12)
        return (float(self.spent[places[0]]), float(self.time[places[0]])) if len(places) else None
