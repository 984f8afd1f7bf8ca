"""Users' histories as numbers of items, and the items that suit them best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.objectives.base import Batch, Inference, Objective, inputs_of

if TYPE_CHECKING:
    import torch

NO_ITEM = -1
"""Fills up histories that are shorter than others."""


@dataclass(frozen=True)
class Histories(Objective):
    """What a model of counts is fitted on: the histories themselves, shape (rows, longest)."""

    def forward(self, model: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return {"embeddings": batch["history"]}

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        """Nothing: counts have no parameters that a loss could change."""
        zero: torch.Tensor = output["embeddings"].new_zeros((), dtype=float)
        return zero


@dataclass(frozen=True)
class BestItems(Inference):
    """The items with the highest scores that are not in the history: for each row their numbers and
    scores, best first.

    Attributes:
        most: How many items, at most.
    """

    plain: ClassVar[bool] = True

    most: int

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        history = batch["history"]
        scores = model(**inputs_of(batch))["scores"].float()
        # A column more takes what fills up histories.
        had = scores.new_zeros(len(scores), scores.shape[1] + 1, dtype=bool)
        had.scatter_(1, history.where(history != NO_ITEM, scores.shape[1]), True)
        scores = scores.masked_fill(had[:, :-1], -float("inf"))
        # A stable sort: items that score alike keep their order on every machine.
        best, places = scores.sort(dim=1, descending=True, stable=True)
        kept = [(row > -float("inf")).sum().clamp(max=self.most).item() for row in best]
        return [(places[i, :n].cpu().numpy(), best[i, :n].cpu().numpy()) for i, n in enumerate(map(int, kept))]
