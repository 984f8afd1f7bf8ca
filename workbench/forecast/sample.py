"""What the examples of a task are for a model, from a sample of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.tasks.base import Rows, Task

SAMPLE = 64
"""Examples that are encoded to know how many rows and tokens one gives."""


@dataclass(frozen=True)
class Data:
    """Counts and lengths.

    Attributes:
        train_examples: All of them.
        dev_examples: All of them.
        train: Tokens of the rows of each sampled training example.
        dev: The same of dev examples.
        rows: The sampled training rows themselves.
    """

    train_examples: int
    dev_examples: int
    train: Sequence[Sequence[int]]
    dev: Sequence[Sequence[int]]
    rows: Rows

    @property
    def tokens(self) -> float:
        """Mean tokens of a training example."""
        return statistics.fmean(map(sum, self.train))


def sampled(task: Task, model: str) -> Data:
    """Encode at most `SAMPLE` examples of each side with the model's tokeniser. Raises as the task's `splits` and `encode` do."""
    from workbench.data import models

    tokenizer, splits = models.tokenizer(model), task.splits()
    train, dev = _spread_out(splits.train), _spread_out(splits.dev)
    rows = task.encode(train, tokenizer)
    return Data(len(splits.train), len(splits.dev), _by_example(rows), _by_example(task.encode(dev, tokenizer)), rows)


def _spread_out(examples: Sequence[Any]) -> list[Any]:
    """At most `SAMPLE` of them, evenly spaced."""
    count = min(SAMPLE, len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]


def _by_example(rows: Rows) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for example, length in zip(rows.example.tolist(), rows.lengths.tolist(), strict=True):
        found.setdefault(example, []).append(length)
    return list(found.values())
