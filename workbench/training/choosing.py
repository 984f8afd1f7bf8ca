"""The examples that a run is trained on: those whose labels it buys, and those that it is sure of.

A task's own order needs no model. A recipe's strategy does: embeddings of the whole pool by the
model as it is before tuning, and logistic regressions on them. Both are made once a process for all
runs that share them, and billed to each as if it had been alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench.data import bases, fingerprints, models
from workbench.formulations import Example
from workbench.labelling import Chooser, Distillation, PseudoLabels, Strategy, diversity, surest
from workbench.methods.heads import Logistic
from workbench.study import Recipe
from workbench.training import parent_store
from workbench.training.remembering import remembered
from workbench.training.teaching import taught
from workbench.training.vectors import embed
from workbench.usage import Usage

Window = Callable[[], contextlib.AbstractContextManager[Any]]

KEPT_POOLS = 4
"""Pools of which embeddings and orders are kept across runs."""


@dataclass(frozen=True)
class Lot:
    """What a run is trained on.

    Attributes:
        examples: Those that were bought, in their order, and behind them those with pseudo-labels or a teacher's answers.
        bought: How many were bought.
        places: Of each that was bought its place in the task's pool; empty where they are the first.
        needed: How many of the labels had to be known before the first step: the others were chosen
            by them, or pseudo-labels rest on them.
        usage: What choosing them takes a run that is alone.
        fresh: How many of the first one, two, three … examples were bought for this task; empty where all were.
    """

    examples: Sequence[Example]
    bought: int
    places: tuple[int, ...] = ()
    needed: int = 0
    usage: Usage = field(default_factory=Usage)
    fresh: tuple[int, ...] = ()

    def labels(self, seen: int) -> int:
        """How many labels have reached the loss once the first `seen` examples have.

        Where others join, all that were bought count from the first step on: pseudo-labels rest on all of them.
        """
        if self.fresh:
            return self.fresh[min(len(self.fresh), seen) - 1] if seen else 0
        return self.bought if len(self.examples) > self.bought else min(self.bought, seen)

    def paid(self, seen: int) -> tuple[int, ...]:
        """The places of all labels that are paid for by then, whether they have reached the loss or not."""
        return self.places[: max(self.needed, self.labels(seen))]


def lot(recipe: Recipe, where: torch.device, window: Window) -> Lot:
    """Choose the examples of a run, as its recipe says.

    Args:
        recipe: A recipe without holes.
        where: The device that computes embeddings.
        window: Opens a window of a meter.

    Raises:
        UsageError: The pool has fewer examples than are asked for; and as `Task.splits`.
    """
    train, acquire, pseudo = recipe.task.splits().train, recipe.acquire, recipe.pseudo
    if acquire is None and not isinstance(pseudo, PseudoLabels):
        answered, usage = _taught(recipe, range(len(train)), where, window)
        fresh = _fresh(train) if recipe.task.replayed else ()
        return Lot([*train, *answered] if answered else train, len(train), usage=usage, fresh=fresh)
    pool = _pool(recipe, where, window)
    places, needed, usage = [*range(len(train))], 0, Usage()
    if acquire is not None:
        places, needed, usage = pool.chosen(acquire, len(train), window)
    bought = [pool.examples[place] for place in places]
    told: Sequence[Example] = ()
    if isinstance(pseudo, PseudoLabels):
        told, more = pool.told(acquire, tuple(places), pseudo, window)
        usage, needed = usage + more, len(bought)
    elif pseudo is not None:
        told, more = _taught(recipe, places, where, window)
        usage = usage + more
    return Lot([*bought, *told], len(bought), () if acquire is None else tuple(places), needed, pool.usage + usage)


def _taught(recipe: Recipe, bought: Sequence[int], where: torch.device, window: Window) -> tuple[Sequence[Example], Usage]:
    """The examples behind the bought ones, in the task's order, with their teacher's answers, and what asking it takes."""
    pseudo = recipe.pseudo
    if not isinstance(pseudo, Distillation):
        return (), Usage()
    left = np.setdiff1d(np.arange(len(recipe.task.pool() or ())), [*bought])[: pseudo.most]
    return taught(recipe, left.tolist(), where, window)


def _fresh(examples: Sequence[Example]) -> tuple[int, ...]:
    """How many of the first one, two, three … examples were not bought for an earlier task."""
    return tuple(np.cumsum([not example.get("replayed") for example in examples]).tolist())


class Pool:
    """A task's pool as a model sees it before it is tuned.

    Attributes:
        examples: All examples, in the task's order.
        vectors: Their embeddings of length 1, shape (examples, width).
        usage: What computing them took, without reading the model.
        names: The names of all classes.
    """

    def __init__(self, recipe: Recipe, examples: Sequence[Example], where: torch.device, window: Window) -> None:
        self.examples, self._task = examples, recipe.task
        formulation = recipe.task.formulation(models.kind(recipe.architecture))
        how = {"seed": recipe.seed, "weights": recipe.weights, **formulation.settings}
        model = bases.build(parent_store.place(recipe), formulation.auto_class, window=window, **how).model
        with window() as opened:
            self.vectors, work = embed(recipe, examples, where, model=model)
        self.usage = opened.usage.doing(work)
        self.names = [*recipe.task.class_names()]
        self._orders: dict[Strategy, tuple[Chooser, list[Usage]]] = {}
        self._told: dict[tuple[Any, ...], tuple[list[Example], Usage]] = {}

    def chosen(self, strategy: Strategy, count: int, window: Window) -> tuple[list[int], int, Usage]:
        """The first examples in the order of a strategy.

        Returns:
            The places of `count` examples; how many of their labels the choice of the others rests
            on; and what choosing them takes.
        """
        if strategy not in self._orders:
            seed = getattr(self._task, "seed", 0)
            probabilities = lambda known: self.probabilities(known, strategy.C)  # noqa: E731
            self._orders[strategy] = (Chooser(strategy, self.vectors, seed, probabilities), [])
        chooser, usages = self._orders[strategy]
        while len(chooser.order) < count:
            with window() as opened:
                chooser.next_round()
            usages.append(opened.usage)
        places: list[int] = []
        needed, taken = 0, Usage()
        for of_round, usage in zip(chooser.rounds, usages, strict=True):
            if len(places) < count:
                needed = len(places) if strategy.needs_classes else 0
                places, taken = places + of_round, taken + usage
        return places[:count], needed, taken

    def told(
        self, strategy: Strategy | None, places: tuple[int, ...], pseudo: PseudoLabels, window: Window
    ) -> tuple[list[Example], Usage]:
        """Examples beyond those at `places` whose class is told with confidence, and what telling takes."""
        key = (strategy, len(places), pseudo)
        if key not in self._told:
            with window() as opened:
                left = np.setdiff1d(np.arange(len(self.examples)), places)
                told = self.probabilities(places, pseudo.C)[left]
                sure = surest(told, pseudo.threshold, pseudo.most)
                names = [self.names[i] for i in told[sure].argmax(1)]
                found = [self._task.with_class(self.examples[i], name) for i, name in zip(left[sure], names, strict=True)]
            self._told[key] = (found, opened.usage)
        return self._told[key]

    def probabilities(self, places: Sequence[int], strength: float) -> np.ndarray:
        """The probability of each class for every example, shape (examples, classes), by a logistic
        regression on the labels of those at `places`.
        """
        number = {name: i for i, name in enumerate(self.names)}
        labels = torch.tensor([number[self._task.class_of(self.examples[i])] for i in places])
        return probabilities(self.vectors, self.vectors[list(places)], labels, len(number), strength)


class Seen:
    """Labelled and unlabelled examples as a model sees them before it is tuned.

    Args:
        recipe: Names the task and the model.
        examples: The labelled ones, and behind them the others.
        known: How many are labelled.
        where: The device.
        window: Opens a window of a meter.
    """

    def __init__(self, recipe: Recipe, examples: Sequence[Example], known: int, where: torch.device, window: Window) -> None:
        self._pool, self._known = Pool(recipe, examples, where, window), known
        self._seed = getattr(recipe.task, "seed", 0)

    def next(self, strategy: Strategy, count: int) -> list[int]:
        """The unlabelled examples that are worth a label next, the most useful first, by their places among them."""
        pool = self._pool
        if strategy.needs_classes and not self._known:
            strategy = diversity()  # there is no label to guess from
        probabilities = lambda known: pool.probabilities(known[: self._known], strategy.C)  # noqa: E731
        chooser = Chooser(strategy, pool.vectors, self._seed, probabilities, range(self._known))
        while len(chooser.order) < min(count, len(pool.examples) - self._known):
            chooser.next_round()
        return [place - self._known for place in chooser.order]

    def says(self, places: Sequence[int], strength: float) -> list[tuple[str, float]]:
        """The likeliest class of unlabelled examples, and its probability, by a logistic regression."""
        names = self._pool.names
        told = self._pool.probabilities(range(self._known), strength)[[self._known + place for place in places]]
        return [(names[int(row.argmax())], float(row.max())) for row in told]


def probabilities(vectors: np.ndarray, known: np.ndarray, labels: torch.Tensor, classes: int, strength: float) -> np.ndarray:
    """The probability of each class for some vectors, by a logistic regression.

    Args:
        vectors: Shape (examples, width).
        known: Vectors of labelled examples, shape (labelled, width).
        labels: The number of the class of each, shape (labelled,).
        classes: How many classes there are.
        strength: scikit-learn's `C`.

    Returns:
        Shape (examples, classes). A class without an example is the least likely one.
    """
    head = Logistic(vectors.shape[1], classes, strength=strength)
    head.fit(torch.from_numpy(known), labels)
    with torch.inference_mode():
        told: np.ndarray = head(torch.from_numpy(vectors)).softmax(-1).numpy()
    return told


_pools: dict[tuple[Any, ...], Pool] = {}


def _pool(recipe: Recipe, where: torch.device, window: Window) -> Pool:
    """The pool of a recipe's task for its model, kept across runs."""
    task = recipe.task
    of_task = tuple(getattr(task, each.name) for each in dataclasses.fields(task) if each.name != "train")
    place = parent_store.place(recipe)
    of_model = place, fingerprints.model(place), recipe.weights, str(where)
    key = (type(task), of_task, task.digest(), *of_model)
    return remembered(_pools, key, lambda: Pool(recipe, task.pool() or (), where, window), KEPT_POOLS)


def forget() -> None:
    """Forget all pools: whoever asks next computes them anew."""
    _pools.clear()
