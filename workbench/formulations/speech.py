"""What is said in a sound: an encoder tells a letter, or none, for each stretch of it (CTC)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data import media, sounds
from workbench.errors import UsageError
from workbench.formulations.base import Example, Features, Formulation, Reach, Rows, Shots
from workbench.formulations.media import hearing, made, refuse_deaf, tokens_of
from workbench.objectives import NO_TARGET, Batch, Ctc, Inference, Objective, Read

STEPS_A_SECOND = 2
"""Models that take no mask get each sound filled up with silence to a whole number of these steps,
so that some have one length and can share a batch.
"""

LEAST_A_SECOND = 10
"""A sound is filled up to this part of a second, where it is shorter: the convolutions of a model take none of a few samples."""

_MARKS = re.compile(r"[^\w\s']|_")


@dataclass(frozen=True)
class SpeechRecognition(Formulation):
    """Letters by connectionist temporal classification (Graves et al. 2006).

    Attributes:
        data: Path of the data set that the sounds are in.
        text: What is said in an example.
        max_seconds: Longer sounds are neither learned from nor asked.
    """

    data: str
    text: Callable[[Example], str]
    max_seconds: float

    @property
    def auto_class(self) -> str:
        return "AutoModelForCTC"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"apply_spec_augment": False}  # drawn by NumPy, whose state no run restores

    @property
    def objective(self) -> Objective:
        return Ctc()

    def inference(self, processor: Any) -> Inference:
        return Read(_letters, self.objective)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """Rows of sounds. If the model takes no mask, rows of different lengths never share a
        batch.

        Raises:
            UsageError: The model has no letters, or no sound is short enough.
        """
        if not hasattr(processor, "tokenizer"):
            raise UsageError("this model comes without letters to write (a tokeniser). Choose one that was made to write.")
        kept = [i for i, example in enumerate(examples) if example["seconds"] <= self.max_seconds]
        if examples and not kept:
            raise UsageError(f"none of {len(examples):,} sounds is short enough for max_seconds={self.max_seconds:g}. Raise it.")
        hears, masks = hearing(processor), _takes_mask(processor)
        some = [examples[i] for i in kept]
        columns = made(some, lambda one: self._heard(one, hears, masks=masks))
        sizes = np.array([tokens_of(row.shape) for row in next(iter(columns.values()), ())], np.int64)
        labels = [self._spelled(example, processor.tokenizer) for example in some]
        if answers:
            columns["labels"] = labels
        items = np.array([len(row) for row in labels], np.int64)
        collate = functools.partial(_padded, processor)
        return Rows(columns, np.array(kept, np.int64), items, collate, sizes=sizes, raw=True, alike=not masks)

    def _heard(self, example: Example, hears: Any, *, masks: bool) -> Mapping[str, np.ndarray]:
        samples, rate = media.read("sound", self.data, example)
        wanted = int(hears.sampling_rate)
        samples = sounds.resampled(samples, rate, wanted)
        samples = np.pad(samples, (0, max(0, wanted // LEAST_A_SECOND - len(samples))))
        if not masks:
            samples = np.pad(samples, (0, -len(samples) % (wanted // STEPS_A_SECOND)))
        sound = hears(samples, sampling_rate=wanted, return_tensors="np")
        name = next(name for name in ("input_values", "input_features") if name in sound)
        return {name: np.asarray(sound[name][0], np.float32)}

    def _spelled(self, example: Example, tokenizer: Any) -> np.ndarray:
        """Numbers of the letters of what is said, without letters that the model does not know."""
        ids = tokenizer(_in_case(plain(self.text(example)), tokenizer), add_special_tokens=False)["input_ids"]
        return np.array([token for token in ids if token != tokenizer.unk_token_id], np.int64)

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[str]:
        """What is said, by the likeliest letter of each stretch; "" for sounds beyond the limit."""
        texts = [""] * len(examples)
        for i, ids in zip(rows.example.tolist(), outputs, strict=True):
            # A CTC model's tokeniser merges repeated letters and drops CTC's blank.
            texts[i] = processor.tokenizer.decode(ids.tolist()).strip()
        return texts

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Sounds that are short enough, and whose letters the model can all write."""
        long = [example["seconds"] for example in examples if example["seconds"] > self.max_seconds]
        if long:
            why = {f"longer than max_seconds={self.max_seconds:g}": len(long)}
            return Reach(len(examples), why, f"Raise max_seconds: the longest takes {max(long):.1f}.", noun="sounds")
        strange: set[str] = set()
        count = 0
        vocabulary = processor.tokenizer.get_vocab() if hasattr(processor, "tokenizer") else {}
        for example in examples if vocabulary else ():
            lost = {c for c in _in_case(plain(self.text(example)), processor.tokenizer) if c not in vocabulary and not c.isspace()}
            strange, count = strange | lost, count + bool(lost)
        if not count:
            return Reach(len(examples), {})
        shown = " ".join(sorted(strange)[:8])
        advice = f"They are left out of what is learned: {shown}. Write them otherwise, or take another model."
        return Reach(len(examples), {}, advice, {"that this model has no letter for": count}, "texts")


def plain(text: str) -> str:
    """A text as it is heard: without punctuation, in lower case, with single blanks."""
    return " ".join(_MARKS.sub(" ", text).lower().split())


def _in_case(text: str, tokenizer: Any) -> str:
    """The text in capitals where the model knows no other letters."""
    vocabulary = tokenizer.get_vocab()
    return text.upper() if "E" in vocabulary and "e" not in vocabulary else text


def _takes_mask(processor: Any) -> bool:
    """Whether the model is told which part of a row is padding. Others were trained with silence
    there, and hear it.
    """
    return bool(getattr(hearing(processor), "return_attention_mask", False))


def _padded(processor: Any, features: Features) -> Mapping[str, Any]:
    """A batch of sounds and letters, padded by transformers' processor."""
    hears = hearing(processor)
    rows = [{name: value for name, value in one.items() if name != "labels"} for one in features]
    padded = dict(hears.pad(rows, padding=True, return_tensors="pt"))
    # `pad` may make a mask all the same, which such a model was not trained with.
    if not _takes_mask(processor):
        padded.pop("attention_mask", None)
    if "labels" in features[0]:
        letters = processor.tokenizer.pad({"input_ids": [one["labels"].tolist() for one in features]}, return_tensors="pt")
        padded["labels"] = letters["input_ids"].masked_fill(letters["attention_mask"] != 1, NO_TARGET)
    return padded


def _letters(output: Any, batch: Batch) -> Sequence[np.ndarray]:
    """Number of the likeliest letter of each stretch of each row."""
    best = output["logits"].argmax(-1).cpu().numpy()
    return [row[:frames] for row, frames in zip(best, output["frames"].tolist(), strict=True)]


def speech_recognition(
    kind: str, task: object, data: str, text: Callable[[Example], str], *, max_seconds: float
) -> SpeechRecognition:
    """How a kind of model writes what is said in a data set's sounds. Raises UsageError where it
    hears none.
    """
    refuse_deaf(kind, task)
    return SpeechRecognition(data, text, max_seconds)
