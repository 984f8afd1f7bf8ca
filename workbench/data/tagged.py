"""Words with their tags: entities marked by BIO, from tables of lists, CoNLL columns, texts with
spans, or SQuAD files.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench.data import redaction, values
from workbench.data.files import CONLL, TABLE_SUFFIXES, wrong
from workbench.data.forms import Example, Sides
from workbench.data.tables import Columns, LeftOut, Mistyped, Table, folded, group_column, group_of, pick, text_of
from workbench.errors import did_you_mean

TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels")
SPANS = ("spans", "entities", "label", "labels")
"""Names of such columns that are known."""

OUTSIDE = "O"
"""The tag of a word that is part of no entity."""

_PREFIXES = {"B": "B", "I": "I", "S": "B", "U": "B", "E": "I", "L": "I"}
"""How the marks of other schemes (BIOES, BILOU) read in BIO."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|[^\w\s]")
"""A word, a punctuation mark, or a character of a script that is written without blanks."""

_LABEL = ("label", "type", "entity", "tag")


def conll(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Sentences of a file with a word per line, its tag in the last column, and an empty line
    between sentences.

    Raises:
        DataError: A line has a word and no tag.
    """
    sentence: list[list[str]] = []
    begin = number = 0
    for number, line in enumerate(itertools.chain(lines, [""]), 1):
        fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if not line.strip() or fields[0].strip() == "-DOCSTART-":
            if sentence:
                yield f"line {begin}", {"tokens": [row[0] for row in sentence], "tags": [row[-1].strip() for row in sentence]}
            sentence = []
            continue
        if not sentence and line.startswith("#") and " = " in line:
            continue  # a comment of CoNLL-U
        if len(fields) < 2:
            raise wrong(f"{file}, line {number}: {fields[0][:40]!r} has no tag. Write a word, a blank and its tag a line.")
        begin = begin if sentence else number
        sentence.append(fields)


@dataclass(frozen=True)
class TaggedWords(Table):
    """Words with a tag each: examples are `{"id", "tokens", "tags", "group"?}`, tags being `O`,
    `B-type` and `I-type`.

    Rows have two lists; or a text with spans of characters (`start`, `end`, `label`, or the three
    in a list); or they are those of a SQuAD file, where each question stands for a type of entity
    and its answers are the entities.

    Attributes:
        tokens: Column of the words, or of the text; None: known by its name.
        tags: Column of the tags, or of the spans; None: known by its name.
        names: Names of the tags, if the data have their numbers.
        types: All types of entity that there may be; empty: those of train.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*TABLE_SUFFIXES, *CONLL, ".txt")
    own: ClassVar[Mapping[str, Callable[[Path, Iterator[str]], Iterator[tuple[str, Any]]]]] = dict.fromkeys((*CONLL, ".txt"), conll)
    questions: ClassVar[bool] = True

    tokens: str | None = None
    tags: str | None = None
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    group: str | None = None

    def columns(self, names: Sequence[str], file: str) -> Columns:
        group = group_column(names, file, self.group)
        if {"question", "context", "answers"} <= {*names} and self.tokens is None:
            return {"text": "context", "spans": "answers", "of": ["question", "id"], "group": group}
        if self.tokens is None and not {*TOKENS} & {*names} and "text" in names:
            return {"text": "text", "spans": pick(names, file, "tags", self.tags, SPANS), "group": group}
        tokens = pick(names, file, "tokens", self.tokens, TOKENS)
        return {"tokens": tokens, "tags": pick(names, file, "tags", self.tags, TAGS), "group": group}

    def found(self, file: str, rows: Iterable[tuple[str, Any]]) -> tuple[Columns, Iterable[tuple[str, Any]]]:
        columns, found = super().found(file, rows)
        return columns, _by_text(found) if "of" in columns else found

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        moved: dict[str, Any] = {}
        if "text" in columns:
            # Before words are told apart: an address is several of them.
            text = redaction.redacted(text_of(row, columns["text"]), self.redact)
            spans = _spans(values.plain(row.get(columns["spans"])), columns["spans"])
            tokens, tags, count = _spelled(text.text, [(*text.moved(start, end), kind) for start, end, kind in spans])
            moved = {"moved": count} if count else {}
            moved |= {redaction.COUNTS: text.counts} if text.counts else {}
        else:
            tokens = _listed(row, columns["tokens"], "words")
            tags = self._tags(_listed(row, columns["tags"], "tags"), columns["tags"])
            if len(tokens) != len(tags):
                raise Mistyped(f"{len(tokens)} words in {columns['tokens']!r} and {len(tags)} tags. Give every word one tag.")
            if not all(isinstance(word, str) for word in tokens):
                raise Mistyped(f"{columns['tokens']!r} must be a list of words, got {str(tokens)[:60]!r}.")
            if not "".join(tokens).strip():
                raise LeftOut(f"without a word in {columns['tokens']!r}")
            tags, count = _bio(tags)
            moved = {"begun": count} if count else {}
        return {"tokens": [*tokens], "tags": tags, **moved, **group_of(row, columns["group"])}

    def _tags(self, given: list[Any], column: str) -> list[str]:
        """Tags by their names. Raises Mistyped."""
        found = []
        for tag in given:
            number = values.whole(tag)
            if number is None and isinstance(tag, str) and tag.isdecimal():
                number = int(tag)
            if number is not None:
                if not 0 <= number < len(self.names):
                    known = f"names= gives {len(self.names)}" if self.names else 'give their names in order: names=("O", "B-…", …)'
                    raise Mistyped(f"{column!r} has the tag number {number}, and {known}.")
                tag = self.names[number]
            prefix, dash, kind = str(tag).partition("-")
            if tag != OUTSIDE and not (dash and kind and prefix in _PREFIXES):
                raise Mistyped(f"{column!r} has the tag {str(tag)[:40]!r}, and tags are O, B-type and I-type (or BIOES, BILOU).")
            found.append(str(tag))
        return found

    def key(self, example: Example) -> str:
        return folded(" ".join(example["tokens"]))

    def stratum(self, example: Example) -> str:
        return json.dumps(sorted({*self.labels_of(example)}))

    def labels_of(self, example: Example) -> list[str]:
        """The types of an example's entities, in their order."""
        return [tag[2:] for tag in example["tags"] if tag.startswith("B-")]

    def check(self, sides: Sides, data: str) -> Iterator[str]:
        known = self.types or tuple(sorted({kind for example in sides["train"] for kind in self.labels_of(example)}))
        if not known:
            raise wrong(f'{data!r}: no row of train has an entity. Name the column of the tags: tags="…".')
        for side, examples in sides.items():
            strange = Counter(kind for example in examples for kind in self.labels_of(example) if kind not in {*known})
            if strange:
                kind, count = strange.most_common(1)[0]
                where = "labels= does not name" if self.types else "train has none of"
                hint = did_you_mean(kind, known)
                raise wrong(
                    f"{data!r}: {count:,} entities of {side} are of the type {kind[:60]!r}, which {where}.{hint} Mend the tags, or "
                    "add it there."
                )
            if count := sum(example.pop("moved", 0) for example in examples):
                yield f"{count:,} entities of {side} begin or end within a word: they are taken to its ends."
            if count := sum(example.pop("begun", 0) for example in examples):
                yield f"{count:,} entities of {side} begin with I-: read as B-."


def _bio(tags: Sequence[str]) -> tuple[list[str], int]:
    """Tags of any of the schemes in BIO, and how many entities did not begin as they should."""
    found: list[str] = []
    begun = 0
    before = ended = OUTSIDE
    for tag in tags:
        if tag == OUTSIDE:
            found.append(tag)
            before = ended = OUTSIDE
            continue
        mark, _, kind = tag.partition("-")
        starts = _PREFIXES[mark] == "B"
        # An I- that continues nothing, or follows the end of its kind, begins an entity: as in
        # CoNLL 2003's IOB.
        if not starts and (before != kind or ended == kind):
            starts, begun = True, begun + 1
        found.append(f"{'B' if starts else 'I'}-{kind}")
        before, ended = kind, kind if mark in ("E", "L", "S", "U") else OUTSIDE
    return found, begun


def _listed(row: Mapping[str, Any], column: str, what: str) -> list[Any]:
    """A list, or a text split at its blanks."""
    value = values.plain(row.get(column))
    if values.missing(value) or value in ("", []):
        raise LeftOut(f"without {what} in {column!r}")
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            raise Mistyped(f"{column!r} is text that looks like a list. Write it as a list, or with blanks between the {what}.")
        return value.split()
    if not isinstance(value, list):
        raise Mistyped(f"{column!r} must be a list of {what}, got {values.kind(value)} {str(value)[:40]!r}.")
    return value


def _by_text(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Rows of questions joined by text: one row per text, with the answers of all of its questions
    as spans.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in rows:
        if not isinstance(row, Mapping) or not isinstance(row.get("context"), str):
            yield place, row
            continue
        known = found.setdefault(row["context"], (place, {**row, "answers": []}))[1]["answers"]
        known += [(answer, _type_of(row)) for answer in _answers(row.get("answers"))]
    yield from found.values()


def _type_of(row: Mapping[str, Any]) -> str:
    """The type that a question stands for: the last word of its id, or else the question itself."""
    end = str(row.get("id", "")).rpartition("-")[2]
    return end if end.replace("_", "").isalpha() and "-" in str(row["id"]) else str(row.get("question"))


def _answers(given: Any) -> list[Any]:
    given = values.plain(given)
    if isinstance(given, Mapping):
        return [{"text": t, "answer_start": s} for t, s in zip(given.get("text", ()), given.get("answer_start", ()), strict=False)]
    return list(given) if isinstance(given, list) else []


def _spans(given: Any, column: str) -> list[tuple[int, int, str]]:
    """Characters [start, end) and type of each span. Raises Mistyped."""
    found = []
    for each in [] if values.missing(given) else given if isinstance(given, list) else [given]:
        if isinstance(each, tuple) and isinstance(each[0], Mapping):  # an answer, and what was asked
            start, text = values.whole(each[0].get("answer_start")), each[0].get("text")
            span: list[Any] = [start, start + len(text) if start is not None and isinstance(text, str) else None, each[1]]
        elif isinstance(each, Mapping):
            span = [each.get("start"), each.get("end"), next((each[name] for name in _LABEL if name in each), None)]
        else:
            span = list(each) if isinstance(each, (list, tuple)) else [each]
        whole = [values.whole(place) for place in span[:2]]
        if len(span) != 3 or None in whole or not isinstance(span[2], str) or not span[2]:
            raise Mistyped(
                f"{column!r} must be a list of spans, each with start, end and label (or the three in a list), got "
                f"{str(each)[:60]!r}."
            )
        found.append((int(whole[0] or 0), int(whole[1] or 0), span[2]))
    return sorted(found)


def _spelled(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[list[str], list[str], int]:
    """Words of a text, their tags by its spans, and how many spans were moved to the ends of words.
    Raises Mistyped.
    """
    words = [(match.start(), match.end()) for match in _WORD.finditer(text)]
    tags, moved = [OUTSIDE] * len(words), 0
    for start, end, kind in spans:
        held = [i for i, (first, last) in enumerate(words) if first < end and last > start]
        if not 0 <= start < end <= len(text) or not held:
            raise Mistyped(f"the span {start} to {end} ({kind}) holds no word of a text of {len(text)} characters. Mend it.")
        if any(tags[i] != OUTSIDE for i in held):
            raise LeftOut("with entities that lie over each other, where a word has one tag")
        moved += words[held[0]][0] < start or words[held[-1]][1] > end
        for i in held:
            tags[i] = f"{'B' if i == held[0] else 'I'}-{kind}"
    return [text[first:last] for first, last in words], tags, moved
