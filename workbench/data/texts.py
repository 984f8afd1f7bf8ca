"""Plain texts, from tables or text files, for a model to learn a language by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from workbench.data import pydocs_texts
from workbench.data.files import PLAIN, TABLE_SUFFIXES
from workbench.data.forms import Example
from workbench.data.tables import Columns, Table, folded, group_column, group_of, pick, text_of

TEXT = ("text", "content", "body", "document")
"""Names of the column that are known."""

FIRST_LINES = 1000
"""Lines that decide whether texts are paragraphs or single lines."""


def paragraphs(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Texts of a plain file, separated by empty lines, or one per line where there are none."""
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
    built_in: ClassVar[Mapping[str, ModuleType]] = {"pydocs": pydocs_texts}
    any_name: ClassVar[bool] = True

    text: str | None = None
    group: str | None = None

    def columns(self, names: Sequence[str], file: str) -> Columns:
        return {"text": pick(names, file, "text", self.text, TEXT), "group": group_column(names, file, self.group)}

    def example(self, row: Mapping[str, Any], columns: Columns) -> Example:
        return {"text": text_of(row, columns["text"]), **group_of(row, columns["group"])}

    def key(self, example: Example) -> str:
        return folded(example["text"])
