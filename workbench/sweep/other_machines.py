"""Unequal machines in one sweep: which run is left to another machine, since that makes it for less.

Each worker weighs runs at the offer of its own machine. Alone that would have a dear machine make dearly what a cheap one beside it
is about to make cheaply: so a run goes to the machine that makes it for the least, as far as that is known and the machine is at
work. What another machine takes is known by its Results: what they cost there, at the price that was paid, over the forecast of the
same work here. A run is judged by those of its model that are of like size, as a machine may make small runs for less and large
ones for more: where there are none nothing is known, and each machine makes such a run itself.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from workbench import prices
from workbench.result import COSTS, Result, same_machine
from workbench.study import Recipe
from workbench.sweep.job import Context

DEARER = 1.25
"""A run is left to another machine that makes it for less than its cost here over this factor: forecasts are off by as much."""

LIKE = 2.0
"""Runs whose whole costs here differ by no more than this factor are of like size."""

GONE_SECONDS = 60.0
"""A machine on which nobody was seen at work for so long is not waited for."""

Here = Callable[[Recipe, float], float | None]
"""What a recipe costs on this machine until so many epochs, in US$ of compute from cold, by its forecast; None: unknown."""


class OtherMachines:
    """The machines of other offers that work on the same sweep.

    Args:
        context: What the worker works with.
        here: Forecasts of this machine.
        clock: Seconds that only rise, of this machine: no other's clock is trusted.

    Attributes:
        left: Whether a run was left to another machine since `look` was called last.
    """

    def __init__(self, context: Context, here: Here, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._here, self._clock = context, here, clock
        self._seen: dict[str, float] = {}
        self._shares: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)  # the size of a run, and its share
        self._known: set[int | None] = set()
        self.left = False

    @property
    def at_work(self) -> set[str]:
        """The offers of other machines that are at work."""
        now = self._clock()
        return {offer for offer, seen in self._seen.items() if now - seen < GONE_SECONDS}

    def look(self, results: Sequence[Result]) -> None:
        """Take in what the ledger holds now, those being made included."""
        self.left, own = False, self._context.job.offer
        # Only a worker that may wait can leave something to others; and of labels or seconds no machine is cheaper.
        if (
            not (self._context.job.joined and self._context.job.standing.apart)
            or not COSTS[self._context.study.costs[0]].pays_compute
        ):
            return
        for r in results:
            if not r.offer or same_machine(r, own):
                continue
            if r.status == "running":
                self._seen[_name(r)] = self._clock()
            elif r.status == "complete" and r.number not in self._known and not r.elsewhere:
                self._known.add(r.number)
                self._learn(r)

    def cheaper(self, recipe: Recipe) -> bool:
        """Whether another machine at work makes a run for so much less that it is left to it."""
        known = [self._shares[key] for offer in self.at_work if (key := (offer, recipe.model_name)) in self._shares]
        size = self._size(recipe) if known else None
        if size is None:
            return False
        alike = [[share for other, share in of if abs(other - size) <= math.log(LIKE)] for of in known]
        found = any(statistics.median(shares) * DEARER < 1.0 for shares in alike if shares)
        self.left = self.left or found
        return found

    def _size(self, recipe: Recipe) -> float | None:
        """The logarithm of what a whole run costs here; None: unknown."""
        whole = self._here(recipe, recipe.epochs)
        return math.log(whole) if whole else None

    def _learn(self, r: Result) -> None:
        """Note what a Result cost on its machine, as a share of what it would cost here."""
        there = None if r.paid is None or not r.usage else prices.usd(r.alone, r.paid)
        if not there:
            return
        study = self._context.study
        recipe = study.resolve(study.longest(r.settings))
        here, size = self._here(recipe, r.epochs), self._size(recipe)
        if here and size is not None:
            self._shares[_name(r), r.model].append((size, there / here))


def _name(r: Result) -> str:
    return str(r.offer.get("name") or r.offer.get("id"))
