"""How much work the phases of a recipe are, in amounts that take time: FLOPs, layer passes, updates, tokens, examples."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workbench import flops, methods
from workbench.forecast import pairs
from workbench.forecast.machine import Machine
from workbench.forecast.sample import Data, sampled
from workbench.labelling import Strategy
from workbench.methods import Method
from workbench.objectives import packing
from workbench.objectives.prompts import cache_of
from workbench.result import label_order, merged_labels
from workbench.study import Recipe
from workbench.tasks.base import Task
from workbench.training.batches import MAX_TOKENS, PACKED_TOKENS, checkpoint_epochs, cuts, steps_for
from workbench.training.fisher import MOST_EXAMPLES


@dataclass(frozen=True)
class Pair:
    """A model with a method, built without weights.

    Attributes:
        shape: Its shape, as the formula of FLOPs needs it; None where that is unknown.
        parameters: All its parameters.
        trainable: Those that learn.
        layers: Its layers, one where that is unknown.
        frozen: Whether a part lies below all that learns (`methods.Frozen`), so that its output for a row need be computed once.
        model: The model, on the meta device: it holds no numbers.
        packable: Whether its layers can be given rows without padding, as far as its configuration tells.
        parts: Shapes of the frozen part and of the one above it; None where there is none, or they are unknown.
    """

    shape: flops.Shape | None
    parameters: int
    trainable: int
    layers: int
    frozen: bool
    model: Any = field(repr=False)
    packable: bool = False
    parts: tuple[flops.Shape, flops.Shape] | None = None


class Amounts:
    """Counts the work of recipes. What it learns of a task or a model is kept.

    Args:
        machine: What will train: micro-batches differ between processors and GPUs.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._data: dict[tuple[Any, ...], Data] = {}
        self._pairs: dict[tuple[Any, ...], Pair] = {}
        self._per_example: dict[tuple[Any, ...], tuple[float, float]] = {}
        self._passes: dict[tuple[Any, ...], float] = {}

    def of(self, recipe: Recipe) -> dict[str, dict[str, float]]:
        """Return the work of each phase, with one evaluation, by the names of `timing.CONSTANTS`
        and `flops`.
        """
        return self.of_steps(recipe, self.steps(recipe, float(recipe.epochs)))

    def of_steps(self, recipe: Recipe, steps: int, graded: int | None = None, *, done: int = 0) -> dict[str, dict[str, float]]:
        """Return the work of each phase, as `of` does, for a number of steps of the recipe.

        Args:
            recipe: The recipe.
            steps: Optimiser steps.
            graded: Dev examples that it is graded by; None: all.
            done: Steps that were made before. The rows that they saw have passed a frozen part
                already.
        """
        data, pair = self.data_of(recipe), self.pair(recipe)
        train, _ = self._flops_per_example(recipe)
        graded = data.dev_examples if graded is None else graded
        passes = self._passes_per_step(recipe) * pair.layers
        size, count = recipe.batch_size, self.examples(recipe)
        # A row passes a frozen part once: after the first epoch its output is at hand.
        seen, before = (min(count, n * size) if recipe.method.trains else count for n in (done + steps, done))
        trained, passed = train * steps * size, steps * passes
        keeps, whole = self._keeps(recipe), _known(pair)
        if keeps or recipe.method.fits:
            below, above = pair.parts if keeps and pair.parts is not None else (whole, whole)
            rows, share = list(itertools.chain(*data.train)), below.layers / whole.layers if whole.layers else 1.0
            fresh = seen - (before if keeps and recipe.method.trains else 0)
            each = flops.training(above, rows) / max(1, len(data.train))
            trained = flops.forward(below, rows) / max(1, len(data.train)) * fresh + (each * steps * size if keeps else trained)
            passed = passes * share * fresh / size + ((1 - share) * passed if keeps else passed)
        asked = [self.data_of(each) for each in (recipe, *recipe.graders)]
        dev_tokens = sum(statistics.fmean(map(sum, each.dev)) * each.dev_examples + sum(each.shared) for each in asked)
        graded_also = (self._grading(each, self.data_of(each).dev_examples) for each in recipe.graders)
        parents = [self._of_parent(parent) for parent in recipe.parents]
        pretrain = {"pretrain": functools.reduce(_added, parents)} if parents else {}
        return pretrain | {
            "data": _added({"encoded": data.tokens * count + dev_tokens}, self._choosing(recipe)),
            "load": {"loads": 1.0, "parameters": float(pair.parameters)},
            "train": {"flops": trained, "layer_passes": passed, "updates": float(steps * pair.trainable)},
            "evaluate": functools.reduce(_added, graded_also, self._grading(recipe, graded)),
        }

    def _grading(self, recipe: Recipe, graded: int) -> dict[str, float]:
        """Return the work of grading by so many dev examples of the recipe's own task."""
        data, (_, evaluate) = self.data_of(recipe), self._flops_per_example(recipe)
        shared = flops.forward(_known(self.pair(recipe)), data.shared)
        return {"flops": evaluate * graded + shared, "graded": float(graded), **self._decoded(recipe, graded)}

    def _of_parent(self, parent: Recipe) -> dict[str, float]:
        """Return the work of making what a recipe starts from, with its own parents, and no evaluation."""
        whole: dict[str, float] = {}
        for phase, amounts in self.of(parent).items():
            for name, amount in amounts.items() if phase != "evaluate" else ():
                whole[name] = whole.get(name, 0.0) + amount
        if parent.task.teaches:  # a pass there and back of each example alone
            examples = min(MOST_EXAMPLES, self.data_of(parent).train_examples)
            weighed = parent if parent.method.kind in methods.IN_PLACE else replace(parent, method=methods.full(learning_rate=1.0))
            whole["flops"] += examples * self._flops_per_example(weighed)[0]
            whole["layer_passes"] += float(examples * self.pair(parent).layers)
        return whole

    def labels(self, recipe: Recipe, steps: int) -> dict[str, int]:
        """Return the distinct labels that reach the loss in so many steps, by the order in which they are bought; those of its
        parents in full.

        The texts of a corpus, by which a model learns by itself, are none.
        """
        bought, seen = self.data_of(recipe).train_examples - recipe.task.replayed, steps * recipe.batch_size
        # Those that the steps do not come to are not bought, unless pseudo-labels rest on them.
        own = min(bought, seen) if recipe.method.trains and recipe.pseudo is None else bought
        return merged_labels(self._labels_before(recipe), {label_order(recipe.to_json()): own})

    def _labels_before(self, recipe: Recipe) -> Mapping[str, int]:
        if recipe.teacher is not None:
            taught = replace(recipe, pseudo=None)
            return merged_labels(self._labels_before(taught), self.labels(recipe.teacher, 0))
        if (parent := recipe.parent) is None:
            return {}
        if recipe.starts_from_corpus:
            return self._labels_before(parent)
        return self.labels(parent, self.steps(parent, float(parent.epochs)))

    def _choosing(self, recipe: Recipe) -> dict[str, float]:
        """Return the work of choosing what is trained on: the pool's embeddings, and in each round a
        regression and the distances of what is chosen.
        """
        data, pair = self.data_of(recipe), self.pair(recipe)
        if recipe.teacher is not None:
            return _added(self._asking(recipe), self._choosing(replace(recipe, pseudo=None)))
        if recipe.acquire is None and recipe.pseudo is None:
            return {}
        width = pair.shape.width if pair.shape else 0
        lengths = list(itertools.chain(*(data.asked or data.dev)))
        each = flops.forward(_known(pair), lengths) / max(1, len(data.dev))
        sizes = _labels_of_rounds(recipe.acquire, data.train_examples) + ([data.train_examples] if recipe.pseudo else [])
        compared = data.train_examples * data.pool_examples * (width + data.classes) if recipe.acquire else 0
        return {
            "encoded": sum(lengths) / max(1, len(data.dev)) * data.pool_examples,
            "flops": each * data.pool_examples,
            "fitted": float(sum(sizes) * width * data.classes),
            "compared": float(compared),
        }

    def _decoded(self, recipe: Recipe, graded: int) -> dict[str, float]:
        """Return the work of writing answers beside their FLOPs: each token of a batch reads every
        number of the model again.
        """
        data = self.data_of(recipe)
        if not any(data.written):
            return {}
        limit = MAX_TOKENS.get(self.machine.kind, MAX_TOKENS["cpu"])
        batches = max(1.0, statistics.fmean(map(sum, data.asked)) * graded / limit)
        # A batch is written to the end of its longest answer.
        return {"decoded": batches * max(data.written) * self.pair(recipe).parameters}

    def _asking(self, recipe: Recipe) -> dict[str, float]:
        """Return the work of reading a recipe's teacher and asking it about the examples that may join."""
        assert recipe.teacher is not None
        amounts, dev = self.of(recipe.teacher), self.data_of(recipe.teacher).dev_examples
        share = (self.examples(recipe) - self.data_of(recipe).train_examples) / max(1, dev)
        return _added(amounts["load"], {name: amount * share for name, amount in amounts["evaluate"].items()})

    def tokens_per_example(self, recipe: Recipe) -> float:
        """Mean tokens of a training example, from the sample."""
        return self.data_of(recipe).tokens

    def checkpoints(self, recipe: Recipe) -> list[float]:
        """Epochs at which the recipe is evaluated."""
        data = self.data_of(recipe)
        return checkpoint_epochs(
            recipe.epochs, batch_size=recipe.batch_size, examples=data.train_examples, dev_examples=data.dev_examples
        )

    def key(self, recipe: Recipe) -> Hashable:
        """Return a key by which forecasts can be kept: recipes that differ in a learning rate
        alone, say, have one key.
        """
        return (
            *(recipe.task, self.pair_key(recipe), recipe.method.name, recipe.batch_size, recipe.epochs),
            *(recipe.acquire, recipe.pseudo, recipe.also, *(parent.id for parent in recipe.parents)),
        )

    def data_of(self, recipe: Recipe) -> Data:
        """A sample of the recipe's rows, drawn once for all recipes that read the same ones."""
        method = recipe.method
        chooses = recipe.acquire is not None or recipe.pseudo is not None
        key = (recipe.task, recipe.architecture, method.labelled, method.trains and method.fits, method.asking, chooses)
        if key not in self._data:
            self._data[key] = sampled(recipe)
        return self._data[key]

    def pair_key(self, recipe: Recipe) -> tuple[Any, ...]:
        """What the shape of the recipe's model depends on."""
        return (
            recipe.architecture,
            form_of(recipe.task),
            recipe.method.kind,
            recipe.weights,
            _shaping(recipe.method),
            recipe.method.asking,
        )

    def pair(self, recipe: Recipe) -> Pair:
        """The recipe's model with its method, built once.

        Raises:
            UsageError: The method cannot be applied to the model.
        """
        key = self.pair_key(recipe)
        if key not in self._pairs:
            # Without weights: a plan of large models must fit a small machine.
            model = pairs.wrapped(recipe.task, recipe.architecture, recipe.method)
            shape = flops.shape(model)
            counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
            config = getattr(model, "config", None)
            layers = shape.layers if shape else int(getattr(config, "num_hidden_layers", None) or 1)
            frozen = methods.frozen(recipe.method, model)
            self._pairs[key] = Pair(
                shape,
                sum(n for n, _ in counts),
                sum(n for n, learns in counts if learns),
                layers,
                frozen is not None,
                model,
                packing.layers_of(model) is not None,
                None if frozen is None else flops.divided(model, frozen.modules),
            )
        return self._pairs[key]

    def _keeps(self, recipe: Recipe) -> bool:
        """Whether the loop computes the output of the frozen part once a row. That of layers is of each token, and kept only of so
        many.
        """
        from workbench.training.features import most_bytes

        data, pair = self.data_of(recipe), self.pair(recipe)
        if not pair.frozen or not recipe.method.spares_first_layers:
            return pair.frozen
        width = pair.shape.width if pair.shape else 0
        return not data.together and 4 * width * data.tokens * data.train_examples <= most_bytes() // 2

    def packs(self, recipe: Recipe) -> bool:
        """Whether the loop will give the model's layers rows without padding on this machine."""
        return self.machine.kind in PACKED_TOKENS and self.pair(recipe).packable

    def _flops_per_example(self, recipe: Recipe) -> tuple[float, float]:
        """FLOPs of training on one example and of evaluating one, on average over the sample.

        Where the formula has no answer, 6·N·T and 2·N·T of all parameters stand in: only ratios of runs of one pair use them.
        """
        key = (recipe.task, self.pair_key(recipe), recipe.learns)
        if key not in self._per_example:
            data, pair = self.data_of(recipe), self.pair(recipe)
            of = _known(pair)
            train, dev = list(itertools.chain(*data.train)), list(itertools.chain(*data.dev))
            # Where predictions take passes of their own, the loss of what learns nothing is not computed.
            dev = dev if recipe.learns or not data.asked else []
            prompts = list(itertools.chain(*data.asked))
            asked = [length + written for length, written in zip(prompts, data.written, strict=True)]
            # Prompts that are read once: their losses take the tokens of the given answers.
            if data.behind and len(dev) == len(prompts) and cache_of(pair.model) is not None:
                told = flops.forward(of, [n - before for n, before in zip(dev, prompts, strict=True)], prompts)
            else:
                told = flops.forward(of, dev)
            self._per_example[key] = (
                flops.training(of, train) / max(1, len(data.train)),
                (told + flops.forward(of, asked)) / len(data.dev),
            )
        return self._per_example[key]

    def _passes_per_step(self, recipe: Recipe) -> float:
        """Micro-batches that a step is split into, on average over the sample."""
        data, size = self.data_of(recipe), recipe.batch_size
        packed = self.packs(recipe)
        key = (recipe.task, recipe.architecture, recipe.batch_size, data.together, packed)
        if key not in self._passes:
            if not data.train:
                return 0.0
            if data.together:
                return 1.0
            starts = range(0, max(1, len(data.train) - size + 1), size)
            # A batch larger than the sample goes through it again.
            steps = [sorted(itertools.chain(*(data.train[(s + i) % len(data.train)] for i in range(size)))) for s in starts]
            self._passes[key] = statistics.fmean(len(cuts(step, self.machine.kind, packed=packed)) for step in steps)
        return self._passes[key]

    def steps(self, recipe: Recipe, epochs: float) -> int:
        """Optimiser steps that the recipe makes in so many epochs."""
        return steps_for(epochs, recipe.batch_size, self.examples(recipe))

    def examples(self, recipe: Recipe) -> int:
        """How many examples a run passes over: those that are bought, and as many with pseudo-labels
        as there may be. How many there will be is not known before.
        """
        data = self.data_of(recipe)
        joining = min(recipe.pseudo.most, max(0, data.pool_examples - data.train_examples)) if recipe.pseudo else 0
        return data.train_examples + joining


def _labels_of_rounds(acquire: Strategy | None, count: int) -> list[int]:
    """How many labels are known in each round that asks for classes, until `count` are chosen."""
    if acquire is None or not acquire.needs_classes:
        return []
    return list(range(acquire.first, count, acquire.batch))


def _added(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0.0) + b.get(name, 0.0) for name in {**a, **b}}


def _known(pair: Pair) -> flops.Shape:
    """Return the shape of a model; where it is unknown, one layer of all parameters, of which only
    ratios may be used.
    """
    return pair.shape or flops.Shape(pair.parameters, pair.parameters, pair.parameters, 0, 0)


def form_of(task: Task) -> tuple[Any, ...]:
    """Return the type of a task and all its settings but `train`: they make its rows and the
    model's head.

    Runs of tasks of one form speak for each other's memory; with another form a run of short rows
    would speak for long ones.
    """
    return (type(task), *(getattr(task, field.name) for field in dataclasses.fields(task) if field.name != "train"))


def _shaping(method: Method) -> str:
    """Write the settings of a method that may change shapes, as text. Of a fraction (dropout) only
    whether it is above 0 counts.
    """
    settings = {name: value > 0 if isinstance(value, float) else value for name, value in method.settings.items()}
    return json.dumps(settings, sort_keys=True, default=repr)
