"""Which words of a text are entities: an encoder tags each word, a language model writes the
entities down.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.windows import check_length
from workbench.errors import UsageError
from workbench.formulations.base import Example, Formulation, Reach, Rows, Shots, named_outputs, padded
from workbench.formulations.classes import NONE
from workbench.formulations.text import TextGeneration, text_generation
from workbench.objectives import NO_TARGET, Batch, Inference, Objective, Read, Tokens

OUTSIDE = "O"
"""The tag of a word that is part of no entity."""

TEXTS_AT_ONCE = 1024

Words = Callable[[Example], Sequence[str]]
"""The words of an example, or their tags."""


@dataclass(frozen=True)
class TokenClassification(Formulation):
    """A tag for each word, told at its first token. Long texts are cut into windows; a word in
    several of them is told in the one where it is nearest to the middle.

    Attributes:
        tags: All tags, in the order of the head's outputs.
        words: The words of an example.
        tags_of: The tags of these words.
        max_length: The most tokens of a row, special ones included.
        stride: Tokens that neighbouring windows share.
    """

    tags: tuple[str, ...]
    words: Words
    tags_of: Words
    max_length: int
    stride: int

    @property
    def auto_class(self) -> str:
        return "AutoModelForTokenClassification"

    @property
    def settings(self) -> Mapping[str, Any]:
        return named_outputs(self.tags)

    @property
    def longest_row(self) -> int:
        return self.max_length

    @property
    def objective(self) -> Objective:
        return Tokens()

    def inference(self, processor: Any) -> Inference:
        return Read(_likeliest)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """Rows of windows. A word has one target: at its first token, in the window where it is
        farthest from the ends.
        """
        place = {tag: i for i, tag in enumerate(self.tags)}
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("input_ids", *(("labels",) if answers else ()))}
        example_of: list[int] = []
        extra: list[np.ndarray] = []
        for first in range(0, len(examples), TEXTS_AT_ONCE):
            some = examples[first : first + TEXTS_AT_ONCE]
            encoded, told = self._windows(some, processor)
            for row, (i, words) in enumerate(zip(encoded["overflow_to_sample_mapping"], told, strict=True)):
                for name in processor.model_input_names:
                    if name in encoded and name != "attention_mask":
                        columns.setdefault(name, []).append(np.array(encoded[name][row], np.int32))
                if answers:
                    tags, labels = self.tags_of(some[i]), np.full(len(encoded["input_ids"][row]), NO_TARGET, np.int32)
                    labels[words[:, 1]] = [self._number(tags[word], place) for word in words[:, 0].tolist()]
                    columns["labels"].append(labels)
                example_of.append(first + i)
                extra.append(words)
        items = np.array([len(words) for words in extra], np.int64)
        return Rows(columns, np.array(example_of, np.int64), items, padded(processor), extra)

    def _windows(self, examples: Sequence[Example], processor: Any) -> tuple[Any, list[np.ndarray]]:
        """Tokenise some texts, and find where their words are told.

        Returns:
            The tokeniser's output; for each window the words told in it and their places, shape
            (words, 2).
        """
        room = self.max_length - processor.num_special_tokens_to_add()
        check_length(self.max_length, processor)
        if room <= self.stride:
            raise UsageError(f"max_length={self.max_length} leaves no room for stride={self.stride}. Raise it or lower the stride.")
        encoded = processor(
            [" ".join(self.words(example)) for example in examples],
            truncation=True,
            max_length=self.max_length,
            stride=self.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        begins = [np.cumsum([0, *(len(word) + 1 for word in self.words(example))])[:-1] for example in examples]
        told: list[list[tuple[int, int]]] = [[] for _ in encoded["input_ids"]]
        # By example and word: depth, row and place in the best window; and the place of the word's
        # first token in the whole text.
        best: dict[tuple[int, int], tuple[int, int, int]] = {}
        first: dict[tuple[int, int], int] = {}
        window = before = -1
        for row, (i, offsets) in enumerate(zip(encoded["overflow_to_sample_mapping"], encoded["offset_mapping"], strict=True)):
            window, before = (window + 1 if i == before else 0), i
            known = [place for place, (start, end) in enumerate(offsets) if end > start]
            # By a token's last character: byte-level tokenisers count the blank before a word as
            # part of it.
            words = np.searchsorted(begins[i], [offsets[place][1] - 1 for place in known], "right") - 1
            for depth, (place, word) in enumerate(zip(known, words.tolist(), strict=True)):
                whole = window * (room - self.stride) + depth
                depth = min(depth, len(known) - 1 - depth)
                # A window may begin within a word: its first token there is not the one that tells
                # the word.
                if first.setdefault((i, word), whole) == whole and depth > best.get((i, word), (-1,))[0]:
                    best[i, word] = (depth, row, place)
        for (_, word), (_, row, place) in sorted(best.items()):
            told[row].append((word, place))
        return encoded, [np.array(of_row, np.int64).reshape(-1, 2) for of_row in told]

    def _number(self, tag: str, place: Mapping[str, int]) -> int:
        if tag not in place:
            raise UsageError(f"an example has the tag {tag!r}, and the tags are {', '.join(map(repr, self.tags))}. Add it there.")
        return place[tag]

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[list[str]]:
        """The likeliest tag of each word; `O` for words that the model has no token for."""
        found = [[OUTSIDE] * len(self.words(example)) for example in examples]
        for i, words, tags in zip(rows.example.tolist(), rows.extra, outputs, strict=True):
            for word, place in words.tolist():
                found[i][word] = self.tags[int(tags[place])]
        return found

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Entities all of whose words the model has tokens for."""
        entities, missed = 0, 0
        for example in examples:
            tags = self.tags_of(example)
            marked = [i for i, tag in enumerate(tags) if tag != OUTSIDE]
            entities += sum(tags[i].startswith("B-") for i in marked)
            blank = {i for i in marked if not processor(self.words(example)[i], add_special_tokens=False)["input_ids"]}
            missed += len({_begin(tags, i) for i in blank})
        why = {"with a word of characters that this model has no token for": missed} if missed else {}
        return Reach(entities, why, "Mend those words, or take another model." if missed else "", noun="entities")


@dataclass(frozen=True)
class WrittenEntities(TextGeneration):
    """The entities of a text, written with their types: `person: Anna; place: Paris`.

    Attributes:
        words: The words of an example.
        tags_of: The tags of these words.
        types: Each type, and its name in words.
    """

    words: Words | None = None
    tags_of: Words | None = None
    types: tuple[tuple[str, str], ...] = ()

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Any]:
        """A tag for each word, from what was written. Entities that are not in the text are left
        out.
        """
        texts = super().decode(examples, rows, outputs, processor)
        return [self._read(text, example) for text, example in zip(texts, examples, strict=True)]

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Entities that can be written, and found again in the text."""
        by_writing = super().reach(examples, processor)
        # Where a word stands in a text twice, the written words alone do not tell which one is the
        # entity.
        lost = sum(self._read(self.answer(example), example) != [*self.tags_of(example)] for example in examples)  # type: ignore[misc]
        if not lost:
            return by_writing
        cut = {"with entities that their words alone do not tell apart": lost}
        return Reach(by_writing.targets, by_writing.missed, by_writing.advice, cut, "texts")

    def _read(self, text: str, example: Example) -> list[str]:
        of = {said.casefold(): kind for kind, said in self.types}
        words: Sequence[str] = self.words(example)  # type: ignore[misc]
        tags = [OUTSIDE] * len(words)
        for each in text.split(";"):
            said, colon, entity = each.partition(":")
            kind = of.get(said.strip().casefold())
            if colon and kind is not None and (place := _place_of(entity, words, tags)) is not None:
                tags[place.start : place.stop] = [f"{'B' if i == place.start else 'I'}-{kind}" for i in place]
        return tags


@dataclass(frozen=True)
class TaggedText:
    """Where an example has its words, and what they are.

    Attributes:
        words: The words of an example.
        tags: Their tags: `O`, `B-type`, `I-type`.
    """

    words: Words
    tags: Words


@dataclass(frozen=True, kw_only=True)
class TokenLimits:
    """How many tokens a model reads and writes.

    Attributes:
        max_length: The most tokens of an encoder's row.
        stride: Tokens that neighbouring rows of a long text share.
        max_new_tokens: The most tokens of a language model's answer.
    """

    max_length: int
    stride: int
    max_new_tokens: int


def token_classification(
    kind: str, task: object, types: Mapping[str, str], text: TaggedText, limits: TokenLimits, *, instruction: str
) -> Formulation:
    """How a kind of model finds the entities of a text.

    Args:
        kind: The kind of model, as `Task.formulation` gets it.
        task: The task, for errors.
        types: All types of entity in their order, each with its name in words.
        text: Where the words of an example and their tags are.
        limits: How many tokens are read and written.
        instruction: What a language model is asked behind the text; `{types}` in it stands for the
            names of the types.

    Raises:
        UsageError: This kind of model reads no text.
    """
    if kind == "encoder":
        every = (OUTSIDE, *(f"{mark}-{name}" for name in types for mark in "BI"))
        return TokenClassification(every, text.words, text.tags, limits.max_length, limits.stride)
    asked = instruction.replace("{types}", ", ".join(types.values()))
    prompt = functools.partial(_prompt, asked, text.words)
    answer = functools.partial(_answer, types, text.words, text.tags)
    plain = text_generation(kind, task, prompt, answer, max_new_tokens=limits.max_new_tokens)
    return WrittenEntities(
        plain.prompt,
        plain.answer,
        plain.decoder,
        limits.max_new_tokens,
        words=text.words,
        tags_of=text.tags,
        types=tuple(types.items()),
    )


def _prompt(asked: str, words: Words, example: Example) -> str:
    return f"{' '.join(words(example))}\n\n{asked}"


def _answer(types: Mapping[str, str], words: Words, tags: Words, example: Example) -> str:
    entities: list[tuple[str, list[str]]] = []
    for word, tag in zip(words(example), tags(example), strict=True):
        if tag.startswith("B-"):
            entities.append((types[tag[2:]], [word]))
        elif tag != OUTSIDE:
            entities[-1][1].append(word)
    return "; ".join(f"{said}: {' '.join(of)}" for said, of in entities) or NONE


def _place_of(entity: str, words: Sequence[str], tags: Sequence[str]) -> range | None:
    """Where an entity is in a text: the first run of untagged words that equals it but for blanks
    and case; None if there is none.
    """
    wanted = "".join(entity.split()).casefold()
    for first in range(len(words)):
        run = ""
        for last in range(first, len(words)):
            # Without blanks, since models space punctuation otherwise than the words do.
            run += "".join(words[last].split()).casefold()
            if tags[last] != OUTSIDE or len(run) >= len(wanted):
                break
        else:
            continue
        if wanted and run == wanted and all(tag == OUTSIDE for tag in tags[first : last + 1]):
            return range(first, last + 1)
    return None


def _begin(tags: Sequence[str], place: int) -> int:
    """The place of the first word of the entity that a word is part of."""
    while tags[place].startswith("I-") and place:
        place -= 1
    return place


def _likeliest(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """Number of the likeliest tag at each place of each row."""
    return list(output["logits"].argmax(-1).cpu().numpy())
