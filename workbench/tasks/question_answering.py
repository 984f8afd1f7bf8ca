"""Extractive question answering: the answer is a span of the context, or there is none."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.data import fingerprints
from workbench.data.windows import best_span, token_span, windows
from workbench.errors import UsageError
from workbench.space import Space, check, is_number, is_whole
from workbench.tasks.base import NO_TARGET, Example, Reach, Rows, Splits, Task
from workbench.tasks.squad_score import check_language, squad_score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput


EXAMPLES_AT_ONCE = 1024
"""Examples that are encoded at once to know whether their answers can be given."""


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """Answer questions by a span of a context; made by `question_answering`, which tells what the fields mean."""

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    bounds: ClassVar[tuple[str, ...]] = ("max_length", "stride", "max_answer_tokens")

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
        check(self, "null_threshold", lambda value: is_number(value) and math.isfinite(value), "a finite number")
        check(self, "name", lambda value: value is None or isinstance(value, str), "a name, or None")
        if not isinstance(self.data, (str, Space)) or not self.data:
            raise UsageError(f"question_answering({self.data!r}): give the name of a data set, or the path of a file or folder.")
        if not isinstance(self.language, Space):
            check_language(self.language)

    def provision(self) -> None:
        super().provision()
        squad_score([""], [[""]], self.language)

    def splits(self) -> Splits:
        if self.stride >= self.max_length - self.max_length // 2:
            raise UsageError(
                f"stride={self.stride} leaves no room to advance in rows of max_length={self.max_length}, half of which a "
                "question may take. Lower the stride or raise max_length."
            )
        train, dev, test = _shuffled(self.data, self.digest(), self.seed)
        if self.train > len(train):
            raise UsageError(f"train={self.train}: {self.data!r} has {len(train)} examples to train on. Ask for at most that many.")
        return Splits(train[: self.train], dev[: self.dev], test[: self.test])

    def digest(self) -> str:
        return fingerprints.data(self.data)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Rows:
        """Targets are the positions of the answer's first and last token, (0, 0) where the window does not hold it.

        Of several gold answers it is the first that can be given. Where no window holds any of them whole, no row of the
        example has a target: the question has an answer, and "none" would be a wrong lesson.
        """
        found = windows(
            [example["question"] for example in examples],
            [example["context"] for example in examples],
            tokenizer,
            max_length=self.max_length,
            stride=self.stride,
        )
        targets = np.zeros((len(found.example), 2), np.int64)
        begins = np.searchsorted(found.example, np.arange(len(examples) + 1)).tolist()
        for example, (begin, end) in zip(examples, itertools.pairwise(begins), strict=True):
            if example["answers"]["text"]:
                spans = self._spans(example["answers"], found.offsets[begin:end])
                if not any(spans):
                    targets[begin:end] = NO_TARGET
                for row, span in enumerate(spans, begin):
                    if span:
                        targets[row] = found.first[row] + np.array(span)
        return Rows(found.inputs, targets, found.example, list(zip(found.first.tolist(), found.offsets, strict=True)))

    def _spans(self, answers: Mapping[str, Any], offsets: Sequence[np.ndarray]) -> list[tuple[int, int] | None]:
        """First and last token of one gold answer in each window: of the first that can be given, else the first that one holds."""
        kept: list[tuple[int, int] | None] = [None] * len(offsets)
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            spans = [token_span(each, start, start + len(text)) for each in offsets]
            if any(span and span[1] - span[0] < self.max_answer_tokens for span in spans):
                return spans
            kept = kept if any(kept) else spans
        return kept

    def reach(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Reach:
        """Gold answers that are short enough, and whole in a window. Where a question has several, one of them is enough."""
        asked = [example for example in examples if example["answers"]["text"]]
        # A printable character of ASCII is a token at most, and neighbouring windows share `stride` of them: what is no longer
        # than that need not be encoded, which leaves few.
        sure = min(self.max_answer_tokens, self.stride)
        doubtful = [
            example for example in asked if not any(map(functools.partial(_is_short, most=sure), example["answers"]["text"]))
        ]
        reasons = {  # and the settings at fault
            f"longer than max_answer_tokens={self.max_answer_tokens}": "max_answer_tokens",
            f"whole in no window of max_length={self.max_length} with stride={self.stride}": "stride or max_length",
            "of characters that this model has no token for": "",
        }
        long, apart, blank = reasons
        missed, longest = dict.fromkeys(reasons, 0), 0
        for first in range(0, len(doubtful), EXAMPLES_AT_ONCE):
            some = doubtful[first : first + EXAMPLES_AT_ONCE]
            rows = self.encode(some, tokenizer)
            for i, example in enumerate(some):
                targets = rows.of_example(i).targets
                if (targets == NO_TARGET).all():
                    tokens = min(_count(text, tokenizer) for text in example["answers"]["text"])
                    missed[apart if tokens else blank] += 1
                else:
                    held = targets[targets.any(axis=1)]
                    tokens = int((held[:, 1] - held[:, 0]).min()) + 1 if len(held) else 1
                    missed[long] += tokens > self.max_answer_tokens
                longest = max(longest, tokens)
        missed = {reason: count for reason, count in missed.items() if count}
        settings = [reasons[reason] for reason in missed if reasons[reason]]
        if longest > self.max_answer_tokens and reasons[long] not in settings:
            settings.insert(0, reasons[long])
        advice = [f"Raise {', and '.join(settings)}: the longest has {longest:,} tokens."] if settings else []
        advice += ["Mend those answers, or take another model."] if blank in missed else []
        return Reach(len(asked), missed, " ".join(advice))

    def loss(self, output: ModelOutput, targets: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the first and the last position, averaged; padding takes no probability. 0 without a target."""
        from torch.nn.functional import cross_entropy

        both = (output["start_logits"].float(), output["end_logits"].float())
        start, end = (logits.masked_fill(attention_mask == 0, float("-inf")) for logits in both)
        of_start = cross_entropy(start, targets[:, 0], ignore_index=NO_TARGET, reduction="none")
        of_end = cross_entropy(end, targets[:, 1], ignore_index=NO_TARGET, reduction="none")
        return (of_start + of_end) / 2

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


def _is_short(text: str, most: int) -> bool:
    """Whether a text has no more than `most` tokens for certain, whatever the tokeniser."""
    return len(text) <= most and text.isascii() and text.isprintable() and not text.isspace()


def _count(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a text by itself."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
