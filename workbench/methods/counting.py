"""Heads that put items in order by counts of who had what. They need torch, so they are imported only
when a model is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from workbench.data import counts
from workbench.errors import UsageError
from workbench.flops import Shape
from workbench.methods.base import COUNTED, Method
from workbench.methods.heads import Head
from workbench.objectives import NO_ITEM

LEAST = 1e-6
"""The share of popularity in the scores of `ItemItem`: enough to order items that share no user with
the history, too little to overtake one that does.
"""


class Popularity(Head):
    """How many users had each item, as a share of all users."""

    def __init__(self, items: int) -> None:
        super().__init__(0, items)
        self.register_buffer("popularity", torch.zeros(items))

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        return self.popularity.expand(len(history), -1)  # type: ignore[operator]

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        had = had_by_users(vectors, labels, self.classes)
        self.adopt({"popularity": torch.tensor(np.asarray(had.mean(0)).ravel(), dtype=torch.float32)})


class ItemItem(Popularity):
    """The items most like each item, by the cosine of the users who had them."""

    def __init__(self, items: int, *, count: int) -> None:
        super().__init__(items)
        self.count = min(count, items)
        self.register_buffer("near", torch.zeros(items, self.count, dtype=torch.long))
        self.register_buffer("alike", torch.zeros(items, self.count))

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        there = history.clamp(min=0)
        alike = self.alike[there] * (history != NO_ITEM).unsqueeze(-1)  # type: ignore[index]
        scores = LEAST * super().forward(history)
        return scores.scatter_add(1, self.near[there].flatten(1), alike.flatten(1))  # type: ignore[index]

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        super().fit(vectors, labels)
        had = had_by_users(vectors, labels, self.classes)
        together = (had.T @ had).tocsr()  # users of both items, shape (items, items)
        users = together.diagonal().clip(min=1)
        near, alike = np.zeros((self.classes, self.count), np.int64), np.zeros((self.classes, self.count), np.float32)
        for item in range(self.classes):
            row = together[[item]]
            others = row.indices != item
            names, cosines = row.indices[others], row.data[others] / np.sqrt(users[item] * users[row.indices[others]])
            # By likeness and then by number: the order does not depend on that of the users.
            best = np.lexsort((names, -cosines))[: self.count]
            near[item, : len(best)], alike[item, : len(best)] = names[best], cosines[best]
        self.adopt({"near": torch.tensor(near), "alike": torch.tensor(alike)})


def had_by_users(histories: torch.Tensor, labels: torch.Tensor, items: int) -> Any:
    """Which user had which item: a sparse matrix of 0 and 1, shape (users, items).

    Args:
        histories: Numbers of items, filled up with `NO_ITEM`, shape (examples, longest).
        labels: Numbers of user and next item, shape (examples, 2).
        items: How many items there are.
    """
    from scipy.sparse import csr_matrix

    known, of = histories.cpu().numpy(), labels.cpu().numpy()
    rows, places = np.nonzero(known != NO_ITEM)
    users = np.concatenate([of[rows, 0], of[:, 0]])
    found = np.unique(np.stack([users, np.concatenate([known[rows, places], of[:, 1]])], 1), axis=0)
    return csr_matrix((np.ones(len(found)), (found[:, 0], found[:, 1])), (int(of[:, 0].max()) + 1, items))


class Counted(torch.nn.Module):
    """A model of counts with a head: it gives `scores`, shape (rows, items).

    Attributes:
        flops_shape: Of each item of a history as many numbers are added up as it has neighbours.
    """

    def __init__(self, model: Any, head: Popularity) -> None:
        super().__init__()
        self.flops_shape = Shape(getattr(head, "count", 1), 0, 0, layers=0, width=0, backward_layers=0)
        self.config, self.name_or_path, self.head = model.config, model.name_or_path, head

    @property
    def embedder(self) -> torch.nn.Module:
        """What lies below the head: nothing does."""
        return self

    def forward(self, history: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.head(history)}

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        """Fit the head, as `had_by_users` takes histories and labels."""
        self.head.fit(vectors, labels)


def counted(method: Method, model: Any, auto_class: str) -> Counted:
    """A model of counts with the head of a method.

    Raises:
        UsageError: The method makes nothing of counts, or the model has none.
    """
    if method.kind not in COUNTED:
        raise UsageError(
            f"{method.name!r} cannot be with {counts.NAME!r}, a model without language, which takes popularity() and item_item(). "
            "Name the models that it is for: models=(…)."
        )
    if auto_class != counts.AUTO_CLASS:
        raise UsageError(
            f"{method.name!r} counts who had which item, which this model does not. Name {counts.NAME!r} among the study's models, "
            f"and take the method for it alone: models=({counts.NAME!r},)."
        )
    items = int(model.config.num_items)
    head = Popularity(items) if method.kind == "popularity" else ItemItem(items, count=method.settings["neighbours"])
    return Counted(model, head).requires_grad_(False)
