"""Audio classification: which class a sound is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench import formulations
from workbench.formulations import Formulation
from workbench.space import check, is_number
from workbench.tasks.media import LabelledFilesTask, labels_of
from workbench.tasks.tables import named


@dataclass(frozen=True, kw_only=True)
class AudioClassification(LabelledFilesTask):
    """Tell the class of a sound; made by `audio_classification`, which explains the fields."""

    bounds: ClassVar[tuple[str, ...]] = ("max_seconds",)
    media: ClassVar[str] = "sound"

    max_seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_seconds", lambda value: is_number(value) and value > 0, "a number above 0")

    def formulation(self, kind: str) -> Formulation:
        return formulations.audio_classification(kind, self, self.data, [*self.words()], labels_of, max_seconds=self.max_seconds)


def audio_classification(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    file: str | None = None,
    label: str | None = None,
    labels: Mapping[object, str] | Sequence[str] | None = None,
    group: str | None = None,
    max_seconds: float = 5.0,
    seed: int = 0,
    name: str | None = None,
) -> AudioClassification:
    """Classification of sounds, scored by accuracy and macro-averaged F1 (0 to 100); the
    calibration error is recorded beside them.

    Args:
        data: A folder with a folder for each class, or with folders `train`, `dev` and `test` that
            have; or a table (CSV, JSON lines, …) with a column of paths, which count from its
            folder. Files are WAV, FLAC, OGG, MP3 or AIFF, of any rate.
        train: Labelled sounds to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most sounds that grade each checkpoint; the data may have fewer.
        test: The most sounds held out to the end.
        file: Column of the paths; None: the one called `audio`, `file_name`, `path` or `file`.
        label: Column of the label; None: the one called `label`, `category` or `class`.
        labels: All labels there may be; None: those of the training side.
        group: Column of groups, such as speakers: the scores of the worst group are recorded too
            (`worst_group_accuracy`).
        max_seconds: Seconds of a sound that are heard. A longer one loses its end, a shorter one is
            filled up with silence.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return AudioClassification(
        data=data, train=train, dev=dev, test=test, file=file, label=label, labels=named(labels), group=group,
        max_seconds=max_seconds, seed=seed, name=name,
    )  # fmt: skip
