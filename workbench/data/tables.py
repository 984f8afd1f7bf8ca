"""Reads tables of texts for any task. Missing, mistyped or doubled values are counted, and nothing
is left out in silence.

A row without a text or an answer is left out, and users are told. A value of another type is
refused with its place. A text on two sides stays on the later one, so that no model is graded by
what it was taught.
"""

from __future__ import annotations

import hashlib
import itertools
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from workbench.data import redaction, values
from workbench.data.delimited import MOST_CHARACTERS
from workbench.data.files import wrong
from workbench.data.forms import LATER, Example, Form, Sides, Source
from workbench.errors import did_you_mean

FIRST_ROWS = 100
"""How many rows of JSON are searched for names of columns, since a value that is often missing may
not be in the first.
"""

ONE_IN = 10
"""One in so many texts of train is split off for each of dev and test that is missing."""

ANSWERS = "answers"
"""What the labels that people gave later are called among the sides of a data set."""

PLACE = "place"
"""Key of an example's file and line, such as `calls.csv, line 7`, until all sides are checked."""

_NAMES = ("id", "labels", "tags", "group", "relevant", "negatives")
"""Fields of an example that are names of things, which nothing is redacted in; those of documents
stand for texts that are redacted where they are.
"""

Columns = Mapping[str, Any]
"""For each field of an example the column that it is read from, or several; None where the data
have none.
"""


class LeftOut(Exception):
    """A row that cannot be used. The message is the reason, as it reads behind "rows are": "without
    a label".
    """


class Unlabelled(LeftOut):
    """A row that has all but its label. Any share of the rows of train may be so: they wait for one."""


class Mistyped(Exception):
    """A value that its column must not hold. The message says what it is and what to do, a
    sentence.
    """


class Table(Form):
    """A form whose rows are all alike. Its abstract methods say what an example is.

    Attributes:
        noun: What `key` is made of (a class attribute).
    """

    noun: ClassVar[str] = "text"

    @abstractmethod
    def columns(self, names: Sequence[str], file: str) -> Columns:
        """The columns to read, out of those that there are. Raises DataError where one is missing
        or ambiguous.
        """

    @abstractmethod
    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        """A row as an example, without its id. Raises LeftOut, Mistyped."""

    @abstractmethod
    def key(self, example: Example) -> str:
        """The text by which examples count as the same: these stand on one side."""

    def labels_of(self, example: Example) -> Sequence[str]:
        """The labels of an example; none where rows have none."""
        return ()

    def stratum(self, example: Example) -> str:
        """Examples of one stratum are spread over all sides in the same shares."""
        return ""

    def check(self, sides: Sides, data: str) -> Iterator[str]:
        """Check all that was read, and yield what users should be told. Raises DataError where it
        is not what it must be.

        Examples still have their `PLACE` here, and lose it afterwards.
        """
        yield from ()

    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        wanted: set[str] = set()
        for column in self.columns(names, file).values():
            wanted |= {column} if isinstance(column, str) else set(column or ())
        return [name for name in names if name in wanted]

    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        notes: list[str] = []
        found = {side: self._side(side, source, notes) for side, source in sources.items() if side != ANSWERS}
        if not found.get("test", True) and any(" test rows " in note for note in notes):
            del found["test"]  # a benchmark that keeps its answers secret
            notes.append("A tenth of train stands in for test.")
        for side, examples in found.items():
            if not examples:
                raise wrong(f"the {side} side of {data!r} holds no row that can be used. Give a file that has some.")
        notes += self._apart(found, data)
        notes += self.check(found, data)
        answers = self._answers(sources[ANSWERS], found, notes) if ANSWERS in sources else []
        for examples in found.values():
            for example in examples:
                del example[PLACE]
        # After the split, which must be the same with answers and without.
        split = _split(found, self, data)
        split["train"] += answers
        return split, tuple(notes)

    def _answers(self, source: Source, found: Sides, notes: list[str]) -> list[Example]:
        """The answers to a data set's unlabelled rows, in the order in which they were given; those
        whose text has a label in the data are left out.
        """
        examples = self._side(ANSWERS, source, notes)
        known = {self.key(example) for of_side in found.values() for example in of_side}
        classes = {name for of_side in found.values() for example in of_side for name in self.labels_of(example)}
        kept = []
        for number, example in enumerate(examples, 1):
            strange = next((name for name in self.labels_of(example) if name not in classes), None)
            if strange is not None:
                raise wrong(f"{example[PLACE]}: no row of the data has the label {strange!r}.{did_you_mean(strange, classes)}")
            del example[PLACE]
            if self.key(example) not in known:
                kept.append({**example, LATER: number})
        if examples:
            notes.append(answers_note(source, len(kept), len(examples)))
        return kept

    def without_personal(self, example: Example) -> Example:
        """An example with placeholders in all of its texts, and a count of them under
        `redaction.COUNTS`, where this form redacts. Labels, tags and groups stay as they are.
        """
        if not self.redact:
            return example
        # A form may have redacted some of it already, where characters are counted.
        counts = Counter[str](example.pop(redaction.COUNTS, {}))
        read = {name: each if name in _NAMES else redaction.value(each, self.redact, counts) for name, each in example.items()}
        return {**read, redaction.COUNTS: dict(counts)} if counts else read

    def places(self, sources: Mapping[str, Source]) -> dict[str, str]:
        """Where each example stands, by its id: file and line. What several sides hold stands on
        the last.

        Raises as `read`.
        """
        found = (self._side(side, sources[side], []) for side in ("train", "dev", "test") if side in sources)
        return {example["id"]: example[PLACE] for examples in found for example in examples}

    def _side(self, side: str, source: Source, notes: list[str]) -> list[Example]:
        """The examples of one side. Notes on rows that were left out are appended to `notes`."""
        examples: list[Example] = []
        left, first, mistyped, total = Counter[str](), dict[str, str](), list[str](), 0
        waiting: set[str] = set()
        for file, rows in source:
            columns, rows = self.found(file, rows)
            for where, row in rows:
                total += 1
                place = f"{file}, {where}"
                try:
                    if not isinstance(row, Mapping):
                        raise Mistyped(f"a row must be an object with the names of columns, got {str(row)[:60]!r}.")
                    examples.append({PLACE: place, **self.without_personal(self.example(row, columns))})
                except LeftOut as error:
                    left[str(error)] += 1
                    waiting |= {str(error)} if side == "train" and isinstance(error, Unlabelled) else set()
                    first.setdefault(str(error), place)
                except Mistyped as error:
                    # Read to the end all the same, so that the error can say how many such rows
                    # there are.
                    mistyped.append(f"{place}: {error}")
        if mistyped:
            more = f" There are {len(mistyped):,} such rows of {total:,}." if mistyped[1:] else ""
            raise wrong(f"{mistyped[0]}{more}")
        for reason, count in left.items():
            told = f"{count:,} of {total:,} {side} rows are {reason} (the first: {first[reason]})"
            if 2 * count > total and (side != "test" or count < total) and (reason not in waiting or count == total):
                raise wrong(f"{told}: too many to be left out. Is it the right column? Name it, or mend those rows.")
            notes.append(f"{told}: left out.")
        return [{"id": name, **example} for name, example in zip(_ids(map(self.key, examples)), examples, strict=True)]

    def found(self, file: str, rows: Iterable[tuple[str, Any]]) -> tuple[Columns, Iterable[tuple[str, Any]]]:
        """The columns of a file, by its first rows; and all of its rows."""
        rows = iter(rows)
        head = list(itertools.islice(rows, FIRST_ROWS))
        names = dict.fromkeys(str(name) for _, row in head if isinstance(row, Mapping) for name in row)
        return self.columns([*names], file) if names else {}, itertools.chain(head, rows)

    def _apart(self, found: Sides, data: str) -> Iterator[str]:
        """Take out of each side what a later one holds as well."""
        later: set[str] = set()
        # From the end, as the test side stays whole and dev loses what is in test.
        for side in ("test", "dev", "train"):
            examples = found.get(side)
            if examples is None:
                continue
            kept = [example for example in examples if self.key(example) not in later]
            if not kept:
                raise wrong(f"all that the {side} side of {data!r} holds stands on a later side, too. Give sides that differ.")
            if count := len(examples) - len(kept):
                others = " or ".join(other for other in ("dev", "test") if other in found and other != side)
                yield f"{count:,} of {len(examples):,} {side} rows stand in {others}, too: left out of {side}."
            later |= {self.key(example) for example in kept}
            found[side] = kept


def answers_note(source: Source, kept: int, given: int) -> str:
    """What is told of the answers beside the data: how many are trained on, of how many."""
    more = f"; {given - kept:,} more stand in the data, too" if given > kept else ""
    return f"{kept:,} answers of {source[0][0]} are trained on as well{more}."


def pick(names: Sequence[str], file: str, field: str, given: str | None, known: Sequence[str]) -> str:
    """The column of a field: the one that the user named, or the only one with a usual name.

    Raises:
        DataError: There is none, or there are several.
    """
    if given is not None:
        if given not in names:
            raise wrong(f"{file} has no column {given!r} ({field}=).{did_you_mean(given, names)}")
        return given
    there = [name for name in known if name in names]
    if not there:
        raise wrong(
            f"{file} has no column {known[0]!r}; it has {', '.join(map(repr, names[:12]))[:200] or 'none'}. Say which is meant: "
            f'{field}="…". A CSV file needs a first line with the names of its columns.'
        )
    if len(there) > 1:
        raise wrong(f"{file}: {' and '.join(map(repr, there))} may both be the {field}. Say which is meant: {field}={there[0]!r}.")
    return there[0]


def text_of(row: Mapping[str, Any], column: str) -> str:
    """The text of a column. Raises LeftOut where there is none, Mistyped where it is something
    else.
    """
    value = values.plain(row.get(column))
    if values.missing(value) or (isinstance(value, str) and not value.strip()):
        raise LeftOut(f"without a text in {column!r}")
    if not isinstance(value, str):
        _mistyped(column, value, "Write it as text, or name another column")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Mistyped(f"{column!r} holds half a character (a lone surrogate). Put the whole one there or remove it.") from None
    if len(value) > MOST_CHARACTERS:
        raise Mistyped(f"{column!r} has {len(value):,} characters, and {MOST_CHARACTERS:,} are the most. Shorten or cut it.")
    return value


def group_of(row: Mapping[str, Any], column: str | None) -> dict[str, str]:
    """The group of a row, if the data have such a column and the row a value."""
    value = values.plain(row.get(column)) if column else None
    if values.missing(value) or value == "":
        return {}
    if not isinstance(value, (str, int, float)):
        _mistyped(str(column), value, "Name each group by a text or a number")
    number = values.whole(value)
    name = str(value if number is None else number).strip()
    return {"group": name.encode("utf-8", "backslashreplace").decode()}


def group_column(names: Sequence[str], file: str, given: str | None) -> str | None:
    """The column of groups: the one that was named, or else `group` where there is one."""
    return pick(names, file, "group", given, ()) if given else "group" if "group" in names else None


def _mistyped(column: str, value: Any, advice: str) -> NoReturn:
    raise Mistyped(f"{column!r} must be text, got {values.kind(value)} {str(value)[:40]!r}. {advice}.")


def folded(text: str) -> str:
    """A text in a form in which texts that differ only by blanks and case are equal."""
    return " ".join(text.split()).casefold()


def _ids(keys: Iterable[str]) -> Iterator[str]:
    """An id for each key by its content; repeats are numbered."""
    seen = Counter[str]()
    for key in keys:
        name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"


def _split(found: Sides, form: Table, data: str) -> Sides:
    """All three sides. A tenth of train stands in for each missing side, each stratum in its share,
    equal texts together.
    """
    missing = [side for side in ("dev", "test") if side not in found]
    split: Sides = {"train": [], **{side: found.get(side, []) for side in ("dev", "test")}}
    lots: dict[str, list[Example]] = {}
    for example in found["train"]:
        lots.setdefault(form.key(example), []).append(example)
    strata: dict[str, list[str]] = {}
    # By hash, so that the order of the file does not matter and is always the same.
    for key in sorted(lots, key=lambda key: hashlib.blake2b(key.encode()).digest()):
        strata.setdefault(form.stratum(lots[key][0]), []).append(key)
    owed, turn = 0, 0
    for stratum in sorted(strata):
        for i, key in enumerate(strata[stratum]):
            # Counted in whole numbers: sums of 0.1 drift, and strata would lose their shares.
            owed += len(missing)
            side = "train"
            if i and owed >= ONE_IN:  # the first of each stratum is to be learned from
                side, turn, owed = missing[turn % len(missing)], turn + 1, owed - ONE_IN
            split[side] += lots[key]
    for side in missing:
        if not split[side]:
            raise wrong(
                f"{data!r} has too few rows to split {side} off. Give at least 20, or a folder with files for dev and test."
            )
    return split
