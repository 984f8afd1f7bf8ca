"""Reads question-answering data into plain examples, and checks every answer against its offset.

An example is `{"id", "question", "context", "answers": {"text": [...], "answer_start": [...]}}`, offsets in
characters; no answers means that the context does not answer the question.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data import cache, hub, pydocs
from workbench.errors import DataError, EnvironmentFault, UsageError, did_you_mean

Example = dict[str, Any]

BUILT_IN = ("pydocs",)
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
SIDES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""Stems of the files of a folder, and names of the splits on the hub, for each side."""


@dataclass(frozen=True)
class Dataset:
    """A data set in its three sides, in the order of its source.

    Attributes:
        name: What it was loaded by.
        train: Examples to learn from.
        dev: Examples that grade checkpoints.
        test: Examples held out until the end.
        digest: Hash of all of the above, 16 hexadecimal digits.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    digest: str

    def shuffled(self, side: str, seed: int = 0) -> tuple[Example, ...]:
        """The examples of `side` in an order that depends on their ids and the seed alone: more data moves none of it."""
        examples: tuple[Example, ...] = getattr(self, side)
        return tuple(sorted(examples, key=lambda example: hashlib.blake2b(f"{seed}:{example['id']}".encode()).digest()))


@functools.lru_cache(maxsize=4)
def load(data: str) -> Dataset:
    """A data set by its name; kept in memory, so that asking again costs nothing.

    `data` is the built-in `"pydocs"`; a file (SQuAD v1.1 or v2 `.json`, `.jsonl`, `.parquet`); a folder with files
    `train`, `dev` (or `validation`) and `test`, of which all but the first may be missing; or a data set's name on the
    hub, `name` or `name:configuration`. A side that is missing is taken from train by paragraph, 80 : 10 : 10, so
    that no paragraph stands on two sides.

    Raises:
        DataError: A file is missing, is not what its name says, or an answer is not at its offset.
        UsageError: The hub has no data set of that name.
        EnvironmentFault: The hub cannot be reached, or a file cannot be read.
    """
    if data in BUILT_IN:
        sides: dict[str, list[Example]] = pydocs.load()
    else:
        path = cache.expanded(data)
        local = path.exists() or path.suffix in SUFFIXES or data.startswith((".", "/", "~"))
        found = _from_disk(path) if local else _from_hub(data)
        sides = _split({side: list(_checked(rows, source)) for side, (source, rows) in found.items()}, data)
    content = json.dumps(sides, ensure_ascii=False, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Dataset(data, tuple(sides["train"]), tuple(sides["dev"]), tuple(sides["test"]), digest)


_Source = tuple[str, Iterable[Mapping[str, Any]]]
"""Where rows are from, for messages, and the rows as they are there."""


def _from_disk(path: Path) -> dict[str, _Source]:
    if path.is_file():
        return {"train": (str(path), _rows(path))}
    if not path.is_dir():
        raise DataError(
            f"there is no file or folder {str(path)!r} (looked in {Path.cwd()}). Give an existing path, the name of a data set "
            f"on the hub, or a built-in one: {', '.join(BUILT_IN)}."
        )
    looked_for = {side: [stem + suffix for stem in stems for suffix in SUFFIXES] for side, stems in SIDES.items()}
    found = {side: next((path / n for n in names if (path / n).is_file()), None) for side, names in looked_for.items()}
    if found["train"] is None:
        there = ", ".join(sorted(each.name for each in path.iterdir())[:8]) or "nothing"
        raise DataError(f"the folder {path} has no training file: looked for {', '.join(looked_for['train'])}; there is {there}.")
    return {side: (str(file), _rows(file)) for side, file in found.items() if file}


def _rows(file: Path) -> Iterable[Mapping[str, Any]]:
    readers: dict[str, Callable[[Path], Iterable[Mapping[str, Any]]]]
    readers = {".json": _json, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    if file.suffix not in readers:
        raise DataError(f"{file}: cannot read a {file.suffix or 'nameless'} file. Give one of {', '.join(SUFFIXES)}.")
    return readers[file.suffix](file)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {file}: {error.strerror}. Check its permissions.") from error


def _json(file: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a SQuAD file, or of a JSON list of flat examples."""
    try:
        content = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}. Download the file again or mend that line."
        ) from None
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        return _squad(content["data"], str(file))
    if isinstance(content, list):
        return iter(content)
    keys = ", ".join(content) if isinstance(content, dict) else type(content).__name__
    raise DataError(f"{file}: neither SQuAD ({{'data': [...]}}) nor a list of examples; got {keys[:80]}.")


def _squad(articles: list[Any], source: str) -> Iterator[Mapping[str, Any]]:
    for a, article in enumerate(articles):
        for p, paragraph in enumerate(_part(article, "paragraphs", list, f"{source}, article {a}")):
            place = f"{source}, article {a}, paragraph {p}"
            context = _part(paragraph, "context", str, place)
            for question in _part(paragraph, "qas", list, place):
                yield {**question, "context": context} if isinstance(question, dict) else question


def _part(holder: Any, key: str, kind: type, place: str) -> Any:
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind):
        raise DataError(f"{place}: {key!r} must be a {kind.__name__}, got {type(value).__name__}. Is this a SQuAD file?")
    return value


def _json_lines(file: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{file}, line {number}, column {error.colno}: not JSON: {error.msg}. Mend that line.") from None


def _parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow  # type: ignore[import-untyped,unused-ignore]
    import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]

    try:
        return iter(pyarrow.parquet.read_table(file).to_pylist())
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{file}: not a parquet file ({error}). Download or write it again.") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {file}: {error}. Check its permissions.") from error


def _from_hub(data: str) -> dict[str, _Source]:
    name, _, configuration = data.partition(":")
    try:
        import datasets  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise EnvironmentFault(f"{data!r} is a name on the hub, and `datasets` is not installed. pip install datasets.") from error
    hub.require(name, "dataset", f"data set {data!r}.{did_you_mean(data, BUILT_IN)}")
    with hub.quiet():
        try:
            found = datasets.load_dataset(name, configuration or None)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot load the data set {data!r} from the hub: {str(error).splitlines()[0]}") from error
    sides = {side: next((split for split in names if split in found), None) for side, names in SIDES.items()}
    if sides["train"] is None:
        raise DataError(f"the data set {data!r} on the hub has no split 'train', only {', '.join(map(str, found))}.")
    return {side: (f"{data} ({split})", found[split]) for side, split in sides.items() if split}


def _checked(rows: Iterable[Any], source: str) -> Iterator[Example]:
    """Rows as examples. Raises DataError at the first that is not one."""
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        given = row.get("id") if isinstance(row, Mapping) else None
        name = str(number if given is None else given)
        place = f"{source}, question {name}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: an example must be an object with id, question, context and answers, got {str(row)[:60]!r}.")
        if name in seen:
            raise DataError(f"{place}: two questions have this id. Give each its own.")
        seen.add(name)
        context, question = (_field(row, key, place) for key in ("context", "question"))
        texts, starts = _answers(row, place)
        for text, start in zip(texts, starts, strict=True):
            there = context[start : start + len(text)] if start >= 0 else ""
            if there != text or not text:
                raise DataError(
                    f"{place}: the answer {text[:60]!r} is not at its offset {start}: found {there[:60]!r}. "
                    "Offsets count characters of the context from 0; mend the answer or its offset."
                )
        yield {"id": name, "question": question, "context": context, "answers": {"text": texts, "answer_start": starts}}


def _field(row: Mapping[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        hint = did_you_mean(key, row) if key not in row else ""
        raise DataError(f"{place}: {key!r} must be text, got {type(value).__name__}.{hint}")
    return value


def _answers(row: Mapping[str, Any], place: str) -> tuple[list[str], list[int]]:
    """Texts and offsets: SQuAD's list of objects, the hub's object of lists, or flat `answer` and `answer_start`."""
    if row.get("is_impossible"):
        return [], []
    if "answers" in row:
        answers = row["answers"]
        pairs: Any = answers
        if isinstance(answers, Mapping):
            pairs = [{"text": t, "answer_start": s} for t, s in _zip(answers.get("text"), answers.get("answer_start"), place)]
    elif "answer" in row:
        pairs = [{"text": row["answer"], "answer_start": row.get("answer_start")}] if row["answer"] else []
    else:
        raise DataError(f"{place}: has no 'answers' (an empty list where the context holds none).{did_you_mean('answers', row)}")
    try:
        texts, starts = [each["text"] for each in pairs], [each["answer_start"] for each in pairs]
    except (TypeError, KeyError):
        raise DataError(f"{place}: each answer needs 'text' and 'answer_start', got {str(pairs)[:80]}.") from None
    if not all(isinstance(t, str) for t in texts) or not all(isinstance(s, int) and not isinstance(s, bool) for s in starts):
        raise DataError(f"{place}: 'text' must be text and 'answer_start' a whole number, got {str(pairs)[:80]}.")
    return texts, starts


def _zip(texts: Any, starts: Any, place: str) -> list[tuple[Any, Any]]:
    try:
        return list(zip(texts, starts, strict=True))
    except (TypeError, ValueError):
        raise DataError(f"{place}: 'text' and 'answer_start' must be lists of one length, got {texts!r} and {starts!r}.") from None


def _split(found: dict[str, list[Example]], data: str) -> dict[str, list[Example]]:
    """All three sides: the missing ones out of train, by the hash of the paragraph."""
    for side, examples in found.items():
        if not examples:
            raise DataError(f"the {side} side of {data!r} holds no question. Give a file that has some.")
    paragraphs: dict[bytes, list[Example]] = {}
    for example in found["train"]:
        lot = hashlib.blake2b(" ".join(example["context"].split()).encode()).digest()
        paragraphs.setdefault(lot, []).append(example)
    sides: dict[str, list[Example]] = {"train": [], **{side: found.get(side, []) for side in ("dev", "test")}}
    filling = [side for side in ("dev", "test") if side not in found] + ["train"]
    for lot in sorted(paragraphs):
        sides[filling[0]] = sides[filling[0]] + paragraphs[lot]
        if filling[0] != "train" and len(sides[filling[0]]) >= len(found["train"]) / 10:
            filling.pop(0)
    if not sides["train"]:
        raise DataError(f"{data!r} has too few paragraphs to be split. Give separate files for dev and test.")
    return sides
