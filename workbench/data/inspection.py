"""A look at a user's data: its columns, what they hold, and the kind of task that they are for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.data import cache, images, sounds, sources, values
from workbench.data.files import CONLL, DELIMITED, reading, suffix_of, wrong
from workbench.data.forms import Form, Sides, Source
from workbench.data.interactions import INTERACTIONS, ITEMS
from workbench.data.labelled import LABEL, LONGEST_LABEL, MANY, MOST_OF_ROWS, TEXT
from workbench.data.tagged import TAGS, TOKENS
from workbench.data.text_pairs import LAYOUTS
from workbench.errors import DataError, UsageError

ROWS = 20_000
"""How many rows are looked at: files are often sorted by label, so the first few would show only
one.
"""


class _All(Form):
    """Every column, as it is."""

    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        return names

    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        rows = (row for _, rows in sources["train"] for _, row in rows)
        return {"train": list(itertools.islice(rows, ROWS))}, ()


class _Squad(_All):
    questions: ClassVar[bool] = True


@dataclass(frozen=True)
class Look:
    """The first rows of the training side.

    Attributes:
        data: The name of what was looked at.
        rows: Its first rows.
        columns: Names of their columns.
    """

    data: str
    rows: Sequence[Mapping[str, Any]]
    columns: tuple[str, ...]

    def task(self) -> str:
        """The task that the columns are for.

        Returns:
            `question_answering`, `token_classification`, `retrieval`, `text_generation`,
            `translation`, or else `classification`.
        """
        there = {*self.columns}
        if {"question", "context"} <= there and there & {"answers", "answer"}:
            return "question_answering"
        if there & {*TOKENS} and there & {*TAGS}:
            return "token_classification"
        if {"query", "positive"} <= there:
            return "retrieval"
        if "translation" in there or {"source", "target"} <= there:
            return "translation"
        if any({*layout} <= there for layout in LAYOUTS):
            return "text_generation"
        return "classification"

    def label(self) -> str:
        """The column that holds labels. Raises UsageError where none does, or several may."""
        known = [name for name in LABEL if name in self.columns]
        found = known[:1] if len(known) == 1 else [name for name in self.columns if self._repeats(name)]
        if len(found) != 1:
            seen = "; ".join(f"{name}: {self._shown(name)}" for name in self.columns[:8])
            which = f"{' and '.join(map(repr, found))} may all hold labels" if found else "no column repeats values as labels do"
            raise UsageError(f"{self.data!r}: {which}. Say which one does: --label COLUMN. There are {seen}.")
        return found[0]

    def text(self, label: str) -> str:
        """The column that holds texts: the one with a usual name, or else the longest. Raises
        UsageError where there is none.
        """
        known = [name for name in TEXT if name in self.columns]
        if len(known) == 1:
            return known[0]
        lengths = {name: sum(map(len, texts)) for name in self.columns if name != label and (texts := self._texts(name))}
        if not lengths:
            raise UsageError(f"{self.data!r}: no column but {label!r} holds text. Say which one is to be read: --text COLUMN.")
        return max(lengths, key=lambda name: lengths[name])

    def _values(self, name: str) -> list[Any]:
        found = (values.plain(row.get(name)) for row in self.rows)
        return [value for value in found if not values.missing(value) and value != ""]

    def _texts(self, name: str) -> list[str]:
        """The values of a column if all of them are text, or else none."""
        found = self._values(name)
        return found if all(isinstance(value, str) for value in found) else []

    def _repeats(self, name: str) -> bool:
        """Whether a column's values are few and short, as labels are."""
        found = self._values(name)
        if not all(isinstance(value, (str, int)) and len(str(value)) <= LONGEST_LABEL for value in found):
            return False
        # At least two rows per value in a small file, or eight in a large one: names and dates
        # repeat, too.
        return 2 <= len({*map(str, found)}) <= max(min(MANY, len(found) // 2), MOST_OF_ROWS * len(found) / 4)

    def _shown(self, name: str) -> str:
        found = [*dict.fromkeys(map(str, self._values(name)))]
        return ", ".join(repr(value[:24]) for value in found[:2]) + (f", … ({len(found):,} different)" if found[2:] else "")


def task_of(data: str) -> str:
    """The task that a data set is for, by its name.

    Returns:
        As `Look.task`; `recommendation` for a folder with interactions and items,
        `image_classification` or `audio_classification` for folders of images or sounds, and
        `token_classification` for files with a word and its tag per line.

    Raises:
        DataError, UsageError, EnvironmentFault: As `look`.
    """
    path = cache.expanded(data)
    if path.is_dir():
        with reading(data):
            names = {file.name.removesuffix(suffix_of(file.name)) for file in path.iterdir() if file.is_file()}
        if {INTERACTIONS, ITEMS} <= names:
            return "recommendation"
        with reading(data):
            inside = (file.suffix.lower() for each in path.iterdir() if each.is_dir() for file in each.rglob("*") if file.is_file())
            suffix = next((one for one in inside if one in (*images.SUFFIXES, *sounds.SUFFIXES)), "")
        if suffix:
            return "image_classification" if suffix in images.SUFFIXES else "audio_classification"
    return "token_classification" if path.suffix.lower() in CONLL else look(data).task()


def look(data: str) -> Look:
    """Look at a file, a folder or a name on the hub. Raises as `workbench.data.load` does."""
    rows: list[Any] = []
    try:
        rows = _All().read(sources.of(data, _Squad()), data)[0]["train"]
    except DataError:
        # Not questions: it may be a list of rows all the same.
        rows = _All().read(sources.of(data, _All()), data)[0]["train"]
    if not rows:
        below = " below the header" if suffix_of(data) in DELIMITED else ""
        raise wrong(f"{data!r} has no rows{below}. Give a table with rows.")
    rows = [row for row in rows if isinstance(row, Mapping)]
    if not rows:
        raise wrong(
            f"{data!r} holds no row with names of columns. Give a table with a header and rows below it, or objects with keys."
        )
    return Look(data, rows, tuple(dict.fromkeys(str(name) for row in rows for name in row)))
