"""The boundary to files: which files are read, and what parsers and disks raise, put in our words.

Whatever a parser or a disk raises becomes `DataError` or `EnvironmentFault` here, around the calls
of these alone, so that a bug of ours keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from workbench.errors import DataError, EnvironmentFault, WorkbenchError

TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet", *(suffix + ".gz" for suffix in TEXT_SUFFIXES))
"""Suffixes of files of questions, in lower case."""

DELIMITED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
ARROW = (".arrow", ".feather")
PLAIN = (".txt", ".md")
CONLL = (".conll", ".bio", ".iob", ".iob2")
"""Suffixes of files with a word and its tag per line."""
TABLE_SUFFIXES = (*SUFFIXES, *DELIMITED, *ARROW)
"""Suffixes of files that any other task is read from."""

_NAMES = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of the system that are about the given name, or (None) not of the system at all but raised
by a library.
"""

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
"""First bytes of files that hold no data for us, and what to do about them."""


def wrong(message: str) -> DataError:
    """A DataError whose message can be printed, whatever the file's name and content are."""
    # A lone surrogate, as in file names that are no UTF-8, would break the terminal and JSON.
    return DataError(message.encode("utf-8", "backslashreplace").decode())


def suffix_of(name: str) -> str:
    """The suffix that tells a file's format, in lower case: `.jsonl`, `.json.gz`; or whatever its
    name ends in.
    """
    low = name.lower()
    return max((suffix for suffix in TABLE_SUFFIXES if low.endswith(suffix)), key=len, default=Path(low).suffix)


@contextlib.contextmanager
def reading(what: str, kind: str = "a data file") -> Iterator[None]:
    """The boundary around calls of a parser, a disk or another library's reader.

    Args:
        what: What is read.
        kind: What that should be.

    Raises:
        DataError: The content is not what it must be.
        EnvironmentFault: The system does not give the file, or there is not enough memory to hold
            it.
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
        why = re.sub(r"(?: file)? <_io\.BytesIO object at \w+>", " file", why)  # pillow and libsndfile name what was sent so
        raise wrong(f"{what}: not {kind} that can be read ({why[:200]}). Download or write it again.") from error


@contextlib.contextmanager
def opened(file: Path, kind: str, *, packed: bool) -> Iterator[IO[bytes]]:
    """A file to read bytes from, unpacked where it is `packed` in gzip. Raises as `reading`."""
    with contextlib.ExitStack() as stack:
        with reading(str(file), kind):
            stream: IO[bytes] = stack.enter_context(file.open("rb"))
            if packed:
                stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=stream)))
        yield stream


def lines(file: Path, stream: IO[bytes], kind: str) -> Iterator[str]:
    """All lines of a text with their ends, without a byte order mark.

    Raises:
        DataError: A line is not UTF-8; and as `reading`.
        EnvironmentFault: As `reading`.
    """
    number = 0
    while True:
        with reading(str(file), kind):
            chunk = stream.readlines(CHUNK_BYTES)
        if not chunk:
            return
        for raw in chunk:
            number += 1
            if number == 1:
                check_head(file, raw)
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                # Decoded line by line, so that a wrong byte is reported with its line.
                yield raw.decode()
            except UnicodeDecodeError as error:
                raise wrong(f"{file}, line {number}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None


def check_head(file: Path, head: bytes) -> None:
    """Raise DataError where the first bytes are those of another kind of file, and say which."""
    if head.startswith((b"PAR1", b"\x1f\x8b")):
        raise wrong(f"{file}: is packed in gzip and holds a file that is packed itself. Unpack it once.")
    for start, what in _FOREIGN.items():
        if head.lstrip().startswith(start):
            raise wrong(f"{file}: {what}")
    if b"\x00" in head[:4]:
        raise wrong(f"{file}: holds zero bytes: UTF-16, or not written to its end. Save it as UTF-8, or download it again.")
