"""How the models of several tasks, each learned from the same start, answer together.

    Alone    there is one model, which goes on from what it learned before
    EachOwn  the weights that were tuned for a task answer its examples; all else is shared
    Mean     one model with the mean of all models' weights (Wortsman et al. 2022, arXiv:2203.05482; of what each task has
             changed, that is task arithmetic with equal shares: Ilharco et al. 2023, arXiv:2212.04089)

PEFT's `add_weighted_adapter` would average adapters, of LoRA and IA³ alone, and leaves their heads out. Its merge of an adapter
into the weights is for many more methods, and the mean of merged weights is exact.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench import methods
from workbench.errors import UsageError
from workbench.formulations import Example, Rows
from workbench.tasks.base import EACH, MEAN
from workbench.training import parent_store
from workbench.training.batches import evaluation_batches

if TYPE_CHECKING:
    from workbench.study import Recipe
    from workbench.training.tuning import Tuning

Weights = Mapping[str, torch.Tensor]
Batches = Iterator[tuple[np.ndarray, dict[str, Any]]]


def of(recipe: Recipe) -> Alone:
    """How the model of a recipe answers beside those of the tasks before; these are read."""
    kind = {EACH: EachOwn, MEAN: Mean}.get(recipe.task.combines, Alone)
    return kind(recipe)


class Alone:
    """A model that answers by itself."""

    def __init__(self, recipe: Recipe) -> None:
        self.task = recipe.task
        # A model of the first task, or one that is asked and not trained, has nothing beside it.
        self.before = recipe.parent if recipe.task.predecessor() is not None else None

    @property
    def numbers(self) -> int:
        """How many tuned numbers a model has beside those that are tuned now."""
        return 0

    @contextlib.contextmanager
    def graded(self, tuning: Tuning) -> Iterator[None]:
        """Put what is graded in the place of what was tuned, for a while."""
        yield

    def batches(self, tuning: Tuning, rows: Rows, examples: Sequence[Example], **how: bool) -> Batches:
        """Batches of rows of examples, as `Passes.batches`."""
        return evaluation_batches(rows, tuning.where, **how)  # type: ignore[arg-type]

    def weights(self, tuning: Tuning) -> Weights:
        """All weights that a model has beside those that it begins with, by name."""
        return tuning.own_weights()

    def adopt(self, tuning: Tuning, weights: Weights) -> bool:
        """Take weights, as `weights` gives them, for evaluation. Returns whether they fit."""
        return tuning.adopt_own(weights)


class EachOwn(Alone):
    """The weights of each task's own."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.kept = {} if self.before is None else _by_part(parent_store.tuned(self.before))

    @property
    def numbers(self) -> int:
        return sum(value.numel() for own in self.kept.values() for value in own.values())

    def batches(self, tuning: Tuning, rows: Rows, examples: Sequence[Example], **how: bool) -> Batches:
        if len(rows) and int(rows.example[-1]) >= len(examples):
            raise UsageError(
                "adapter_per_task has no weights for documents that all examples are searched in. Take another strategy."
            )
        parts = np.array([self.task.part(examples[i]) for i in rows.example], np.int64)
        own = {name: parameter.detach().clone() for name, parameter in tuning.parameters.items()}
        try:
            for part in np.unique(parts).tolist():
                _put(tuning, self.kept.get(part, own))
                yield from evaluation_batches(rows, tuning.where, some=np.flatnonzero(parts == part), **how)
        finally:
            _put(tuning, own)

    def weights(self, tuning: Tuning) -> Weights:
        kept = {f"{part}/{name}": value for part, own in self.kept.items() for name, value in own.items()}
        return kept | {f"{self.task.stage - 1}/{name}": value for name, value in tuning.own_weights().items()}

    def adopt(self, tuning: Tuning, weights: Weights) -> bool:
        kept = _by_part(weights)
        last = kept.pop(self.task.stage - 1, None)
        if last is None or [*kept] != [*range(self.task.stage - 1)]:
            return False
        shapes = {name: p.shape for name, p in tuning.parameters.items()}
        if any({name: value.shape for name, value in own.items()} != shapes for own in kept.values()):
            return False
        self.kept = kept
        return tuning.adopt_own(last)


class Mean(Alone):
    """The mean of the weights of all tasks' models. Each stage takes in one more."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.others = {} if self.before is None else parent_store.model_tensors(self.before)
        self.share_of_others = 1 - 1 / recipe.task.stage
        self.in_place = recipe.method.kind in methods.IN_PLACE

    @contextlib.contextmanager
    def graded(self, tuning: Tuning) -> Iterator[None]:
        if not self.others:
            yield
            return
        if self.in_place:
            own = {name: parameter.detach().clone() for name, parameter in tuning.parameters.items()}
            self._average(tuning.parameters)
            try:
                yield
            finally:
                _put(tuning, own)
            return
        wrapped = tuning.model
        tuning.swap(methods.merged(tuning.recipe.method, copy.deepcopy(wrapped)).eval())
        self._average(dict(tuning.model.named_parameters()))
        try:
            yield
        finally:
            tuning.swap(wrapped)

    @torch.no_grad()
    def _average(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            if name in self.others:
                parameter.lerp_(self.others[name].to(parameter), self.share_of_others)

    def weights(self, tuning: Tuning) -> Weights:
        if not self.others:
            return tuning.own_weights()
        # What the method leaves as it is need not be kept: the model that is begun with has it.
        frozen = {methods.merged_name(name): p for name, p in tuning.model.named_parameters() if not p.requires_grad}
        with tuning.averaged_weights():
            found = dict(tuning.model.named_parameters()) if not self.in_place else tuning.parameters
            return {
                name: parameter.detach().cpu().clone()
                for name, parameter in found.items()
                if name not in frozen or not torch.equal(frozen[name], parameter)
            }

    def adopt(self, tuning: Tuning, weights: Weights) -> bool:
        self.others = {}  # they are in these weights
        if self.in_place or weights.keys() == tuning.parameters.keys():
            return tuning.adopt_own(weights)
        plain = methods.merged(tuning.recipe.method, tuning.model)
        parameters = dict(plain.named_parameters())
        if not weights or {name: value.shape for name, value in weights.items()} != {
            name: parameters[name].shape for name in weights if name in parameters
        }:
            return False
        tuning.take_merged(plain, weights.keys())
        return tuning.adopt_own(weights)


def _by_part(weights: Weights) -> dict[int, dict[str, torch.Tensor]]:
    """Weights by task, from names such as `0/classifier.weight`."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in weights.items():
        part, _, own = name.partition("/")
        if part.isdecimal():
            found.setdefault(int(part), {})[own] = value
    return dict(sorted(found.items()))


@torch.no_grad()
def _put(tuning: Tuning, weights: Weights) -> None:
    for name, parameter in tuning.parameters.items():
        parameter.copy_(weights[name])
