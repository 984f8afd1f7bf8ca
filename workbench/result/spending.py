"""What a sweep has spent: everything that was really run, and each label once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import prices
from workbench.prices import Offer
from workbench.result.costs import same_machine
from workbench.result.record import Result
from workbench.usage import Usage

START_SECONDS = 1.0
"""What is made ready in less is no start of a command."""


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
    before = labels_bought(r for r in known if r.taken_over)
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


def spent_usd(results: Sequence[Result], offer: Offer, label_usd: float) -> float | None:
    """US$ of `spending`; None where it is unknown."""
    return spending(results, offer, label_usd).usd


def last_start(results: Iterable[Result]) -> Usage:
    """What it took last to make programs, models and data ready; nothing where that is not on record.

    A run that begins while they are ready is charged with moments of the same phase, at most `START_SECONDS`.
    """
    starts = [r.spent["provision"] for r in sorted(results, key=lambda r: r.started) if "provision" in r.spent]
    return next((each for each in reversed(starts) if each.seconds > START_SECONDS), Usage())


class Labels:
    """Counts distinct labels, Result by Result.

    In a task's own order smaller training sets are prefixes of larger ones, so the largest counts.
    What strategies chose is known by its places in that order. Of a run that was broken off only
    the number is on record: it counts as the first that its strategy chooses.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._places: dict[str, set[int]] = {}
        self._orders: dict[str, dict[str, tuple[int, int]]] = {}  # with places, and in all

    def add(self, result: Result) -> None:
        """Count the labels of one more Result."""
        own = label_order(result.recipe)
        for order, count in labels_of(result).items():
            self._count(order, count, result.bought if order == own else ())

    def _count(self, order: str, labels: int, bought: Sequence[int]) -> None:
        """Count labels of one order; which those are that a strategy chose for what a run starts from is not on record."""
        name = _set_of(order)
        first = self._first.setdefault(name, 0)
        if order == name:
            self._first[name] = max(first, labels)
            return
        self._places.setdefault(name, set()).update(bought)
        orders = self._orders.setdefault(name, {})
        placed, most = orders.get(order, (0, 0))
        orders[order] = max(placed, len(bought)), max(most, labels)

    @property
    def bought(self) -> dict[str, int]:
        """How many there are, by data set and data seed."""
        return {
            name: first
            + sum(place >= first for place in self._places.get(name, ()))
            + sum(max(0, most - placed) for placed, most in self._orders.get(name, {}).values())
            for name, first in self._first.items()
        }


def labels_bought(results: Iterable[Result]) -> dict[str, int]:
    """Distinct labelled examples bought, by data set and data seed."""
    labels = Labels()
    for r in results:
        labels.add(r)
    return labels.bought


def labels_by_order(results: Iterable[Result]) -> dict[str, int]:
    """The most labels bought in each `label_order`: a run in the same order buys only those beyond."""
    most: dict[str, int] = {}
    for r in results:
        own = label_order(r.recipe)
        for order, count in labels_of(r).items():
            most[order] = max(most.get(order, 0), count, len(r.bought) if order == own else 0)
    return most


def labels_of(result: Result) -> Mapping[str, int]:
    """Distinct labels that a Result has used, by the order in which they are bought (`label_order`): one, unless it started from
    what others were used for.
    """
    return result.labels_by_order or {label_order(result.recipe): result.labels}


def merged_labels(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Add up distinct labels by the order in which they are bought: of each the most, as smaller training sets are prefixes of
    larger ones.
    """
    return {name: max(some.get(name, 0), others.get(name, 0)) for name in {**some, **others}}


def labelled_set(task: Mapping[str, Any]) -> str:
    """Name the labels that a task buys, from its record: the data set and its order, of which
    training sets are prefixes.
    """
    return f"{task.get('data')}/{task.get('seed')}"


def label_order(recipe: Mapping[str, Any]) -> str:
    """Name the order in which a recipe buys labels, from its record: that of `labelled_set`, or of
    a strategy with the embeddings of a model.
    """
    own, acquire = labelled_set(recipe["task"]), recipe.get("acquire")
    if acquire is None:
        return own
    strategy = {name: value for name, value in acquire.items() if name != "name"}
    before = [recipe["pretrain"]] if recipe.get("pretrain") else []
    return json.dumps([own, strategy, recipe["model"], recipe.get("weights"), *before], sort_keys=True)


def _set_of(order: str) -> str:
    """The data set of an order of `label_order`, as `labelled_set` names it."""
    try:
        known = json.loads(order)
    except ValueError:  # it is the set's own
        return order
    return str(known[0]) if isinstance(known, list) else order
