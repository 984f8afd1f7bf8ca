"""Rows of a data file in any format: JSON lines or a JSON document, CSV or TSV, each also in gzip;
parquet or Arrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.data import columnar, delimited, documents, files
from workbench.data.files import reading, wrong
from workbench.data.forms import Form


def rows(file: Path, form: Form) -> Iterator[tuple[str, Any]]:
    """Every row of a file as it stands there, with its place in the file: `("line 3", {…})`.

    Args:
        file: The file.
        form: Says which suffixes are known, and which columns of a table are read.

    Raises:
        DataError: The file is not what it must be; the message names file and place.
        EnvironmentFault: It cannot be read.
    """
    suffix = files.suffix_of(file.name)
    if suffix not in form.suffixes:
        nameless = "a file whose name does not end in its format. Files that are read end in"
        raise wrong(f"{file}: cannot read {f'a {suffix} file. Give one of' if suffix else nameless} {', '.join(form.suffixes)}.")
    with reading(str(file)):
        # A pipe can be read only once, and fingerprints and parsers read a file several times.
        if not file.is_file():
            what = "a folder" if file.is_dir() else "a pipe or a device" if file.exists() else "a link to nothing"
            raise wrong(f"{file} is {what}, not a file that can be read again. Give a regular file.")
        with file.open("rb") as stream:
            head = stream.read(32)
    # From here on the first bytes count more than the suffix, as many files are called otherwise
    # than they are.
    if suffix in files.ARROW or (head.startswith(b"ARROW1") and files.ARROW[0] in form.suffixes):
        return columnar.arrow(file, form.chosen)
    if not head.startswith((b"PAR1", b"\x1f\x8b")):
        files.check_head(file, head)
    if head.startswith(b"PAR1") or (suffix == ".parquet" and head.lstrip()[:1] not in (b"{", b"[")):
        return columnar.parquet(file, form.chosen)
    packed = head.startswith(b"\x1f\x8b")
    if suffix in form.own:
        return _own(file, form, suffix, packed=packed)
    if suffix in files.DELIMITED:
        return delimited.rows(file, suffix, packed=packed)
    return documents.rows(file, suffix, packed=packed, questions=form.questions)


def _own(file: Path, form: Form, suffix: str, *, packed: bool) -> Iterator[tuple[str, Any]]:
    """Rows in a text format of the form's own."""
    with files.opened(file, "a text file", packed=packed) as stream:
        yield from form.own[suffix](file, files.lines(file, stream, "a text file"))
