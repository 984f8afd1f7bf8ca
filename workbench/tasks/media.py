"""Tasks whose data are files of images or sound with one label each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.data import media
from workbench.data.media import LabelledFiles
from workbench.formulations import Example, Labelled
from workbench.tasks import request
from workbench.tasks.class_scores import commonest_scores, label_scores
from workbench.tasks.tables import LabelledTask


@dataclass(frozen=True, kw_only=True)
class LabelledFilesTask(LabelledTask):
    """Base of tasks that tell the class of a file.

    Attributes:
        media: What the files are: `image` or `sound` (a class attribute).
        file: Column of the files, where a table names them; None: known by its name.
        label: Column of the label, likewise.
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    lower_is_better: ClassVar[tuple[str, ...]] = ("calibration_error",)
    per_example: ClassVar[tuple[str, ...]] = metrics
    teachable: ClassVar[bool] = True
    media: ClassVar[str]

    file: str | None = None
    label: str | None = None

    @property
    def form(self) -> LabelledFiles:
        return LabelledFiles(self.media, self.file, self.group, self.label, tuple(name for name, _ in self.labels))

    def told(self, example: Example, prediction: Labelled) -> Example | None:
        return {**example, "labels": [*prediction.labels]} if prediction.labels else None

    def class_names(self) -> Sequence[str]:
        return [*self.words()]

    def asked(self) -> Mapping[str, str]:
        return {self.media: request.FILE}

    def question(self, example: Example) -> dict[str, Any]:
        return {self.media: media.encoded(self.media, self.data, example)}

    def example(self, row: Mapping[str, Any]) -> Example:
        return sent(self.media, row) | {"labels": []}

    def constant_scores(self) -> dict[str, float]:
        return commonest_scores(self.splits().dev)

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        return label_scores(examples, predictions)


def sent(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The example of a row that holds a file. Raises DataError where that is no image, or no sound."""
    content = request.file_of(kind, row[kind])
    return {"bytes": content, **media.check_sent(kind, content)} | ({request.ID: row[request.ID]} if request.ID in row else {})


def labels_of(example: Example) -> Sequence[str]:
    """Return the one label of an example, in a list as all formulations of classes take them."""
    labels: Sequence[str] = example["labels"]
    return labels
