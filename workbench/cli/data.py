"""`workbench data`: the card of a study's data, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping

import click

from workbench.cli import complete
from workbench.cli.common import (
    Table,
    console,
    json_option,
    load_study,
    messages,
    print_json,
    print_table,
    say_next,
    waiting,
)
from workbench.quality import Card, cards
from workbench.quantities import many

SHOWN = 10
"""Rows of a kind that are shown; `--json` has all."""

PARTS = {
    "lengths": "lengths",
    "classes": "classes",
    "groups": "groups",
    "near_duplicates": "near-duplicates",
    "label_noise": "label noise",
}
"""Parts of a card that a task may lack, and what they are called."""


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@json_option
def data(study: str, as_json: bool) -> None:
    """Print the card of the data of the file STUDY: what is known of them before anything is spent.

    Shows the sizes of the splits, the lengths in tokens of the study's models and how many examples
    lose a part, the balance of classes, groups, near-duplicates within and across splits, and an
    estimate of label noise with the rows whose labels are likely wrong. Nothing is written.
    """
    loaded = load_study(study)
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
    console.print(f"{card.task} (data {card.digest})", style="bold", markup=False)
    for note in card.notes:
        messages.print(note, style="yellow", markup=False)
    print_table(_splits(card))
    for table in (_lengths(card), _counts(card.classes, "class"), _counts(card.groups, "group")):
        if table is not None:
            print_table(table)
    for slip, meant in card.slips.items():
        messages.print(
            f"The class {slip!r} has few examples and looks like a slip of {meant!r}. Mend it in the data.",
            style="yellow",
            markup=False,
        )
    for line in dict.fromkeys(each.why for each in card.lengths if each.why):
        messages.print(line, style="yellow", markup=False)
    _show_repeats(card)
    _show_noise(card)
    for part, why in card.does_not_apply.items():
        messages.print(f"No {PARTS[part]}: {why}", style="dim", markup=False)


def _splits(card: Card) -> Table:
    table = Table()
    for name in ("split", "examples"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, count in card.splits.items():
        table.add_row(split, f"{count:,}")
    return table


def _lengths(card: Card) -> Table | None:
    if not card.lengths:
        return None
    table = Table(title="\nTokens of an example")
    for name in ("model", "split", "shortest", "median", "95 %", "longest", "cut", "cannot be given"):
        table.add_column(name, justify="left" if name in ("model", "split") else "right")
    for each in card.lengths:
        sizes = (each.shortest, each.median, each.p95, each.longest, each.cut, each.missed)
        table.add_row(each.model, each.split, *(f"{size:,.0f}" for size in sizes))
    return table


def _counts(counts: Mapping[str, Mapping[str, int]] | None, what: str) -> Table | None:
    """Return how often each class or group occurs, the commonest of the first split first."""
    if counts is None:
        return None
    names = list(dict.fromkeys(name for of_split in counts.values() for name in of_split))
    shown = names if len(names) <= 2 * SHOWN else [*names[:SHOWN], *names[-SHOWN:]]
    more = "" if shown == names else f", the {SHOWN} commonest and the {SHOWN} rarest of {len(names):,}"
    table = Table(title=f"\nExamples of each {what}{more}")
    table.add_column(what)
    for split in counts:
        table.add_column(split, justify="right")
    for name in shown:
        table.add_row(name, *(_share(of_split.get(name, 0), of_split) for of_split in counts.values()))
    return table


def _share(count: int, of_split: Mapping[str, int]) -> str:
    total = sum(of_split.values())
    return f"{count:,} ({100 * count / total:.1f} %)" if total else ""


def _show_repeats(card: Card) -> None:
    found = card.repeats
    if found is None:
        return
    within = [f"{count:,} in {split}" for split, count in found.within.items() if count]
    across = [f"{count:,} of {name.replace(' in ', ' say what others do in ')}" for name, count in found.across.items() if count]
    console.print("\nNear-duplicates", style="bold")
    if not within and not across:
        console.print(f"No two examples say nearly the same (Jaccard index of at least {found.threshold}).")
    if within:
        console.print(f"Examples that nearly repeat an earlier one of their split: {', '.join(within)}.", markup=False)
    if across:
        console.print(f"Across splits: {', '.join(across)}. A score on those says little of new texts.", markup=False)
    for pair in found.pairs[:SHOWN]:
        here, there = card.place(pair.id) or pair.id, card.place(pair.other_id) or pair.other_id
        console.print(f"  {pair.split}: {here} = {pair.other_split}: {there}", markup=False)
    _more(len(found.pairs), "pair")


def _show_noise(card: Card) -> None:
    found = card.noise
    if found is None:
        return
    console.print("\nLabel noise", style="bold")
    if found.share is None:
        console.print("Every class has too few examples to tell.")
        return
    share = f"{many(found.examples, 'label')} ({100 * found.share:.1f} %)"
    console.print(f"About {found.wrong:,} of {share} look wrong, or could as well be others.")
    console.print(
        f"That is confident learning on embeddings of {card.noise_model}. The regression on them tells {found.accuracy:.0f} % of "
        "the labels that it has not seen: the fewer, the rougher the estimate.",
        markup=False,
    )
    if found.left_out:
        console.print(f"{many(found.left_out, 'example')} of rare classes could not be looked at.")
    if not found.suspects:
        return
    table = Table()
    for name in ("row", "split", "label", "likelier", "probability of the label"):
        table.add_column(name, justify="right" if "probability" in name else "left")
    for each in [*card.suspects()][:SHOWN]:
        probability = f"{100 * each['probability']:.1f} %"
        table.add_row(each["row"] or each["id"], each["split"], each["given"], each["likelier"], probability)
    print_table(table)
    _more(len(found.suspects), "row")


def _more(count: int, noun: str) -> None:
    if count > SHOWN:
        messages.print(f"{many(count - SHOWN, f'more {noun}')}; --json has them.", style="dim")
