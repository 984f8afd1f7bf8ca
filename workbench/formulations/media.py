"""The class of an image or of a sound: a head with one output per class on a model that sees or
hears.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data import media, sounds
from workbench.errors import UsageError
from workbench.formulations.base import Example, Formulation, Reach, Rows, Shots, named_outputs
from workbench.formulations.classes import Labelled, numbers_of, probabilities
from workbench.objectives import Classes, Inference, Objective, Read

KEPT_BYTES = 2 << 30
"""The most bytes of made inputs that are kept in memory per set of rows; the others are made again
whenever they are needed.
"""

PATCH, FRAME = 16 * 16, 320
"""What counts as a token: so many pixels of an image, and so many samples of a sound (20 ms at
16,000 a second).
"""

Inputs = Callable[[Example, Any], Mapping[str, np.ndarray]]
"""A function from an example and a processor to the model's inputs by name, without a dimension for
rows.
"""


@dataclass(frozen=True)
class MediaClassification(Formulation):
    """Tells the class of an image or of a sound.

    Attributes:
        head: Name of the transformers class.
        labels: All classes, in the order of the head's outputs.
        label: The class of an example, in a list.
        inputs: Makes a model's inputs of an example, always of one size.
        most_seconds: Seconds after which a sound is cut off; 0 for images.
    """

    head: str
    labels: tuple[str, ...]
    label: Callable[[Example], Sequence[str]]
    inputs: Inputs
    most_seconds: float = 0.0

    @property
    def auto_class(self) -> str:
        return self.head

    @property
    def settings(self) -> Mapping[str, Any]:
        # SpecAugment draws its masks by NumPy, whose state a resumed run does not restore.
        masks = {"apply_spec_augment": False} if self.most_seconds else {}
        return {**named_outputs(self.labels), **masks}

    @property
    def objective(self) -> Objective:
        return Classes()

    def inference(self, processor: Any) -> Inference:
        return Read(probabilities)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        columns = made(examples, functools.partial(self._made, processor))
        # Read from what is made, as the processor decides on the size.
        shapes = {tuple((name, column[0].shape) for name, column in columns.items())} if examples else set()
        if answers:
            columns["labels"] = numbers_of([self.label(example)[0] for example in examples], self.labels)
        sizes = np.full(len(examples), tokens_of(next(iter(shapes))[0][1]) if shapes else 0, np.int64)
        return Rows(columns, np.arange(len(examples)), np.ones(len(examples), np.int64), stacked, sizes=sizes, raw=True)

    def _made(self, processor: Any, example: Example) -> Mapping[str, np.ndarray]:
        return self.inputs(example, processor)

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Labelled]:
        """The likeliest class with its probability."""
        return [Labelled((self.labels[int(row.argmax())],), float(row.max())) for row in outputs]

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Every class can be told; sounds that are too long lose their end."""
        long = [example["seconds"] for example in examples if self.most_seconds and example["seconds"] > self.most_seconds]
        if not long:
            return Reach(len(examples), {})
        cut = {f"longer than max_seconds={self.most_seconds:g}": len(long)}
        return Reach(len(examples), {}, f"Raise max_seconds: the longest takes {max(long):.1f}.", cut, "sounds")


class _Column(Sequence[Any]):
    """An input of some rows, each kept in memory or made again when it is asked for."""

    def __init__(self, name: str, kept: Sequence[Mapping[str, np.ndarray] | None], make: Callable[[int], Mapping[str, np.ndarray]]):
        self._name, self._kept, self._make = name, kept, make

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return (self._kept[place] or self._make(int(place)))[self._name]


def made(examples: Sequence[Example], make: Callable[[Example], Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Columns of what is made of each example. Everything is made once to learn its size; what
    memory allows is kept.
    """
    kept: list[Mapping[str, np.ndarray] | None] = []
    names: tuple[str, ...] = ()
    held = 0
    for example in examples:
        one = make(example)
        names = names or tuple(one)
        held += sum(value.nbytes for value in one.values())
        kept.append(one if held <= KEPT_BYTES else None)
    return {name: _Column(name, kept, lambda i: make(examples[i])) for name in names}


def stacked(features: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Transformers' collator for rows that are all of one size."""
    from transformers import default_data_collator

    batch: Mapping[str, Any] = default_data_collator(features)
    return batch


def tokens_of(shape: Sequence[int]) -> int:
    """The cost of a row in tokens, from the shape of its input: an image, a sound, or a
    spectrogram.
    """
    if len(shape) == 3:
        return max(1, -(-shape[-1] * shape[-2] // PATCH))
    # A sound has the shape (samples,). The longer side of a spectrogram is time, in steps of 10 ms.
    return max(1, -(-shape[0] // FRAME) if len(shape) == 1 else max(shape) // 2)


def pixels(data: str, example: Example, processor: Any) -> Mapping[str, np.ndarray]:
    """The inputs for an example's image, as its model's processor makes them."""
    image = processor(images=media.read("image", data, example), return_tensors="np")
    return {name: np.asarray(image[name][0]) for name in processor.model_input_names if name in image}


def waves(data: str, seconds: float, example: Example, processor: Any) -> Mapping[str, np.ndarray]:
    """The inputs for an example's sound, as its model's processor makes them, cut or filled up with
    silence to so many seconds.
    """
    hears = hearing(processor)
    samples, rate = media.read("sound", data, example)
    wanted = int(hears.sampling_rate)
    whole = round(seconds * wanted)
    samples = sounds.resampled(samples, rate, wanted, whole)
    sound = hears(samples, sampling_rate=wanted, padding="max_length", max_length=whole, truncation=True, return_tensors="np")
    return {name: _input(sound[name][0]) for name in ("input_values", "input_features", "attention_mask") if name in sound}


def hearing(processor: Any) -> Any:
    """The part of a processor that takes sound."""
    return getattr(processor, "feature_extractor", processor)


def _input(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32)


def refuse_deaf(kind: str, task: object) -> None:
    """Raise UsageError where a kind of model hears no sound."""
    if kind != "audio":
        raise UsageError(f"a model of kind {kind!r} cannot do {type(task).__name__}: it hears no sound. Choose a model of sound.")


def image_classification(
    kind: str, task: object, data: str, labels: Sequence[str], label: Callable[[Example], Sequence[str]]
) -> MediaClassification:
    """How a kind of model tells the classes of a data set's images. Raises UsageError where it sees
    no images.
    """
    if kind != "vision":
        raise UsageError(f"a model of kind {kind!r} cannot do {type(task).__name__}: it sees no images. Choose a model of images.")
    return MediaClassification("AutoModelForImageClassification", tuple(labels), label, functools.partial(pixels, data))


def audio_classification(
    kind: str,
    task: object,
    data: str,
    labels: Sequence[str],
    label: Callable[[Example], Sequence[str]],
    *,
    max_seconds: float,
) -> MediaClassification:
    """How a kind of model tells the classes of a data set's sounds. Raises UsageError where it
    hears none.
    """
    refuse_deaf(kind, task)
    inputs = functools.partial(waves, data, max_seconds)
    return MediaClassification("AutoModelForAudioClassification", tuple(labels), label, inputs, max_seconds)
