"""What a form is: which columns a kind of task reads, and what it makes of their rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data.files import TABLE_SUFFIXES

Example = dict[str, Any]

Source = Sequence[tuple[str, Iterable[tuple[str, Any]]]]
"""What one side is read from: files, or a split on the hub; of each its name and its rows, with their places in it."""

Sides = dict[str, list[Example]]
"""Examples of `train`, `dev` and `test`; what they are searched in as `documents`, where there is such."""

BUILT_IN = {
    "pydocs": "question_answering",
    "pytopics": "classification",
    "pysearch": "retrieval",
    "digits": "image_classification",
}
"""Data sets that need no file, and the task that each is for."""


class Form(ABC):
    """How the rows of a data set become examples. A frozen dataclass of settings: forms that are equal read alike.

    Attributes:
        suffixes: Ends of the names of files that are read, in lower case (a class attribute).
        built_in: Data sets that need no file, by their names: modules with `load()` and `versions()` (a class attribute).
        own: Formats of text that this form alone knows, by the end of a name: from file and lines to rows (a class attribute).
        refers: Whether rows name files of their own, which may change without the table (a class attribute).
        any_name: Whether files of a folder of which none is called after a side are all to be learned from (a class attribute).
        questions: Whether a JSON document may be a SQuAD file (a class attribute).
    """

    suffixes: ClassVar[tuple[str, ...]] = TABLE_SUFFIXES
    built_in: ClassVar[Mapping[str, ModuleType]] = {}
    own: ClassVar[Mapping[str, Callable[[Path, Iterator[str]], Iterator[tuple[str, Any]]]]] = {}
    refers: ClassVar[bool] = False
    any_name: ClassVar[bool] = False
    questions: ClassVar[bool] = False

    @abstractmethod
    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        """Those of a table's columns that are read. Raises DataError where one that is needed is not there."""

    def of_folder(self, folder: Path) -> dict[str, Source] | None:
        """What each side is read from where the form has a way of its own with folders; None: files called after the sides."""
        return None

    @abstractmethod
    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        """Examples of all three sides, the missing ones taken out of `train`; and what of the rows was left out, a line each.

        Raises:
            DataError: The rows are not what they must be.
        """
