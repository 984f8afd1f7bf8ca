"""Who had what, one after the other, and what the items are: two tables, for recommendation."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import cache, formats, histories, pycalls, values
from workbench.data.files import reading, suffix_of, wrong
from workbench.data.forms import Form, Sides, Source
from workbench.data.histories import FEWEST
from workbench.data.tables import FIRST_ROWS, pick
from workbench.errors import UsageError

USER = ("user", "user_id", "userId", "customer", "customer_id", "session", "session_id")
ITEM = ("item", "item_id", "itemId", "product", "product_id", "movieId", "article_id", "asin")
TIME = ("time", "timestamp", "date", "datetime", "order")
TEXT = ("text", "title", "name", "description")
"""Names of such columns that are known."""

INTERACTIONS, ITEMS = "interactions", "items"
"""Files of a folder, whatever their suffixes."""


@dataclass(frozen=True)
class Interactions(Form):
    """Users' next items, as `histories.sides` makes examples of them; `documents` are the items,
    `{"id", "text"}`. An item that a user had before is left out: it is recommended once.

    Attributes:
        items: The file of the items, where `data` is that of the interactions alone; None: it is
            `items.…` in the same folder.
        user: Column of the users; None: known by its name.
        item: Column of the items' ids, in both files; None: known by its name, in the items' file
            also `id`.
        time: Column of the time: numbers, or dates as ISO 8601 writes them; None: known by its
            name; where there is none, the order of the rows is that of time.
        text: Column of an item's text; None: known by its name.
    """

    built_in: ClassVar[Mapping[str, ModuleType]] = {"pycalls": pycalls}
    refers: ClassVar[bool] = True  # a file of interactions has another one beside it

    items: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    text: str | None = None

    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        return names

    def of_folder(self, folder: Path) -> dict[str, Source] | None:
        if self.items is not None:
            raise UsageError(f"items={self.items!r} goes with a file of interactions, and {folder} is a folder. Give the file.")
        return {name: self._rows(_named(folder, name)) for name in (INTERACTIONS, ITEMS)}

    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        if INTERACTIONS not in sources:  # a file alone
            path = cache.expanded(data)
            if not path.is_file():
                raise UsageError(
                    f"{data!r}: interactions are read from files on this machine. Give a folder, or a file and items=."
                )
            items = _named(path.parent, ITEMS) if self.items is None else cache.expanded(self.items)
            sources = {INTERACTIONS: sources["train"], ITEMS: self._rows(items)}
        texts = self._texts(sources[ITEMS], data)
        had, notes = self._had(sources[INTERACTIONS], texts)
        sides = histories.sides(had)
        for side in ("train", "dev"):
            if not sides[side]:
                raise wrong(f"{data!r} has no user with enough items: {FEWEST + 1} of one user are needed. Give more interactions.")
        few = sum(len(items) < FEWEST for items in had.values())
        if few:
            notes.append(f"{few:,} of {len(had):,} users have fewer than {FEWEST} items, and are not graded by.")
        sides["documents"] = [{"id": name, "text": text} for name, text in texts.items()]
        return sides, tuple(notes)

    def _rows(self, file: Path) -> Source:
        return [(str(file), formats.rows(file, self))]

    def _texts(self, source: Source, data: str) -> dict[str, str]:
        """The text of each item, in the order of the file. The first of equal ids counts."""
        found: dict[str, str] = {}
        for file, names, rows in _tables(source):
            item = pick(names, file, "item", self.item if self.item in names else None, ("id", "_id", *ITEM))
            column = pick(names, file, "text", self.text, TEXT)
            for where, row in rows:
                text = values.plain(row.get(column))
                if isinstance(text, str) and text.strip():
                    found.setdefault(_id(row, item, f"{file}, {where}"), " ".join(text.split()))
        if len(found) < 2:
            raise wrong(f"{data!r} has {len(found)} items with a text: there is nothing to choose from. Give more.")
        return found

    def _had(self, source: Source, texts: Mapping[str, str]) -> tuple[dict[str, list[str]], list[str]]:
        """Each user's items in the order of time, each once; and notes on what was left out."""
        found: dict[str, list[tuple[Any, str]]] = {}
        total = unknown = 0
        for file, names, rows in _tables(source):
            user, item = pick(names, file, "user", self.user, USER), pick(names, file, "item", self.item, ITEM)
            known = any(name in names for name in TIME) or self.time is not None
            time = pick(names, file, "time", self.time, TIME) if known else None
            for where, row in rows:
                total += 1
                place = f"{file}, {where}"
                name = _id(row, item, place)
                if name not in texts:
                    unknown += 1
                else:
                    at = _time(row, time, place) if time else total
                    found.setdefault(_id(row, user, place), []).append((at, name))
        if not found:
            raise wrong(f"none of {total:,} interactions is with an item that has a text. Are the ids of both files the same?")
        # Sorting is stable: what happened at one time stays in the order of the file.
        had = {user: [*dict.fromkeys(name for _, name in sorted(of, key=lambda each: each[0]))] for user, of in found.items()}
        repeated = total - unknown - sum(map(len, had.values()))
        notes = [f"{unknown:,} of {total:,} interactions are with an item without a text: left out."] if unknown else []
        notes += [f"{repeated:,} of {total:,} interactions repeat an item of the same user: left out."] if repeated else []
        return had, notes


def _named(folder: Path, name: str) -> Path:
    """The file of that name in a folder, whatever its suffix. Raises DataError."""
    with reading(str(folder)):
        files = sorted(each for each in folder.iterdir() if each.name.removesuffix(suffix_of(each.name)) == name)
    if len(files) != 1:
        there = " and ".join(each.name for each in files) if files else "none"
        raise wrong(
            f"the folder {folder} must have one file {name}.csv (or .jsonl, .parquet, …), and has {there}. Put it there, or name "
            'files: the one of interactions as data, and items="…".'
        )
    return files[0]


def _tables(source: Source) -> Iterator[tuple[str, list[str], Iterator[tuple[str, Mapping[str, Any]]]]]:
    """Of each file its name, its columns, and its rows with their places. Raises DataError."""
    for file, rows in source:
        given = iter(rows)
        head = [each for _, each in zip(range(FIRST_ROWS), given, strict=False)]
        names = dict.fromkeys(str(name) for _, row in head if isinstance(row, Mapping) for name in row)
        yield file, [*names], _objects(file, head, given)


def _objects(
    file: str, head: Iterable[tuple[str, Any]], rest: Iterable[tuple[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for part in (head, rest):
        for where, row in part:
            if not isinstance(row, Mapping):
                raise wrong(f"{file}, {where}: a row must be an object with the names of columns, got {str(row)[:60]!r}.")
            yield where, row


def _id(row: Mapping[str, Any], column: str, place: str) -> str:
    """An id as text. Raises DataError where there is none."""
    try:
        return values.identifier(row.get(column), column)
    except ValueError as error:
        raise wrong(f"{place}: {error}") from None


def _time(row: Mapping[str, Any], column: str, place: str) -> float:
    """A time as a number that grows with it. Raises DataError where it is none."""
    value = values.plain(row.get(column))
    try:
        if isinstance(value, (datetime.datetime, datetime.date)):
            value = value.isoformat()
        if isinstance(value, str) and not _is_number(value):
            at = datetime.datetime.fromisoformat(value.strip())
            return (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp()
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if found != found:
        raise wrong(
            f"{place}: {column!r} must be a number or a date as in 2026-01-31 or 2026-01-31T08:00, got {str(value)[:40]!r}. Write "
            "it so."
        )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
