"""What a sweep has spent: everything that was really run, and each label once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import prices
from workbench.prices import Offer
from workbench.result.costs import same_machine
from workbench.result.record import Result


@dataclass(frozen=True)
class Spending:
    """What a sweep has spent: all segments really run, finished or not, and each label once. None is unknown.

    Attributes:
        usd: US$ of compute and labels.
        seconds: Seconds of work.
        energy_j: Joules of processors and GPU boards.
        labels: Distinct labels bought.
    """

    usd: float | None = 0.0
    seconds: float = 0.0
    energy_j: float | None = 0.0
    labels: int = 0

    def __add__(self, other: Spending) -> Spending:
        """Sum; unknown stays unknown."""
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        energy_j = None if self.energy_j is None or other.energy_j is None else self.energy_j + other.energy_j
        return Spending(usd, self.seconds + other.seconds, energy_j, self.labels + other.labels)


def spending(results: Iterable[Result], offer: Offer, label_usd: float) -> Spending:
    """Add up what Results have really consumed, at an offer.

    Work on the offer's machine is priced at the offer; work that was done on another one at the
    price that was paid there, which its record holds: what is spent is never scaled. A task's
    smaller training set is a prefix of its larger one, so labels of one data set are bought once:
    the largest number used of each, less what an older form of the study had bought.
    """
    known = list(results)
    compute = [_spent_usd(r, offer) for r in known if r.spent]
    joules = [r.consumed.energy_j for r in known]
    # An older form of the study has paid for these: they are on its bill.
    before = labels_bought(r for r in known if _taken_over(r))
    labels = sum(bought - before.get(name, 0) for name, bought in labels_bought(known).items())
    return Spending(
        # One unknown part makes the sum unknown: a budget must not be passed by what nobody
        # metered.
        usd=None if None in compute else sum(c for c in compute if c is not None) + label_usd * labels,
        seconds=sum(r.consumed.seconds for r in known),
        energy_j=None if None in joules else sum(j for j in joules if j is not None),
        labels=labels,
    )


def _spent_usd(r: Result, offer: Offer) -> float | None:
    """US$ of what was really consumed, at the offer if that is its machine, else at the price recorded with it."""
    return prices.usd(r.consumed, offer if same_machine(r, offer) or r.paid is None else r.paid)


def _taken_over(r: Result) -> bool:
    """Whether an older form of the study had paid for it."""
    return "taken_over_from" in r.provenance


def spent_usd(results: Sequence[Result], offer: Offer, label_usd: float) -> float | None:
    """US$ of `spending`; None where it is unknown."""
    return spending(results, offer, label_usd).usd


def labels_bought(results: Iterable[Result]) -> dict[str, int]:
    """Distinct labelled examples bought, by data set and data seed."""
    bought: dict[str, int] = {}
    for r in results:
        for key, count in labels_by_set(r).items():
            # Not the sum: smaller training sets are prefixes of larger ones, of one data set and seed.
            bought[key] = max(bought.get(key, 0), count)
    return bought


def labels_by_set(result: Result) -> Mapping[str, int]:
    """Distinct labels that a Result has used, by data set: one, unless it started from what others were used for."""
    return result.labels_by_set or {labelled_set(result.recipe["task"]): result.labels}


def merged_labels(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Add up distinct labels by data set: of each the most, as smaller training sets are prefixes of larger ones."""
    return {name: max(some.get(name, 0), others.get(name, 0)) for name in {**some, **others}}


def labelled_set(task: Mapping[str, Any]) -> str:
    """Name the labels that a task buys, from its record: the data set and its order, of which
    training sets are prefixes.
    """
    return f"{task.get('data')}/{task.get('seed')}"
