"""Examples that say nearly the same, within a split and across splits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workbench.data import duplicates
from workbench.formulations import Example

SIMILAR = 0.8
"""Jaccard index of runs of three words, from which two texts say nearly the same. Case, punctuation
and which numbers there are do not count.
"""

MOST_PAIRS = 100
"""At most so many pairs are named; all are counted."""


@dataclass(frozen=True)
class Pair:
    """Two examples that say nearly the same: the split and the id of each, `split` the later."""

    split: str
    id: str
    other_split: str
    other_id: str


@dataclass(frozen=True)
class Repeats:
    """How many examples repeat others.

    Attributes:
        threshold: The Jaccard index from which texts count as nearly the same.
        within: By split, how many examples repeat an earlier one of the split.
        across: By two splits, `dev in train`, how many examples of the first repeat one of the
            second: a grade on those says little of unseen texts.
        pairs: The first pairs across splits, then those within one; at most `MOST_PAIRS`.
    """

    threshold: float
    within: Mapping[str, int]
    across: Mapping[str, int]
    pairs: tuple[Pair, ...]


def repeats(splits: Mapping[str, Sequence[Example]], text: Callable[[Example], str]) -> Repeats | None:
    """Find near-duplicates by min-wise hashing; None where examples have no text.

    Args:
        splits: The examples by split, in the order in which repeats are told: the first is what is
            learned from.
        text: Gives an example's text.
    """
    places = [(split, example) for split, examples in splits.items() for example in examples if text(example)]
    if not places:
        return None
    sets = [duplicates.shingles(text(example)) for _, example in places]
    linked = sorted(duplicates.similar_pairs(sets, SIMILAR))
    roots = duplicates.groups(len(sets), linked)
    of: dict[str, list[int]] = {split: [] for split in splits}
    for (split, _), root in zip(places, roots, strict=True):
        of[split].append(root)
    within = {split: len(own) - len({*own}) for split, own in of.items()}
    across = {
        f"{later} in {earlier}": sum(root in {*of[earlier]} for root in of[later])
        for earlier, later in itertools.combinations(splits, 2)
    }
    named = sorted(linked, key=lambda pair: (places[pair[0]][0] == places[pair[1]][0], pair))[:MOST_PAIRS]
    pairs = tuple(
        Pair(places[j][0], str(places[j][1].get("id", j)), places[i][0], str(places[i][1].get("id", i))) for i, j in named
    )
    return Repeats(SIMILAR, within, across, pairs)
