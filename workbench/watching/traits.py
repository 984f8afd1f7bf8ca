"""What is noted of a row and of its answer: its length, its words, its class, how sure the model is.

Words are noted as by random indexing (Kanerva et al. 2000, CogSci 22:1036): each word has a fixed random
vector of `DIMENSIONS` numbers, and a text has the mean of its words'. It needs no model, so every kind of
model is watched alike; it sees which words come, and not what they mean.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from workbench.tasks import request

DIMENSIONS = 4
"""Numbers that stand for the words of a text."""

BUCKETS = 4096
"""Random vectors that there are; words share them by their hash."""

_WORD = re.compile(r"\w+")


def characters(row: Mapping[str, Any], asked: Mapping[str, str]) -> int | None:
    """Characters of a row's texts; of numbers, how many there are. None where it holds files alone."""
    held = [row[name] for name, kind in asked.items() if kind != request.FILE and name in row]
    return sum(map(request.characters, held)) if held else None


def words(row: Mapping[str, Any], asked: Mapping[str, str]) -> np.ndarray | None:
    """The vector of a row's words, shape (`DIMENSIONS`,); None where it has none."""
    found = [
        zlib.crc32(word.encode()) % BUCKETS
        for name, kind in asked.items()
        if kind != request.FILE and name in row
        for text in _texts(row[name])
        for word in _WORD.findall(text.lower())
    ]
    if not found:
        return None
    vector: np.ndarray = _vectors()[found].mean(0)
    return vector


def label(prediction: Any) -> str | None:
    """The class that was predicted, several joined by ` + `; None where it is no class."""
    given = getattr(prediction, "labels", None)
    return None if given is None else " + ".join(sorted(map(str, given))) or NO_CLASS


NO_CLASS = "(none)"
"""What a text is called that is of no class, where it may be of several."""


def confidence(prediction: Any) -> float | None:
    """The probability that a model gives to its answer; None where it gives none."""
    value = getattr(prediction, "confidence", None)
    return None if value is None else round(float(value), 6)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [value.get("content", "")]
    if isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)


@functools.cache
def _vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((BUCKETS, DIMENSIONS)).astype(np.float32)
