"""The base of a formulation: model class, encoding, objective, inference and decoding, by which one
kind of model does one task.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench.errors import UsageError
from workbench.objectives import Inference, Objective

Example = Mapping[str, Any]
"""A labelled example: plain data, as a reader gives it."""

Shots = Sequence[Example] | Callable[[Example], Sequence[Example]]
"""Examples with their answers to stand before questions: the same before all, or chosen for each
question.
"""

GREEDY, LIKELIHOOD, LIKELIHOOD_PER_BYTE, MUTUAL_INFORMATION = READINGS = (
    "greedy",
    "likelihood",
    "likelihood_per_byte",
    "mutual_information",
)
"""How an answer is read off a language model: written, token by token the likeliest; or the
likeliest of a few as a whole, by the sum of its tokens' log-likelihoods, by that for each byte of
its text (`acc` and `acc_norm` of lm-evaluation-harness), or by how much higher it is than behind a
prompt without content (Holtzman et al. 2021, arXiv:2104.08315; `acc_mutual_info` there).
"""

Features = list[dict[str, Any]]
"""Rows as transformers' collators take them."""


@dataclass(frozen=True)
class Rows:
    """Encoded rows, unpadded. An example may have several rows (windows of a long text).

    Attributes:
        columns: For each input of the model (`input_ids`, …) and each target (`labels`, …) one
            entry per row: an int32 array of that row's length, or a number.
        example: Index of the example that each row belongs to, shape (rows,), non-decreasing. Rows
            that belong to no single example, such as documents that all are searched in, have the
            number of examples.
        items: How many targets each row has, shape (rows,): a step's loss is divided by their sum.
            0: the loss leaves the row out.
        collate: Makes a padded batch of rows, as transformers' collators do.
        extra: Whatever the formulation needs to read outputs back, one entry per row.
        sizes: Cost of each row in tokens, shape (rows,); None: the length of its `input_ids`.
        together: Whether the rows of a step must stay together, as each is compared with the
            others. The objective's `forward` then gives one tensor with an entry per row, and
            `labels` are the only targets.
        raw: Whether columns go to the collator as arrays: lists of images and sounds would take a
            hundred times as long.
        alike: Whether rows of different sizes never share a batch, as the model would take padding
            for a part of them.
    """

    columns: Mapping[str, Sequence[Any] | np.ndarray]
    example: np.ndarray
    items: np.ndarray
    collate: Callable[[Features], Mapping[str, Any]]
    extra: Sequence[Any] = ()
    sizes: np.ndarray | None = None
    together: bool = False
    raw: bool = False
    alike: bool = False

    def __len__(self) -> int:
        return len(self.example)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, shape (rows,)."""
        if self.sizes is not None:
            return self.sizes
        return np.fromiter((len(ids) for ids in self.columns["input_ids"]) if len(self) else (), np.int64, len(self))

    def features(self, chosen: Sequence[int] | np.ndarray) -> Features:
        """Some rows as a collator takes them, with their attention mask."""
        features_of: Features = []
        for row in chosen:
            one = {name: values[row] if self.raw else _plain(values[row]) for name, values in self.columns.items()}
            if "input_ids" in one:
                # All ones here; the collator adds zeros for padding.
                one["attention_mask"] = [1] * len(one["input_ids"])
            features_of.append(one)
        return features_of

    def batch(self, chosen: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Some rows as one batch on the CPU."""
        return dict(self.collate(self.features(chosen)))

    def blank(self, count: int, tokens: int) -> dict[str, Any]:
        """A batch of `count` rows of `tokens` tokens each, with all columns and zeros in them."""
        one = {
            # A column that is a single array has as many numbers for each row, whatever its tokens.
            name: values[0] if isinstance(values, np.ndarray) else self._blank(values[0], tokens)
            for name, values in self.columns.items()
        }
        row = {name: [value] for name, value in one.items()}
        return Rows(row, np.zeros(1, np.int64), np.ones(1, np.int64), self.collate, raw=self.raw).batch([0] * count)

    def _blank(self, like: np.ndarray, tokens: int) -> np.ndarray:
        """Zeros like an entry, for so many tokens: a sound has many samples per token, an image is
        always of one size.
        """
        if not self.raw:
            return np.zeros_like(like, shape=(tokens,))
        length = round(len(like) * tokens / max(1, int(self.lengths[0])))
        return np.zeros_like(like, shape=(length,) if like.ndim == 1 else like.shape)

    def of_example(self, example: int) -> Rows:
        """The rows of one example, counted from 0."""
        first, last = np.searchsorted(self.example, [example, example + 1])
        columns = {name: values[first:last] for name, values in self.columns.items()}
        sizes = None if self.sizes is None else self.sizes[first:last]
        return Rows(
            columns, self.example[first:last], self.items[first:last], self.collate, self.extra[first:last], sizes, self.together,
            self.raw, self.alike,
        )  # fmt: skip


@dataclass(frozen=True)
class Reach:
    """How many targets of some examples a prediction can equal at all: a bound on the score.

    Attributes:
        targets: How many examples have a target.
        missed: How many of them no prediction can give, by the reason, which names the settings at
            fault.
        advice: What to do about it, a sentence; empty where nothing is missed or cut.
        cut: How many examples lose a part and can be predicted all the same, by the reason.
        noun: What a target is called.
    """

    targets: int
    missed: Mapping[str, int]
    advice: str = ""
    cut: Mapping[str, int] = field(default_factory=dict)
    noun: str = "answers"

    @property
    def share_missed(self) -> float:
        """Share of the targets that are missed, 0 to 1."""
        return sum(self.missed.values()) / self.targets if self.targets else 0.0

    def told(self, what: str) -> str:
        """The misses in words: "12 of 256 dev answers (5 %) cannot be given: …"; empty where
        nothing is missed or cut.

        Args:
            what: What the targets are called.
        """
        for reasons, happens in ((self.missed, "cannot be given"), (self.cut, "lose a part")):
            if count := sum(reasons.values()):
                share = count / self.targets
                percent = f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"
                why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
                return f"{count:,} of {self.targets:,} {what} ({percent}) {happens}: {why}. {self.advice}"
        return ""


class Formulation(ABC):
    """The way one kind of model does a task. A small frozen dataclass of settings."""

    @property
    @abstractmethod
    def auto_class(self) -> str:
        """Name of the transformers class that the model is loaded by."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Changes of the model's configuration: `num_labels`, `id2label`, …."""
        return {}

    @property
    def takes_shots(self) -> bool:
        """Whether a question can be put behind examples with their answers."""
        return False

    @property
    def longest_row(self) -> int:
        """The most tokens that a row may have; 0: as many as the model takes."""
        return 0

    def reading(self, how: str) -> Formulation:
        """The formulation with a language model's answers read in one of the ways of `READINGS`.

        Raises:
            UsageError: Answers cannot be read in that way.
        """
        if how != GREEDY:
            raise UsageError(
                f"read={how!r} is for language models that choose among a few answers. Leave it out, or name models=(…)."
            )
        return self

    @property
    def apart(self) -> Formulation:
        """The same formulation without rows that belong to no single example, such as documents that
        all are searched in. What answers many requests computes those once.
        """
        return self

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """What the model learns by."""

    @abstractmethod
    def inference(self, processor: Any) -> Inference:
        """How the model is asked."""

    @abstractmethod
    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """Make rows of examples.

        Args:
            examples: What the task reads.
            processor: The model's tokeniser, or its processor of images or sounds.
            answers: Whether rows have targets, for the loss; otherwise they are as the model is
                asked.
            shots: Examples with their answers that stand before each question; only formulations
                that write text take any.
        """

    def question(self, example: Example) -> str:
        """The text of an example's question, by which others like it are found; empty where there
        is none.
        """
        return ""

    @abstractmethod
    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[Any], processor: Any) -> list[Any]:
        """A prediction for each example, from the outputs of its rows."""

    def problem(self, processor: Any) -> str:
        """What this processor's model lacks, and what to do about it, a sentence; empty where
        nothing is known against it.
        """
        return ""

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """How many of the examples' targets a prediction can equal.

        Raises:
            UsageError: The examples cannot be encoded for this processor's model.
        """
        return Reach(len(examples), {})


def named_outputs(labels: Sequence[str]) -> dict[str, Any]:
    """Changes of a model's configuration for a head with one output per label, in this order."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def padded(tokenizer: Any, side: str = "right") -> Any:
    """Transformers' collator for token ids and labels per token: it pads ids on the given side,
    labels with `NO_TARGET`.
    """
    from transformers import DataCollatorForSeq2Seq

    # For all kinds of model: `DataCollatorWithPadding` does not pad labels.
    return DataCollatorForSeq2Seq(_sided(tokenizer, side), padding=True)


def padded_inputs(tokenizer: Any) -> Any:
    """Transformers' collator for token ids with targets that are numbers per row."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(_sided(tokenizer, "right"))


def tokenized(
    texts: Sequence[str], processor: Any, max_length: int, seconds: Sequence[str | None] = ()
) -> dict[str, Sequence[Any] | np.ndarray]:
    """Columns of texts, or of pairs of texts, as a tokeniser makes them for its model. Longer rows
    lose their end.

    Args:
        texts: One per row.
        processor: The tokeniser.
        max_length: The most tokens of a row, special tokens included.
        seconds: The second text of each row; empty, or all None, where there is none.

    Returns:
        For each input of the model one int32 array per row.
    """
    # A tokeniser fails on an empty list.
    if not texts:
        return {name: [] for name in processor.model_input_names}
    pairs = list(seconds) if any(second is not None for second in seconds) else None
    encoded = processor(list(texts), pairs, truncation=True, max_length=max_length, return_attention_mask=False)
    names = [name for name in processor.model_input_names if name in encoded]
    return {name: [np.array(row, np.int32) for row in encoded[name]] for name in names}


def losing_ends(texts: Sequence[tuple[str, ...]], processor: Any, max_length: int) -> Reach:
    """How many texts, or pairs of texts, are longer than a row and lose their end."""
    special, longest, count = processor.num_special_tokens_to_add(), 0, 0
    for each in texts:
        # An ASCII character is at most one token, so short texts need not be encoded: few are left.
        if sum(map(len, each)) + special + 1 > max_length or not all(text.isascii() for text in each):
            tokens = len(processor(*each, verbose=False)["input_ids"])
            longest, count = max(longest, tokens), count + (tokens > max_length)
    cut = {f"longer than max_length={max_length}": count} if count else {}
    advice = f"Raise max_length: the longest has {longest:,} tokens." if cut else ""
    return Reach(len(texts), {}, advice, cut, "texts")


def _sided(tokenizer: Any, side: str) -> Any:
    """A copy of the tokeniser that pads on the given side. The tokeniser itself is shared by the
    whole process.
    """
    own = copy.copy(tokenizer)
    own.padding_side = side
    return own


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
