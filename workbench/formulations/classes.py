"""The class of a text, or its classes: an encoder has a head with one output per class, a language
model writes the class's name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workbench.errors import UsageError
from workbench.formulations.base import (
    GREEDY,
    Example,
    Formulation,
    Reach,
    Rows,
    Shots,
    losing_ends,
    named_outputs,
    padded_inputs,
    tokenized,
)
from workbench.formulations.text import TextGeneration, text_generation
from workbench.objectives import Batch, Classes, Inference, Objective, Read

NONE = "none"
"""What a language model should say of a text that has none of several labels."""

SEVERAL_TOKENS = 64
"""The most tokens of an answer that names several labels."""

CONTENT_FREE = "N/A"
"""A text without content (Zhao et al. 2021, arXiv:2102.09690): what a model says of it shows which
names it leans to.
"""

Text = Callable[[Example], str | tuple[str, str]]
"""The text of an example, or its two texts."""


class Labelled(NamedTuple):
    """A prediction of classes.

    Attributes:
        labels: What was predicted: one, or any number where a text may be of several.
        confidence: Probability that the model gives to it, 0 to 1; None where it gives none.
    """

    labels: tuple[str, ...]
    confidence: float | None


@dataclass(frozen=True)
class Classification(Formulation):
    """Tells the class of a text or of a pair of texts, or several classes.

    Attributes:
        labels: All classes, in the order of the head's outputs.
        text: The text of an example, or its two texts.
        label: The classes of an example.
        max_length: The most tokens of a row; longer rows lose their end.
        several: Whether an example may have any number of classes; otherwise it has exactly one.
    """

    labels: tuple[str, ...]
    text: Text
    label: Callable[[Example], Sequence[str]]
    max_length: int
    several: bool = False

    @property
    def auto_class(self) -> str:
        return "AutoModelForSequenceClassification"

    @property
    def settings(self) -> Mapping[str, Any]:
        return named_outputs(self.labels)

    @property
    def longest_row(self) -> int:
        return self.max_length

    @property
    def objective(self) -> Objective:
        return Classes(self.several)

    def inference(self, processor: Any) -> Inference:
        return Read(_several if self.several else probabilities)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        texts = [self.text(example) for example in examples]
        pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
        seconds = [second for _, second in pairs]
        columns = tokenized([first for first, _ in pairs], processor, self.max_length, seconds)
        if answers:
            columns["labels"] = self._targets(examples)
        ones = np.ones(len(examples), np.int64)
        return Rows(columns, np.arange(len(examples)), ones, padded_inputs(processor))

    def _targets(self, examples: Sequence[Example]) -> np.ndarray:
        """Number of each example's class, shape (rows,); with several classes 0 or 1 for each,
        shape (rows, classes).
        """
        if not self.several:
            return numbers_of([self.label(example)[0] for example in examples], self.labels)
        targets = np.zeros((len(examples), len(self.labels)), np.float32)
        for row, example in zip(targets, examples, strict=True):
            row[numbers_of(self.label(example), self.labels)] = 1
        return targets

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Labelled]:
        """The likeliest class with its probability; with several classes those of a probability of
        at least one half.
        """
        if self.several:
            chosen = [np.flatnonzero(row >= 0.5) for row in outputs]
            return [Labelled(tuple(self.labels[i] for i in each), None) for each in chosen]
        return [Labelled((self.labels[int(row.argmax())],), float(row.max())) for row in outputs]

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Every class can be told; texts that are longer than a row lose their end."""
        texts = [self.text(example) for example in examples]
        return losing_ends([text if isinstance(text, tuple) else (text,) for text in texts], processor, self.max_length)


@dataclass(frozen=True)
class WrittenClasses(TextGeneration):
    """The class of a text, or its classes, written by name. With one class nothing but a class's
    name can be written.

    Attributes:
        words: Each class, and its name in words.
    """

    words: tuple[tuple[str, str], ...] = ()

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Any]:
        """The classes whose names were written, in any case; other words are left out. Classes
        chosen by likelihood have a confidence.
        """
        # Case is ignored: models begin a sentence with a capital.
        of = {said.casefold(): name for name, said in self.words}
        if self.read != GREEDY:
            told: list[Any] = [Labelled((), None)] * len(examples)
            for i, (text, confidence) in zip(rows.example.tolist(), self.likeliest(outputs), strict=True):
                told[i] = Labelled((of[text.casefold()],), confidence)
            return told
        found = super().decode(examples, rows, outputs, processor)
        said = [[text] if self.choices else text.split(",") for text in found]
        return [
            Labelled(tuple(of[each.strip().casefold()] for each in of_one if each.strip().casefold() in of), None)
            for of_one in said
        ]


def classification(
    kind: str,
    task: object,
    words: Mapping[str, str],
    text: Text,
    labels: Callable[[Example], Sequence[str]],
    *,
    max_length: int,
    instruction: str,
    several: bool = False,
) -> Formulation:
    """How a kind of model tells the classes of texts.

    Args:
        kind: The kind of model, as `Task.formulation` gets it.
        task: The task, for errors.
        words: All classes in their order, each with its name in words.
        text: The text of an example, or its two texts.
        labels: The classes of an example.
        max_length: The most tokens of an encoder's row.
        instruction: What a language model is asked behind the text.
        several: Whether an example may have any number of classes.

    Raises:
        UsageError: This kind of model reads no text.
    """
    if kind == "encoder":
        return Classification(tuple(words), text, labels, max_length, several)
    # With one class the names are not listed: nothing else can be written anyway, and small models
    # choose better without a list.
    asked = f"Name all that fit of {', '.join(words.values())}; else say {NONE}. {instruction}" if several else instruction
    plain = text_generation(
        kind,
        task,
        functools.partial(_prompt, asked, text),
        functools.partial(_answer, words, labels),
        max_new_tokens=SEVERAL_TOKENS,
    )
    choices = () if several else tuple(words.values())
    neutral = _prompt(asked, lambda _: CONTENT_FREE, {})
    return WrittenClasses(
        plain.prompt, plain.answer, plain.decoder, plain.max_new_tokens, choices, neutral=neutral, words=tuple(words.items())
    )


def _prompt(asked: str, text: Text, example: Example) -> str:
    # The question stands last: asked before the text, a small model answered nearly all texts of
    # pytopics alike.
    texts = text(example)
    both = texts if isinstance(texts, str) else "First text: {}\nSecond text: {}".format(*texts)
    return f"{both}\n\n{asked}"


def _answer(words: Mapping[str, str], labels: Callable[[Example], Sequence[str]], example: Example) -> str:
    return ", ".join(words[name] for name in labels(example)) or NONE


def numbers_of(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """The place of each name among all labels, shape (names,).

    Raises:
        UsageError: A name is not among them.
    """
    place = {name: i for i, name in enumerate(labels)}
    strange = next((name for name in names if name not in place), None)
    if strange is not None:
        raise UsageError(f"an example has the class {strange!r}, and the classes are {', '.join(map(repr, labels))}. Add it there.")
    return np.array([place[name] for name in names], np.int64)


def probabilities(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """Probabilities of each row's classes, which add up to 1."""
    # float32 first: NumPy has no bfloat16.
    return list(output["logits"].float().softmax(-1).cpu().numpy())


def _several(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """The probability of each class, for each row."""
    return list(output["logits"].float().sigmoid().cpu().numpy())
