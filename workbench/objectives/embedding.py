"""One vector per row: how it is pooled, how a model learns to bring some of them together, and how
it is asked for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.data import models
from workbench.data.poolings import CLS
from workbench.flops import unwrapped
from workbench.objectives.base import NO_TARGET, Batch, Inference, Objective, inputs_of

if TYPE_CHECKING:
    import torch


def embeddings(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """One vector of length 1 per row, shape (rows, width): the last hidden states, pooled as the
    model's folder says.

    Raises:
        UsageError: As `workbench.data.models.pooling`.
    """
    from torch.nn.functional import normalize

    inputs = inputs_of(batch)
    # In float32 even under autocast: bfloat16 has 8 significant bits, and near texts would tie.
    hidden = model(**inputs)["last_hidden_state"].float()
    return normalize(pooled(hidden, inputs.get("attention_mask"), models.pooling(unwrapped(model).name_or_path)), dim=-1)


def pooled(hidden: torch.Tensor, mask: torch.Tensor | None, how: str) -> torch.Tensor:
    """One vector per row, from the vectors of its tokens.

    Args:
        hidden: Shape (rows, tokens, width).
        mask: 1 for tokens, 0 for padding, shape (rows, tokens); None: no padding.
        how: `mean` or `cls`, as in `workbench.data.poolings`.

    Returns:
        Shape (rows, width).
    """
    if how == CLS:
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(1)
    kept = mask.unsqueeze(-1).to(hidden)
    return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)


@dataclass(frozen=True)
class InBatchNegatives(Objective):
    """A query should be nearer to its document than to all others of the step (multiple negatives
    ranking, Henderson et al. 2017).

    An item is a query. `labels` have the shape (rows, 2): a query's row holds its number and its
    document's, a document's row -100 and its own number. A document that appears twice in a step
    counts once, and a document that another row of the step has as the right one for the same query
    is no negative of it. As each row is compared with the others, a step's rows are not cut apart.

    Attributes:
        temperature: Divides the cosines, > 0. The smaller it is, the more the nearest wrong
            documents count.
    """

    temperature: float = 0.05

    def forward(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """A vector of length 1 for each row, shape (rows, width)."""
        return embeddings(model, batch)

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        query, document = batch["labels"].unbind(1)
        asks = query != NO_TARGET
        # names: numbers of the step's documents, each once; first: the first row of each of them.
        names, place = document[~asks].unique(return_inverse=True)
        first = torch.full_like(names, len(place)).scatter_reduce(0, place, torch.arange(len(place), device=place.device), "amin")
        # Shape (queries, documents), as are the masks below.
        scores = output[asks] @ output[~asks][first].T / self.temperature
        right = document[asks].unsqueeze(1) == names.unsqueeze(0)
        alike = query[asks].unsqueeze(1) == query[asks].unsqueeze(0)
        # Right for the same query by another row: neither its document here nor a negative.
        elsewhere = (alike.to(scores) @ right.to(scores) > 0) & ~right
        return cross_entropy(scores.masked_fill(elsewhere, float("-inf")), right.int().argmax(1), reduction="sum")


@dataclass(frozen=True)
class AlikePairs(Objective):
    """Rows that share a class should have a cosine of 1, others of 0: squared errors over all pairs
    of a step.

    An item is a row. The mean over pairs that share a class weighs as much as the mean over the
    others. The model gives `embeddings`, vectors of length 1; `labels` are as `Classes` takes them.
    """

    together: ClassVar[bool] = True

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        import torch

        vectors, labels = output["embeddings"].float(), batch["labels"]
        alike = (labels @ labels.T > 0) if labels.ndim == 2 else labels.unsqueeze(0) == labels.unsqueeze(1)
        # Each pair once, and no row with itself.
        pairs = torch.ones_like(alike).triu(1)
        errors = (vectors @ vectors.T - alike.to(vectors)) ** 2
        means = [(errors * chosen).sum() / chosen.sum().clamp(min=1) for chosen in (pairs & alike, pairs & ~alike)]
        # Times the rows, since the loop divides a step's loss by its items.
        return len(labels) * sum(means, torch.zeros((), device=errors.device)) / 2


@dataclass(frozen=True)
class Embed(Inference):
    """A vector of length 1 per row, shape (width,)."""

    padding_side: ClassVar[str] = "right"
    plain: ClassVar[bool] = True

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[np.ndarray]:
        return list(embeddings(model, batch).cpu().numpy())
