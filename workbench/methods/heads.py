"""Heads that tell classes from one vector per text and are fitted at once. They need torch, so they
are imported only when a model is wrapped.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize, one_hot

from workbench.data import models
from workbench.errors import UsageError
from workbench.methods.base import Method
from workbench.objectives import NO_TARGET, pooled

LEAST = 10.0
"""By how much, in logits, a class without an example is less likely than every class that has one.
"""

DOUBT = 0.01
"""The share that each class has without any neighbour's vote, since no class is impossible."""


class Embedder(torch.nn.Module):
    """A base model that gives one vector of length 1 per row, shape (rows, width): its last hidden
    states, pooled.
    """

    def __init__(self, base: torch.nn.Module, pooling: str) -> None:
        super().__init__()
        self.base, self.pooling = base, pooling

    def forward(self, **inputs: Any) -> torch.Tensor:
        hidden = self.base(**inputs)["last_hidden_state"].float()
        return normalize(pooled(hidden, inputs.get("attention_mask"), self.pooling), dim=-1)


class Head(torch.nn.Module):
    """Tells classes from vectors. Its state is in buffers, as nothing in it is learned step by
    step.

    Args:
        width: Width of the vectors.
        classes: How many classes there are.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.width, self.classes = width, classes

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        """Make the state from labelled examples.

        Args:
            vectors: Shape (examples, width).
            labels: The class of each, shape (examples,), or 0 and 1 for each class, shape
                (examples, classes).
        """
        raise NotImplementedError

    def adopt(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a state as `state_dict` gives it, of any number of examples."""
        for name, value in state.items():
            # Replaced and not copied into: neighbours keep as many rows as there were examples.
            setattr(self, name, value.to(getattr(self, name).device))


class Logistic(Head):
    """Logistic regression by scikit-learn."""

    def __init__(self, width: int, classes: int, *, strength: float) -> None:
        super().__init__(width, classes)
        self.strength = strength
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors @ self.weight.T + self.bias  # type: ignore[operator]

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        x, y = vectors.double().cpu().numpy(), labels.cpu().numpy()
        weight, bias = np.zeros((self.classes, self.width)), np.full(self.classes, -LEAST)
        if y.ndim == 2:
            for i in range(self.classes):
                # scikit-learn refuses to fit a class that all examples have, or none.
                if len({*y[:, i]}) == 1:
                    bias[i] = LEAST if y[0, i] else -LEAST
                else:
                    found = self._regression(x, y[:, i])
                    weight[i], bias[i] = found.coef_[0], found.intercept_[0]
        else:
            seen = np.unique(y)
            if len(seen) > 1:
                found = self._regression(x, y)
                whole = len(seen) > 2
                # Of two classes scikit-learn fits the second alone; the first has a logit of 0.
                weight[seen] = found.coef_ if whole else np.stack([np.zeros(self.width), found.coef_[0]])
                bias[seen] = found.intercept_ if whole else (0.0, found.intercept_[0])
            else:
                bias[seen] = 0.0
            # A vector has length 1, so its logit of a class is never below bias - |weight|.
            lowest = (bias[seen] - np.linalg.norm(weight[seen], axis=1)).min()
            bias[np.setdiff1d(np.arange(self.classes), seen)] = lowest - LEAST
        self.adopt({"weight": torch.tensor(weight, dtype=torch.float32), "bias": torch.tensor(bias, dtype=torch.float32)})

    def _regression(self, x: np.ndarray, y: np.ndarray) -> Any:
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            # With few labels of many classes scikit-learn asks whether they are numbers: they are names.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            # By default scikit-learn stops after 100 iterations, which may be short of the optimum.
            return LogisticRegression(C=self.strength, max_iter=10_000).fit(x, y)


class Neighbours(Head):
    """The classes of the nearest examples, whose vectors and votes are the state."""

    def __init__(self, width: int, classes: int, *, count: int) -> None:
        super().__init__(width, classes)
        self.count = count
        self.register_buffer("points", torch.zeros(0, width))
        self.register_buffer("votes", torch.zeros(0, classes))
        self.register_buffer("several", torch.zeros(()))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        points, votes = self.points, self.votes
        if not len(points):  # type: ignore[arg-type]
            return vectors.new_zeros(len(vectors), self.classes)
        near, place = (vectors @ points.T).topk(min(self.count, len(points)), dim=1)  # type: ignore[arg-type,operator]
        # A text that is among the examples has distance 0, or slightly less by rounding.
        weight = 1 / (1 - near).clamp(min=1e-6)
        share = (votes[place] * (weight / weight.sum(1, keepdim=True)).unsqueeze(-1)).sum(1)  # type: ignore[index]
        # Not by an `if`, which a model that is exported could not hold.
        return torch.where(self.several.bool(), share.clamp(DOUBT, 1 - DOUBT).logit(), (share + DOUBT).log())  # type: ignore[operator]

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        several = labels.ndim == 2
        votes = labels.float() if several else one_hot(labels, self.classes).float()
        self.adopt({"points": vectors.float(), "votes": votes, "several": torch.tensor(float(several))})


class FittedClassifier(torch.nn.Module):
    """A base model with a fitted head: it gives `logits`, shape (rows, classes), and `embeddings`,
    shape (rows, width).
    """

    def __init__(self, model: Any, head: Head) -> None:
        super().__init__()
        # FLOPs and poolings look for these on any model.
        self.config, self.name_or_path = model.config, model.name_or_path
        self.embedder, self.head = Embedder(model.base_model, models.pooling(model.name_or_path)), head

    def forward(self, **inputs: Any) -> dict[str, torch.Tensor]:
        vectors = self.embedder(**inputs)
        return {"logits": self.head(vectors), "embeddings": vectors}

    def fit(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        """Fit the head, as `Head.fit`; examples without a class are left out."""
        known = labels != NO_TARGET if labels.ndim == 1 else torch.ones(len(labels), dtype=torch.bool)
        self.head.fit(vectors[known], labels[known])


def fitted(method: Method, model: Any, auto_class: str) -> FittedClassifier:
    """A model with a fitted head on its base model, in place of the head that it has.

    Raises:
        UsageError: The model tells no classes; and as `workbench.data.models.pooling`.
    """
    classes = int(getattr(model.config, "num_labels", 0))
    if auto_class != "AutoModelForSequenceClassification" or classes < 2 or model.base_model is model:
        raise UsageError(
            f"{method.name!r} tells classes from embeddings of an encoder, which this model with this task does not. Take it for "
            "encoders and classification alone: models=(…)."
        )
    width, settings = int(model.config.hidden_size), method.settings
    if method.kind == "knn":
        head: Head = Neighbours(width, classes, count=settings["neighbours"])
    else:
        head = Logistic(width, classes, strength=settings["C"])
    made = FittedClassifier(model, head.to(next(model.parameters()).device))
    return made.requires_grad_(method.trains)
