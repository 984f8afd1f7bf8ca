"""Reads question-answering data into plain examples, and checks every answer against its offset.

An example is `{"id", "question", "context", "answers": {"text": [...], "answer_start": [...]}}`,
with offsets in characters. No answers mean that the context does not answer the question.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import file_splits, files, pydocs, redaction, sources, values
from workbench.data.files import wrong
from workbench.data.forms import LATER, Example, Form, Sides, Source
from workbench.data.tables import ANSWERS, Mistyped, answers_note, folded, group_of
from workbench.errors import UsageError, did_you_mean

COLUMNS = ("id", "question", "context", "answers", "answer", "answer_start", "is_impossible")
"""Columns that are read; a table's other columns are not touched."""

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")
"""Words in a table of text that say whether a question has no answer."""


@dataclass(frozen=True)
class Dataset:
    """A data set in its three sides, in the order of its source.

    Attributes:
        name: The name by which it was loaded.
        train: Examples to learn from.
        dev: Examples that grade checkpoints.
        test: Examples held out until the end.
        digest: Hash of all sides and documents, 16 hexadecimal digits.
        notes: Which rows were left out, and why; a line each.
        documents: What the examples are searched in, `{"id", "text"}`; none for most tasks.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    digest: str
    notes: tuple[str, ...] = ()
    documents: tuple[Example, ...] = ()

    def shuffled(self, side: str, seed: int = 0) -> tuple[Example, ...]:
        """The examples of a side, in an order that depends on their ids and the seed alone: more
        data reorders none of them. Answers that were given later come last, in their own order.
        """

        def place(example: Example) -> tuple[int, bytes]:
            later = example.get(LATER)  # of customer service it is the answer itself, which says nothing of when it was given
            return later if isinstance(later, int) else 0, hashlib.blake2b(f"{seed}:{example['id']}".encode()).digest()

        return tuple(sorted(getattr(self, side), key=place))


@dataclass(frozen=True)
class _Questions(Form):
    """Questions with contexts and answers.

    Attributes:
        group: Column of groups, by which scores are told apart; None: none.
    """

    suffixes: ClassVar[tuple[str, ...]] = files.SUFFIXES
    built_in: ClassVar[Mapping[str, ModuleType]] = {"pydocs": pydocs}
    questions: ClassVar[bool] = True
    answerable: ClassVar[bool] = True

    group: str | None = None

    def chosen(self, names: Sequence[str], file: str) -> Sequence[str]:
        known = [name for name in names if name in (*COLUMNS, self.group)]
        if twice := [name for name in known if known.count(name) > 1]:
            raise wrong(f"{file} has the column {twice[0]!r} twice. Remove one.")
        for name in ("question", "context"):
            if name not in known:
                raise wrong(f"{file} has no column {name!r}.{did_you_mean(name, names)}")
        if "answers" not in known and "answer" not in known:
            raise wrong(f"{file} has no column 'answers'.{did_you_mean('answers', names)}")
        return known

    def read(self, sources: Mapping[str, Source], data: str) -> tuple[Sides, tuple[str, ...]]:
        split = _split({side: list(_checked(of, self.redact, self.group)) for side, of in sources.items() if side != ANSWERS}, data)
        if self.group and not any("group" in example for examples in split.values() for example in examples):
            advice = "Name a column that stands beside the question, or leave it out."
            raise wrong(f"no question of {data!r} has {self.group!r} (group=). {advice}")
        if ANSWERS not in sources:
            return split, ()
        known = {self.key(example) for examples in split.values() for example in examples}
        given = list(_checked(_marked(sources[ANSWERS]), self.redact))
        kept = [{**example, LATER: number} for number, example in enumerate(given, 1) if self.key(example) not in known]
        split["train"] += kept
        return split, (answers_note(sources[ANSWERS], len(kept), len(given)),) if given else ()

    def key(self, example: Example) -> str:
        """The text by which examples count as the same."""
        return _key(example["question"], example["context"])

    def row(self, example: Example) -> dict[str, str] | None:
        """An answered example as a row of the answers beside the data; None where its answer is no part of its context."""
        answer = next(iter(example["answers"]["text"]), "")
        if answer not in example["context"]:
            return None
        return {"question": example["question"], "context": example["context"], "answer": answer}


QUESTIONS = _Questions()
"""How question answering reads its data."""


@functools.lru_cache(maxsize=4)
def load(data: str, form: Form = QUESTIONS) -> Dataset:
    """A data set by its name, kept in memory so that asking again costs nothing.

    Args:
        data: The name of a built-in one (`"pydocs"` for questions); a file; a folder with files
            named after `train`, `dev` (or `validation`) and `test`, of which all but the first may
            be missing; or a data set on the hub, `name` or `name:configuration`. Questions are read
            from SQuAD v1.1 or v2 or JSON lines, either also in gzip, or from parquet.
        form: How its rows are read. Sides of questions that are missing are taken from train by
            paragraph, 80 : 10 : 10, so that no paragraph is on two sides.

    Raises:
        DataError: A file is missing, is not what its name says or would not be read, or an answer
            is not at its offset.
        UsageError: The hub has no data set of that name.
        EnvironmentFault: The hub cannot be reached, or a file cannot be read.
    """
    notes: tuple[str, ...] = ()
    if data in form.built_in and form.redact:
        raise UsageError(f"redact= is for texts of your own, and {data!r} is made of installed packages. Leave it out.")
    if data in form.built_in:
        found: Sides = form.built_in[data].load()
    else:
        found, notes = form.read(sources.of(data, form), data)
    train, dev, test = (tuple(found[side]) for side in file_splits.SIDES)
    return Dataset(data, train, dev, test, _digest(found), notes, tuple(found.get("documents", ())))


def _checked(source: Source, redact: tuple[str, ...] = (), group: str | None = None) -> Iterator[Example]:
    """Rows of one side as examples. Raises DataError at the first wrong row, and where parts repeat
    each other.
    """
    seen: set[str] = set()
    asked: set[bytes] = set()
    number = 0
    for file, rows in source:
        before, repeated = number, 0
        for where, row in rows:
            number += 1
            example = _without_personal(_grouped(row, number, f"{file}, {where}", group), redact)
            if example["id"] in seen:
                raise wrong(f"{file}, {where}, question {example['id'][:60]}: two questions have this id. Give each its own.")
            seen.add(example["id"])
            if len(source) > 1:
                # A hash and not the text: all contexts of a large file would be held twice.
                key = hashlib.blake2b(json.dumps([example["question"], example["context"]]).encode(), digest_size=16).digest()
                repeated += before > 0 and key in asked
                asked.add(key)
            yield example
        if 2 * repeated > number - before:
            raise wrong(
                f"{file}: {repeated} of its {number - before} questions stand in {source[0][0]} and the parts after it too: these "
                "are alternatives, not parts. Leave one of them in the folder, or give the file itself."
            )


def _key(question: str, context: str) -> str:
    return json.dumps([folded(question), folded(context)])


def _marked(source: Source) -> Source:
    """Answers that people gave, in which the offsets are not counted, with the place of each in its context."""
    return [(file, _with_offsets(file, rows)) for file, rows in source]


def _with_offsets(file: str, rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for where, row in rows:
        if missing := [name for name in ("question", "context", "answer") if name not in row]:
            raise wrong(f"{file}, {where}: has no column {missing[0]!r}. Such a file has question, context and answer.")
        at = row["context"].find(row["answer"])
        if at < 0:
            raise wrong(f"{file}, {where}: the answer {row['answer'][:60]!r} is no part of its context. Copy it from there.")
        name = hashlib.blake2b(_key(row["question"], row["context"]).encode(), digest_size=8).hexdigest()
        yield where, {**row, "id": name, "answer_start": at}


def _example(row: Any, number: int, place: str) -> Example:
    if not isinstance(row, Mapping):
        advice = "an example must be an object with id, question, context and answers"
        raise wrong(f"{place}, question {number}: {advice}, got {str(row)[:60]!r}.")
    name = _name(row.get("id"), number, place)
    place = f"{place}, question {name[:60]}"
    context, question = (values.text(row.get(key), key, place, row) for key in ("context", "question"))
    texts, starts = _answers(row, place)
    for text, start in zip(texts, starts, strict=True):
        # A negative offset would count from the end in Python, and might find the answer there.
        there = context[start : start + len(text)] if start >= 0 else ""
        if there != text or not text:
            advice = "Offsets count characters of the context from 0; mend the answer or its offset."
            advice = advice if text else "Where the context holds no answer, give an empty list of them."
            raise wrong(f"{place}: the answer {text[:60]!r} is not at its offset {start}: found {there[:60]!r}. {advice}")
    return {"id": name, "question": question, "context": context, "answers": {"text": texts, "answer_start": starts}}


def _grouped(row: Any, number: int, place: str, group: str | None) -> Example:
    """A row as an example, with its group where it has one."""
    example = _example(row, number, place)
    try:
        return example | group_of(row, group)
    except Mistyped as error:
        raise wrong(f"{place}, question {example['id'][:60]}: {error}") from None


def _without_personal(example: Example, redact: tuple[str, ...]) -> Example:
    """An example with placeholders in its question and its context, and its answers where these
    stand now.
    """
    if not redact:
        return example
    question, context = (redaction.redacted(example[name], redact) for name in ("question", "context"))
    answers = example["answers"]
    moved = [context.moved(start, start + len(text)) for text, start in zip(answers["text"], answers["answer_start"], strict=True)]
    read = {"text": [context.text[start:end] for start, end in moved], "answer_start": [start for start, _ in moved]}
    counts = dict(Counter(question.counts) + Counter(context.counts))
    more = {redaction.COUNTS: counts} if counts else {}
    return {**example, "question": question.text, "context": context.text, "answers": read, **more}


def _name(given: Any, number: int, place: str) -> str:
    """The id as text; the row's number where it has none."""
    given = values.plain(given)
    if values.missing(given):
        return str(number)
    if not isinstance(given, str) and values.whole(given) is None:
        raise wrong(f"{place}, question {str(given)[:60]}: 'id' must be text or a whole number, got {values.kind(given)}.")
    return values.text(str(given), "id", f"{place}, question {number}")


def _answers(row: Mapping[str, Any], place: str) -> tuple[list[str], list[int]]:
    """Texts and offsets, from SQuAD's list of objects, the hub's object of lists, or flat `answer`
    and `answer_start`.
    """
    impossible = _impossible(row, place)
    given, flat = values.plain(row.get("answers")), values.plain(row.get("answer"))
    none = values.missing(flat) or flat in ("", [])
    pairs: list[Any] = []
    if isinstance(given, Mapping):
        pairs = _zipped(values.plain(given.get("text")), values.plain(given.get("answer_start")), place)
    elif isinstance(given, list):
        pairs = given
    elif not values.missing(given):
        advice = " It looks like JSON kept as text: write it as lists and objects." if isinstance(given, str) else ""
        raise wrong(
            f"{place}: each answer needs 'text' and 'answer_start' in a list, got {values.kind(given)} {str(given)[:60]!r}.{advice}"
        )
    elif "answer" in row:
        pairs = [] if none else [{"text": flat, "answer_start": row.get("answer_start")}]
    elif "answers" in row and not impossible:
        raise wrong(f"{place}: 'answers' is {values.kind(given)}: not known. Give an empty list where the context holds none.")
    elif not impossible:
        raise wrong(
            f"{place}: has no 'answers' (an empty list where the context holds none).{did_you_mean('answers', map(str, row))}"
        )
    if not all(isinstance(each, Mapping) and "text" in each and "answer_start" in each for each in pairs):
        raise wrong(f"{place}: each answer needs 'text' and 'answer_start', got {str(pairs)[:80]}.")
    texts = [values.text(values.plain(each["text"]), "text", place) for each in pairs]
    starts = [values.whole(values.plain(each["answer_start"])) for each in pairs]
    if None in starts:
        raise wrong(f"{place}: 'text' must be text and 'answer_start' a whole number, got {str(pairs)[:80]}.")
    if impossible is not None and impossible == bool(texts):
        there = f"and there is the answer {texts[0][:60]!r}" if texts else "and there is no answer"
        raise wrong(f"{place}: 'is_impossible' is {impossible}, {there}. One of them is wrong: mend it.")
    if not values.missing(given) and not none and flat not in texts:
        raise wrong(f"{place}: 'answer' is {str(flat)[:60]!r}, which is not among 'answers'. Leave one of the two out.")
    return texts, [start for start in starts if start is not None]


def _impossible(row: Mapping[str, Any], place: str) -> bool | None:
    """What `is_impossible` says; None where it says nothing."""
    value = values.plain(row.get("is_impossible"))
    if values.missing(value):
        return None
    # Tables with gaps write 1.0 for true.
    word = str(int(value)) if isinstance(value, float) and value in (0, 1) else str(value).strip().casefold()
    if isinstance(value, (bool, int, float, str)) and word in TRUE + FALSE:
        return word in TRUE
    raise wrong(f"{place}: 'is_impossible' must be true or false, got {values.kind(value)} {str(value)[:60]!r}.")


def _zipped(texts: Any, starts: Any, place: str) -> list[Any]:
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        got = f"got {str(texts)[:60]!r} and {str(starts)[:60]!r}"
        raise wrong(f"{place}: 'text' and 'answer_start' must be lists of one length, {got}.")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _split(found: dict[str, list[Example]], data: str) -> dict[str, list[Example]]:
    """All three sides: the missing ones out of train, by the hash of the paragraph."""
    for side, examples in found.items():
        if not examples:
            raise wrong(f"the {side} side of {data!r} holds no question. Give a file that has some.")
    paragraphs: dict[bytes, list[Example]] = {}
    for example in found["train"]:
        lot = hashlib.blake2b(" ".join(example["context"].split()).encode()).digest()
        paragraphs.setdefault(lot, []).append(example)
    split: dict[str, list[Example]] = {"train": [], **{side: found.get(side, []) for side in ("dev", "test")}}
    filling = [side for side in ("dev", "test") if side not in found] + ["train"]
    for lot in sorted(paragraphs):
        # In place: joining lists anew for each paragraph took minutes.
        split[filling[0]].extend(paragraphs[lot])
        if filling[0] != "train" and len(split[filling[0]]) >= len(found["train"]) / 10:
            filling.pop(0)
    if not split["train"]:
        raise wrong(f"{data!r} has too few paragraphs to be split. Give separate files for dev and test.")
    return split


def _digest(found: Mapping[str, Sequence[Example]]) -> str:
    """Hash of the JSON of all sides, which is never in memory as a whole."""
    encoder, content = json.JSONEncoder(ensure_ascii=False, sort_keys=True), hashlib.sha256()
    for side in sorted(found):
        # Written piece by piece exactly as json.dumps would write all of it: recipes contain this
        # hash.
        content.update(f'{", " if side != min(found) else "{"}"{side}": ['.encode())
        for first in range(0, len(found[side]), files.ROWS_AT_ONCE):
            some = encoder.encode(found[side][first : first + files.ROWS_AT_ONCE])[1:-1]
            content.update((", " if first else "").encode() + some.encode())
        content.update(b"]")
    content.update(b"}")
    return content.hexdigest()[:16]
