"""Rows of CSV and TSV files, by Python's own reader. Quoted fields may hold line breaks; a byte
order mark is skipped.

Every value stays the text that it is in the file: nothing is taken for a number, a date or a
missing value.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from workbench.data.files import lines, opened, wrong

DELIMITERS = (",", ";", "\t", "|")
"""Delimiters that a `.csv` file may have, likeliest first. The file's first lines decide."""

SAMPLE_LINES = 50
MOST_CHARACTERS = 1 << 20
"""The longest field that is read. A longer one nearly always begins with a quote that nothing
closes.
"""


def rows(file: Path, suffix: str, *, packed: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows by the header's names, each with the line that it begins in.

    Raises:
        DataError: There is no header, a name is in it twice, a row has more or fewer fields, or a
            quote is not closed.
        EnvironmentFault: As `files.opened`.
    """
    kind = "a gzip file" if packed else "a text file"
    with opened(file, kind, packed=packed) as stream:
        text = lines(file, stream, kind)
        sample = list(itertools.islice(text, SAMPLE_LINES))
        if not "".join(sample).strip():
            raise wrong(f"{file}, line 1: the file is empty. Its first line must name the columns, and each other hold a row.")
        delimiter = "\t" if suffix.startswith(".tsv") else _delimiter(sample)
        records = _records(file, itertools.chain(sample, text), delimiter)
        _, header = next(records)
        header = [name.strip() for name in header]
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise wrong(f"{file}: has the column {twice[0]!r} twice. Remove one.")
        for line, fields in records:
            if len(fields) != len(header):
                raise wrong(
                    f"{file}, line {line}: fields: {len(fields)}, and the header has {len(header)}: {', '.join(header)[:80]}. "
                    f"Put a text that holds {_shown(delimiter)} or a line break in double quotes, and double the quotes in it."
                )
            yield f"line {line}", dict(zip(header, fields, strict=True))


def _records(file: Path, text: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records that are not blank, each with the line that it begins in."""
    before = csv.field_size_limit(MOST_CHARACTERS)
    try:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
    finally:
        csv.field_size_limit(before)
    while True:
        # The limit is one for the whole process, so it is set for this call and then left as others
        # had it.
        line, limit = reader.line_num + 1, csv.field_size_limit(MOST_CHARACTERS)
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise wrong(f"{file}, line {line}: {_why(str(error), reader.line_num)}") from None
        finally:
            csv.field_size_limit(limit)
        if record is None:
            return
        if any(field.strip() for field in record):
            yield line, record


def _why(error: str, last: int) -> str:
    """What is wrong with a record and what to do about it, from the words of Python's error."""
    if "limit" in error:
        return (
            f"a field of more than {MOST_CHARACTERS:,} characters begins here. Is there a quote that nothing closes? Close it, or "
            "double it where it is part of the text; else shorten the field."
        )
    if "unexpected end" in error:
        return f"the quote that opens here is not closed by the end of the file (line {last}). Close it, or double it in the text."
    if "expected after" in error:
        return "a quoted field goes on behind its closing quote. Double the quotes that are part of the text."
    if "new-line" in error:
        return "a carriage return stands in a field without quotes. Save the file with line feeds at the ends of lines."
    return f"not CSV: {error}. Mend that line, or write the file again."


def _delimiter(sample: Sequence[str]) -> str:
    """The delimiter by which all first records have equally many fields, at least two; of several,
    the one with the most fields.
    """
    fields = {delimiter: _fields(sample, delimiter) for delimiter in DELIMITERS}
    agreed = {delimiter: counts[0] for delimiter, counts in fields.items() if counts and len({*counts}) == 1 and counts[0] > 1}
    # Where no delimiter gives records of one length the header decides; `rows` then names the bad
    # line.
    heads = agreed or {delimiter: counts[0] for delimiter, counts in fields.items() if counts and counts[0] > 1}
    return max(heads, key=lambda delimiter: heads[delimiter], default=",")


def _fields(sample: Sequence[str], delimiter: str) -> list[int]:
    """Numbers of fields of a sample's records. In a long sample the last record may be cut off, and
    is left out.
    """
    found: list[int] = []
    with contextlib.suppress(csv.Error):
        found.extend(len(record) for record in csv.reader(sample, delimiter=delimiter) if any(field.strip() for field in record))
    return found[:-1] if len(sample) == SAMPLE_LINES else found


def _shown(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else repr(delimiter)
