"""Questions that were answered before, and what was answered: what customer service searches in.

Where answers repeat and are short, as intents are, the collection is of past questions, each with
its answer: a new question is answered like the nearest one. Else, as with passages, the collection
is of the answers themselves. Some questions cannot be answered by it, and should be handed over.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import docstrings, file_splits, formats, pysupport, values
from workbench.data.files import suffix_of, wrong
from workbench.data.forms import Example, Form, Sides, Source
from workbench.data.labelled import LONGEST_LABEL, in_words
from workbench.data.searches import Searches
from workbench.data.tables import Columns, Mistyped, group_column, group_of, pick, text_of

QUESTION = ("question", "query", "text", "utterance")
ANSWER = ("answer", "response", "document", "positive", "label", "category", "intent")
"""Names of such columns that are known."""

MOST_DIFFERENT = 0.5
"""Where answers are at most this share of the questions, they repeat."""

ONE_IN = 5
"""One in so many answers is left out of the collection where the data have no question without."""


@dataclass(frozen=True)
class PastAnswers(Searches):
    """Questions with their answers: examples are `{"id", "query", "answer", "relevant", "negatives",
    "group"?}`, where `relevant` is what a question is learned by.

    Besides the sides there are `documents`, `{"id", "text", "answer"}`, which hold the collection.
    A question whose answer no document has cannot be answered. If the data have questions without
    an answer, these are they; else one in five answers is left out of the collection, and of what
    is learned from: of all of them where they repeat, else of those to dev's and test's questions.

    A table has columns `question` and `answer`. A SQuAD file is read by what it holds most of. With
    more questions than contexts, a context is the answer to its questions. With fewer, contexts are
    what customers wrote, and the answer to one is which of the questions it tells of. The attribute
    `query` names the column of the questions, `positive` that of the answers.
    """

    built_in: ClassVar[Mapping[str, ModuleType]] = {"pysupport": pysupport}
    questions: ClassVar[bool] = True

    def of_folder(self, folder: Path) -> dict[str, Source] | None:
        files = file_splits.of_folder(folder, self.suffixes, without=held_by_another(folder, self))
        return {side: [(str(file), formats.rows(file, self)) for file in of] for side, of in files.items()}

    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        wanted = {"context", "question", "answers", "is_impossible"}
        return [name for name in names if name in wanted] if _is_squad(names) else super().chosen(names, file)

    def columns(self, names: Sequence[str], file: str) -> Columns:
        return {
            "query": pick(names, file, "question", self.query, QUESTION),
            "positive": pick(names, file, "answer", self.positive, ANSWER),
            "group": group_column(names, file, self.group),
        }

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        answer = values.plain(row.get(columns["positive"]))
        answer = "" if values.missing(answer) else answer
        if isinstance(answer, bool) or not isinstance(answer, (str, int)):
            column, what = columns["positive"], values.kind(answer)
            raise Mistyped(f"{column!r} must be an answer, got {what} {str(answer)[:40]!r}. Answers are texts, or empty.")
        said = str(answer).encode("utf-8", "backslashreplace").decode()
        query = text_of(row, columns["query"])
        return {"query": query, "answer": in_words(said) if said.strip() else "", **group_of(row, columns["group"])}

    def places(self, sources: Mapping[str, Source]) -> dict[str, str]:
        return super().places(_plain(sources))

    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        found, notes = self._read(_plain(sources), data)
        again = {side: len(of) for side, of in found.items()}
        # A question that stands there with several answers would be right and wrong at once.
        found = {side: list({self.key(each): each for each in reversed(of)}.values())[::-1] for side, of in found.items()}
        repeats = sum(again.values()) - sum(map(len, found.values()))
        told = [f"{repeats:,} questions repeat an earlier one: the first counts."] if repeats else []
        collected = collect(found)
        if len({each["answer"] for each in collected["documents"]}) < 2:
            raise wrong(f'{data!r} holds fewer than two answers: there is nothing to choose from. Name their column: answer="…".')
        known = {each["answer"] for each in collected["documents"]}
        unknown = sum(each["answer"] not in known for each in collected["dev"])
        told.append(f"{unknown:,} of {len(collected['dev']):,} dev questions have no answer in the collection: to be handed over.")
        return collected, (*notes, *told)


def collect(found: Mapping[str, Sequence[Example]]) -> Sides:
    """All sides and the documents, from questions with their answers.

    Args:
        found: The examples of each side, with `query` and `answer`; "" is no answer.
    """
    train = [each for each in found["train"] if each["answer"]]
    graded = [*found["dev"], *found["test"]]
    answers = {each["answer"] for each in train}
    left = 0 if any(not each["answer"] for each in graded) else ONE_IN
    sides: Sides = {side: [{**each, "relevant": {}, "negatives": []} for each in of] for side, of in found.items()}
    if len(answers) <= MOST_DIFFERENT * len(train) and max(map(len, answers), default=0) <= LONGEST_LABEL:
        out = _drawn(answers, left)
        kept = [each for each in train if each["answer"] not in out]
        # One past question stands for each answer where models learn: two questions with one
        # answer then never count as wrong for each other.
        first = {each["answer"]: each["id"] for each in reversed(kept)}
        for of in sides.values():
            for each in of:
                each["relevant"] = {first[each["answer"]]: 1} if each["answer"] in first else {}
        sides["train"] = [each for each in sides["train"] if each["relevant"] and each["id"] not in each["relevant"]]
        sides["documents"] = [{"id": each["id"], "text": each["query"], "answer": each["answer"]} for each in kept]
        return sides
    out = _drawn({each["answer"] for each in graded} - {""}, left)
    names = {
        answer: f"{docstrings.drawn(answer):016x}"
        for answer in dict.fromkeys(each["answer"] for each in (*train, *graded))
        if answer and answer not in out
    }
    for side in ("train", "dev", "test"):
        for each in sides[side]:
            each["relevant"] = {names[each["answer"]]: 1} if each["answer"] in names else {}
    sides["train"] = [each for each in sides["train"] if each["relevant"]]
    sides["documents"] = [{"id": name, "text": answer, "answer": answer} for answer, name in names.items()]
    return sides


def held_by_another(folder: Path, form: Form) -> dict[str, str]:
    """Training files of a folder whose rows all stand in one other training file, and its name.

    Some data sets have parts of their training side beside the whole, for learning from fewer
    examples. Ids are not compared. Nothing is left out where no file holds all of the others.
    """
    there = (each for each in folder.iterdir() if each.is_file() and suffix_of(each.name) in form.suffixes)
    files = sorted(each for each in there if file_splits.sides_of(each.name) == ["train"])
    if len(files) < 2:
        return {}
    rows = {
        file: {
            json.dumps({**row, "id": ""}, sort_keys=True, default=str)
            for _, row in formats.rows(file, form)
            if isinstance(row, Mapping)
        }
        for file in files
    }
    whole = max(files, key=lambda file: len(rows[file]))
    others = [file for file in files if file != whole]
    # Of equal files neither is the whole: which one is meant must be said.
    if not all(rows[file] < rows[whole] for file in others):
        return {}
    return {file.name: whole.name for file in others}


def _drawn(answers: Collection[str], one_in: int) -> set[str]:
    """One in so many answers, by hash; none for 0."""
    return set(sorted(answers, key=docstrings.drawn)[: len(answers) // one_in if one_in else 0])


def _is_squad(names: Collection[str]) -> bool:
    return {"context", "question"} <= {*names} and bool({"answers", "is_impossible"} & {*names})


def _plain(sources: Mapping[str, Source]) -> dict[str, Source]:
    """Rows of questions and answers; those of SQuAD files are turned into such."""
    begun = {side: [(file, iter(rows)) for file, rows in source] for side, source in sources.items()}
    first = {side: [list(itertools.islice(rows, 1)) for _, rows in source] for side, source in begun.items()}
    again: dict[str, Source] = {
        side: [(file, itertools.chain(head, rows)) for (file, rows), head in zip(begun[side], first[side], strict=True)]
        for side in begun
    }
    heads = [head[0][1] for of in first.values() for head in of if head]
    if not all(isinstance(row, Mapping) and _is_squad([*row]) for row in heads):
        return again
    told = {side: [(file, list(rows)) for file, rows in source] for side, source in again.items()}
    every = [row for source in told.values() for _, rows in source for _, row in rows]
    count = {key: len({str(row.get(key)) for row in every if isinstance(row, Mapping)}) for key in ("question", "context")}
    turned = _messages if count["question"] < count["context"] else _passages
    return {side: [(file, turned(rows)) for file, rows in source] for side, source in told.items()}


def _passages(rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Questions that are answered by their contexts, or not."""
    for where, row in rows:
        if isinstance(row, Mapping):
            yield where, {"question": row.get("question"), "answer": row.get("context") if _answered(row) else None}
        else:
            yield where, row


def _messages(rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Contexts that are asked about, with the questions that they tell of."""
    place: dict[str, str] = {}
    told: dict[str, set[str]] = {}
    for where, row in rows:
        message = row.get("context") if isinstance(row, Mapping) else None
        if not isinstance(message, str):
            yield where, {"question": message} if isinstance(row, Mapping) else row  # refused by its place
            continue
        place.setdefault(message, where)
        told.setdefault(message, set()).update([str(row.get("question"))] if _answered(row) else [])
    for message, questions in told.items():
        yield place[message], {"question": message, "answer": " ".join(sorted(questions)) or None}


def _answered(row: Mapping[str, Any]) -> bool:
    """Whether a SQuAD row has an answer."""
    given = values.plain(row.get("answers"))
    return bool(given.get("text") if isinstance(given, Mapping) else given)
