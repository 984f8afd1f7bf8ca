"""Rows of JSON: lines, or one document that is a list, a SQuAD file, or a single example.

The content decides, not the name: JSON lines in a `.json` file are read, and so is a list in a
`.jsonl` file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.data.files import lines, opened, wrong
from workbench.errors import DataError


class _RepeatedKey(ValueError):
    """A key that appears twice in one object, so that one of two values would be lost."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object. Remove one.")
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_object)


class _NotJson(DataError):
    """Text that is not one JSON document."""


def _decoded(text: str, file: Path, line: int) -> Any:
    """The JSON document that begins in that line of the file.

    Raises:
        DataError: The text is not one document, with its line and column.
    """
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        place = f"{file}, line {line + error.lineno - 1}, column {error.colno}"
        raise _NotJson(str(wrong(f"{place}: not JSON: {error.msg}. {_advice(error)}"))) from None
    except RecursionError:
        raise wrong(f"{file}, line {line}: nested too deeply to be data. Write the file again.") from None
    except _RepeatedKey as error:
        raise wrong(f"{file}, line {line}: {error}") from None
    except ValueError as error:  # Python refuses numbers of more than 4,300 digits
        raise wrong(f"{file}, line {line}: {str(error).split(';')[0]}. Write such a number as text, or leave it out.") from None


def _advice(error: json.JSONDecodeError) -> str:
    rest = error.doc[error.pos : error.pos + 8]
    if error.msg == "Extra data":
        return "If there are several documents, write each on a line of its own (jq -c .); else mend that line."
    if rest.startswith(("'", "None", "True", "False")):
        return "This is how Python writes, not JSON: use json.dumps."
    if not rest.strip() or error.msg.startswith("Unterminated string"):
        return "It ends too early: download or write the file again."
    return "Mend that line, or download the file again."


def rows(file: Path, suffix: str, *, packed: bool, questions: bool) -> Iterator[tuple[str, Any]]:
    """Rows of JSON lines, if the first line is a document by itself and others follow; otherwise
    rows of one document.

    Args:
        file: A text file.
        suffix: What its name ends in. In `.jsonl` a broken first line is an error, not a document
            printed on many lines.
        packed: Whether it is in gzip.
        questions: Whether a document may be a SQuAD file; otherwise it is a list of rows.
    """
    document = _document if questions else _list
    kind = "a gzip file" if packed else "a JSON file"
    with opened(file, kind, packed=packed) as stream:
        numbered = ((number, line) for number, line in enumerate(lines(file, stream, kind), 1) if line.strip())
        number, line = next(numbered, (1, ""))
        if not line:
            raise wrong(f"{file}, line 1: the file is empty. Give one with data, or leave it out.")
        try:
            content = _decoded(line.rstrip("\r\n"), file, number)
        except _NotJson:
            if suffix.startswith((".jsonl", ".ndjson")) and line.strip() not in ("[", "{", "[{"):
                raise  # a broken line; otherwise a document that is printed on many lines
            yield from document(_decoded("".join([line, *_filled(numbered, number)]), file, number), file)
            return
        following = next(numbered, None)
        if following is None:
            yield from document(content, file)
            return
        yield f"line {number}", content
        for number, line in itertools.chain([following], numbered):
            yield f"line {number}", _decoded(line.rstrip("\r\n"), file, number)


def _filled(lines: Iterable[tuple[int, str]], last: int) -> Iterator[str]:
    """The lines with blank ones put back, so that a parser's line numbers are right."""
    for number, line in lines:
        yield "\n" * (number - last - 1) + line
        last = number


def _document(content: Any, file: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a SQuAD document or a list of examples (also under "data"), or a single example."""
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        yield from _squad(content["data"], file)
    elif isinstance(content, list):
        for number, row in enumerate(content, 1):
            yield f"row {number}", row
    elif isinstance(content, dict) and isinstance(content.get("context"), str):
        yield "row 1", content
    else:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        columns = isinstance(content, dict) and isinstance(content.get("context"), (dict, list))
        pandas = "These are columns; write rows: in pandas to_json(orient='records', lines=True)"
        advice = pandas if columns else "Write one of them"
        raise wrong(f"{file}: neither SQuAD ({{'data': [...]}}) nor a list of examples; got {keys[:80]}. {advice}.")


def _list(content: Any, file: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a list (also under "data" or "rows"), or a single row."""
    if isinstance(content, dict):
        content = next((content[key] for key in ("data", "rows") if isinstance(content.get(key), list)), content)
    # pandas writes columns by default; the keys below are those of a single row that holds such
    # values.
    columns = isinstance(content, dict) and content and all(isinstance(value, (dict, list)) for value in content.values())
    if columns and not {"messages", "conversations", "translation"} & {*content}:
        raise wrong(f"{file}: these are columns; write rows: in pandas to_json(orient='records', lines=True).")
    if not isinstance(content, (dict, list)):
        raise wrong(f"{file}: must be a list of rows, each an object; got {str(content)[:60]!r}.")
    for number, row in enumerate(content if isinstance(content, list) else [content], 1):
        yield f"row {number}", row


def _squad(articles: list[Any], file: Path) -> Iterator[tuple[str, Any]]:
    for a, article in enumerate(articles):
        if isinstance(article, dict) and "paragraphs" not in article and {"question", "tokens", "text"} & {*article}:
            yield f"row {a + 1}", article  # the flat list that some tools put under "data"
            continue
        for p, paragraph in enumerate(_part(article, "paragraphs", list, f"{file}, article {a}")):
            place = f"article {a}, paragraph {p}"
            context = _part(paragraph, "context", str, f"{file}, {place}")
            for question in _part(paragraph, "qas", list, f"{file}, {place}"):
                yield place, {**question, "context": context} if isinstance(question, dict) else question


def _part(holder: Any, key: str, kind: type, place: str) -> Any:
    value = holder.get(key) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind):
        raise wrong(f"{place}: {key!r} must be a {kind.__name__}, got {type(value).__name__}. Is this a SQuAD file?")
    return value
