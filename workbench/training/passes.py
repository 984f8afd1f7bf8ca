"""A model with a method on it, as it is asked: its passes over rows, the work they are, and how it
is graded by them.
"""

from __future__ import annotations

import contextlib
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
from workbench.formulations import Example, Rows
from workbench.objectives import Answers, Generate, Inference, Read, packing
from workbench.objectives.prompts import cache_of
from workbench.study import Recipe
from workbench.study.also import scored
from workbench.training import parent_store, sharding
from workbench.training.batches import PACKED_TOKENS, evaluation_batches, padded_tokens
from workbench.training.faults import faults_of_the_model
from workbench.training.features import PIECE, Features
from workbench.training.grading import Questions, questions
from workbench.training.memory import Halves
from workbench.training.precision import cast_once, in_bfloat16
from workbench.usage import Usage, Work, total

SINGLE_PREDICTIONS = 8
"""How many examples are predicted one at a time, once a run, to measure the latency of one prediction. The first warms up and is
not counted."""
SINGLE_PREDICTIONS_SECONDS = 1.0
"""Once these have passed, those that there are are enough: what a language model writes may take seconds an example, beside which
warming up is nothing."""

_proven: dict[tuple[Any, ...], bool] = {}
"""By all that a model is made from: whether its layers give the same for rows without padding. By
nothing less, or what a process has tried before would decide how a run computes."""


@dataclass
class _Found:
    """What passes over rows have found so far.

    Attributes:
        outputs: The output for each row that is asked.
        losses: The sum of all losses, a scalar on the device.
        work: The work of the passes.
    """

    outputs: list[Any]
    losses: torch.Tensor
    work: Work

    def answered(self, chosen: np.ndarray, values: Sequence[Any]) -> None:
        """Note the outputs for some rows."""
        for row, value in zip(chosen, values, strict=True):
            self.outputs[row] = value


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
        self.frozen = methods.frozen(recipe.method, self.model)
        self.learn()
        self.step = 0  # optimiser steps done
        self.work = Work()  # of this object alone, without the run that it resumes
        self.shape = flops.shape(self.model)
        self.parts = None if self.frozen is None else flops.divided(self.model, self.frozen.modules)
        self.halves = Halves()
        self.bfloat16 = in_bfloat16(recipe, where, base.config)
        self.autocast = torch.autocast(where.type, torch.bfloat16, enabled=self.bfloat16)
        # All that the output of what does not learn depends on. The seed is not part of it, as it draws
        # nothing but the head: files that lack more than a head are refused (`heads.refuse_missing`).
        of = self.place, fingerprints.model(self.place), recipe.weights, auto_class, str(where)
        self.features = self._features((*of, self.bfloat16))
        self.layers, self.trial_took = self._packable(of, window)

    def _packable(self, of: tuple[Any, ...], window: bases.Window | None) -> tuple[Sequence[Any] | None, Usage]:
        """The layers that are given rows without padding, None where none are; and what trying took
        now.

        The trial's draws leave no trace: it comes before the random state is set that a run starts from.
        """
        layers = packing.layers_of(self.model) if self.where.type in PACKED_TOKENS and sharding.count() == 1 else None
        if layers is None:
            return None, Usage()
        method = self.recipe.method
        drawn = repr(sorted(self.formulation.settings.items())), self.recipe.seed  # the head, and what a method adds
        key = (*of, *drawn, method.kind, repr(sorted(method.settings.items())))
        took = Usage()
        if key not in _proven:
            with contextlib.nullcontext() if window is None else window() as opened:
                _proven[key] = packing.proven(self.model, layers, bfloat16=self.recipe.weights != "float32")
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

    def _features(self, of: tuple[Any, ...]) -> Features | None:
        if self.frozen is None or sharding.count() > 1:  # no process holds a whole layer
            return None

        def forward(inputs: Mapping[str, Any]) -> Any:
            self.model.eval()
            try:
                with self.autocast, faults_of_the_model():
                    return self.objective.forward(self.model, inputs)
            finally:
                self.learn()

        below = None if self.parts is None else self.parts[0]
        return Features(self.frozen.modules, of, forward, lambda lengths, padded: work_of(below, lengths, padded, 0, flops.forward))

    def cast_once(self) -> contextlib.AbstractContextManager[None]:
        """For many passes, between which weights that do not learn stay as they are: these are cast to bfloat16 once for all."""
        return cast_once(self.model, self.where, bfloat16=self.bfloat16)

    def learn(self) -> None:
        """Put the model into training mode, except the part below all that learns: nothing is
        dropped out in it.
        """
        self.model.train()
        for module in self.frozen.still if self.frozen is not None else ():
            module.eval()

    def prepare(
        self, rows: Rows, count: int, window: Callable[[], contextlib.AbstractContextManager[Any]], prepared: int = 0
    ) -> Usage:
        """Compute the frozen part's output for the first rows, where it is not at hand yet. Does
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
            above: Whether the rows pass only the part above a frozen one.
        """
        shape = self.parts[1] if above and self.parts is not None else self.shape
        return work_of(shape, lengths, padded, examples, formula)

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
        # Losses are summed on the device, as reading a number from a GPU waits for it.
        found = _Found([None] * len(of.asked), torch.zeros((), device=self.where), Work(examples=len(of.examples)))
        with self.averaged_weights(), self.cast_once():
            if not self._reads_once(of):
                self._read(of, found)
            if of.asked is not of.labelled:
                self._ask(of, found)
        loss = float(found.losses) / max(1, int(of.labelled.items.sum())) if len(of.labelled) else None
        if loss is not None and not math.isfinite(loss):
            raise Infeasible("diverged", f"the loss of the predictions is {loss} at step {self.step}")
        return loss, of.formulation.decode(of.examples, of.asked, found.outputs, self.processor), found.work

    def _reads_once(self, of: Questions) -> bool:
        """Whether prompts are read once, for the losses of the answers behind them and for those that are written."""
        return of.behind is not None and cache_of(self.model) is not None

    def plain_rows(self, of: Questions) -> list[Rows]:
        """The rows of which grading makes one pass as they are, in sets: only for these can it use a frozen part's output."""
        own = [] if self._reads_once(of) else [of.labelled]
        own += [of.asked] if of.plain and of.asked is not of.labelled else []
        return [*own, *(rows for _, each in of.also for rows in self.plain_rows(each))]

    def _read(self, of: Questions, found: _Found) -> None:
        """Pass the rows with answers: their losses, and their predictions where these are read off the same pass."""
        rows, objective, inference = of.labelled, of.formulation.objective, of.formulation.inference(self.processor)
        read = inference.read if isinstance(inference, Read) else None

        def passed(chosen: np.ndarray, inputs: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
            with self.passing(rows, chosen):
                output = objective.forward(self.model, inputs)
            # The losses of rows that are compared with each other need the outputs of all.
            told = (output, inputs["labels"]) if rows.together else objective.loss(output, inputs)
            return told, read(output, inputs) if read else [None] * len(chosen)

        padded, parts = 0, list[tuple[Any, Any]]()
        batches = self.batches(rows, of.examples, packed=self.packs)
        for chosen, (told, values) in self.halves.passed(rows, batches, self.where, passed):
            padded += padded_tokens(rows, chosen, packed=self.packs)
            if rows.together:
                parts.append(told)
            else:
                found.losses += told
            if read:
                found.answered(chosen, values)
        if parts:
            outputs, labels = (torch.cat(each) for each in zip(*parts, strict=True))
            found.losses += objective.loss(outputs, {"labels": labels})
        above = self.at_hand(rows, np.arange(len(rows)))
        found.work += self.work_of(rows.lengths.tolist(), padded, 0, flops.forward, above=above)

    def _ask(self, of: Questions, found: _Found) -> None:
        """Predict rows in passes of their own, with the losses of given answers where prompts are read once."""
        rows, inference, once = of.asked, of.formulation.inference(self.processor), self._reads_once(of)

        def passed(chosen: np.ndarray, inputs: dict[str, Any]) -> tuple[Sequence[Any], torch.Tensor | float]:
            at_hand = self.given(rows, chosen) if of.plain else contextlib.nullcontext()
            with self.autocast, faults_of_the_model(), at_hand:
                if once and isinstance(inference, Generate):
                    return inference.graded(self.model, inputs, of.answers(chosen))
                return inference(self.model, inputs), 0.0

        batches = self.batches(rows, of.examples, filled=True)
        for chosen, (values, loss) in self.halves.passed(rows, batches, self.where, passed):
            found.answered(chosen, values)
            found.losses += loss
            found.work += self._asking(of, inference, chosen, values)

    def _asking(self, of: Questions, inference: Inference, chosen: np.ndarray, found: Sequence[Any]) -> Work:
        """The work of predicting some rows in passes of their own. Tokens that are written count
        like those that are read.
        """
        # With a beginning that all rows share and is read once, the rows' own lengths would count
        # too much.
        passes = found.passes if isinstance(found, Answers) else None
        if passes is not None:
            return self.work_of(passes.tokens, passes.padded, 0, functools.partial(flops.forward, past=passes.past))
        written = [np.size(value) if inference.writes else 0 for value in found]
        lengths = of.asked.lengths[chosen] + np.array(written)
        above = of.plain and self.at_hand(of.asked, chosen)
        return self.work_of(lengths.tolist(), len(chosen) * int(lengths.max()), 0, flops.forward, above=above)

    @sharding.inference
    def latency(self, of: Questions, clock: Callable[[], float]) -> float:
        """Seconds of one prediction by itself, from its tokens on: the median of a few, the first
        of which is not counted if there are more.
        """
        taken: list[float] = []
        with self.averaged_weights():
            for i in range(min(SINGLE_PREDICTIONS, len(of.examples))):
                if sum(taken) >= SINGLE_PREDICTIONS_SECONDS:
                    break
                own = of.asked.of_example(i)
                began = clock()
                # As `Predictor` has it, which holds no second copy of a model while nobody asks.
                with self.cast_once() if self.inference.writes else contextlib.nullcontext():
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


def work_of(shape: flops.Shape | None, lengths: Sequence[int], padded: int, examples: int, formula: Callable[..., float]) -> Work:
    """The work of rows of these lengths that pass a model, or a part of it, of this shape; None: unknown. As `Passes.work_of`."""
    if shape is None:
        return Work(0, examples, sum(lengths), padded, None)
    return Work(0, examples, sum(lengths), padded, formula(shape, lengths), flops.FORMULA)
