"""The first runs, for which no model is asked: those that try what no run had yet, and those that are drawn.

Every method and every model is tried once, before the model of scores is trusted: what a Gaussian process believes of a method
that it never saw is what it believes of all the others, with a wider band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np

from workbench.search.arms import Arm, Decision
from workbench.search.features import ordered
from workbench.space import Choice, Dimension, Value

START_POWER = 1.5
"""The first runs are drawn with a chance in proportion to their cost to the power of minus this."""

MOST_OPTIONS = 12
"""A choice between more options than so many is left to the model: to try each would be a search of its own."""

LIKELY = 0.5
"""An option is tried by runs that fit into memory with at least this chance."""


class Options:
    """The choices whose options are tried once each: those of methods, of models and of whatever else every run has.

    Choices between numbers are none of them, as of numbers the model knows which lie near each other, nor are those that only some
    runs have, as a choice within a method.

    Args:
        dimensions: The space.
    """

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        spaces = {name: each.space for name, each in dimensions.items() if not each.when and not each.unless}
        self._choices = [
            name
            for name, space in spaces.items()
            if isinstance(space, Choice) and 1 < len(space.options) <= MOST_OPTIONS and not ordered(space)
        ]

    def next(
        self, begun: Sequence[Arm], new: Sequence[Arm], costs: Sequence[float], within: float, start_penalty: float
    ) -> list[Arm]:
        """Those that could be started to try the next options; none where every option was tried, or would cost too much.

        The arm that costs least for each option that it would be the first to show says which are next: where starts are worth
        much, a run tries a method and a model at once, and four methods and three models take four runs.

        Args:
            begun: The arms that were begun.
            new: Those that could be started.
            costs: What each of these would cost.
            within: What a run that tries an option may cost at most, in the same unit.
            start_penalty: What is added to the cost of a start when it is weighed, in the same unit.
        """
        tried = {pair for arm in begun for pair in self._of(arm)}
        shown = [tuple(pair for pair in self._of(arm) if pair not in tried) for arm in new]
        fitting = [bool(shown[i]) and costs[i] <= within and arm.fits >= LIKELY for i, arm in enumerate(new)]
        if not any(fitting):
            return []
        first = min(compress(range(len(new)), fitting), key=lambda i: (costs[i] + start_penalty) / len(shown[i]))
        return list(compress(new, (fits and options == shown[first] for fits, options in zip(fitting, shown, strict=True))))

    def _of(self, arm: Arm) -> list[tuple[str, Value]]:
        """The options that an arm has."""
        return [(name, arm.settings[name]) for name in self._choices if name in arm.settings]


def draw(arms: Sequence[Arm], targets: Sequence[int], rng: np.random.Generator, start_penalty: float, power: float) -> Decision:
    """An arm drawn with a chance that falls with its cost.

    Args:
        arms: What is drawn from.
        targets: The milestone to which each would be taken.
        rng: What is random.
        start_penalty: What is added to each cost, in the same unit.
        power: The chance is in proportion to the cost to the power of minus this.
    """
    costs = [arm.milestones[k].cost for arm, k in zip(arms, targets, strict=True)]
    weighed = np.array(costs) + start_penalty
    weight = (weighed / weighed.min()) ** -power
    # A method without settings stands here once, beside hundreds of another's learning rates: weighted by how often
    # it was drawn it comes as often as the space has it. Before, `zero_shot` came last of 150.
    weight *= [arm.fits * arm.drawn for arm in arms]
    i = int(rng.choice(len(arms), p=weight / weight.sum()))
    action = "continue" if arms[i].done else "start"
    return Decision(action, arms[i].key, targets[i], math.nan, costs[i], reason="one of the first, drawn by its cost")
