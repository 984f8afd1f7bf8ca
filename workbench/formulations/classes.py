"""An encoder tells the class of a text, or its classes: a head with one output a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workbench.formulations.base import Example, Formulation, Rows, padded_inputs
from workbench.objectives import Batch, Classes, Inference, Objective, Read


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
    """One class of a text or a pair of texts, or several.

    Attributes:
        labels: All classes, in the order of the head's outputs.
        text: The text of an example, or its two texts.
        label: The classes of an example.
        max_length: Tokens of a row at most; what is longer loses its end.
        several: Whether an example may be of any number of classes; else of just one.
    """

    labels: tuple[str, ...]
    text: Callable[[Example], str | tuple[str, str]]
    label: Callable[[Example], Sequence[str]]
    max_length: int
    several: bool = False

    @property
    def auto_class(self) -> str:
        return "AutoModelForSequenceClassification"

    @property
    def settings(self) -> Mapping[str, Any]:
        names = dict(enumerate(self.labels))
        return {"id2label": names, "label2id": {name: i for i, name in names.items()}}

    @property
    def longest_row(self) -> int:
        return self.max_length

    @property
    def objective(self) -> Objective:
        return Classes(self.several)

    def inference(self, processor: Any) -> Inference:
        return Read(_several if self.several else _one)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Sequence[Example] = ()) -> Rows:
        texts = [self.text(example) for example in examples]
        pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
        seconds = [second for _, second in pairs]
        encoded: Mapping[str, Any] = {name: [] for name in processor.model_input_names}
        if pairs:  # a tokeniser makes nothing of nothing
            encoded = processor(
                [first for first, _ in pairs],
                seconds if any(second is not None for second in seconds) else None,
                truncation=True,
                max_length=self.max_length,
                return_attention_mask=False,
            )
        columns: dict[str, Sequence[Any] | np.ndarray] = {
            name: [np.array(row, np.int32) for row in encoded[name]] for name in processor.model_input_names if name in encoded
        }
        if answers:
            columns["labels"] = self._targets(examples)
        ones = np.ones(len(examples), np.int64)
        return Rows(columns, np.arange(len(examples)), ones, padded_inputs(processor))

    def _targets(self, examples: Sequence[Example]) -> np.ndarray:
        """Number of each example's class, shape (rows,); of several, 0 or 1 for each, shape (rows, classes)."""
        place = {name: i for i, name in enumerate(self.labels)}
        if not self.several:
            return np.array([place[self.label(example)[0]] for example in examples], np.int64)
        found = np.zeros((len(examples), len(self.labels)), np.float32)
        for row, example in zip(found, examples, strict=True):
            row[[place[name] for name in self.label(example)]] = 1
        return found

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Labelled]:
        """The likeliest class with its probability; of several, those of at least one half."""
        if self.several:
            chosen = [np.flatnonzero(row >= 0.5) for row in outputs]
            return [Labelled(tuple(self.labels[i] for i in each), None) for each in chosen]
        return [Labelled((self.labels[int(row.argmax())],), float(row.max())) for row in outputs]


def _one(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """Probabilities of the classes of each row, which add up to 1."""
    return list(output["logits"].float().softmax(-1).cpu().numpy())


def _several(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """Probability of each class of each row."""
    return list(output["logits"].float().sigmoid().cpu().numpy())
