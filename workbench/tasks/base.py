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


NO_TARGET = -100
"""In the targets of a row that the loss leaves out, because there is nothing that it could rightly learn."""


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
        targets: What the loss compares with, one row each: shape (rows, k), int64; `NO_TARGET` in a row that it leaves out.
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

    @cached_property
    def counted(self) -> np.ndarray:
        """Whether each row has a target, shape (rows,): losses are means over those that have."""
        found: np.ndarray = (self.targets != NO_TARGET).all(axis=1)
        return found

    def of_example(self, example: int) -> Rows:
        """The rows of one example, counted from 0."""
        first, last = np.searchsorted(self.example, [example, example + 1])
        inputs = {name: values[first:last] for name, values in self.inputs.items()}
        return Rows(inputs, self.targets[first:last], self.example[first:last], self.extra[first:last])


@dataclass(frozen=True)
class Reach:
    """How many of some examples' targets a prediction can be at all: a bound on the score.

    Attributes:
        targets: Examples that have a target to give.
        missed: How many of them no prediction can give, by the reason, which names the settings at fault.
        advice: What to do about it, a sentence; empty where nothing is missed.
    """

    targets: int
    missed: Mapping[str, int]
    advice: str = ""

    @property
    def share_missed(self) -> float:
        """Of the targets, 0 to 1."""
        return sum(self.missed.values()) / self.targets if self.targets else 0.0

    def told(self, what: str) -> str:
        """It in words, `what` being those targets: "12 of 256 dev answers (5 %) cannot be given: …"; empty where all can be."""
        if not self.missed:
            return ""
        count = sum(self.missed.values())
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.missed.items())
        percent = f"{100 * self.share_missed:.0f} %" if self.share_missed >= 0.01 else "under 1 %"
        return f"{count:,} of {self.targets:,} {what} ({percent}) cannot be given: {reasons}. {self.advice}"


@dataclass(frozen=True)
class Task(ABC):
    """Base of all tasks.

    Attributes:
        metrics: Names of the scores that `score` gives, higher is better (a class attribute).
        auto_class: The transformers class that puts this task's head on a model (a class attribute).
        bounds: Names of the fields that bound what can be predicted, which `reach` looks at (a class attribute).
    """

    metrics: ClassVar[tuple[str, ...]]
    auto_class: ClassVar[str]
    bounds: ClassVar[tuple[str, ...]] = ()

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

    def reach(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Reach:
        """How many of the examples' targets a prediction can be; all of them where the task has no `bounds`.

        Raises:
            UsageError: They cannot be encoded for this tokeniser's model.
        """
        return Reach(len(examples), {})

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
