"""Queries with the documents that answer them: pairs of texts in a table, or a folder with corpus
and judgements as in BEIR.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import file_splits, formats, pysearch, values
from workbench.data.files import reading, suffix_of, wrong
from workbench.data.forms import Example, Sides, Source
from workbench.data.tables import Columns, Mistyped, Table, folded, group_column, group_of, pick, text_of

QUERY = ("query", "question", "anchor")
POSITIVE = ("positive", "document", "passage", "answer")
NEGATIVE = ("negative", "hard_negative")
"""Names of such columns that are known."""

CORPUS, QUERIES, JUDGEMENTS = "corpus", "queries", "qrels"
"""Files of a folder in BEIR's layout (Thakur et al. 2021, arXiv:2104.08663), and the folder of its
judgements.
"""


@dataclass(frozen=True)
class Searches(Table):
    """Queries and what is to be found: examples are `{"id", "query", "relevant": {document: grade},
    "negatives", "group"?}`.

    Besides the sides there are `documents`, `{"id", "text"}`. A training example is one judgement:
    a query with one document. On the other sides it is a query with all of its documents. Columns
    are `query`, `positive` and optionally `negative`: a text, or a list of texts. A folder has
    `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/train.tsv`,
    `dev.tsv` and `test.tsv` (`query-id`, `corpus-id`, `score`), of which all but the first may be
    missing.

    Attributes:
        query: Column of the queries; None: known by its name.
        positive: Column of the documents that answer them; None: known by its name.
        negative: Column of documents that do not; None: known by its name, and there may be none.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    built_in: ClassVar[Mapping[str, ModuleType]] = {"pysearch": pysearch}

    query: str | None = None
    positive: str | None = None
    negative: str | None = None
    group: str | None = None

    def of_folder(self, folder: Path) -> dict[str, Source] | None:
        with reading(str(folder)):
            named = {each.name.removesuffix(suffix_of(each.name)): each for each in folder.iterdir() if suffix_of(each.name)}
        if CORPUS not in named or not (folder / JUDGEMENTS).is_dir():
            return None
        if QUERIES not in named:
            raise wrong(f"the folder {folder} has a corpus and {JUDGEMENTS}/, and no {QUERIES}.jsonl. Put it there.")
        files = {**file_splits.of_folder(folder / JUDGEMENTS, self.suffixes), CORPUS: [named[CORPUS]], QUERIES: [named[QUERIES]]}
        return {side: [(str(file), formats.rows(file, self)) for file in parts] for side, parts in files.items()}

    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        return names if Path(file).name.startswith((CORPUS, QUERIES)) else super().chosen(names, file)

    def columns(self, names: Sequence[str], file: str) -> Columns:
        negative = self.negative or next((name for name in NEGATIVE if name in names), None)
        return {
            "query": pick(names, file, "query", self.query, QUERY),
            "positive": pick(names, file, "positive", self.positive, POSITIVE),
            "negative": negative and pick(names, file, "negative", negative, ()),
            "grade": _GRADE if _GRADE in names else None,
            "group": group_column(names, file, self.group),
        }

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        said = values.plain(row.get(columns["negative"])) if columns["negative"] else None
        negatives: list[Any] = said if isinstance(said, list) else [] if values.missing(said) else [said]
        if strange := next((each for each in negatives if not isinstance(each, str)), None):
            raise Mistyped(
                f"{columns['negative']!r} must be text, or texts in a list, got {str(strange)[:40]!r}. Write it as text."
            )
        return {
            "query": text_of(row, columns["query"]),
            "relevant": {text_of(row, columns["positive"]): row[_GRADE] if columns["grade"] else 1},
            "negatives": [each for each in negatives if each.strip()],
            **group_of(row, columns["group"]),
        }

    def key(self, example: Example) -> str:
        return folded(example["query"])

    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        joined = CORPUS in sources
        documents, notes = (dict(_texts(sources[CORPUS], ("title", "text"))), []) if joined else ({}, list[str]())
        if joined:
            queries = dict(_texts(sources[QUERIES], ("text",)))
            sources = {
                side: [(file, _judged(rows, file, queries, documents)) for file, rows in source]
                for side, source in sources.items()
                if side not in (CORPUS, QUERIES)
            }
        found, more = Searches(_QUERY, _DOCUMENT, redact=self.redact)._read(sources, data) if joined else self._read(sources, data)
        for examples in found.values():
            for example in examples if not joined else ():
                # Documents of a table have no ids, so equal texts become one document.
                documents |= {_name(text): text for text in (*example["relevant"], *example["negatives"])}
                example["relevant"] = {_name(text): grade for text, grade in example["relevant"].items()}
                example["negatives"] = [_name(text) for text in example["negatives"]]
        read: Sides = {"train": found["train"], **{side: self._by_query(found[side]) for side in ("dev", "test")}}
        read["documents"] = [self.without_personal({"id": name, "text": text}) for name, text in documents.items()]
        if len(documents) < 2:
            raise wrong(f"{data!r} holds only one document: there is nothing to choose from. Give rows with others.")
        return read, (*notes, *more)

    def _read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        return super().read(sources, data)

    def _by_query(self, pairs: Iterable[Example]) -> list[Example]:
        """One example per query, with all documents that were judged to answer it."""
        found: dict[str, Example] = {}
        for pair in pairs:
            first = found.setdefault(self.key(pair), {**pair, "relevant": {}, "negatives": []})
            first["relevant"] |= pair["relevant"]
            first["negatives"] += [each for each in pair["negatives"] if each not in first["negatives"]]
        return [*found.values()]


_QUERY, _DOCUMENT, _GRADE = "query text", "document id", "judged grade"
"""Columns of a row that joins a judgement with its query."""


def _name(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _texts(source: Source, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Id and text of every row of a corpus, or of queries."""
    for file, rows in source:
        for where, row in rows:
            try:
                name = _id(row.get("_id") if isinstance(row, Mapping) else None, "_id")
                given = [values.plain(row.get(part)) for part in parts]
            except Mistyped as error:
                raise wrong(f"{file}, {where}: {error}") from None
            if not isinstance(given[-1], str):
                raise wrong(f"{file}, {where}: 'text' must be text, got {values.kind(given[-1])} {str(given[-1])[:40]!r}.")
            text = " ".join(each.strip() for each in given if isinstance(each, str) and each.strip())
            if text:
                yield name, text.encode("utf-8", "backslashreplace").decode()


def _judged(
    rows: Iterable[tuple[str, Any]], file: str, queries: Mapping[str, str], documents: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of judgements above 0, each with its query's text, or None for an unknown query or
    document.
    """
    for where, row in rows:
        try:
            query, document = (_id(row.get(name), name) for name in ("query-id", "corpus-id"))
        except (Mistyped, AttributeError) as error:
            raise wrong(
                f"{file}, {where}: {error} The columns are query-id, corpus-id and score, named in the first line."
            ) from None
        grade = values.whole(values.plain(row.get("score", 1)))
        # TSV gives text for numbers.
        if grade is None and str(row["score"]).strip().lstrip("-").isdecimal():
            grade = int(row["score"])
        if grade is None:
            raise wrong(f"{file}, {where}: 'score' must be a whole number, got {str(row['score'])[:40]!r}.")
        if grade > 0:
            known = query in queries and document in documents
            yield where, {_QUERY: queries[query] if known else None, _DOCUMENT: document, _GRADE: grade}


def _id(value: Any, column: str) -> str:
    try:
        return values.identifier(value, column)
    except ValueError as error:
        raise Mistyped(str(error)) from None
