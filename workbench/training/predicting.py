"""A model that answers: the passes by which it was graded, over and over, for examples without
answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from workbench import methods
from workbench.data import models
from workbench.errors import Infeasible, UsageError
from workbench.formulations import Example, Rows
from workbench.objectives import Inference
from workbench.study import Recipe
from workbench.tasks.base import EACH
from workbench.training import parent_store
from workbench.training.batches import evaluation_batches
from workbench.training.embedded import DIMENSIONS, KINDS, Embedded
from workbench.training.faults import faults_of_the_model
from workbench.training.grading import Questions, questions
from workbench.training.loop import device, tuned
from workbench.training.memory import Halves
from workbench.training.onnx_models import SUFFIX, OnnxModel
from workbench.training.tuning import Tuning


class Predictions(NamedTuple):
    """What a model answered.

    Attributes:
        values: One prediction an example, as `Formulation.decode` gives it.
        tokens: For each example, tokens that were read and written for it, padding excluded.
        seconds: Seconds that the model took, without the wait for others who asked.
        cpu_seconds: CPU seconds of this process meanwhile.
        embeddings: Where each example lies for the model (`embedded.Embedded`), the mean of its rows; None where that is not known.
        unread: Examples, by their places, that are longer than the model takes: their predictions are empty.
    """

    values: list[Any]
    tokens: list[int]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    embeddings: np.ndarray | None = None
    unread: Sequence[int] = ()


class Grade(NamedTuple):
    """What a model that is loaded again is worth.

    Attributes:
        scores: The task's scores on the dev set.
        predictions_per_second: Of that grading, in batches.
        latency_seconds: Median of one prediction alone.
        predictions: One an example of the dev set.
    """

    scores: Mapping[str, float]
    predictions_per_second: float
    latency_seconds: float
    predictions: Sequence[Any] = ()


def grade(recipe: Recipe, weights: str | Path | None) -> Grade:
    """Grade weights, as `test` takes them, on the dev set. Raises as `test`."""
    tuning = tuned(recipe, weights, device())
    shots = methods.shots(recipe.method, tuning.formulation, recipe.task.splits().train)
    return graded(tuning, questions(tuning.formulation, recipe.task.graded(), tuning.processor, shots, loss=False))


def graded(tuning: Tuning, dev: Questions) -> Grade:
    """Grade a model by questions."""
    scores, predictions, rate = tuning.evaluate(dev, time.perf_counter)
    return Grade(scores, rate, tuning.latency(dev, time.perf_counter), predictions)


class SharedWeights:
    """Weights that no recipe tunes, of models that only answer: equal ones are in memory once."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.Size], torch.Tensor] = {}

    def share(self, model: torch.nn.Module) -> None:
        """Have a model use what is kept already, and keep the rest of it. By content, as bases that differ by a drawn head alone
        are one: nothing writes to them any more.
        """
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                continue
            known = self._kept.setdefault((methods.plain_name(name), parameter.shape), parameter.detach())
            if known.dtype == parameter.dtype and known.device == parameter.device and torch.equal(known, parameter):
                parameter.data = known


_turn = threading.Lock()
"""Held by the model that answers: those of a process share its processors, and each of them uses all. A method may change a model's
state within a pass, too, and a tokeniser its own settings.
"""


AGREES = 1e-3
"""By how much the outputs of a model may move when what a method put beside its weights is merged into them, relative and
absolute: in float32 that is rounding alone, some 1e-6 a layer.
"""


class _Asked(NamedTuple):
    """A model, and how it is asked."""

    model: torch.nn.Module
    processor: Any
    inference: Inference
    autocast: contextlib.AbstractContextManager[Any]
    tuning: Tuning | None = None

    def batches(self, rows: Rows, examples: Sequence[Example], where: torch.device) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Rows of examples as `Passes.batches` gives them."""
        filled = self.inference.writes
        if self.tuning is None:
            return evaluation_batches(rows, where, filled=filled)
        return self.tuning.batches(rows, examples, filled=filled)

    @property
    def can_merge(self) -> bool:
        """Whether something stands beside the model's weights that can be merged into them, where all is float32."""
        if self.tuning is None or self.tuning.merged or self.tuning.recipe.task.combines == EACH:
            return False
        recipe, where = self.tuning.recipe, self.tuning.where
        with self.autocast:
            exact = recipe.weights == "float32" and not torch.is_autocast_enabled(where.type)
        return exact and methods.is_mergeable(recipe.method, self.model)

    def merged(self) -> _Asked:
        """The model with all of it in its weights; this one is no more. Raises UsageError where PEFT cannot."""
        assert self.tuning is not None
        self.tuning.take_merged(self.tuning.plain(), ())
        return self._replace(model=self.tuning.model.eval())


def _asked(recipe: Recipe, weights: str | Path | None, where: torch.device) -> _Asked:
    if weights is None or Path(weights).suffix != SUFFIX:
        tuning = tuned(recipe, weights, where)
        return _Asked(tuning.model.eval(), tuning.processor, tuning.inference, tuning.autocast, tuning)
    processor = models.processor(recipe.architecture)
    model = OnnxModel(Path(weights), parent_store.place(recipe))
    return _Asked(model, processor, recipe.formulation.inference(processor), contextlib.nullcontext())


class Predictor:
    """A model that a recipe gave. Threads may share it: they are answered one after another.

    Args:
        recipe: What was trained.
        weights: As `test` takes them; or a file of ONNX, which is computed on the CPU.
        examples: The labelled examples that a method puts before questions; others read none.
        where: The device; None: the first visible GPU, else the CPU.
        shared: What it shares with other models the weights that it does not tune; None: nothing.
        merge: Examples to be asked: where what a method put beside the weights can be merged into them, and the model answers these
            as before, that is done. A pass then has no layer more than the base model's. Without any it is asked as it was tuned.

    Raises:
        UsageError: The weights are those of another recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: str | Path | None,
        examples: Sequence[Example] = (),
        where: torch.device | None = None,
        *,
        shared: SharedWeights | None = None,
        merge: Sequence[Example] = (),
    ) -> None:
        self._where, self._halves = where or device(), Halves()
        self._asked = _asked(recipe, weights, self._where)
        self._embedded: Embedded | None = None
        if shared is not None:
            shared.share(self._asked.model)
        self._formulation = recipe.formulation
        self._apart = self._formulation.apart
        self._shots = methods.shots(recipe.method, self._formulation, examples)
        if merge and self._asked.can_merge and not self._merge(merge):
            self._asked = _asked(recipe, weights, self._where)  # what could not be merged is changed all the same
        if models.kind(recipe.architecture) in KINDS and not self._asked.inference.writes:
            self._embedded = Embedded(self._asked.model)
        apart = self._encoded(()) if self._apart is not self._formulation else None
        self._extra = [] if apart is None else list(apart.extra)
        self._shared = [] if apart is None else self._outputs(apart, ())[0]

    def __call__(self, examples: Sequence[Example]) -> Predictions:
        """Answer examples, in batches of rows of similar length.

        Raises:
            UsageError: They cannot be encoded for this model.
            Infeasible: The model fails with them.
        """
        if not examples:
            return Predictions([], [])
        with _turn:
            began, cpu_began = time.perf_counter(), time.process_time()
            rows = self._apart.encode(examples, self._asked.processor, answers=False, shots=self._shots)
            outputs, embeddings = self._outputs(rows, examples)
            unread = np.setdiff1d(np.arange(len(examples)), rows.example).tolist()
            tokens = np.bincount(rows.example, self._tokens(rows, outputs), len(examples))[: len(examples)]
            if self._extra:
                rows = dataclasses.replace(rows, extra=[*rows.extra, *self._extra])
            found = self._formulation.decode(examples, rows, [*outputs, *self._shared], self._asked.processor)
            took, cpu_took = time.perf_counter() - began, time.process_time() - cpu_began
        places = _by_example(embeddings, rows.example, len(examples))
        return Predictions(found, tokens.astype(int).tolist(), took, cpu_took, places, unread)

    def _merge(self, examples: Sequence[Example]) -> bool:
        """Merge what a method put beside the model's weights into them. False where that failed, or examples are answered otherwise
        then: the model has to be read again.
        """
        try:
            rows = self._apart.encode(examples, self._asked.processor, answers=False, shots=self._shots)
            before, _ = self._outputs(rows, examples)
            self._asked = self._asked.merged()
            after, _ = self._outputs(rows, examples)
        except (UsageError, Infeasible):
            return False
        return all(map(_agree, after, before))

    def _encoded(self, examples: Sequence[Example]) -> Rows:
        return self._formulation.encode(examples, self._asked.processor, answers=False, shots=self._shots)

    def _tokens(self, rows: Rows, outputs: Sequence[Any]) -> np.ndarray:
        """Tokens that were read and written for each row."""
        written = [int(np.size(value)) for value in outputs] if self._asked.inference.writes else 0
        return rows.lengths + written

    def _cast_once(self) -> contextlib.AbstractContextManager[None]:
        """For each token that is written all weights would be cast anew; beside one pass it would take longer."""
        asked = self._asked
        return asked.tuning.cast_once() if asked.tuning is not None and asked.inference.writes else contextlib.nullcontext()

    @torch.inference_mode()
    def _outputs(self, rows: Rows, examples: Sequence[Example]) -> tuple[list[Any], np.ndarray | None]:
        """One output a row, and where the rows lie."""
        asked, outputs = self._asked, list[Any]([None] * len(rows))
        places: np.ndarray | None = np.zeros((len(rows), DIMENSIONS), np.float32)

        def answer(chosen: np.ndarray, inputs: dict[str, Any]) -> Sequence[Any]:
            nonlocal places
            with asked.autocast, faults_of_the_model():
                found = asked.inference(asked.model, inputs)
            taken = None if self._embedded is None else self._embedded.take(len(chosen))
            if places is not None and taken is not None:
                places[chosen] = taken
            else:
                places = None
            return found

        with self._cast_once():
            for chosen, found in self._halves.passed(rows, asked.batches(rows, examples, self._where), self._where, answer):
                for row, value in zip(chosen, found, strict=True):
                    outputs[row] = value
        return outputs, places


def _agree(one: Any, other: Any) -> bool:
    """Whether two outputs are the same but for rounding."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_agree, one, other))
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype.kind not in "fiu":
        return bool(np.array_equal(a, b))
    return a.shape == b.shape and bool(np.allclose(a, b, AGREES, AGREES, equal_nan=True))


def _by_example(places: np.ndarray | None, of: np.ndarray, examples: int) -> np.ndarray | None:
    """The mean of the rows of each example; None where they are not known."""
    if places is None:
        return None
    rows = np.maximum(1, np.bincount(of, minlength=examples)[:examples])  # those of none stand behind
    return np.stack([np.bincount(of, each, examples)[:examples] for each in places.T], 1) / rows[:, None]
