"""Where a batch's rows lie in the space in which a model works, in a few numbers: what it computes anyway, kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from workbench.methods.heads import FittedClassifier

KINDS = ("encoder", "vision", "audio")
"""Kinds of models that read a row in one pass. Of one that writes each word is a pass."""

DIMENSIONS = 4
"""Numbers that stand for a row."""


class Embedded:
    """Takes the embeddings of rows from a model's passes: the mean of its last hidden states, of length 1, projected on
    `DIMENSIONS` directions, which are drawn once (Johnson & Lindenstrauss 1984): what is close stays close.

    Args:
        model: The model. Where its body does not tell hidden states nothing is taken.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        whole: Any = model
        if hasattr(whole, "get_base_model"):  # of PEFT
            whole = whole.get_base_model()
        self._last: tuple[torch.Tensor, torch.Tensor | None] | None = None
        body = whole.embedder.base if isinstance(whole, FittedClassifier) else getattr(whole, "base_model", None)
        if isinstance(body, torch.nn.Module):
            body.register_forward_hook(self._keep, with_kwargs=True)

    def take(self, rows: int) -> np.ndarray | None:
        """The embeddings of the batch that was computed last, shape (rows, `DIMENSIONS`); None where they are not known."""
        last, self._last = self._last, None
        if last is None or len(last[0]) != rows:
            return None
        hidden, mask = last
        weights = torch.ones(hidden.shape[:2], device=hidden.device) if mask is None or mask.shape != hidden.shape[:2] else mask
        mean = normalize(torch.einsum("rth,rt->rh", hidden.float(), weights.float()), dim=-1)  # (rows, width)
        found: np.ndarray = (mean.cpu() @ _directions(mean.shape[-1])).numpy()
        return found

    def _keep(self, body: torch.nn.Module, given: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", None)
        if isinstance(hidden, torch.Tensor) and hidden.ndim == 3:  # (rows, tokens, width)
            self._last = hidden, named.get("attention_mask")


@functools.cache
def _directions(width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((width, DIMENSIONS)).astype(np.float32))
