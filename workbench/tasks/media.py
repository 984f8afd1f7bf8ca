"""Tasks whose data are files of images or sound with one label each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench.data.media import LabelledFiles
from workbench.formulations import Example, Labelled
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
    media: ClassVar[str]

    file: str | None = None
    label: str | None = None

    @property
    def form(self) -> LabelledFiles:
        return LabelledFiles(self.media, self.file, self.group, self.label, tuple(name for name, _ in self.labels))

    def class_names(self) -> Sequence[str]:
        return [*self.words()]

    def constant_scores(self) -> dict[str, float]:
        return commonest_scores(self.splits().dev)

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        return label_scores(examples, predictions)


def labels_of(example: Example) -> Sequence[str]:
    """Return the one label of an example, in a list as all formulations of classes take them."""
    labels: Sequence[str] = example["labels"]
    return labels
