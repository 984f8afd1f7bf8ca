"""Finds texts that say nearly the same, in linear time.

Min-wise hashing with banding proposes pairs (Broder 1997; Indyk and Motwani 1998); the Jaccard
index of their shingles decides. Everything is deterministic, as hashes depend on the text alone.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

BANDS, ROWS = 16, 3  # a pair of similarity s is proposed with probability 1 - (1 - s³)¹⁶: 0.88 at 0.5, 0.999 at 0.7


def words(text: str) -> list[str]:
    """Lower-case words of a text. All numbers count as the same word, and punctuation as none."""
    return re.sub(r"\d+", "0", text.lower()).translate(_PUNCTUATION).split()


def shingles(text: str, size: int = 3) -> frozenset[int]:
    """Hashes of the runs of `size` words in a text; of the whole text where it is shorter."""
    each = words(text)
    runs = (" ".join(each[i : i + size]) for i in range(max(1, len(each) - size + 1)))
    # Not Python's own hash, which differs from process to process.
    return frozenset(zlib.crc32(run.encode()) for run in runs)


def similar_pairs(sets: Sequence[frozenset[int]], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of indices (i < j) whose sets have a Jaccard index of at least `threshold`, 0 to 1.

    Within a bucket each member is compared with the first and the few before it. So a thousand
    copies take some thousand comparisons and not a million; members that are similar to all of them
    are connected through them.
    """
    seen: set[tuple[int, int]] = set()
    for bucket in _buckets(sets):
        for k, other in enumerate(bucket):
            for each in {bucket[0], *bucket[max(0, k - 4) : k]} - {other}:
                if (each, other) not in seen:
                    seen.add((each, other))
                    common = len(sets[each] & sets[other])
                    if common >= threshold * (len(sets[each]) + len(sets[other]) - common):
                        yield each, other


def groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` items the smallest item it is connected to by `pairs` (union-find)."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            # Halves the path on the way, which keeps later look-ups short.
            parent[item] = item = parent[parent[item]]
        return item

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(item) for item in range(count)]


def _buckets(sets: Sequence[frozenset[int]]) -> Iterator[list[int]]:
    rng = np.random.default_rng(0)
    factor = rng.integers(0, 2**64, (BANDS * ROWS, 1), dtype=np.uint64) | np.uint64(1)
    offset = rng.integers(0, 2**64, (BANDS * ROWS, 1), dtype=np.uint64)
    signatures = np.empty((len(sets), BANDS * ROWS), np.uint64)
    for i, each in enumerate(sets):
        values = np.fromiter(each, np.uint64, len(each))
        # Multiply-shift: high bits of a product hash well, but only if it wraps modulo 2⁶⁴.
        signatures[i] = ((values * factor + offset) >> np.uint64(32)).min(axis=1)
    for band in range(BANDS):
        found: dict[bytes, list[int]] = defaultdict(list)
        for i, key in enumerate(np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])):
            found[key.tobytes()].append(i)
        yield from (bucket for bucket in found.values() if len(bucket) > 1)


_PUNCTUATION = {code: " " for code in range(128) if not chr(code).isalnum()}
