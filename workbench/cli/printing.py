"""What commands print: data on standard output, everything else on standard error, tables that nothing is cut from."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable

from workbench.cli import terminal
from workbench.errors import EnvironmentFault

PIPED_WIDTH = 100_000
"""Columns where nobody looks: a table that is piped or logged is not folded to some terminal's width."""


class _Console(Console):
    """A console that knows whether something may move on it: a person looks, and did not say `--no-progress`."""

    still = False

    @property
    def moves(self) -> bool:
        return self.is_terminal and not self.still and not self.quiet

    def on_broken_pipe(self) -> None:
        """End quietly where nobody reads on, as in `workbench runs | head`; Python must not fail when it flushes at exit either."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


_BLANKS_AT_END = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
"""Blanks at the end of a line, with the escape sequences after them that end a style."""


class Table(RichTable):
    """A table without lines. Its cells are shown as they are: nothing in a name or a reason is markup, and nothing is cut.

    Args:
        title: The title above it.
        narrow: Whether columns are one space apart, not two.
        fold: Whether cells are folded into the width of the terminal, as prose is. Otherwise rows stay whole lines, since names are
            to be typed again and numbers to be read: where there is no room for them, columns to spare are left out.
    """

    def __init__(self, *, title: str | None = None, narrow: bool = False, fold: bool = False) -> None:
        padding = (0, 1, 0, 0) if narrow else (0, 1)
        super().__init__(
            box=None, padding=padding, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="bold"
        )
        self.fold = fold
        self._spare: list[int] = []

    def add_column(self, header: RenderableType = "", *args: Any, spare: int = 0, **options: Any) -> None:
        """Add a column. One with a higher `spare` is left out before those with a lower one; with 0 it always stays."""
        self._spare.append(spare)
        # Rich cuts what is too long with an ellipsis, and a name that is cut cannot be typed again.
        known: dict[str, Any] = {"overflow": "fold", "no_wrap": not self.fold}
        super().add_column(header, *args, **(known | options))

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row of texts."""
        # Square brackets in a name or a reason would be read as markup, and vanish.
        super().add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def within(self, width: int) -> tuple[Table, list[str]]:
        """Return the table without the columns to spare that it has no room for in so many columns of text, and their names."""
        table, spare, left_out = self, [*self._spare], list[str]()
        while _natural_width(table) > width and any(spare):
            at = spare.index(max(spare))
            del spare[at]
            left_out.append(str(table.columns[at].header))
            table = copy.copy(table)
            kept = [each for i, each in enumerate(table.columns) if i != at]
            table.columns = [dataclasses.replace(each, _index=i) for i, each in enumerate(kept)]
        return table, left_out


def print_table(table: Table, *narrower: Callable[[], Table]) -> None:
    """Print a table on standard output, each row on one line: where there is room for it in its natural width, else without its
    columns to spare, which is said. What is wider still the terminal breaks.

    Args:
        table: The table.
        narrower: Make other forms of it, each narrower than the one before: the first that there is room for is printed, and of the
            last what there is room for.
    """
    for make in narrower:
        if table.fold or fits(table):
            break
        table = make()
    left_out: list[str] = []
    if not table.fold:
        table, left_out = table.within(console.width)
    natural = _natural_width(table)
    wide = console if table.fold or natural <= console.width else _Console(highlight=False, emoji=False, width=natural)
    # Rich pads every line to the width of the table. Such
    # blanks make a terminal fold lines that would fit.
    with wide.capture() as drawn:
        wide.print(table)
    console.out("\n".join(_BLANKS_AT_END.sub(r"\1", line) for line in drawn.get().splitlines()), highlight=False)
    if left_out:
        messages.print(f"Left out, as the terminal is too narrow: {', '.join(left_out)}.", style="dim", markup=False)


def fits(table: Table) -> bool:
    """Return whether the lines of a table are no longer than those of standard output."""
    return _natural_width(table) <= console.width


def _natural_width(table: Table) -> int:
    return table.__rich_measure__(console, console.options.update(max_width=PIPED_WIDTH)).maximum


def _console(*, stderr: bool) -> _Console:
    plain = _Console(stderr=stderr, highlight=False, emoji=False)  # an offer's name can have a `:x:` in it
    return plain if plain.is_terminal else _Console(stderr=stderr, highlight=False, emoji=False, width=PIPED_WIDTH)


console = _console(stderr=False)
"""Standard output: data."""

messages = _console(stderr=True)
"""Standard error: everything else."""


@contextlib.contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Say what is waited for: beside something that moves on a terminal, once elsewhere.

    Yields:
        A function that says how far it is.
    """
    if messages.moves:
        with messages.status(text) as status:
            yield status.update
    else:
        messages.print(text)
        yield lambda text: None


@contextlib.contextmanager
def reading(text: str = "Reading the ledger …") -> Iterator[None]:
    """Say what is waited for if it takes a second only: beside something that moves on a terminal, not at all elsewhere."""
    with messages.status(text) if messages.moves else contextlib.nullcontext():
        yield


def say_next(text: str, *, as_json: bool = False) -> None:
    """Say on standard error which command comes next. Nothing is said where a program reads."""
    if not as_json:
        messages.print(f"Next: {text}", style="dim", markup=False, soft_wrap=True)  # a command that is copied is one line


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the system, while a file that was asked for is written, into EnvironmentFault."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written: {error.strerror}. Name another file.") from error


def print_json(record: Any) -> None:
    """Print one JSON document on standard output."""
    print_text(json.dumps(record, indent=2, ensure_ascii=not terminal.is_unicode()))


def print_text(text: str) -> None:
    """Print text on standard output as it is: nothing in it is markup, and no line is folded."""
    console.print(text, markup=False, soft_wrap=True)
