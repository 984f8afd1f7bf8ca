"""Questions and their contexts as rows of tokens; a long context gives overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import UsageError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

PAIRS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Windows:
    """Rows of tokens, `[CLS] question [SEP] part of the context [SEP]` or as the model has it,
    unpadded.

    Attributes:
        inputs: For each input of the model one int32 array per row.
        example: Index of each row's example, shape (rows,), non-decreasing.
        first: Position of each row's first context token, shape (rows,).
        offsets: For each row the characters [start, end) of its context tokens, shape (tokens, 2).
    """

    inputs: dict[str, list[np.ndarray]]
    example: np.ndarray
    first: np.ndarray
    offsets: list[np.ndarray]


def check_length(max_length: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UsageError where rows of so many tokens are longer than the model takes."""
    if max_length > tokenizer.model_max_length:
        raise UsageError(
            f"max_length={max_length} is more than the {tokenizer.model_max_length} tokens this model takes. Lower it."
        )


def windows(
    questions: Sequence[str], contexts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_length: int, stride: int
) -> Windows:
    """Tokenise pairs of question and context.

    Args:
        questions: One a context. A question longer than half a row keeps its beginning.
        contexts: Each is cut into as many windows as it needs.
        tokenizer: A fast one.
        max_length: Tokens of a row at most, special ones included.
        stride: Tokens of context that two neighbouring windows share.

    Raises:
        UsageError: `max_length` is more than the model takes, or leaves no room to advance.
    """
    special = tokenizer.num_special_tokens_to_add(pair=True)
    check_length(max_length, tokenizer)
    if max_length - max_length // 2 - special <= stride:
        raise UsageError(
            f"max_length={max_length} leaves no room beside a question for stride={stride}. Raise it or lower the stride."
        )
    inputs: dict[str, list[np.ndarray]] = {}
    example: list[int] = []
    first: list[int] = []
    offsets: list[np.ndarray] = []
    for begin in range(0, len(contexts), PAIRS_AT_ONCE):  # the tokeniser's own lists take twenty times the memory of the arrays
        some = slice(begin, begin + PAIRS_AT_ONCE)
        encoded = _encoded(questions[some], contexts[some], tokenizer, max_length, stride)
        for name in tokenizer.model_input_names:
            if name in encoded and name != "attention_mask":
                inputs.setdefault(name, []).extend(np.array(row, np.int32) for row in encoded[name])
        example.extend(begin + i for i in encoded["overflow_to_sample_mapping"])
        for i, mapping in enumerate(encoded["offset_mapping"]):
            sides = encoded.sequence_ids(i)
            start = sides.index(1) if 1 in sides else len(sides)  # an empty context has no token
            first.append(start)
            offsets.append(np.array(mapping[start : start + sides.count(1)], np.int32).reshape(-1, 2))
    return Windows(inputs, np.array(example, np.int64), np.array(first, np.int64), offsets)


def _encoded(
    questions: Sequence[str], contexts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int
) -> BatchEncoding:
    """The tokeniser's output for some pairs, with the characters of each token."""
    return tokenizer(
        [_shortened(question, tokenizer, max_length // 2) for question in questions],
        list(contexts),
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )


def token_span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """First and last token that hold the characters [start, end) of the context.

    Args:
        offsets: Characters [start, end) of each token in the window, shape (tokens, 2).
        start: First character.
        end: Behind the last character.

    Returns:
        Both tokens, counted in `offsets`; None where part of the characters is outside the window.
    """
    if not len(offsets) or start < offsets[0, 0] or end > offsets[-1, 1]:
        return None
    low = int(np.searchsorted(offsets[:, 1], start, side="right"))
    high = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return (low, high) if low <= high else None


def best_span(logits: np.ndarray, most: int) -> tuple[float, int, int]:
    """The best span of at most `most` tokens.

    Args:
        logits: Of being the first token and of being the last, shape (2, tokens).
        most: The most tokens of a span.

    Returns:
        Score, first and last token.
    """
    tokens = logits.shape[1]
    most = min(most, tokens)
    # Padded with -inf, so that spans beyond the last token lose.
    ends = np.concatenate((logits[1], np.full(most - 1, -np.inf, logits.dtype)))
    scores = logits[0, :, None] + np.lib.stride_tricks.sliding_window_view(ends, most)  # (first token, length - 1)
    start, length = divmod(int(scores.argmax()), most)
    return float(scores[start, length]), start, start + length


def _shortened(question: str, tokenizer: PreTrainedTokenizerBase, most: int) -> str:
    """The question, cut after `most` tokens."""
    if len(question) <= most:  # a token is at least a character
        return question
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return question if len(offsets) <= most else question[: offsets[most - 1][1]]
