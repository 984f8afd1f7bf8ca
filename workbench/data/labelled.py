"""Texts with their labels: one class per text, or several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import opinions, pytopics, values
from workbench.data.files import wrong
from workbench.data.forms import Example, Sides
from workbench.data.tables import (
    PLACE,
    Columns,
    LeftOut,
    Mistyped,
    Table,
    Unlabelled,
    folded,
    group_column,
    group_of,
    pick,
    text_of,
)
from workbench.errors import UsageError, did_you_mean

TEXT = ("text", "sentence", "utterance")
LABEL = ("label", "labels", "category", "intent", "class")
"""Names of such columns that are known."""

SEPARATORS = ("|", ";", ",")
"""Characters that may separate several labels in one text: the first of them that occurs counts."""

LONGEST_LABEL = 200
MOST_OF_ROWS = 0.5
"""Where labels are more than this share of the rows, and more than `MANY`, the column holds
something else.
"""
MANY = 50


MOST_SPELLINGS = 4
"""Spellings of one label that an error lists."""


class AlikeLabels(UsageError):
    """Two labels of a data set are the same in words, so a model that writes its answer could not
    tell them apart.
    """


@dataclass(frozen=True)
class LabelledTexts(Table):
    """Texts with labels: examples are `{"id", "text", "labels", "group"?}`, `labels` being a list.

    Attributes:
        text: Column of the text, or the two columns of a pair, which the model reads as a pair;
            None: known by its name.
        label: Column of the label; with `several` also columns that each hold 0 or 1; None: known
            by its name.
        several: Whether a text may have any number of labels: a list, or a text with `|`, `;` or
            `,` between them.
        labels: All labels that there may be; empty: those of train.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
        fold: Whether labels are read as `fold_label` writes them: spellings that differ by case,
            blanks or underscores are one.
    """

    built_in: ClassVar[Mapping[str, ModuleType]] = {"pytopics": pytopics, "opinions": opinions}
    answerable: ClassVar[bool] = True

    text: str | tuple[str, ...] | None = None
    label: str | tuple[str, ...] | None = None
    several: bool = False
    labels: tuple[str, ...] = ()
    group: str | None = None
    fold: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.text, tuple) and (len(self.text) != 2 or not all(isinstance(name, str) for name in self.text)):
            raise UsageError(f"text={self.text!r}: name one column, or the two of a pair. Join more in one column of the file.")
        if isinstance(self.label, tuple) and not self.several:
            raise UsageError(f"label={self.label!r} names {len(self.label)} columns: give several=True, or one column.")
        for field in ("text", "label", "group"):
            if getattr(self, field) == "":
                raise UsageError(f'{field}="" names no column. Leave it out, or give the name of one.')

    def columns(self, names: Sequence[str], file: str) -> Columns:
        texts, labels = self.text, self.label
        return {
            "text": [pick(names, file, "text", name, ()) for name in texts]
            if isinstance(texts, tuple)
            else [pick(names, file, "text", texts, TEXT)],
            "label": [pick(names, file, "label", name, ()) for name in labels]
            if isinstance(labels, tuple)
            else pick(names, file, "label", labels, LABEL),
            "group": group_column(names, file, self.group),
        }

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        texts = [text_of(row, column) for column in columns["text"]]
        read = self._labels(row, columns["label"])
        labels = [*dict.fromkeys(map(fold_label, read) if self.fold else read)]
        return {"text": texts if texts[1:] else texts[0], "labels": labels, **group_of(row, columns["group"])}

    def _labels(self, row: Mapping[str, Any], column: str | Sequence[str]) -> list[str]:
        if not isinstance(column, str):
            return [name for name in column if _is_set(values.plain(row.get(name)), name)]
        if not self.several:
            return [label_of(row, column)]
        value = values.plain(row.get(column))
        if values.missing(value):
            raise Unlabelled(f"without a label in {column!r}")
        return [_label(each, column) for each in (value if isinstance(value, list) else _parted(value))]

    def key(self, example: Example) -> str:
        text = example["text"]
        return folded(text) if isinstance(text, str) else json.dumps([folded(each) for each in text])

    def stratum(self, example: Example) -> str:
        return json.dumps(sorted(example["labels"]))

    def labels_of(self, example: Example) -> Sequence[str]:
        return list(example["labels"])

    def check(self, sides: Sides, data: str) -> Iterator[str]:
        remedy = "write them alike, or give fold_labels=True, which reads labels in lower case and underscores as blanks"
        yield from check_classes(self, sides, data, self.labels, several=self.several, remedy=remedy)


def label_of(row: Mapping[str, Any], column: str) -> str:
    """The one label of a row.

    Raises:
        LeftOut: The row has none.
        Mistyped: The value is no label.
    """
    value = values.plain(row.get(column))
    if values.missing(value) or (isinstance(value, str) and not value.strip()):
        raise Unlabelled(f"without a label in {column!r}")
    return _label(value, column)


def check_classes(
    form: Table,
    sides: Sides,
    data: str,
    labels: Sequence[str],
    *,
    several: bool = False,
    remedy: str = "write them alike",
) -> Iterator[str]:
    """Check the labels of all sides, and yield what users should be told.

    Args:
        form: The form whose examples have `labels`.
        sides: The examples.
        data: The data set's name.
        labels: All labels that there may be; empty: those of train.
        several: Whether an example may have any number of them.
        remedy: What to do about spellings that mean one label, behind "Where they are one, ".

    Yields:
        Sentences.

    Raises:
        DataError: They are no classes or too few, or some are in dev or test alone.
        AlikeLabels: Two of them are the same in words, and `labels` does not name them.
    """
    known = labels or in_order(label for example in sides["train"] for label in example["labels"])
    # A single label is enough where a text may have none of it.
    if len(known) < 2 - several or not known:
        held = f"all rows of train have the label {known[0]!r}" if known else "no row of train has a label"
        raise wrong(f'{data!r}: {held}. A class is told from at least one other. Name the column of the labels: label="…".')
    rows = len(sides["train"])
    if not labels and len(known) > max(MANY, MOST_OF_ROWS * rows):
        raise wrong(
            f"{data!r} has {len(known):,} different labels in {rows:,} rows of train, such as {known[0][:40]!r}: these are no "
            'classes. Name the column of the labels by label="…".'
        )
    for side, examples in sides.items():
        strange = Counter(label for example in examples for label in example["labels"] if label not in {*known})
        if strange:
            label, count = strange.most_common(1)[0]
            where = "labels= does not name" if labels else "no row of train has"
            hint = did_you_mean(label, known) if len(known) < MANY else ""
            raise wrong(
                f"{data!r}: {count:,} rows of {side} have the label {label[:60]!r}, which {where}"
                f"{f', and {len(strange) - 1:,} more labels are like it' if strange.most_common()[1:] else ''}.{hint} Mend the "
                "label, or add it there."
            )
    if not labels:  # words that the task gives them are checked there
        _check_spellings(sides, known, data, remedy)
    for side, examples in sides.items():
        yield from _repeats(form, side, examples)
        told: dict[str, list[str]] = {}
        different = {
            key for example in examples if told.setdefault(key := form.key(example), example["labels"]) != example["labels"]
        }
        if different:
            yield f"{side} has different labels for the same {form.noun}, {len(different):,} times; one is {min(different)[:60]!r}."


def _check_spellings(sides: Sides, known: Sequence[str], data: str, remedy: str) -> None:
    """Raise AlikeLabels where labels are the same in words, telling how often each occurs and where
    first.
    """
    spellings: dict[str, list[str]] = {}
    for label in known:
        spellings.setdefault(fold_label(label), []).append(label)
    alike = [each for each in spellings.values() if each[1:]]
    if not alike:
        return
    count, first = Counter[str](), dict[str, str]()
    for example in (example for examples in sides.values() for example in examples):
        for label in example["labels"]:
            count[label] += 1
            first.setdefault(label, example[PLACE])
    where = [
        f"{label!r} stands in {count[label]:,} row{'' if count[label] == 1 else 's'} (the first: {first[label]})"
        for label in alike[0][:MOST_SPELLINGS]
    ]
    more = len(alike) - 1
    others = f" So it is with {more:,} more label{'' if more == 1 else 's'}." if more else ""
    raise AlikeLabels(
        f"{data!r}: the labels {alike[0][0]!r} and {alike[0][1]!r} are both {in_words(alike[0][1])!r} in words: "
        f'{", ".join(where)}.{others} Where they are one, {remedy}; else tell them apart: labels={{"label": "words", …}}.'
    )


def _repeats(form: Table, side: str, examples: Sequence[Example]) -> Iterator[str]:
    """How many examples of a side repeat an earlier one, label included."""
    seen: set[str] = set()
    again = [example for example in examples if _again(seen, json.dumps([form.key(example), sorted(example["labels"])]))]
    if again:
        rows = "rows repeats an earlier one" if len(again) == 1 else "rows repeat earlier ones"
        counts = "counts as a label" if side == "train" else "is graded"
        yield (
            f"{len(again):,} of {len(examples):,} {side} {rows}, {form.noun} and label alike (the first: {again[0][PLACE]}): kept, "
            f"and each {counts}. Remove what was doubled by mistake."
        )


def _again(seen: set[str], key: str) -> bool:
    """Whether a key was seen before; it counts as seen from now on."""
    there = key in seen
    seen.add(key)
    return there


def in_order(labels: Any) -> tuple[str, ...]:
    """Labels, each once: numbers by size, all else by the alphabet."""
    found = {*labels}
    numbers = all(label.removeprefix("-").isdecimal() for label in found)
    return tuple(sorted(found, key=lambda label: (int(label), label) if numbers else (0, label)))


def in_words(label: str) -> str:
    """A label as one would say it."""
    return " ".join(label.replace("_", " ").split()) or label


def fold_label(label: str) -> str:
    """A label in lower case, with single blanks for underscores and runs of blanks."""
    return in_words(label).casefold()


def check_names(words: Mapping[str, str], what: str) -> None:
    """Raise UsageError where two labels are the same in words: a model that writes its answer could
    not tell them apart.
    """
    taken: dict[str, str] = {}
    for label, said in words.items():
        other = taken.setdefault(said.casefold(), label)
        if other != label:
            raise UsageError(
                f"{what}: the labels {other!r} and {label!r} are both {said!r} in words. Write them alike where they are one, or "
                'tell them apart: labels={"label": "words", …}.'
            )


def _label(value: Any, column: str) -> str:
    """One label as text."""
    # Before numbers, since Python's True is one.
    if isinstance(value, bool):
        return str(value).lower()
    number = values.whole(value)
    if number is not None:
        return str(number)
    if not isinstance(value, str):
        advice = "Labels are texts or whole numbers"
        advice = "Read several labels by several=True" if isinstance(value, list) else advice
        raise Mistyped(f"{column!r} must be a label, got {values.kind(value)} {str(value)[:40]!r}. {advice}.")
    if len(value) > LONGEST_LABEL:
        raise Mistyped(f'{column!r} has {len(value):,} characters, and a label is a few words. Name the column by label="…".')
    # A lone surrogate could be neither printed nor stored.
    return " ".join(value.encode("utf-8", "backslashreplace").decode().split())


def _parted(value: Any) -> list[Any]:
    """Several labels from one value."""
    if not isinstance(value, str):
        return [value]
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except ValueError:
            raise Mistyped(f'a list of labels is not JSON: {value[:60]!r}. Write ["a", "b"], or a|b.') from None
        return list(found)
    separator = next((each for each in SEPARATORS if each in value), "|")
    return [part.strip() for part in value.split(separator) if part.strip()]


def _is_set(value: Any, column: str) -> bool:
    """Whether a column that holds 0 or 1 holds 1."""
    word = str(value).strip().casefold()
    if values.missing(value) or word == "":
        raise LeftOut(f"without 0 or 1 in {column!r}")
    if word in ("1", "1.0", "true"):
        return True
    if word in ("0", "0.0", "false"):
        return False
    raise Mistyped(f"{column!r} must be 0 or 1, as several columns are named as labels; got {str(value)[:40]!r}.")
