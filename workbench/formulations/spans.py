"""An encoder finds an answer in a text by a head for its first and its last token, over windows of
a long context.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.windows import best_span, token_span, windows
from workbench.formulations.base import Example, Formulation, Reach, Rows, Shots, padded_inputs
from workbench.objectives import NO_TARGET, Batch, Inference, Objective, Read, Spans

EXAMPLES_AT_ONCE = 1024
"""Examples that are encoded at once to see whether their answers can be given."""


@dataclass(frozen=True)
class SpanExtraction(Formulation):
    """The span of a context that answers a question best, or none.

    Attributes:
        max_length: The most tokens of a row, question and special tokens included.
        stride: Tokens of context that neighbouring windows share.
        max_answer_tokens: The most tokens of an answer.
        null_threshold: By how much, in logits, no answer must be likelier than the best span.
        may_be_none: Tells whether there may be no answer at all; asked when predictions are
            decoded.
    """

    max_length: int
    stride: int
    max_answer_tokens: int
    null_threshold: float
    may_be_none: Callable[[], bool]

    @property
    def auto_class(self) -> str:
        return "AutoModelForQuestionAnswering"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"num_labels": 2}  # a span's two ends, whatever number a checkpoint states

    @property
    def longest_row(self) -> int:
        return self.max_length

    @property
    def objective(self) -> Objective:
        return Spans()

    def inference(self, processor: Any) -> Inference:
        return Read(_logits)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """Rows of windows. Targets are the positions of the answer's first and last token, (0, 0)
        in windows that do not hold it.

        Of several gold answers the first that can be given counts. Where no window holds any of
        them whole, no row of the example has a target: the question has an answer, and learning
        "none" from it would be wrong.
        """
        cut = windows(
            [example["question"] for example in examples],
            [example["context"] for example in examples],
            processor,
            max_length=self.max_length,
            stride=self.stride,
        )
        targets = np.zeros((len(cut.example), 2), np.int64)
        begins = np.searchsorted(cut.example, np.arange(len(examples) + 1)).tolist()
        for example, (begin, end) in zip(examples, itertools.pairwise(begins), strict=True):
            if example["answers"]["text"]:
                spans = self._spans(example["answers"], cut.offsets[begin:end])
                if not any(spans):
                    targets[begin:end] = NO_TARGET
                for row, span in enumerate(spans, begin):
                    if span:
                        targets[row] = cut.first[row] + np.array(span)
        return Rows(
            {**cut.inputs, "start_positions": targets[:, 0], "end_positions": targets[:, 1]},
            cut.example,
            (targets != NO_TARGET).all(axis=1).astype(np.int64),
            padded_inputs(processor),
            list(zip(cut.first.tolist(), cut.offsets, strict=True)),
        )

    def _spans(self, answers: Mapping[str, Any], offsets: Sequence[np.ndarray]) -> list[tuple[int, int] | None]:
        """First and last token in each window of one gold answer: the first that can be given, or
        else the first that a window holds.
        """
        kept: list[tuple[int, int] | None] = [None] * len(offsets)
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            spans = [token_span(each, start, start + len(text)) for each in offsets]
            if any(span and span[1] - span[0] < self.max_answer_tokens for span in spans):
                return spans
            kept = kept if any(kept) else spans
        return kept

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Gold answers that are short enough, and whole in a window. Of a question's several
        answers one is enough.
        """
        asked = [example for example in examples if example["answers"]["text"]]
        # A printable ASCII character is at most one token, and neighbouring windows share `stride`
        # of them: an answer no longer than that fits for certain. So few have to be encoded.
        sure = min(self.max_answer_tokens, self.stride)
        doubtful = [
            example for example in asked if not any(map(functools.partial(_is_short, most=sure), example["answers"]["text"]))
        ]
        # Reasons, and the settings at fault.
        reasons = {
            f"longer than max_answer_tokens={self.max_answer_tokens}": "max_answer_tokens",
            f"whole in no window of max_length={self.max_length} with stride={self.stride}": "stride or max_length",
            "of characters that this model has no token for": "",
        }
        long, apart, blank = reasons
        missed, longest = dict.fromkeys(reasons, 0), 0
        for first in range(0, len(doubtful), EXAMPLES_AT_ONCE):
            some = doubtful[first : first + EXAMPLES_AT_ONCE]
            rows = self.encode(some, processor)
            for i, example in enumerate(some):
                own = rows.of_example(i)
                targets = np.stack((own.columns["start_positions"], own.columns["end_positions"]), 1)
                if (targets == NO_TARGET).all():
                    tokens = min(_count(text, processor) for text in example["answers"]["text"])
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

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[str]:
        """Text of the best span over all windows; "" where no answer is likelier than it by more
        than the threshold.
        """
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(examples)
        null = np.full(len(examples), np.inf)
        for i, (first, offsets), logits in zip(rows.example, rows.extra, outputs, strict=True):
            # The lowest of all windows: one without the answer says "none" with good reason.
            null[i] = min(null[i], logits[0, 0] + logits[1, 0])
            if len(offsets):
                score, start, end = best_span(logits[:, first : first + len(offsets)], self.max_answer_tokens)
                if score > best[i][0]:
                    best[i] = (score, examples[i]["context"][offsets[start, 0] : offsets[end, 1]])
        if not self.may_be_none():
            return [text for _, text in best]
        return ["" if nothing - score > self.null_threshold else text for nothing, (score, text) in zip(null, best, strict=True)]


def _is_short(text: str, most: int) -> bool:
    """Whether a text has certainly no more than `most` tokens, whatever the tokeniser."""
    return len(text) <= most and text.isascii() and text.isprintable() and not text.isspace()


def _count(text: str, processor: Any) -> int:
    """Tokens of a text by itself."""
    return len(processor(text, add_special_tokens=False, verbose=False)["input_ids"])


def _logits(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """Logits of each row, shape (2, tokens): of being the answer's first token, and its last."""
    both = np.stack([output[name].float().cpu().numpy() for name in ("start_logits", "end_logits")], 1)
    return [row[:, :length] for row, length in zip(both, batch["attention_mask"].sum(1).tolist(), strict=True)]
