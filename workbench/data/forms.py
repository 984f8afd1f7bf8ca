"""What a form is: which columns a kind of task reads, and what it makes of their rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import sides
from workbench.data.files import TABLE_SUFFIXES

Example = dict[str, Any]

Source = Sequence[tuple[str, Iterable[tuple[str, Any]]]]
"""What one side is read from: files, or a split on the hub; of each its name and its rows, with their places in it."""

Sides = dict[str, list[Example]]
"""Examples of `train`, `dev` and `test`; what they are searched in as `documents`, where there is such."""

BUILT_IN = {"pydocs": "question_answering", "pytopics": "classification", "pysearch": "retrieval"}
"""Data sets that need no file, and the task that each is for."""


class Form(ABC):
    """How the rows of a data set become examples. A frozen dataclass of settings: forms that are equal read alike.

    Attributes:
        suffixes: Ends of the names of files that are read, in lower case (a class attribute).
        built_in: Data sets that need no file, by their names: modules with `load()` and `versions()` (a class attribute).
        questions: Whether a JSON document may be a SQuAD file (a class attribute).
    """

    suffixes: ClassVar[tuple[str, ...]] = TABLE_SUFFIXES
    built_in: ClassVar[Mapping[str, ModuleType]] = {}
    questions: ClassVar[bool] = False

    def of_folder(self, folder: Path) -> dict[str, list[Path]]:
        """The files of each side that a folder holds. Raises as `sides.of_folder`."""
        return sides.of_folder(folder, self.suffixes)

    @abstractmethod
    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        """Those of a table's columns that are read. Raises DataError where one that is needed is not there."""

    @abstractmethod
    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        """Examples of all three sides, the missing ones taken out of `train`; and what of the rows was left out, a line each.

        Raises:
            DataError: The rows are not what they must be.
        """
