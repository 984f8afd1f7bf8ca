"""What turns a Result into a point: a study's objectives, and the prices at which they are seen.

A Result holds what was measured. A `View` adds which score and which costs count, the priced machine
and the price of a label: with these a Result has costs, and coordinates among other points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench import prices
from workbench.estimate import Estimate, total
from workbench.prices import Offer
from workbench.result import COSTS, Result, costs, spent_usd

PAID = "paid"
"""The name of a view in which each point has the price that was paid on its own machine: of a sweep on unequal machines."""


def view_of(description: Mapping[str, Any], platform: str | None = None, label_usd: float | None = None) -> View:
    """The view of a study's Results at the prices asked for, else at those that `settings.origin` finds.

    Args:
        description: What the study's ledger noted of it.
        platform: The name of an offer, or `PAID`; None where none was asked for.
        label_usd: The price of a labelled example in US$; None where none was asked for.

    Raises:
        UsageError: No offer has that name.
    """
    own = platform == PAID
    offer = prices.offer_of(None if own else platform, description)
    return replace(View.of(description, offer, prices.label_usd_of(label_usd, description)), own=own)


@dataclass(frozen=True)
class View:
    """The objectives of a study, and the prices at which its Results are seen.

    Attributes:
        maximize: Name of the score that is maximised.
        minimize: Names of the costs that are minimised, at least one.
        reference: The reference point of the hypervolume, by the names of the objectives. It is stored when the study
            is made, so that hypervolumes of one study can be compared.
        offer: The priced machine.
        label_usd: Price of one labelled example in US$, at least 0.
        billed: Whether US$ are those that the platform bills for one rental of the whole machine: rounded up, with
            its minimum, and for all GPUs.
        adopted: The number of adopted models over which the compute of the whole sweep is amortised
            (see `amortized_over`); None where none of it is added.
        sweep_usd: What the sweep has spent on compute in US$; None where that is unknown. It is read only where
            `adopted` is given.
        require: Bounds that a member of the front keeps, as `Study.bounds` gives them.
        own: Whether what was made on another machine than the offer's is priced as it was paid there, and not carried over.
        grading: What grades the points, as `workbench.sweep.graded_by` tells it; empty where that is unknown.
    """

    maximize: str
    minimize: tuple[str, ...]
    reference: Mapping[str, float]
    offer: Offer
    label_usd: float
    billed: bool = False
    adopted: int | None = None
    sweep_usd: float | None = None
    require: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    own: bool = False
    grading: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, description: Mapping[str, Any], offer: Offer, label_usd: float) -> View:
        """The view that a ledger's description asks for."""
        named = description["maximize"], tuple(description["minimize"]), description["reference"]
        require, grading = description.get("require") or {}, description.get("grading") or {}
        return cls(*named, offer, label_usd, require=require, grading=grading)

    def amortized_over(self, adopted: int, results: Sequence[Result]) -> View:
        """Return this view with the sweep's own compute added to every bill, amortised over so many adopted models.

        The US$ of a point are then its compute + labels from cold, plus `spent on compute / adopted`
        for having been found. The sweep's labels are not added: they are bought once, and a point's
        own are counted already. If the spend is unknown, the US$ of every point are unknown.

        Args:
            adopted: Number of models that will be used, at least 1.
            results: All Results of the study.
        """
        return replace(self, adopted=adopted, sweep_usd=spent_usd(results, self.offer, 0.0))

    def estimate(self, result: Result, name: str) -> Estimate | None:
        """Return one cost of a point with its band, in the unit that its name says; None where it is unknown."""
        if not COSTS[name].pays_compute or not (self.billed or self.adopted):
            return costs.estimate(result, name, self.offer, self.label_usd, own=self.own)
        if self.billed:
            compute = self._billed(result)
        else:
            compute = costs.estimate(result, "usd_compute", self.offer, self.label_usd, own=self.own)
        if compute is not None and self.adopted:
            compute = None if self.sweep_usd is None else compute + Estimate.exact(self.sweep_usd / self.adopted)
        labels = Estimate.exact(COSTS[name].of_labels(result.labels, self.label_usd) or 0.0)
        return None if compute is None else compute + labels

    def cost(self, result: Result, name: str) -> float | None:
        """Return one cost of a point in the unit that its name says; None where it is unknown.

        It is the value of `estimate`.
        """
        if self.billed or self.adopted:
            found = self.estimate(result, name)
            return None if found is None else found.value
        # Not by `estimate`: this is asked of every point of every table and figure, and
        # `costs.cost` prices a point on the machine it ran on without making a band.
        return costs.cost(result, name, self.offer, self.label_usd, own=self.own)

    def offer_for(self, result: Result) -> Offer:
        """The offer that prices a Result: the view's, or that of its own machine."""
        return costs.offer_for(result, self.offer, own=self.own)

    def _billed(self, result: Result) -> Estimate | None:
        """Return the US$ of compute as the platform bills them, with their band; with `own` a rental of each machine."""
        return total(self._billed_for(part) for part in (result.parts if self.own else (result,)))

    def _billed_for(self, result: Result) -> Estimate | None:
        """Return the US$ of one rental."""
        offer = self.offer_for(result)
        seconds, joules = (costs.estimate(result, each, offer, self.label_usd) for each in ("seconds", "energy_j"))
        if seconds is None:
            return None
        ends = [
            prices.billed_usd(getattr(seconds, end), offer, energy_j=None if joules is None else getattr(joules, end))
            for end in ("value", "low", "high")
        ]
        return Estimate.of_ends(ends, seconds.basis, seconds.note)

    @property
    def score_range(self) -> tuple[float, float] | None:
        """The least and the most that the study's score can be; None where that is unknown."""
        # A ledger of an earlier version has no range, and tells of scores that are shares by the number of their examples.
        known = self.grading.get("score_range") or ((0.0, 100.0) if self.grading.get("dev_examples") else None)
        return None if known is None else (float(known[0]), float(known[1]))

    def unmet(self, result: Result) -> list[str]:
        """Return the scores of a point that do not keep a bound of `require`; an unknown one keeps none."""
        return [name for name, bound in self.require.items() if not _keeps(result.scores.get(name), bound)]

    def by_chance(self, result: Result) -> bool:
        """Whether a point does no better than the commonest answer given to everything; False where that is unknown."""
        constant = self.grading.get("constant_score")
        return constant is not None and result.scores.get(self.maximize, constant) <= constant

    def coordinates(self, result: Result) -> tuple[float, ...] | None:
        """Return the coordinates of a Result as a point to be minimised: minus its score, then its costs.

        There are none for a Result that is not complete, for one of which a coordinate is unknown, and for one whose
        inputs have changed since. Neither are there for a replicate: it says something of another point, and a front
        that took the best of several seeds would pick the lucky ones.
        """
        amounts = [self.cost(result, name) for name in self.minimize]
        if (
            result.replicate_of is not None
            or result.outdated
            or result.status != "complete"
            or self.maximize not in result.scores
            or any(amount is None for amount in amounts)
        ):
            return None
        return (-result.scores[self.maximize], *(amount for amount in amounts if amount is not None))


def _keeps(score: float | None, bound: Mapping[str, float]) -> bool:
    return score is not None and bound.get("at_least", score) <= score <= bound.get("at_most", score)


def bounds_text(require: Mapping[str, Mapping[str, float]]) -> str:
    """Write bounds in words: `worst_group_accuracy at least 70 and gap_accuracy at most 5`."""
    return " and ".join(f"{name} {how.replace('_', ' ')} {bound:g}" for name, of in require.items() for how, bound in of.items())
