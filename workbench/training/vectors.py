"""Embeddings of examples by an encoder as it is, untuned: what looks at data before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from workbench import methods
from workbench.formulations import Example
from workbench.study import Recipe
from workbench.tasks import Task
from workbench.training.batches import evaluation_batches
from workbench.training.loop import device
from workbench.training.passes import Passes


@torch.inference_mode()
def embed(task: Task, model: str, examples: Sequence[Example], observe: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """One vector of length 1 for each example, as `logistic()` sees it, shape (examples, width).

    Args:
        task: A task whose formulation for encoders tells classes of texts.
        model: An encoder.
        examples: What the task reads.
        observe: Is told after each batch how many examples are done.

    Raises:
        UsageError: The model tells no classes for this task; and as `Passes`.
        EnvironmentFault: The model cannot be read.
    """
    passes = Passes(Recipe(task=task, model=model, method=methods.logistic(), epochs=1), device())
    passes.model.eval()
    rows = passes.formulation.encode(examples, passes.processor, answers=False)
    found: list[np.ndarray] = [np.empty(0)] * len(examples)
    done = 0
    for chosen, inputs in evaluation_batches(rows, passes.where):
        with passes.autocast:
            output = passes.model(**inputs)["embeddings"]
        for row, vector in zip(chosen, output.float().cpu().numpy(), strict=True):
            found[row] = vector
        done += len(chosen)
        observe(done)
    return np.stack(found) if found else np.empty((0, 0))
