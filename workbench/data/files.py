"""Rows of one data file, whatever its format: JSON lines, a JSON document (SQuAD or a list), either in gzip, or parquet.

What a file holds is told by its content: JSON lines that are called `.json` are read, and so is a list called `.jsonl`. All that
a parser or a disk can raise is turned into `DataError` or `EnvironmentFault` here, around their calls and nothing else, so that a
mistake of our own keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from workbench.errors import DataError, EnvironmentFault, WorkbenchError, did_you_mean

TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet", *(suffix + ".gz" for suffix in TEXT_SUFFIXES))
"""Ends of the names of files that are read, in lower case."""

COLUMNS = ("id", "question", "context", "answers", "answer", "answer_start", "is_impossible")
"""All that is read of a row; other columns of a table are left where they are."""

_NAMES = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of the system that are of the name that was given, or (None) not of the system at all: a library raised them."""

ROWS_AT_ONCE = 1024
CHUNK_BYTES = 1 << 20

_FOREIGN = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself. Fetch it: git lfs pull.",
    b"<": "is a web page or XML. Download the file itself (its raw form).",
    b"PK\x03\x04": "is a zip archive or a spreadsheet. Unpack it, or save it as JSON lines.",
    b"BZh": "is compressed by bzip2. Unpack it.",
    b"\xfd7zXZ": "is compressed by xz. Unpack it.",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd. Unpack it.",
    b"ARROW1": "is an Arrow file. Save it as parquet.",
    b"SQLite format 3": "is an SQLite database. Save the table as JSON lines or parquet.",
    b"\xff\xfe": "byte 0 is not UTF-8 but the mark of UTF-16. Save the file as UTF-8.",
    b"\xfe\xff": "byte 0 is not UTF-8 but the mark of UTF-16. Save the file as UTF-8.",
}
"""What a file can begin with that is not data to us, and what to do then."""


def wrong(message: str) -> DataError:
    """A DataError whose message can be printed, whatever a file's name and content hold."""
    return DataError(message.encode("utf-8", "backslashreplace").decode())


def suffix_of(name: str) -> str:
    """The end of a file's name that tells its format, in lower case: `.jsonl`, `.json.gz`; else whatever it ends in."""
    low = name.lower()
    return max((suffix for suffix in SUFFIXES if low.endswith(suffix)), key=len, default=Path(low).suffix)


@contextlib.contextmanager
def reading(what: str, kind: str = "a data file") -> Iterator[None]:
    """The boundary around the call of a parser, a disk or another's reader; `kind` is what `what` should be.

    Raises:
        DataError: The content is not what it must be.
        EnvironmentFault: The system does not give the file, or there is no memory to hold it.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except MemoryError as error:
        raise EnvironmentFault(f"not enough memory to read {what}. Give a smaller file, or a machine with more.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror and error.errno not in _NAMES:
            raise EnvironmentFault(f"cannot read {what}: {error.strerror}. Check its permissions and the disk.") from error
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise wrong(f"{what}: not {kind} that can be read ({why[:200]}). Download or write it again.") from error


def rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Every row of a file as it is there, with its place in it: `("line 3", {…})`.

    Raises:
        DataError: The file is not what it must be; the message names file and place.
        EnvironmentFault: It cannot be read.
    """
    suffix = suffix_of(file.name)
    if suffix not in SUFFIXES:
        raise wrong(f"{file}: cannot read a {suffix or 'nameless'} file. Give one of {', '.join(SUFFIXES)}.")
    with reading(str(file)):
        if not file.is_file():
            what = "a folder" if file.is_dir() else "a pipe or a device" if file.exists() else "a link to nothing"
            raise wrong(f"{file} is {what}, not a file that can be read again. Give a regular file.")
        with file.open("rb") as stream:
            head = stream.read(32)
    if not head.startswith((b"PAR1", b"\x1f\x8b")):
        _check_head(file, head)
    if head.startswith(b"PAR1") or (suffix == ".parquet" and head.lstrip()[:1] not in (b"{", b"[")):
        return _parquet(file)
    return _json(file, suffix, packed=head.startswith(b"\x1f\x8b"))


# JSON


class _RepeatedKey(ValueError):
    """A key that stands twice in one object: of two values one would be lost."""


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
    """The JSON document that begins in that line of the file. Raises DataError."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        place = f"{file}, line {line + error.lineno - 1}, column {error.colno}"
        raise _NotJson(str(wrong(f"{place}: not JSON: {error.msg}. {_advice(error)}"))) from None
    except RecursionError:
        raise wrong(f"{file}, line {line}: nested too deeply to be data. Write the file again.") from None
    except _RepeatedKey as error:
        raise wrong(f"{file}, line {line}: {error}") from None
    except ValueError as error:  # a number of more digits than Python turns into one
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


def _json(file: Path, suffix: str, *, packed: bool) -> Iterator[tuple[str, Any]]:
    """Rows of JSON lines, where the first line is a document of its own and more follow; else of one document."""
    kind = "a gzip file" if packed else "a JSON file"
    with contextlib.ExitStack() as stack:
        with reading(str(file), kind):
            stream: IO[bytes] = stack.enter_context(file.open("rb"))
            if packed:
                stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=stream)))
        lines = _lines(file, stream, kind)
        number, line = next(lines, (1, ""))
        if not line:
            raise wrong(f"{file}, line 1: the file is empty. Give one with data, or leave it out.")
        try:
            content = _decoded(line.rstrip("\r\n"), file, number)
        except _NotJson:
            if suffix.startswith((".jsonl", ".ndjson")) and line.strip() not in ("[", "{", "[{"):
                raise  # a broken line; otherwise a document that is printed on many lines
            yield from _document(_decoded("".join([line, *_filled(lines, number)]), file, number), file)
            return
        following = next(lines, None)
        if following is None:
            yield from _document(content, file)
            return
        yield f"line {number}", content
        for number, line in itertools.chain([following], lines):
            yield f"line {number}", _decoded(line.rstrip("\r\n"), file, number)


def _lines(file: Path, stream: IO[bytes], kind: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers. Raises as `reading` does, and DataError where one is not UTF-8."""
    number = 0
    while True:
        with reading(str(file), kind):
            chunk = stream.readlines(CHUNK_BYTES)
        if not chunk:
            return
        for raw in chunk:
            number += 1
            if number == 1:
                _check_head(file, raw)
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                raise wrong(f"{file}, line {number}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
            if line.strip():
                yield number, line


def _check_head(file: Path, head: bytes) -> None:
    """Raise DataError when the first bytes are those of another kind of file, and say of which."""
    if head.startswith((b"PAR1", b"\x1f\x8b")):
        raise wrong(f"{file}: is packed in gzip and holds a file that is packed itself. Unpack it once.")
    for start, what in _FOREIGN.items():
        if head.lstrip().startswith(start):
            raise wrong(f"{file}: {what}")
    if b"\x00" in head[:4]:
        raise wrong(f"{file}: holds zero bytes: UTF-16, or not written to its end. Save it as UTF-8, or download it again.")


def _filled(lines: Iterable[tuple[int, str]], last: int) -> Iterator[str]:
    """The lines with blank ones put back, so that a parser counts them right."""
    for number, line in lines:
        yield "\n" * (number - last - 1) + line
        last = number


def _document(content: Any, file: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a SQuAD document, of a list of examples (also under "data"), or the one example that it is."""
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


def _squad(articles: list[Any], file: Path) -> Iterator[tuple[str, Any]]:
    for a, article in enumerate(articles):
        if isinstance(article, dict) and "paragraphs" not in article and "question" in article:
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


# Parquet


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a table, some at a time: of a large one only the columns that are read are ever in memory."""
    with reading(str(file), "a parquet file"):
        import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]

        table = pyarrow.parquet.ParquetFile(file)
    with table:
        names = table.schema_arrow.names
        known = [name for name in names if name in COLUMNS]
        if twice := [name for name in known if known.count(name) > 1]:
            raise wrong(f"{file}: has the column {twice[0]!r} twice. Remove one.")
        for name in ("question", "context"):
            if name not in known:
                raise wrong(f"{file}: has no column {name!r}.{did_you_mean(name, names)}")
        if "answers" not in known and "answer" not in known:
            raise wrong(f"{file}: has no column 'answers'.{did_you_mean('answers', names)}")
        with reading(str(file), "a parquet file"):
            batches = table.iter_batches(batch_size=ROWS_AT_ONCE, columns=known)
        number = 0
        while True:
            with reading(str(file), "a parquet file"):
                batch = next(batches, None)
                found = [] if batch is None else batch.to_pylist()
            if batch is None:
                return
            for row in found:
                number += 1
                yield f"row {number}", row
