"""Embeddings of examples by a model as it is, untuned: what looks at data before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from workbench import flops
from workbench.data import models
from workbench.formulations import Example
from workbench.methods.heads import Embedder
from workbench.study import Recipe
from workbench.training import parent_store
from workbench.training.batches import evaluation_batches, padded_tokens
from workbench.training.memory import Halves
from workbench.usage import Work

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values", "input_values", "input_features")
"""What a model reads of a batch, and not what a task's head or loss does."""


@torch.inference_mode()
def embed(
    recipe: Recipe,
    examples: Sequence[Example],
    where: torch.device,
    *,
    model: Any = None,
    observe: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, Work]:
    """One vector of length 1 for each example, by the recipe's model as it is before tuning.

    It is the mean of the last hidden states of the model's body, or what the model's folder states
    for embeddings, over the input that the model is asked with; of an example with several rows the
    mean of those. Of an encoder-decoder it is the encoder that is read.

    Args:
        recipe: Names the task and the model.
        examples: Without need of a label.
        where: The device.
        model: The model, where it was read before.
        observe: Is told after each batch how many of the examples' rows are done.

    Returns:
        Shape (examples, width), float32; and the work that it took.

    Raises:
        UsageError: The model does not suit the task, or is not there.
        EnvironmentFault: The model cannot be read.
    """
    architecture = recipe.architecture
    formulation = recipe.task.formulation(models.kind(architecture))
    if model is None:
        how = {"seed": recipe.seed, "weights": recipe.weights, **formulation.settings}
        model = models.build(parent_store.place(recipe), formulation.auto_class, **how)
    body = model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model.base_model
    embedder = Embedder(body, models.pooling(architecture)).to(where).eval()
    rows = formulation.encode(examples, models.processor(architecture), answers=False)
    count, padded, done = int(np.searchsorted(rows.example, len(examples))), 0, 0
    sums = torch.zeros(len(examples), int(model.config.hidden_size), device=where)

    def read(chosen: np.ndarray, inputs: dict[str, Any]) -> Any:
        return embedder(**{name: value for name, value in inputs.items() if name in INPUTS})

    # What all examples share, such as documents to search in, belongs to none.
    batches = evaluation_batches(rows, where, some=np.arange(count))
    for chosen, found in Halves().passed(rows, batches, where, read):
        padded += padded_tokens(rows, chosen)
        sums.index_add_(0, torch.from_numpy(rows.example[chosen]).to(where), found)
        done += len(chosen)
        observe(done)
    vectors = normalize(sums, dim=-1).cpu().numpy()
    lengths, shape = rows.lengths[:count].tolist(), flops.shape(model)
    forward = None if shape is None else flops.forward(shape, lengths)
    return vectors, Work(0, len(examples), sum(lengths), padded, forward, "" if shape is None else flops.FORMULA)
