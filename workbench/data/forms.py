"""The base of a form: which columns a kind of task reads, and how rows become examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data.files import TABLE_SUFFIXES

Example = dict[str, Any]

Source = Sequence[tuple[str, Iterable[tuple[str, Any]]]]
"""What a side is read from, files or a split on the hub: the name of each, and its rows with their
places in it.
"""

Sides = dict[str, list[Example]]
"""Examples of `train`, `dev` and `test`; with `documents` to search in, where the task has them."""

BUILT_IN = {
    "pydocs": "question_answering",
    "pytopics": "classification",
    "opinions": "classification",
    "pysupport": "support",
    "pysearch": "retrieval",
    "pycalls": "recommendation",
    "digits": "image_classification",
    "vowels": "audio_classification",
}
"""Data sets that need no file, and the task that each is for."""

LATER = "answer"
"""Key of an example whose label was given later: its number among those, from 1."""


@dataclass(frozen=True)
class Form(ABC):
    """How the rows of a data set become examples. A frozen dataclass of settings: equal forms read
    alike.

    Attributes:
        redact: What is replaced by placeholders as rows are read, as `redaction.finders` gives it.
        suffixes: Suffixes of files that are read, in lower case (a class attribute).
        built_in: Data sets that need no file, by name: modules with `load()` and `versions()` (a
            class attribute).
        own: Text formats that this form alone knows, by suffix: functions from file and lines to
            rows (a class attribute).
        refers: Whether rows name files of their own, which may change while the table does not (a
            class attribute).
        any_name: Whether all files of a folder are training data if none is named after a side (a
            class attribute).
        answerable: Whether labels that people gave later are read beside the data (a class attribute).
        questions: Whether a JSON document may be a SQuAD file (a class attribute).
    """

    suffixes: ClassVar[tuple[str, ...]] = TABLE_SUFFIXES
    built_in: ClassVar[Mapping[str, ModuleType]] = {}
    own: ClassVar[Mapping[str, Callable[[Path, Iterator[str]], Iterator[tuple[str, Any]]]]] = {}
    refers: ClassVar[bool] = False
    any_name: ClassVar[bool] = False
    answerable: ClassVar[bool] = False
    questions: ClassVar[bool] = False

    redact: tuple[str, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        """The columns of a table that are read. Raises DataError where a needed one is missing."""

    def of_folder(self, folder: Path) -> dict[str, Source] | None:
        """What each side is read from, if the form has a way of its own with folders; None: from
        files named after the sides.
        """
        return None

    @abstractmethod
    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        """Read examples of all three sides; sides that are missing are taken out of `train`.

        Args:
            sources: What each side is read from.
            data: The data set's name, for errors.

        Returns:
            The examples; and notes on rows that were left out, a line each.

        Raises:
            DataError: The rows are not what they must be.
        """
