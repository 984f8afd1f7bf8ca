"""The gradient of one step, of rows without padding and of padded ones."""

from typing import Any

import numpy as np
import torch

from workbench import Recipe
from workbench.training.tuning import Tuning


def packed_and_padded(recipe: Recipe, rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The gradients of a recipe's first rows by parameter: without padding, and with it."""
    found: list[dict[str, Any]] = []
    for packed in (True, False):
        tuning = Tuning(recipe, torch.device("cpu"), None)
        assert tuning.packs
        tuning.layers = tuning.layers if packed else None
        tuning.model.eval()  # dropout draws other numbers where there are fewer tokens
        encoded = tuning.formulation.encode(recipe.task.splits().train, tuning.processor)
        lengths = encoded.lengths[:rows]
        assert len({*lengths.tolist()}) > 1
        _, computed = tuning.gradient(encoded, np.arange(rows))
        assert (computed == int(lengths.sum())) is packed  # what is computed has no padding
        found.append({name: p.grad for name, p in tuning.parameters.items() if p.grad is not None})
    one, other = found
    assert one.keys() == other.keys()
    assert one
    return one, other
