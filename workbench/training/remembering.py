"""What runs of a process share: the latest few of a kind, made by whoever asks first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def remembered(kept: dict[K, T], key: K, make: Callable[[], T], most: int) -> T:
    """What is kept under a key; made now where there is none, in the place of the oldest where there are `most` already."""
    if key not in kept:
        made = make()
        if len(kept) >= most:
            kept.pop(next(iter(kept)))
        kept[key] = made
    return kept[key]
