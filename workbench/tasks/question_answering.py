"""Extractive question answering: the answer is a span of the context, or there is none."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.data import fingerprints
from workbench.data.windows import best_span, token_span, windows
from workbench.errors import UsageError
from workbench.space import Space, check, is_whole
from workbench.tasks.base import Example, Rows, Splits, Task
from workbench.tasks.squad_score import check_language, squad_score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """Answer questions by a span of a context; made by `question_answering`, which tells what the fields mean."""

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"

    data: str
    train: int
    dev: int
    test: int
    max_length: int
    stride: int
    max_answer_tokens: int
    null_threshold: float
    language: str
    seed: int
    name: str | None

    def __post_init__(self) -> None:
        least = {"train": 1, "dev": 1, "test": 0, "max_length": 32, "stride": 0, "max_answer_tokens": 1, "seed": 0}
        for field, low in least.items():
            check(self, field, lambda value, low=low: is_whole(value) and value >= low, f"a whole number of at least {low}")  # type: ignore[misc]
        if not isinstance(self.data, (str, Space)) or not self.data:
            raise UsageError(f"question_answering({self.data!r}): give the name of a data set, or the path of a file or folder.")
        if not isinstance(self.language, Space):
            check_language(self.language)

    def provision(self) -> None:
        super().provision()
        squad_score([""], [[""]], self.language)

    def splits(self) -> Splits:
        train, dev, test = _shuffled(self.data, self.digest(), self.seed)
        if self.train > len(train):
            raise UsageError(f"train={self.train}: {self.data!r} has {len(train)} examples to train on. Ask for at most that many.")
        return Splits(train[: self.train], dev[: self.dev], test[: self.test])

    def digest(self) -> str:
        return fingerprints.data(self.data)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Rows:
        """Targets are the positions of the answer's first and last token, (0, 0) where the window does not hold it."""
        found = windows(
            [example["question"] for example in examples],
            [example["context"] for example in examples],
            tokenizer,
            max_length=self.max_length,
            stride=self.stride,
        )
        targets = np.zeros((len(found.example), 2), np.int64)
        for row, (i, first, offsets) in enumerate(zip(found.example, found.first, found.offsets, strict=True)):
            answers = examples[i]["answers"]
            if answers["text"]:
                start = answers["answer_start"][0]
                span = token_span(offsets, start, start + len(answers["text"][0]))
                targets[row] = (0, 0) if span is None else (first + span[0], first + span[1])
        return Rows(found.inputs, targets, found.example, list(zip(found.first.tolist(), found.offsets, strict=True)))

    def loss(self, output: ModelOutput, targets: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the first and the last position, averaged; padding takes no probability."""
        from torch.nn.functional import cross_entropy

        both = (output["start_logits"].float(), output["end_logits"].float())
        start, end = (logits.masked_fill(attention_mask == 0, float("-inf")) for logits in both)
        losses = cross_entropy(start, targets[:, 0], reduction="none") + cross_entropy(end, targets[:, 1], reduction="none")
        return losses / 2

    def read(self, output: ModelOutput, attention_mask: torch.Tensor) -> Sequence[np.ndarray]:
        """Logits of a row as an array (2, tokens): of being the first token of the answer, and the last."""
        import torch

        both = torch.stack((output["start_logits"], output["end_logits"]), 1).float().cpu().numpy()
        return [row[:, :length] for row, length in zip(both, attention_mask.sum(1).tolist(), strict=True)]

    def predict(self, examples: Sequence[Example], rows: Rows, read: Sequence[np.ndarray]) -> list[str]:
        """Text of the best span over all windows; "" where the data has unanswerable questions and none is likelier."""
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(examples)
        null = np.full(len(examples), np.inf)
        for i, (first, offsets), logits in zip(rows.example, rows.extra, read, strict=True):
            null[i] = min(null[i], logits[0, 0] + logits[1, 0])
            if len(offsets):
                score, start, end = best_span(logits[:, first : first + len(offsets)], self.max_answer_tokens)
                if score > best[i][0]:
                    best[i] = (score, examples[i]["context"][offsets[start, 0] : offsets[end, 1]])
        if not _has_unanswerable(
            self.data, self.digest()
        ):  # the training side decides for all: a grade must not tell on its question
            return [text for _, text in best]
        return ["" if nothing - score > self.null_threshold else text for nothing, (score, text) in zip(null, best, strict=True)]

    def score(self, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
        return squad_score(predictions, [example["answers"]["text"] for example in examples], self.language)


def question_answering(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    max_length: int = 192,
    stride: int = 32,
    max_answer_tokens: int = 48,
    null_threshold: float = 0.0,
    language: str = "en",
    seed: int = 0,
    name: str | None = None,
) -> QuestionAnswering:
    """Extractive question answering, scored by exact match and F1 (0 to 100) as SQuAD is.

    Args:
        data: `"pydocs"`, a file (SQuAD v1.1 or v2, JSON lines, parquet), a folder of them, or a name on the hub.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one takes.
        dev: Examples that grade each checkpoint, at most; fewer where the data has fewer.
        test: Examples held out to the end, at most.
        max_length: Tokens of a row, question and special tokens included. Longer contexts become several windows.
        stride: Tokens of context that neighbouring windows share.
        max_answer_tokens: Tokens of an answer at most.
        null_threshold: How much likelier, in logits, no answer must be than the best span. Read only where the
            training data has unanswerable questions.
        language: Whose rules score the answers: en, de, es, vi, ar, hi or zh.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return QuestionAnswering(data, train, dev, test, max_length, stride, max_answer_tokens, null_threshold, language, seed, name)


@functools.lru_cache(maxsize=8)
def _shuffled(data: str, digest: str, seed: int) -> tuple[tuple[Example, ...], ...]:
    found = fingerprints.dataset(data)
    return found.shuffled("train", seed), found.shuffled("dev"), found.shuffled("test")


@functools.lru_cache(maxsize=8)
def _has_unanswerable(data: str, digest: str) -> bool:
    return any(not example["answers"]["text"] for example in fingerprints.dataset(data).train)
