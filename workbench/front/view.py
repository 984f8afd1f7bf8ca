"""Results seen at one offer and one price of a label: coordinates, front, hypervolume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench import prices
from workbench.estimate import Estimate
from workbench.prices import Offer
from workbench.result import Result, cost, estimate, spent_usd


def view_of(description: Mapping[str, Any], platform: str | None = None, label_usd: float | None = None) -> View:
    """The view of a study's Results at the prices asked for, else at those that `settings.origin` finds.

    Args:
        description: What the study's ledger noted of it.
        platform: The name of an offer; None where none was asked for.
        label_usd: The price of a labelled example in US$; None where none was asked for.

    Raises:
        UsageError: No offer has that name.
    """
    return View.of(description, prices.offer_of(platform, description), prices.label_usd_of(label_usd, description))


@dataclass(frozen=True)
class View:
    """Results seen at one offer and one price of a label.

    Attributes:
        maximize: The score.
        minimize: The costs.
        reference: The point of every objective that hypervolume is measured against, stored when the study was made.
        offer: What prices compute.
        label_usd: What a label costs, in US$.
        billed: Dollars as the platform bills one rental of the whole machine: its rounding, its minimum, all its GPUs.
        adopted: Over how many adopted models the sweep is spread (see `spread`); None for none of it.
        sweep_usd: What the sweep has spent on compute; None is unknown. Read with `adopted` alone.
    """

    maximize: str
    minimize: tuple[str, ...]
    reference: Mapping[str, float]
    offer: Offer
    label_usd: float
    billed: bool = False
    adopted: int | None = None
    sweep_usd: float | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any], offer: Offer, label_usd: float) -> View:
        """The view that a ledger's description asks for."""
        return cls(description["maximize"], tuple(description["minimize"]), description["reference"], offer, label_usd)

    def spread(self, results: Sequence[Result], adopted: int) -> View:
        """The same view with what the whole sweep has spent on compute spread over so many adopted models.

        A point's bill is then its own C + D, as if it were made from nothing once more, and `spent on compute / adopted` for having
        been found. Labels are in D alone: they are bought once. Where the spend is unknown, so is every point's bill.
        """
        return replace(self, adopted=adopted, sweep_usd=spent_usd(results, self.offer, 0.0))

    def estimate(self, result: Result, name: str) -> Estimate | None:
        """One cost of a point at this view's prices, with its band; None where it is unknown."""
        if name not in ("usd", "usd_compute") or not (self.billed or self.adopted):
            return estimate(result, name, self.offer, self.label_usd)
        compute = self._billed(result) if self.billed else estimate(result, "usd_compute", self.offer, self.label_usd)
        if compute is not None and self.adopted:
            compute = None if self.sweep_usd is None else compute + Estimate.exact(self.sweep_usd / self.adopted)
        labels = Estimate.exact(result.labels * self.label_usd if name == "usd" else 0.0)
        return None if compute is None else compute + labels

    def cost(self, result: Result, name: str) -> float | None:
        """One cost of a point at this view's prices; None where it is unknown."""
        if self.billed or self.adopted:
            found = self.estimate(result, name)
            return None if found is None else found.value
        return cost(result, name, self.offer, self.label_usd)

    def _billed(self, result: Result) -> Estimate | None:
        """US$ of compute as the platform bills it, at each end of the band."""
        seconds, joules = (estimate(result, each, self.offer, self.label_usd) for each in ("seconds", "energy_j"))
        if seconds is None:
            return None
        ends = [
            prices.billed_usd(getattr(seconds, end), self.offer, energy_j=None if joules is None else getattr(joules, end))
            for end in ("value", "low", "high")
        ]
        value, low, high = ends
        return None if value is None or low is None or high is None else Estimate(value, low, high, seconds.basis, seconds.note)

    def coordinates(self, result: Result) -> tuple[float, ...] | None:
        """The point for dominance, everything minimised: minus the score, then the costs.

        None where one is unknown; for a replicate: it tells of another point, and a front that took the best of several seeds
        would pick the lucky ones; and for a Result of other inputs than the study has now.
        """
        costs = [self.cost(result, name) for name in self.minimize]
        if (
            result.replicate_of is not None
            or result.outdated
            or result.status != "complete"
            or self.maximize not in result.scores
            or any(c is None for c in costs)
        ):
            return None
        return (-result.scores[self.maximize], *(c for c in costs if c is not None))
