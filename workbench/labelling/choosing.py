"""The next examples of a pool to be labelled, in the order in which they are worth it.

Rows of arrays are examples of the pool. Nothing here knows a model: probabilities are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.labelling.strategies import Strategy

Distances = Callable[[int], np.ndarray]
"""Squared distances of all examples to the one at a place, shape (examples,)."""


@dataclass
class Chooser:
    """Chooses examples of a pool round by round, always the same ones.

    Attributes:
        strategy: The strategy, without holes.
        vectors: An embedding of length 1 for each example, shape (examples, width).
        seed: What is drawn depends on it and on the number of the round.
        probabilities: Gives the probability of each class for all examples, shape (examples,
            classes), as the labels of the examples at the given places teach it.
        known: Places of the examples that are labelled before the first round.
        rounds: Places that were chosen, round by round; the latest grow at the end.
    """

    strategy: Strategy
    vectors: np.ndarray
    seed: int
    probabilities: Callable[[Sequence[int]], np.ndarray]
    known: Sequence[int] = ()
    rounds: list[list[int]] = field(default_factory=list)

    @property
    def order(self) -> list[int]:
        """All places that were chosen, the most useful first."""
        return [place for each in self.rounds for place in each]

    def next_round(self) -> list[int]:
        """Choose the examples of one more round, at most as many as are left."""
        labelled = [*self.known, *self.order]
        left = np.setdiff1d(np.arange(len(self.vectors)), labelled)
        rng = np.random.default_rng((self.seed, len(self.rounds)))
        if self.strategy.kind == "diversity":
            found = self._unlike(labelled, min(self.strategy.batch, len(left)))
        elif not labelled:
            found = left[: self.strategy.first].tolist()  # nothing is known to choose by
        else:
            told = self.probabilities(labelled)[left]
            by = least_margin if self.strategy.kind == "uncertainty" else varied_gradients
            found = left[by(self.vectors[left], told, min(self.strategy.batch, len(left)), rng)].tolist()
        self.rounds.append(found)
        return found

    def _unlike(self, labelled: Sequence[int], count: int) -> list[int]:
        """Draw examples unlike the labelled ones. Each has a random number of its own, by how many
        there are before it: rounds of any size give the same order.
        """
        found: list[int] = []
        nearest = np.full(len(self.vectors), 2.0)
        for place in labelled:
            np.minimum(nearest, self._distances(place), out=nearest)
        for _ in range(count):
            taken = [*labelled, *found]
            nearest[taken] = 0.0
            place = drawn(nearest, taken, np.random.default_rng((self.seed, len(taken))))
            found.append(place)
            np.minimum(nearest, self._distances(place), out=nearest)
        return found

    def _distances(self, place: int) -> np.ndarray:
        apart: np.ndarray = np.maximum(0.0, 2 - 2 * (self.vectors @ self.vectors[place]))
        return apart


def least_margin(vectors: np.ndarray, probabilities: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of the examples whose two likeliest classes are nearest to each other, the nearest first.

    Args:
        vectors: Not looked at.
        probabilities: Shape (examples, classes), two classes at least.
        count: How many.
        rng: Not used.
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    # Stable, so that of equal ones the earlier is taken on every machine.
    order: np.ndarray = np.argsort(two[:, 1] - two[:, 0], kind="stable")
    return order[:count]


def varied_gradients(vectors: np.ndarray, probabilities: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of examples whose gradients are long and unlike each other, by k-means++.

    The gradient of an example by the last layer is the outer product of its embedding with the
    probabilities, less 1 at the likeliest class. Distances are computed from the two factors, since
    the products themselves have width x classes numbers.

    Args:
        vectors: Embeddings of length 1, shape (examples, width).
        probabilities: Shape (examples, classes).
        count: How many, at most as many as there are examples.
        rng: Draws them.
    """
    errors = probabilities.copy()
    errors[np.arange(len(errors)), errors.argmax(1)] -= 1
    squares = (errors**2).sum(1)

    def distances(place: int) -> np.ndarray:
        products = (errors @ errors[place]) * (vectors @ vectors[place])
        apart: np.ndarray = np.maximum(0.0, squares + squares[place] - 2 * products)
        return apart

    found = [int(squares.argmax())]  # as in the authors' code: the longest gradient comes first
    nearest = distances(found[0])
    while len(found) < count:
        nearest[found] = 0.0
        found.append(drawn(nearest, found, rng))
        np.minimum(nearest, distances(found[-1]), out=nearest)
    return np.array(found[:count])


def drawn(weights: np.ndarray, taken: Sequence[int], rng: np.random.Generator) -> int:
    """Draw a place with a chance in proportion to its weight; where all are 0, the first that is not taken."""
    sums = np.cumsum(weights)
    if sums[-1] <= 0:
        return int(np.setdiff1d(np.arange(len(weights)), taken)[0])
    # Not `Generator.choice`, which refuses chances whose sum is 1 but for a rounding.
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))


def surest(probabilities: np.ndarray, threshold: float, most: int) -> np.ndarray:
    """Places of the examples with a class of at least this probability, the surest first.

    Args:
        probabilities: Shape (examples, classes).
        threshold: The least probability.
        most: The most places.
    """
    best = probabilities.max(1)
    order = np.argsort(-best, kind="stable")
    found: np.ndarray = order[best[order] >= threshold][:most]
    return found
