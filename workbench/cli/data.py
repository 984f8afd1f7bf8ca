"""`workbench data`: the card of a study's data, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from workbench.cli import complete
from workbench.cli.printing import Table, console, messages, print_json, print_table, say_next, waiting
from workbench.cli.shared_options import json_option
from workbench.quality import Card, cards, words
from workbench.quantities import many
from workbench.study import load

SHOWN = 10
"""Rows of a kind that are shown; `--json` has all."""

WORDS = ("split", "model", "class", "group", "row", "label", "likelier")
"""Columns of words; the others are numbers."""


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@json_option
def data(study: str, as_json: bool) -> None:
    """Print the card of the data of the file STUDY: what is known of them before anything is spent.

    Shows the sizes of the splits, the lengths in tokens of the study's models and how many examples
    lose a part, the balance of classes, groups, near-duplicates within and across splits, and an
    estimate of label noise with the rows whose labels are likely wrong. Nothing is written.
    """
    loaded = load(study)
    with waiting("Reading the data …") as told:
        found = list(cards(loaded, told))
    if as_json:
        print_json({"study": loaded.name, "tasks": [card.to_json() for card in found]})
        return
    for card in found:
        _show(card)
    say_next(f"`workbench plan {study}`")


def _show(card: Card) -> None:
    """Print one card."""
    console.print(words.title(card), style="bold", markup=False)
    for note in words.warnings(card):
        messages.print(note, style="yellow", markup=False)
    print_table(_table([{"split": split, "examples": f"{count:,}"} for split, count in card.splits.items()]))
    if card.lengths:
        print_table(_table([_told(row) for row in words.length_rows(card)], "\nTokens of an example"))
    for counts, what in ((card.classes, "class"), (card.groups, "group")):
        if counts is not None:
            print_table(_counts(words.count_rows(counts, what), what))
    if card.repeats is not None:
        console.print("\nNear-duplicates", style="bold")
        for line in words.repeats_text(card):
            console.print(line, markup=False)
        pairs = words.pair_rows(card)
        for pair in pairs[:SHOWN]:
            console.print(f"  {pair['split']}: {pair['row']} = {pair['of split']}: {pair['is like']}", markup=False)
        _more(len(pairs), "pair")
    if card.noise is not None:
        console.print("\nLabel noise", style="bold")
        for line in words.noise_text(card):
            console.print(line, markup=False)
        suspects = words.suspect_rows(card)
        if suspects:
            print_table(_table(suspects[:SHOWN]))
        _more(len(suspects), "row")
    for line in words.missing(card):
        messages.print(line, style="dim", markup=False)


def _told(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else f"{value:,.0f}" for name, value in row.items()}


def _counts(rows: Sequence[Mapping[str, str]], what: str) -> Table:
    """Return a table of the commonest and the rarest, or of all where they are few."""
    few = len(rows) <= 2 * SHOWN
    more = "" if few else f", the {SHOWN} commonest and the {SHOWN} rarest of {len(rows):,}"
    return _table(rows if few else [*rows[:SHOWN], *rows[-SHOWN:]], f"\nExamples of each {what}{more}")


def _table(rows: Sequence[Mapping[str, str]], title: str | None = None) -> Table:
    table = Table(title=title)
    for name in rows[0] if rows else ():
        table.add_column(name, justify="left" if name in WORDS else "right")
    for row in rows:
        table.add_row(*row.values())
    return table


def _more(count: int, noun: str) -> None:
    if count > SHOWN:
        messages.print(f"{many(count - SHOWN, f'more {noun}')}; --json has them.", style="dim")
