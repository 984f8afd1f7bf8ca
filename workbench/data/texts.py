"""Plain texts, of tables or of text files, for a model to learn a language by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench.data.files import PLAIN, TABLE_SUFFIXES
from workbench.data.forms import Example
from workbench.data.tables import Columns, Table, folded, group_column, group_of, pick, text_of

TEXT = ("text", "content", "body", "document")
"""What the column is called where nobody says it."""

FIRST_LINES = 1000
"""Lines by which it is told whether texts stand in paragraphs or on a line each."""


def paragraphs(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Texts of a plain file: parted by empty lines; where there are none, a line each."""
    head = list(itertools.islice(lines, FIRST_LINES))
    one_a_line = all(line.strip() for line in head)
    text: list[str] = []
    begin = number = 0
    for number, line in enumerate(itertools.chain(head, lines, [""]), 1):
        if text and (one_a_line or not line.strip()):
            yield f"line {begin}", {"text": "".join(text).rstrip()}
            text = []
        if line.strip():
            begin = begin if text else number
            text.append(line)


@dataclass(frozen=True)
class Texts(Table):
    """Texts as they are: examples are `{"id", "text", "group"?}`.

    Attributes:
        text: Column of the texts; None: known by its name.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*TABLE_SUFFIXES, *PLAIN)
    own: ClassVar[Mapping[str, Callable[[Path, Iterator[str]], Iterator[tuple[str, Any]]]]] = dict.fromkeys(PLAIN, paragraphs)
    any_name: ClassVar[bool] = True

    text: str | None = None
    group: str | None = None

    def columns(self, names: Sequence[str], file: str) -> Columns:
        return {"text": pick(names, file, "text", self.text, TEXT), "group": group_column(names, file, self.group)}

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        return {"text": text_of(row, columns["text"]), **group_of(row, columns["group"])}

    def key(self, example: Example) -> str:
        return folded(example["text"])
