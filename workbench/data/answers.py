"""Labels that people gave later: an own file beside the data, which is read together with them.

The answers to `tickets.csv` stand in `tickets.csv.answers.csv`, and those to a folder `tickets` in
`tickets.answers.csv` beside it. The data themselves are never written to: whoever removes that file,
or a row of it, has undone it. Answers are trained on alone. What grades a model stays as it was,
because examples that a model asked for are no sample of what it will meet.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from workbench.data import cache, delimited, files, formats, forms, labelled, sources, tables, values
from workbench.data.files import wrong
from workbench.data.labelled import LabelledTexts
from workbench.errors import UsageError, did_you_mean

ID, SAYS, CONFIDENCE = "workbench_id", "workbench_says", "workbench_confidence"
"""Columns beside the data's own: which row it is, what a model says of it, and how sure it is, 0 to 1."""


@dataclass(frozen=True)
class Waiting:
    """A text that waits for a label.

    Attributes:
        id: A hash of its text.
        text: The text, or its two texts.
        row: All that stands in its row, by column.
        label: The column of the label.
        place: Where it stands: `calls.csv, line 7`.
    """

    id: str
    text: str | tuple[str, str]
    row: Mapping[str, Any]
    label: str
    place: str


@dataclass(frozen=True)
class Answers:
    """What a file of answers holds.

    Attributes:
        rows: Those that are new, each with the columns that are read and `ID`.
        empty: How many rows have no label yet.
        known: How many were given before, with the same label.
    """

    rows: Sequence[Mapping[str, str]]
    empty: int
    known: int


def waiting(data: str, form: LabelledTexts, pool: str | None = None) -> list[Waiting]:
    """The texts that wait for a label, each once: those of a data set's training side, and of another file.

    Texts that have a label somewhere in the data, or in their answers, do not wait.

    Args:
        data: A file or a folder.
        form: How its rows are read.
        pool: A file of texts; None: there is none. It needs no column of labels.

    Raises:
        DataError: A file cannot be read; and as `sources.of`.
    """
    given = sources.of(data, form)
    labelled_texts: set[str] = set()
    found: dict[str, Waiting] = {}
    for side in given:
        for place, row, columns in _rows(given[side], form):
            try:
                example = form.example(row, columns)
                labelled_texts.add(form.key(example))
            except tables.Unlabelled:
                if side == "train":
                    _add(found, form, row, columns, place)
            except (tables.LeftOut, tables.Mistyped):
                continue  # `splits` tells of them
    if pool is not None:
        path, texts = cache.expanded(pool), _Texts(**{each.name: getattr(form, each.name) for each in dataclasses.fields(form)})
        label = next((columns["label"] for source in given.values() for _, _, columns in _rows(source, form)), "label")
        for place, row, columns in _rows([(str(path), formats.rows(path, texts))], texts):
            if columns["label"] and not _blank(row.get(columns["label"])):
                continue  # it has a label already
            try:
                _add(found, form, row, {**columns, "label": label}, place)
            except tables.LeftOut:
                continue
            except tables.Mistyped as error:
                raise wrong(f"{place}: {error}") from None
    return [each for key, each in found.items() if key not in labelled_texts]


def blank(row: Waiting, says: str, confidence: float | None) -> dict[str, str]:
    """A row to be filled in: the data's own columns, an empty label, and what a model says."""
    own = {name: "" if _blank(value) else str(value) for name, value in row.row.items()}
    return own | {row.label: "", ID: row.id, SAYS: says, CONFIDENCE: "" if confidence is None else f"{confidence:.3f}"}


def written(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as CSV, with a header of all their columns."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, [*names], restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def checked(file: Path, asked: Sequence[Waiting], before: Mapping[str, str], classes: Sequence[str]) -> Answers:
    """Read a file of answers, and check every row.

    Args:
        file: A CSV file as `blank` and `written` made it, with labels filled in.
        asked: The texts that wait for a label.
        before: The labels that were given before, by id.
        classes: The names of all classes.

    Raises:
        DataError: A label is no class, a row is none of those that wait, or a row is answered twice
            or differently from before; all such rows are told.
    """
    if files.suffix_of(file.name) not in (".csv", ".csv.gz"):
        raise wrong(f"{file}: answers are read from CSV, as `workbench label` writes it. Save the table as CSV.")
    known = {each.id: each for each in asked}
    column = next(iter({each.label for each in asked}), "label")
    rows: dict[str, dict[str, str]] = {}
    empty = repeated = 0
    faults: list[str] = []
    for where, row in formats.rows(file, LabelledTexts()):
        place = f"{file}, {where}"
        if ID not in row or column not in row:
            missing = ID if ID not in row else column
            raise wrong(f"{file} has no column {missing!r}. Fill in the file that `workbench label` wrote, with all its columns.")
        name, label = str(row[ID]).strip(), str(row[column]).strip()
        if not label:
            empty += 1
        elif name in before:
            repeated += before[name] == label
            if before[name] != label:
                faults.append(f"{place}: {label!r} was answered by {before[name]!r} before. Change it where the answers are kept")
        elif name not in known:
            faults.append(f"{place}: {name!r} is no row that waits for a label. If it came from another file, name it by --pool")
        elif name in rows:
            faults.append(f"{place}: {name!r} is answered twice. Keep one of the rows")
        elif label not in classes:
            hint = did_you_mean(label, classes).strip() if len(classes) <= labelled.MANY else ""
            faults.append(f"{place}: {label!r} is no label of the data. {hint or 'Mend it'}".removesuffix("."))
        else:
            own = known[name]
            kept = {each: str(value) for each, value in own.row.items() if not _blank(value)}
            rows[name] = kept | {column: label, ID: name}
    if faults:
        more = f"\nand {len(faults) - 8:,} more" if faults[8:] else ""
        told = "\n".join(faults[:8]) + more
        end, plural = "" if told.endswith("?") else ".", "s" if faults[1:] else ""
        raise wrong(f"{len(faults):,} answer{plural} cannot be taken, so none was:\n{told}{end}")
    return Answers([*rows.values()], empty, repeated)


def given(data: str) -> list[dict[str, str]]:
    """The rows of the answers to a data set that are kept beside it."""
    file = beside(data)
    return [dict(row) for _, row in delimited.rows(file, ".csv", packed=False)] if file.is_file() else []


def add(data: str, new: Sequence[Mapping[str, str]]) -> Path:
    """Add answers to those that are kept beside a data set, in one step; return their file.

    Raises:
        EnvironmentFault: It cannot be written.
    """
    file = beside(data)
    cache.write(file, written([*given(data), *new]).encode())
    return file


class TextAnswers(Protocol):
    """A form of data whose examples people answer in text."""

    def read(self, sources: Mapping[str, forms.Source], data: str) -> tuple[forms.Sides, tuple[str, ...]]:
        """As `forms.Form.read`."""

    def key(self, example: forms.Example) -> str:
        """The text by which examples count as the same."""

    def row(self, example: forms.Example) -> dict[str, str] | None:
        """An answered example as a row of the answers; None where it has no place there."""


def add_texts(data: str, form: TextAnswers, examples: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Add answers in text to those that are kept beside a data set. What stands in the data or in their answers stays as it is.

    Args:
        data: A file or a folder.
        form: How its rows are read.
        examples: Answered examples.

    Returns:
        How many of them are new, and how many have no place there.

    Raises:
        DataError: The data cannot be read; and as `add`.
    """
    beside(data)
    sides, _ = form.read(sources.of(data, cast(forms.Form, form)), data)
    known = {form.key(example) for of_side in sides.values() for example in of_side}
    new: dict[str, dict[str, str]] = {}
    placeless = 0
    for example in examples:
        key, row = form.key({**example}), form.row({**example})
        placeless += row is None
        if row is not None and key not in known:
            new.setdefault(key, row | {ID: hashlib.blake2b(key.encode(), digest_size=8).hexdigest()})
    if new:
        add(data, [*new.values()])
    return len(new), placeless


def beside(data: str) -> Path:
    """The file in which the answers to a data set are kept.

    Raises:
        UsageError: The data are no file and no folder.
    """
    path = cache.expanded(data)
    if not path.exists():
        raise UsageError(f"answers are kept beside a file or folder of your own, and {data!r} is none.")
    return sources.answers_of(path)


def _blank(value: Any) -> bool:
    value = values.plain(value)
    return values.missing(value) or not str(value).strip()


def _add(found: dict[str, Waiting], form: LabelledTexts, row: Mapping[str, Any], columns: tables.Columns, place: str) -> None:
    """Add a row that waits for a label, unless the same text does already. Raises as `tables.text_of`."""
    texts = [tables.text_of(row, column) for column in columns["text"]]
    text: Any = texts[0] if len(texts) == 1 else (texts[0], texts[1])
    key = form.key({"text": text if isinstance(text, str) else list(text)})
    name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    found.setdefault(key, Waiting(name, text, row, columns["label"], place))


@dataclass(frozen=True)
class _Texts(LabelledTexts):
    """The same form, of a file that need not have a column of labels."""

    def columns(self, names: Sequence[str], file: str) -> tables.Columns:
        texts = self.text if isinstance(self.text, tuple) else (self.text,)
        known = labelled.TEXT if texts == (None,) else ()
        label = next((name for name in ((self.label,) if self.label else labelled.LABEL) if name in names), None)
        return {"text": [tables.pick(names, file, "text", name, known) for name in texts], "label": label, "group": None}


def _rows(source: forms.Source, form: LabelledTexts) -> Iterator[tuple[str, Mapping[str, Any], tables.Columns]]:
    """Every row that is an object, with its place and the columns of its file."""
    for file, rows in source:
        columns, rows = form.found(file, rows)
        for where, row in rows:
            if isinstance(row, Mapping):
                yield f"{file}, {where}", row, columns
