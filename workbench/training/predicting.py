"""A model that answers: the passes by which it was graded, over and over, for examples without
answers.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from workbench import methods
from workbench.formulations import Example, Rows
from workbench.study import Recipe
from workbench.training.batches import evaluation_batches
from workbench.training.faults import faults_of_the_model
from workbench.training.loop import device, tuned
from workbench.training.passes import questions


class Predictions(NamedTuple):
    """What a model answered.

    Attributes:
        values: One prediction an example, as `Formulation.decode` gives it.
        tokens: Tokens that were read and written for them, padding excluded.
    """

    values: list[Any]
    tokens: int


class Grade(NamedTuple):
    """What a model that is loaded again is worth.

    Attributes:
        scores: The task's scores on the dev set.
        predictions_per_second: Of that grading, in batches.
        latency_seconds: Median of one prediction alone.
    """

    scores: Mapping[str, float]
    predictions_per_second: float
    latency_seconds: float


def grade(recipe: Recipe, weights: str | Path | None) -> Grade:
    """Grade weights, as `test` takes them, on the dev set. Raises as `test`."""
    tuning = tuned(recipe, weights, device())
    splits = recipe.task.splits()
    shots = methods.shots(recipe.method, tuning.formulation, splits.train)
    dev = questions(tuning.formulation, splits.dev, tuning.processor, shots, loss=False)
    scores, _, rate = tuning.evaluate(dev, time.perf_counter)
    return Grade(scores, rate, tuning.latency(dev, time.perf_counter))


class Predictor:
    """A model that a recipe gave. Threads may share it: they are answered one after another.

    Args:
        recipe: What was trained.
        weights: As `test` takes them.
        examples: The labelled examples that a method puts before questions; others read none.
        where: The device; None: the first visible GPU, else the CPU.

    Raises:
        UsageError: The weights are those of another recipe.
    """

    def __init__(
        self, recipe: Recipe, weights: str | Path | None, examples: Sequence[Example] = (), where: torch.device | None = None
    ) -> None:
        self._where = where or device()
        self._tuning = tuned(recipe, weights, self._where)
        self._tuning.model.eval()
        self._formulation = recipe.formulation
        self._apart = self._formulation.apart
        self._shots = methods.shots(recipe.method, self._formulation, examples)
        # A method may change the model's state within a pass, and a tokeniser its own settings.
        self._turn = threading.Lock()
        shared = self._encoded(()) if self._apart is not self._formulation else None
        self._extra = [] if shared is None else list(shared.extra)
        self._shared = [] if shared is None else self._outputs(shared)[0]

    def __call__(self, examples: Sequence[Example]) -> Predictions:
        """Answer examples, in batches of rows of similar length.

        Raises:
            UsageError: They cannot be encoded for this model.
            Infeasible: The model fails with them.
        """
        if not examples:
            return Predictions([], 0)
        with self._turn:
            rows = self._apart.encode(examples, self._tuning.processor, answers=False, shots=self._shots)
            outputs, tokens = self._outputs(rows)
            if self._extra:
                rows = dataclasses.replace(rows, extra=[*rows.extra, *self._extra])
            found = self._formulation.decode(examples, rows, [*outputs, *self._shared], self._tuning.processor)
        return Predictions(found, tokens)

    def _encoded(self, examples: Sequence[Example]) -> Rows:
        return self._formulation.encode(examples, self._tuning.processor, answers=False, shots=self._shots)

    @torch.inference_mode()
    def _outputs(self, rows: Rows) -> tuple[list[Any], int]:
        """One output a row, and the tokens that were read and written."""
        inference, outputs = self._tuning.inference, list[Any]([None] * len(rows))
        for chosen, inputs in evaluation_batches(rows, self._where, filled=inference.writes):
            with self._tuning.autocast, faults_of_the_model():
                found = inference(self._tuning.model, inputs)
            for row, value in zip(chosen, found, strict=True):
                outputs[row] = value
        written = sum(int(np.size(value)) for value in outputs) if inference.writes else 0
        return outputs, int(rows.lengths.sum()) + written
