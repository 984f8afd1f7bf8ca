"""What a task is: data, how to encode it, and the score that grades it.

A task is a small frozen dataclass whose fields are settings, any of which may be a hole of the study. The training
loop knows tasks only through the methods below.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

Example = Mapping[str, Any]
"""One labelled example: plain data, as a reader gives it."""


@dataclass(frozen=True)
class Splits:
    """The examples of a task. `train` is already cut to the number of labels asked for.

    Attributes:
        train: Examples whose labels may reach the loss. A smaller training set is a prefix of a larger one.
        dev: Examples that grade every checkpoint.
        test: Examples held out until the end, never read by a sweep.
    """

    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]


@dataclass(frozen=True)
class Rows:
    """Tokenised rows, unpadded. An example may give several rows (windows of a long text).

    Attributes:
        inputs: For each input of the model (`input_ids`, …) one int32 array per row, of that row's length.
        targets: What the loss compares with, one row each: shape (rows, k), int64.
        example: Index of the example that each row belongs to: shape (rows,), non-decreasing.
        extra: Whatever the task needs to read predictions back, one entry per row.
    """

    inputs: Mapping[str, Sequence[np.ndarray]]
    targets: np.ndarray
    example: np.ndarray
    extra: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.example)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, shape (rows,)."""
        return np.fromiter((len(ids) for ids in self.inputs["input_ids"]), np.int64, len(self))

    def of_example(self, example: int) -> Rows:
        """The rows of one example, counted from 0."""
        first, last = np.searchsorted(self.example, [example, example + 1])
        inputs = {name: values[first:last] for name, values in self.inputs.items()}
        return Rows(inputs, self.targets[first:last], self.example[first:last], self.extra[first:last])


@dataclass(frozen=True)
class Task(ABC):
    """Base of all tasks.

    Attributes:
        metrics: Names of the scores that `score` gives, higher is better (a class attribute).
        auto_class: The transformers class that puts this task's head on a model (a class attribute).
    """

    metrics: ClassVar[tuple[str, ...]]
    auto_class: ClassVar[str]

    def provision(self) -> None:
        """Fetch, build and import what the other methods need, so that no run pays for what a machine or process does once."""
        self.splits()

    @abstractmethod
    def splits(self) -> Splits:
        """Read and split the data. Raises DataError when a file is not what it must be."""

    @abstractmethod
    def digest(self) -> str:
        """A hash of the data itself, as this process has read them: a recipe on other data is another recipe.

        Of files, not of their names: `workbench.data.fingerprints.data` gives that of a data set that `workbench.data.load` reads.
        It is asked for with every recipe, so it must be quick. The task's code is no part of it: it is fingerprinted beside it.
        """

    @abstractmethod
    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Rows:
        """Tokenise examples, with their targets."""

    @abstractmethod
    def loss(self, output: ModelOutput, targets: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Loss of each row, shape (rows,), from the model's output and `targets` of shape (rows, k).

        Padding (`attention_mask` 0, shape (rows, tokens)) must not change it: a row's loss is its own, whatever its company.
        """

    @abstractmethod
    def read(self, output: ModelOutput, attention_mask: torch.Tensor) -> Sequence[Any]:
        """What `predict` needs of the model's output, one entry per row, off the device."""

    @abstractmethod
    def predict(self, examples: Sequence[Example], rows: Rows, read: Sequence[Any]) -> list[Any]:
        """One prediction per example from what was read of its rows."""

    @abstractmethod
    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        """The task's scores, a number for each name in `metrics`. Unknown is absent, never 0."""
