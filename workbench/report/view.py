"""Results seen at one offer and one price of a label: coordinates, front, hypervolume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench import pareto, prices
from workbench.estimate import Estimate
from workbench.prices import Offer
from workbench.result import Result, cost, estimate, spent_usd


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
        share_usd: US$ added to every point: its share of what the sweep has spent (see `spread`).
    """

    maximize: str
    minimize: tuple[str, ...]
    reference: Mapping[str, float]
    offer: Offer
    label_usd: float
    billed: bool = False
    share_usd: float = 0.0

    @classmethod
    def of(cls, description: Mapping[str, Any], offer: Offer, label_usd: float) -> View:
        """The view that a ledger's description asks for."""
        return cls(description["maximize"], tuple(description["minimize"]), description["reference"], offer, label_usd)

    def spread(self, results: Sequence[Result], adopted: int) -> View:
        """The same view with what the whole sweep has spent spread over so many adopted models, each on the bill of every point.

        What the sweep spent includes the point's own making; where the spend is unknown, so is every point's cost.
        """
        spent = spent_usd(results, self.offer, self.label_usd)
        return replace(self, share_usd=math.nan if spent is None else spent / adopted)

    def estimate(self, result: Result, name: str) -> Estimate | None:
        """One cost of a point at this view's prices, with its band; None where it is unknown."""
        found = estimate(result, name, self.offer, self.label_usd)
        if found is None or name not in ("usd", "usd_compute"):
            return found
        if self.billed:
            seconds, joules = (estimate(result, each, self.offer, self.label_usd) for each in ("seconds", "energy_j"))
            assert seconds is not None  # as dollars are known
            bill = prices.billed_usd(seconds.value, self.offer, energy_j=None if joules is None else joules.value)
            if bill is None:
                return None
            labels = result.labels * self.label_usd if name == "usd" else 0.0
            # Rounding up moves the ends of the band no further than its middle.
            more = bill + labels - found.value
            found = Estimate(bill + labels, found.low + more, found.high + more, found.basis, found.note)
        if self.share_usd:
            found = None if math.isnan(self.share_usd) else found + Estimate.exact(self.share_usd)
        return found

    def cost(self, result: Result, name: str) -> float | None:
        """One cost of a point at this view's prices; None where it is unknown."""
        if self.billed or self.share_usd:
            found = self.estimate(result, name)
            return None if found is None else found.value
        return cost(result, name, self.offer, self.label_usd)

    def coordinates(self, result: Result) -> tuple[float, ...] | None:
        """The point for dominance, everything minimised: minus the score, then the costs. None where one is unknown."""
        costs = [self.cost(result, name) for name in self.minimize]
        if result.status != "complete" or self.maximize not in result.scores or any(c is None for c in costs):
            return None
        return (-result.scores[self.maximize], *(c for c in costs if c is not None))


def front(results: Sequence[Result], view: View) -> list[Result]:
    """The points that no other dominates, cheapest first."""
    points = [(result, view.coordinates(result)) for result in results]
    known = [(result, point) for result, point in points if point is not None]
    kept = [known[i] for i in pareto.front([point for _, point in known])]
    return [result for result, _ in sorted(kept, key=lambda pair: (pair[1][1:], pair[1][0]))]


def cheapest(results: Sequence[Result], view: View) -> Result | None:
    """The point of the front that costs least in US$; None without a point."""
    return min(front(results, view), key=lambda r: view.cost(r, "usd") or 0.0, default=None)


def hypervolume(results: Sequence[Result], view: View) -> float:
    """Dominated volume in score x decades of cost (log10), below the study's reference point; 0 without a point.

    In logarithms a halving of cost counts the same at a cent as at a hundred dollars.
    """
    points = [view.coordinates(result) for result in results]
    reference = (-view.reference[view.maximize], *(_log(view.reference[name]) for name in view.minimize))
    return pareto.hypervolume([(p[0], *map(_log, p[1:])) for p in points if p is not None], reference)


def _log(value: float) -> float:
    return math.log10(max(value, 1e-12))
