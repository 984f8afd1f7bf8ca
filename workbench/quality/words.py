"""A card in sentences and rows, as the terminal and the browser show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.quality.card import Card
from workbench.quantities import many

PARTS = {
    "lengths": "lengths",
    "classes": "classes",
    "groups": "groups",
    "near_duplicates": "near-duplicates",
    "label_noise": "label noise",
}
"""Parts of a card that a task may lack, and what they are called."""


def title(card: Card) -> str:
    """What the card is of."""
    return f"{card.task} (data {card.digest})"


def warnings(card: Card) -> list[str]:
    """What is doubtful: what was left out or redacted, names of classes that look like slips, and texts that lose a part."""
    slips = [
        f"The class {slip!r} has few examples and looks like a slip of {meant!r}. Mend it in the data."
        for slip, meant in card.slips.items()
    ]
    return [*card.notes, *slips, *dict.fromkeys(each.why for each in card.lengths if each.why)]


def missing(card: Card) -> list[str]:
    """Which parts the card lacks, and why."""
    return [f"No {PARTS[part]}: {why}" for part, why in card.does_not_apply.items()]


def length_rows(card: Card) -> list[dict[str, Any]]:
    """Tokens of the examples, a row for each model and split."""
    return [
        {
            "model": each.model, "split": each.split, "shortest": each.shortest, "median": each.median, "95 %": each.p95,
            "longest": each.longest, "cut": each.cut, "cannot be given": each.missed,
        }
        for each in card.lengths
    ]  # fmt: skip


def count_rows(counts: Mapping[str, Mapping[str, int]] | None, what: str) -> list[dict[str, str]]:
    """How often each class or group occurs in each split, the commonest of the first split first."""
    names = dict.fromkeys(name for of_split in (counts or {}).values() for name in of_split)
    return [
        {what: name, **{split: _share(of_split.get(name, 0), of_split) for split, of_split in (counts or {}).items()}}
        for name in names
    ]


def _share(count: int, of_split: Mapping[str, int]) -> str:
    total = sum(of_split.values())
    return f"{count:,} ({100 * count / total:.1f} %)" if total else ""


def repeats_text(card: Card) -> list[str]:
    """Say how many examples nearly repeat others; nothing where examples have no text."""
    found = card.repeats
    if found is None:
        return []
    within = [f"{count:,} in {split}" for split, count in found.within.items() if count]
    across = [f"{count:,} of {name.replace(' in ', ' say what others do in ')}" for name, count in found.across.items() if count]
    if not within and not across:
        return [f"No two examples say nearly the same (Jaccard index of at least {found.threshold})."]
    said = [f"Examples that nearly repeat an earlier one of their split: {', '.join(within)}."] if within else []
    return said + ([f"Across splits: {', '.join(across)}. A score on those says little of new texts."] if across else [])


def pair_rows(card: Card) -> list[dict[str, str]]:
    """The near-duplicates that are named: of each pair the split and the row, or the id where the row is not known."""
    return [
        {
            "split": pair.split, "row": card.place(pair.id) or pair.id,
            "of split": pair.other_split, "is like": card.place(pair.other_id) or pair.other_id,
        }
        for pair in (card.repeats.pairs if card.repeats else ())
    ]  # fmt: skip


def noise_text(card: Card) -> list[str]:
    """Say how many labels look wrong, and how that was estimated; nothing where it was not."""
    found = card.noise
    if found is None:
        return []
    if found.share is None:
        return ["Every class has too few examples to tell."]
    share = f"{many(found.examples, 'label')} ({100 * found.share:.1f} %)"
    said = [
        f"About {found.wrong:,} of {share} look wrong, or could as well be others.",
        f"That is confident learning on embeddings of {card.noise_model}. The regression on them tells {found.accuracy:.0f} % of "
        "the labels that it has not seen: the fewer, the rougher the estimate.",
    ]
    return said + ([f"{many(found.left_out, 'example')} of rare classes could not be looked at."] if found.left_out else [])


def suspect_rows(card: Card) -> list[dict[str, str]]:
    """The labels that are likely wrong, the least likely first."""
    return [
        {
            "row": each["row"] or each["id"], "split": each["split"], "label": each["given"], "likelier": each["likelier"],
            "probability of the label": f"{100 * each['probability']:.1f} %",
        }
        for each in card.suspects()
    ]  # fmt: skip
