"""Examples of what a user has next, from the items that each user had, one after the other.

The last item of each user is held out for test and the one before it for dev (leave-one-out by
time). Of what comes earlier each item, with those before it, is an example to learn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.data.forms import Example, Sides

LONGEST_HISTORY = 50
"""Items before the one to be learned that an example to learn from keeps, at most: the latest."""

FEWEST = 3
"""Items of a user that is graded: one for test, one for dev, and one before them."""


def sides(had: Mapping[str, Sequence[str]]) -> Sides:
    """The examples of all three sides.

    Args:
        had: Of each user the ids of its items in the order of time, each once. A user with fewer
            than `FEWEST` is only learned from.

    Returns:
        Examples `{"id", "user", "history", "item", "cold"}`: `history` are the ids of the user's
        items before this one, the latest last, all of them on dev and test and at most
        `LONGEST_HISTORY` on train; `cold` says that no user had the item in what train is made of.
    """
    seen = {name for items in had.values() for name in _learned_from(items)}
    found: Sides = {"train": [], "dev": [], "test": []}
    for user, items in had.items():
        for i in range(1, len(_learned_from(items))):
            found["train"].append(_example(user, items[max(0, i - LONGEST_HISTORY) : i], items[i], i, seen))
        if len(items) >= FEWEST:
            found["dev"].append(_example(user, items[:-2], items[-2], len(items) - 2, seen))
            found["test"].append(_example(user, items[:-1], items[-1], len(items) - 1, seen))
    return found


def _learned_from(items: Sequence[str]) -> Sequence[str]:
    """Those of a user's items that are held out for nothing."""
    return items[:-2] if len(items) >= FEWEST else items


def _example(user: str, history: Sequence[str], item: str, place: int, seen: set[str]) -> Example:
    return {"id": f"{user}/{place}", "user": user, "history": [*history], "item": item, "cold": item not in seen}
