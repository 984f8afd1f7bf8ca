"""A model with a method on it, as it is asked: its passes over rows, the work they are, and how it
is graded by them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench import flops, methods
from workbench.data import bases, fingerprints, models
from workbench.errors import Infeasible
from workbench.formulations import Example, Formulation, Rows, Shots
from workbench.objectives import Answers, Inference, Read, packing
from workbench.study import Recipe
from workbench.study.also import scored
from workbench.tasks.base import Task
from workbench.tasks.refusals import UNANSWERED
from workbench.training import parent_store, sharding
from workbench.training.batches import PACKED_TOKENS, evaluation_batches, padded_tokens
from workbench.training.faults import faults_of_the_model
from workbench.training.features import PIECE, Features
from workbench.usage import Usage, Work, total

SINGLE_PREDICTIONS = 3, 8
"""How many examples, at least and at most, are predicted one at a time, once a run, to measure the latency of one prediction.
The first warms up and is not counted."""
SINGLE_PREDICTIONS_SECONDS = 1.0
"""Once these have passed, the least number is enough: what a language model writes may take a second an example."""

_proven: dict[tuple[Any, ...], bool] = {}
"""By what a model's layers are: whether they give the same for rows without padding."""


@dataclass(frozen=True)
class Questions:
    """Rows by which a model is graded.

    Attributes:
        formulation: How the model computes what they are of.
        examples: The examples that the rows are made of.
        labelled: Rows with answers, for the loss; no rows where the loss is not asked for.
        asked: Rows without answers; the same object as `labelled` where predictions are read off
            the pass of the loss.
        also: The same of other tasks that grade the model, each with its task.
    """

    formulation: Formulation
    examples: Sequence[Example]
    labelled: Rows
    asked: Rows
    also: Sequence[tuple[Task, Questions]] = ()

    @property
    def sets(self) -> list[Rows]:
        """All rows that grading passes, in sets."""
        own = [self.labelled] if self.asked is self.labelled else [self.labelled, self.asked]
        return [*own, *(rows for _, each in self.also for rows in each.sets)]


def questions(
    formulation: Formulation, examples: Sequence[Example], processor: Any, shots: Shots = (), *, loss: bool = True
) -> Questions:
    """Encode the rows by which a model is graded, each question behind its examples with their
    answers.

    Args:
        formulation: The model's.
        examples: What it is graded by.
        processor: The model's.
        shots: Examples before each question.
        loss: Whether the loss is wanted even if it takes a pass of its own. That doubles the price
            of a model that is only asked.
    """
    if isinstance(formulation.inference(processor), Read):
        labelled = formulation.encode(examples, processor, shots=shots)
        return Questions(formulation, examples, labelled, labelled)
    # What has no right answer has no loss. It stands behind the others, so that these keep their places.
    answered = examples[: sum(UNANSWERED not in example for example in examples)]
    labelled = formulation.encode(answered if loss else (), processor, shots=shots if loss else ())
    return Questions(formulation, examples, labelled, formulation.encode(examples, processor, answers=False, shots=shots))


def questions_of(recipe: Recipe, side: str, processor: Any) -> Questions:
    """Encode all that grades a recipe's model on a side, `dev` or `test`, as `questions` does: other tasks without their loss."""
    formulation = recipe.formulation
    shots = methods.shots(recipe.method, formulation, recipe.task.splits().train)
    own = questions(formulation, recipe.task.graded(side), processor, shots, loss=recipe.learns)
    others = [(of.task, questions(of.formulation, of.task.graded(side), processor, loss=False)) for of in recipe.graders]
    return dataclasses.replace(own, also=[(task, asked) for task, asked in others if asked.examples])


class Passes:
    """A recipe's model with its method on it: its outputs for rows, and its grades."""

    def __init__(self, recipe: Recipe, where: torch.device, window: bases.Window | None = None) -> None:
        """Read the model and put the method on it.

        Args:
            recipe: A recipe without holes.
            where: The device.
            window: Opens a window of a meter, which measures what reading a model takes; such a
                model is shared by the runs of a process. None: the model is read for this object
                alone.
        """
        self.recipe, self.where = recipe, where
        # For what a method draws when it is put on; `models.build` draws the head by a seed of its
        # own.
        torch.manual_seed(recipe.seed)
        self.formulation = recipe.formulation
        self.processor = models.processor(recipe.architecture)
        self.objective, self.inference = self.formulation.objective, self.formulation.inference(self.processor)
        auto_class = self.formulation.auto_class
        how = {"seed": recipe.seed, "weights": recipe.weights, **self.formulation.settings}
        self.place = parent_store.place(recipe)
        built = None if window is None else bases.build(self.place, auto_class, window=window, **how)
        base = models.build(self.place, auto_class, **how) if built is None else built.model
        # Whether the model was at hand; what having it took, and what that takes a run that is alone.
        self.base_at_hand = built is not None and built.at_hand
        self.base_took, self.base_alone = (Usage(), Usage()) if built is None else (built.took, built.alone)
        self.head = methods.head_names(recipe.method, base)
        model = methods.apply(recipe.method, base, auto_class=auto_class)
        self.lesson = methods.lesson(recipe.method, self.objective)
        # Copies on write take their memory now, since steps are fitted to the memory that is free
        # after this.
        bases.own(p for p in model.parameters() if p.requires_grad)
        self.model = sharding.shard(model, where)
        self.body = methods.body(self.model)
        self.learn()
        self.step = 0  # optimiser steps done
        self.work = Work()  # of this object alone, without the run that it resumes
        self.shape = flops.shape(self.model)
        # Weights in fewer than 32 bits multiply in bfloat16.
        half = recipe.precision == "bfloat16" or recipe.weights != "float32"
        bfloat16 = half or (recipe.precision == "auto" and where.type == "cuda" and torch.cuda.is_bf16_supported())
        self.autocast = torch.autocast(where.type, torch.bfloat16, enabled=bfloat16)
        self.features = self._features(auto_class, bfloat16=bfloat16)
        self.layers, self.trial_took = self._packable(window)

    def _packable(self, window: bases.Window | None) -> tuple[Sequence[Any] | None, Usage]:
        """The layers that are given rows without padding, None where none are; and what trying took
        now.

        The trial's draws leave no trace: it comes before the random state is set that a run starts from.
        """
        layers = packing.layers_of(self.model) if self.where.type in PACKED_TOKENS and sharding.count() == 1 else None
        if layers is None:
            return None, Usage()
        # What may change how layers look at tokens: the code of the model, and what is put into it.
        # Numbers (ranks, rates) change nothing about that.
        method = self.recipe.method
        settings = tuple(
            (name, value if isinstance(value, (str, bool)) else None) for name, value in sorted(method.settings.items())
        )
        bare = type(flops.unwrapped(self.model)).__qualname__
        key = (bare, type(layers[0]).__qualname__, method.kind, settings, self.where.type)
        took = Usage()
        if key not in _proven:
            with contextlib.nullcontext() if window is None else window() as opened:
                _proven[key] = packing.proven(self.model, layers)
            took = Usage() if opened is None else opened.usage
        return (layers if _proven[key] else None), took

    @property
    def packs(self) -> bool:
        """Whether rows pass the model's layers without their padding."""
        return self.layers is not None

    @contextlib.contextmanager
    def passing(self, rows: Rows, chosen: np.ndarray) -> Iterator[None]:
        """What a pass over some rows goes through: what is at hand of them, and no padding."""
        unpadded = packing.packed(self.model, self.layers) if self.layers is not None else contextlib.nullcontext()
        with self.autocast, faults_of_the_model(), self.given(rows, chosen), unpadded:
            yield

    def _features(self, auto_class: str, *, bfloat16: bool) -> Features | None:
        if self.body is None or sharding.count() > 1:  # no process holds a whole body
            return None
        # All that a body's output depends on. The seed is not part of it, as it draws nothing but
        # the head: files that lack more than a head are refused (`heads.refuse_missing`).
        of = self.place, fingerprints.model(self.place), self.recipe.weights, auto_class, bfloat16, str(self.where)

        def forward(inputs: Mapping[str, Any]) -> Any:
            self.model.eval()
            try:
                with self.autocast, faults_of_the_model():
                    return self.objective.forward(self.model, inputs)
            finally:
                self.learn()

        return Features(self.body, of, forward, lambda lengths, padded: self.work_of(lengths, padded, 0, flops.forward))

    def learn(self) -> None:
        """Put the model into training mode, except a body that does not learn: nothing is dropped
        out in it.
        """
        self.model.train()
        if self.body is not None:
            self.body.eval()

    def prepare(
        self, rows: Rows, count: int, window: Callable[[], contextlib.AbstractContextManager[Any]], prepared: int = 0
    ) -> Usage:
        """Compute the frozen body's output for the first rows, where it is not at hand yet. Does
        nothing where all of the model learns.

        Args:
            rows: The rows.
            count: How many of them, from the first.
            window: Opens a window of a meter.
            prepared: How many were prepared by the same run before.

        Returns:
            What the rows beyond `prepared` take, whenever they were computed.
        """
        if self.features is None:
            return Usage()
        used, done = self.features.prepare(rows, count, self.where, window)
        self.work = self.work + done
        # Rounded up: a piece that was begun for the prepared rows has been paid for as a whole.
        return total(used[-(-prepared // PIECE) :])

    def given(self, rows: Rows, chosen: np.ndarray) -> contextlib.AbstractContextManager[bool]:
        return contextlib.nullcontext(False) if self.features is None else self.features.given(rows, chosen)

    def at_hand(self, rows: Rows, chosen: np.ndarray) -> bool:
        return self.features is not None and self.features.holds(rows, chosen)

    def work_of(
        self, lengths: Sequence[int], padded: int, examples: int, formula: Callable[..., float], *, above: bool = False
    ) -> Work:
        """The work of rows of these lengths.

        Args:
            lengths: Tokens of each row, padding excluded.
            padded: Tokens of all rows, padding included.
            examples: How many examples the rows are of.
            formula: FLOPs of a shape and lengths: of a forward pass, or of training.
            above: Whether the rows pass only the part above a frozen body.
        """
        tokens = sum(lengths)
        if self.shape is None:
            return Work(0, examples, tokens, padded, None)
        shape = flops.above(self.shape) if above else self.shape
        return Work(0, examples, tokens, padded, formula(shape, lengths), flops.FORMULA)

    @sharding.inference
    def evaluate(
        self, dev: Questions, clock: Callable[[], float], beside: float = 0.0
    ) -> tuple[dict[str, float], list[Any], float]:
        """Grade the averaged weights on the dev set.

        Args:
            dev: What they are graded by.
            clock: Seconds.
            beside: Seconds that the predictions take in addition to those spent here.

        Returns:
            Scores, with `dev_loss` where there are rows for it; predictions, one an example;
            predictions per second.

        Raises:
            Infeasible: The loss is not finite.
        """
        began = clock()
        loss, predictions, work = self._predict(dev)
        # Documents that are searched belong to no example. They are embedded once, not for each
        # prediction, so their share is not part of the rate.
        shared = int(dev.asked.lengths[np.searchsorted(dev.asked.example, len(dev.examples)) :].sum())
        rate = len(dev.examples) / max((clock() - began + beside) * (1 - shared / max(1, work.tokens)), 1e-9)
        self.work = self.work + work
        scores = self.recipe.task.grade(dev.examples, predictions) | self._also(dev)
        return scores | ({} if loss is None else {"dev_loss": loss}), predictions, rate

    @sharding.inference
    def test(self, of: Questions) -> dict[str, float]:
        """Scores on the held-out test split, with `test_loss` where `evaluate` has `dev_loss`.
        Raises as `evaluate`.
        """
        loss, predictions, _ = self._predict(of)
        scores = self.recipe.task.grade(of.examples, predictions) | self._also(of)
        return scores | ({} if loss is None else {"test_loss": loss})

    def _also(self, of: Questions) -> dict[str, float]:
        """The scores on other tasks; the work is added to `work`."""
        found: dict[str, float] = {}
        for task, asked in of.also:
            found |= scored(task, task.grade(asked.examples, self.predict(asked)))
        return found

    @sharding.inference
    def predict(self, of: Questions) -> list[Any]:
        """Predictions, one an example; the work is added to `work`. Raises as `evaluate`."""
        _, predictions, work = self._predict(of)
        self.work = self.work + work
        return predictions

    def answer(self, examples: Sequence[Example]) -> list[Any]:
        """Predictions for examples, one each, behind the labelled ones that the method asks with. Raises as `predict`."""
        shots = methods.shots(self.recipe.method, self.formulation, self.recipe.task.splits().train)
        return self.predict(questions(self.formulation, examples, self.processor, shots, loss=False))

    def _predict(self, of: Questions) -> tuple[float | None, list[Any], Work]:
        """Mean loss per target item (None where there are no rows for it), a prediction for each
        example, and the work.
        """
        outputs: list[Any] = [None] * len(of.asked)
        # Summed on the device, as reading a number from a GPU waits for it.
        losses, padded = torch.zeros((), device=self.where), 0
        formulation = of.formulation
        objective, inference = formulation.objective, formulation.inference(self.processor)
        read = inference.read if isinstance(inference, Read) else None
        parts: list[tuple[Any, Any]] = []  # of batches whose rows the loss compares with each other
        with self.averaged_weights():
            for chosen, inputs in self.batches(of.labelled, of.examples, packed=self.packs):
                padded += padded_tokens(of.labelled, chosen, packed=self.packs)
                with self.passing(of.labelled, chosen):
                    output = objective.forward(self.model, inputs)
                if of.labelled.together:
                    parts.append((output, inputs["labels"]))
                else:
                    losses += objective.loss(output, inputs)
                for row, value in zip(chosen, read(output, inputs) if read else (), strict=bool(read)):
                    outputs[row] = value
            if parts:
                all_outputs, all_labels = (torch.cat(each) for each in zip(*parts, strict=True))
                losses += objective.loss(all_outputs, {"labels": all_labels})
            above = self.at_hand(of.labelled, np.arange(len(of.labelled)))
            work = self.work_of(of.labelled.lengths.tolist(), padded, len(of.examples), flops.forward, above=above)
            for chosen, inputs in self.batches(of.asked, of.examples, filled=True) if read is None else ():
                work += self._ask(inference, of.asked, chosen, inputs, outputs)
        loss = float(losses) / max(1, int(of.labelled.items.sum())) if len(of.labelled) else None
        if loss is not None and not math.isfinite(loss):
            raise Infeasible("diverged", f"the loss of the predictions is {loss} at step {self.step}")
        return loss, formulation.decode(of.examples, of.asked, outputs, self.processor), work

    def _ask(self, inference: Inference, rows: Rows, chosen: np.ndarray, inputs: Mapping[str, Any], outputs: list[Any]) -> Work:
        """Predict a batch of rows in passes of its own. Tokens that are written count as work like
        those that are read.
        """
        with self.autocast, faults_of_the_model(), self.given(rows, chosen):
            found = inference(self.model, inputs)
        for row, value in zip(chosen, found, strict=True):
            outputs[row] = value
        # With a beginning that all rows share and is read once, the rows' own lengths would count
        # too much.
        passes = found.passes if isinstance(found, Answers) else None
        if passes is not None:
            return self.work_of(passes.tokens, passes.padded, 0, functools.partial(flops.forward, past=passes.past))
        written = [np.size(value) if inference.writes else 0 for value in found]
        lengths = rows.lengths[chosen] + np.array(written)
        above = self.at_hand(rows, chosen)
        return self.work_of(lengths.tolist(), len(chosen) * int(lengths.max()), 0, flops.forward, above=above)

    @sharding.inference
    def latency(self, of: Questions, clock: Callable[[], float]) -> float:
        """Seconds of one prediction by itself, from its tokens on: the median of a few, the first
        of which is not counted.
        """
        taken: list[float] = []
        least, most = SINGLE_PREDICTIONS
        with self.averaged_weights():
            for i in range(min(most, len(of.examples))):
                if i >= least and sum(taken) >= SINGLE_PREDICTIONS_SECONDS:
                    break
                own = of.asked.of_example(i)
                began = clock()
                for _, inputs in self.batches(own, of.examples):
                    with self.autocast, faults_of_the_model():
                        self.inference(self.model, inputs)
                taken.append(clock() - began)
        return statistics.median(taken[1:] or taken)

    def batches(self, rows: Rows, examples: Sequence[Example], **how: bool) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Rows of examples as `evaluation_batches` gives them, each batch to be passed before the next is asked for."""
        return evaluation_batches(rows, self.where, **how)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Evaluation mode for a while, with the weights that are graded in place of those that
        learn.
        """
        self.model.eval()
        try:
            yield
        finally:
            self.learn()
