"""How likely a model finds a text: a decoder foretells each token from those before it, an encoder
tells hidden tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workbench.data.windows import check_length
from workbench.errors import UsageError
from workbench.formulations.base import Example, Formulation, Rows, Shots, padded
from workbench.objectives import NO_TARGET, Inference, Likelihoods, Objective, Read, Tokens

TEXTS_AT_ONCE = 256

KEPT, DRAWN = 0.1, 0.1
"""Of the tokens that an encoder has to tell, the shares that are left as they are and that a random
token replaces: as in BERT (Devlin et al. 2019, arXiv:1810.04805).
"""


class Likelihood(NamedTuple):
    """How likely a model finds a text.

    Attributes:
        log_likelihood: Sum of the natural logarithms of the probabilities of all tokens that it had
            to tell; at most 0.
        tokens: How many those are.
        right: For how many of them the right token was the likeliest.
        bytes: Bytes of those tokens' text in UTF-8.
        words: Words of the text, separated by blanks; 0 where not all of the text was told.
    """

    log_likelihood: float
    tokens: int
    right: int
    bytes: int
    words: int


@dataclass(frozen=True)
class LanguageModelling(Formulation):
    """Texts cut into rows. Every row is learned from, and every text is graded over all of its
    rows.

    Attributes:
        text: The text of an example.
        max_length: The most tokens of a row, special ones included.
    """

    text: Callable[[Example], str]
    max_length: int

    @property
    def longest_row(self) -> int:
        return self.max_length

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Likelihood]:
        """Likelihoods of the texts, each over all of its rows."""
        sums = np.zeros((len(examples), 3))
        counts = np.zeros((len(examples), 2), np.int64)
        for i, found, of_row in zip(rows.example.tolist(), outputs, rows.extra, strict=True):
            sums[i] += found
            counts[i] += of_row
        return [
            Likelihood(float(likelihood), int(tokens), int(right), int(size), int(words))
            for (likelihood, tokens, right), (size, words) in zip(sums.tolist(), counts.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class CausalModelling(LanguageModelling):
    """Each token is foretold once, from those before it in its row. A row begins with the last
    token of the row before.

    A text's first row begins with the token that begins texts, or else the one that ends them,
    where the model has such a token. The lm-evaluation-harness computes rolling likelihoods in the
    same way.
    """

    @property
    def auto_class(self) -> str:
        return "AutoModelForCausalLM"

    @property
    def objective(self) -> Objective:
        return Tokens(shift=True)

    def inference(self, processor: Any) -> Inference:
        return Read(Likelihoods(shift=True), self.objective)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        check_length(self.max_length, processor)
        start = processor.bos_token_id if processor.bos_token_id is not None else processor.eos_token_id
        ids: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        of: list[int] = []
        extra: list[tuple[int, int]] = []
        for i, tokens, offsets, text in _tokenised(examples, self.text, processor, add_special_tokens=False):
            whole = np.array([*([] if start is None else [start]), *tokens], np.int32)
            # Without a token to begin with, nothing foretells the first one, so it does not count.
            told = offsets if start is not None else offsets[1:]
            size = len(text[told[0][0] :].encode()) if told else 0
            # Rows overlap by one token, which is read in the second and was foretold in the first.
            for begin in range(0, len(whole) - 1, self.max_length - 1):
                row = whole[begin : begin + self.max_length]
                ids.append(row)
                labels.append(np.concatenate([[NO_TARGET], row[1:]]).astype(np.int32))
                of.append(i)
                # Bytes and words of a whole text, so they stand with its first row alone.
                extra.append((0, 0) if begin else (size, len(text.split())))
        items = np.array([len(row) - 1 for row in ids], np.int64)
        return Rows({"input_ids": ids, "labels": labels}, np.array(of, np.int64), items, padded(processor, "left"), extra)


@dataclass(frozen=True)
class MaskedModelling(LanguageModelling):
    """Some tokens are hidden, and told from all others of their row. Which ones depends on the text
    and the seed alone.

    Attributes:
        mask_probability: Share of the tokens that are to be told, 0 to 1; at least one per row.
        seed: Draws them.
    """

    mask_probability: float
    seed: int

    @property
    def auto_class(self) -> str:
        return "AutoModelForMaskedLM"

    @property
    def objective(self) -> Objective:
        return Tokens()

    def inference(self, processor: Any) -> Inference:
        return Read(Likelihoods())

    def problem(self, processor: Any) -> str:
        if processor.mask_token_id is not None:
            return ""
        return "the tokeniser of this model has no token for what is hidden. Choose a model made by masking."

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        check_length(self.max_length, processor)
        if problem := self.problem(processor):
            raise UsageError(problem)
        ids: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        of: list[int] = []
        extra: list[tuple[int, int]] = []
        cut = {"truncation": True, "max_length": self.max_length, "return_overflowing_tokens": True}
        number = 0
        for i, tokens, offsets, text in _tokenised(examples, self.text, processor, **cut):
            number = number + 1 if of and of[-1] == i else 0
            # transformers counts the token for unknown words as special, but it stands for a part
            # of the text.
            special = {*processor.all_special_ids} - {processor.unk_token_id}
            places = np.array([place for place, token in enumerate(tokens) if token not in special], np.int64)
            if not len(places):
                continue
            row = np.array(tokens, np.int32)
            targets = np.full(len(row), NO_TARGET, np.int32)
            # Drawn by the example's own id, so that other texts, or another order, hide nothing
            # else in it.
            chosen = self._hide(row, targets, places, processor, f"{self.seed} {examples[i].get('id', i)} {number}")
            ids.append(row)
            labels.append(targets)
            of.append(i)
            extra.append((sum(len(text[slice(*offsets[place])].encode()) for place in chosen.tolist()), 0))
        items = np.array([int((row != NO_TARGET).sum()) for row in labels], np.int64)
        return Rows({"input_ids": ids, "labels": labels}, np.array(of, np.int64), items, padded(processor), extra)

    def _hide(self, row: np.ndarray, targets: np.ndarray, places: np.ndarray, processor: Any, what: str) -> np.ndarray:
        """Hide some tokens of a row, in place, and make them its targets. Returns their places."""
        rng = np.random.default_rng(list(hashlib.blake2b(what.encode(), digest_size=16).digest()))
        chosen = places[rng.random(len(places)) < self.mask_probability]
        if not len(chosen):
            chosen = rng.choice(places, 1)
        targets[chosen] = row[chosen]
        how = rng.random(len(chosen))
        row[chosen[how >= KEPT + DRAWN]] = processor.mask_token_id
        drawn = chosen[(how >= KEPT) & (how < KEPT + DRAWN)]
        row[drawn] = rng.integers(len(processor), size=len(drawn))
        return chosen


def language_modelling(
    kind: str, task: object, text: Callable[[Example], str], *, max_length: int, mask_probability: float, seed: int
) -> LanguageModelling:
    """How a kind of model is taught a language, and graded by how likely it finds texts.

    Args:
        kind: The kind of model, as `Task.formulation` gets it.
        task: The task, for errors.
        text: The text of an example.
        max_length: The most tokens of a row.
        mask_probability: Share of the tokens that an encoder has to tell.
        seed: Draws those tokens.

    Raises:
        UsageError: This kind of model is neither a decoder nor an encoder.
    """
    if kind == "decoder":
        return CausalModelling(text, max_length)
    if kind == "encoder":
        return MaskedModelling(text, max_length, mask_probability, seed)
    raise UsageError(
        f"a model of kind {kind!r} cannot do {type(task).__name__}: it gives texts no likelihood of their own. Choose a decoder or "
        "an encoder."
    )


def _tokenised(examples: Sequence[Example], text: Callable[[Example], str], processor: Any, **how: Any) -> Any:
    """The rows of each text: index of its example, token ids, characters [start, end) of each
    token, and the text.
    """
    for first in range(0, len(examples), TEXTS_AT_ONCE):
        texts = [text(example) for example in examples[first : first + TEXTS_AT_ONCE]]
        encoded = processor(texts, return_offsets_mapping=True, return_attention_mask=False, verbose=False, **how)
        pieces = encoded.get("overflow_to_sample_mapping", range(len(texts)))
        for i, tokens, offsets in zip(pieces, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            yield first + int(i), tokens, offsets, texts[int(i)]
