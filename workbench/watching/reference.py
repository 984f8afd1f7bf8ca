"""How the dev set is distributed: what the rows and the answers of a served model are held against.

It is made when a model is deployed and goes with it. It holds lengths, confidences, counts of classes, and
in ten parts how the vectors of words (`traits.words`) and the model's embeddings lie: nothing from which a
text could be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from workbench.watching import traits

MOST = 1000
"""Of a larger dev set so many quantiles are kept."""

PARTS = 10
"""Parts of equal size that each number of the vectors is cut into."""


@dataclass(frozen=True)
class Reference:
    """The distributions of a dev set, and of a model's answers to it.

    Attributes:
        examples: How many examples there were.
        lengths: Characters of their rows, rising.
        scores: Confidences of the answers, rising; none where the model gives none.
        labels: How often each class was answered; none where answers are no classes.
        edges: For each number of the words' vectors the `PARTS` - 1 values between its parts.
        embedding_edges: The same of the embeddings; none where the model tells none.
    """

    examples: int = 0
    lengths: Sequence[int] = ()
    scores: Sequence[float] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    edges: Sequence[Sequence[float]] = ()
    embedding_edges: Sequence[Sequence[float]] = ()

    def to_json(self) -> dict[str, Any]:
        """The reference as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reference:
        """Rebuild from `to_json`; keys of a later version are ignored."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


def of(
    rows: Sequence[Mapping[str, Any]], predictions: Sequence[Any], asked: Mapping[str, str], embeddings: np.ndarray | None = None
) -> Reference:
    """The reference of a dev set.

    Args:
        rows: Its rows, as requests hold them.
        predictions: The model's answers to them.
        asked: What the task is asked with.
        embeddings: Where the rows lie for the model; None where that is not known.
    """
    lengths = [length for row in rows if (length := traits.characters(row, asked)) is not None]
    scores = [score for one in predictions if (score := traits.confidence(one)) is not None]
    labels: dict[str, int] = {}
    for one in predictions:
        if (name := traits.label(one)) is not None:
            labels[name] = labels.get(name, 0) + 1
    vectors = [vector for row in rows if (vector := traits.words(row, asked)) is not None]
    of_words = np.stack(vectors) if vectors else None
    return Reference(
        len(rows),
        [round(each) for each in _quantiles(lengths)],
        [round(each, 4) for each in _quantiles(scores)],
        dict(sorted(labels.items(), key=lambda item: -item[1])),
        _edges(of_words),
        _edges(embeddings),
    )


def counts(vectors: Sequence[np.ndarray], edges: Sequence[Sequence[float]]) -> list[list[int]]:
    """How many vectors lie in each part, for each of their numbers."""
    values = np.stack(vectors)
    return [np.bincount(np.searchsorted(of, values[:, at]), minlength=len(of) + 1).tolist() for at, of in enumerate(edges)]


def _edges(vectors: np.ndarray | None) -> list[list[float]]:
    """The values between `PARTS` parts of equal size, for each number of some vectors."""
    if vectors is None:
        return []
    cuts = np.quantile(vectors, np.linspace(0, 1, PARTS + 1)[1:-1], axis=0).T
    return [[round(float(each), 5) for each in of] for of in cuts]


def _quantiles(values: Sequence[float]) -> list[float]:
    if len(values) > MOST:
        return [float(each) for each in np.quantile(values, np.linspace(0, 1, MOST))]
    return sorted(values)
