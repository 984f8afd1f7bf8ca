"""Image classification: which class an image is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench import formulations
from workbench.formulations import Formulation
from workbench.tasks.media import LabelledFilesTask, labels_of
from workbench.tasks.tables import named


@dataclass(frozen=True, kw_only=True)
class ImageClassification(LabelledFilesTask):
    """Tell the class of an image; made by `image_classification`, which explains the fields."""

    media: ClassVar[str] = "image"

    def formulation(self, kind: str) -> Formulation:
        return formulations.image_classification(kind, self, self.data, [*self.words()], labels_of)


def image_classification(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    file: str | None = None,
    label: str | None = None,
    labels: Mapping[object, str] | Sequence[str] | None = None,
    group: str | None = None,
    seed: int = 0,
    name: str | None = None,
) -> ImageClassification:
    """Classification of images, scored by accuracy and macro-averaged F1 (0 to 100); the
    calibration error is recorded beside them.

    Args:
        data: `"digits"`, handwritten ones that need no network; a folder with a folder for each
            class, or with folders `train`, `dev` and `test` that have; or a table (CSV, JSON lines,
            …) with a column of paths, which count from its folder.
        train: Labelled images to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most images that grade each checkpoint; the data may have fewer.
        test: The most images held out to the end.
        file: Column of the paths; None: the one called `image`, `file_name`, `path` or `file`.
        label: Column of the label; None: the one called `label`, `category` or `class`.
        labels: All labels there may be; None: those of the training side.
        group: Column of groups: the scores of the worst group are recorded too
            (`worst_group_accuracy`).
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return ImageClassification(
        data=data, train=train, dev=dev, test=test, file=file, label=label, labels=named(labels), group=group, seed=seed, name=name
    )
