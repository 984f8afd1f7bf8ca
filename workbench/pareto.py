"""Dominance, fronts and hypervolume on plain numbers. Every coordinate is minimised: negate what is maximised."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better (smaller)."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates, in the order of their coordinates.

    Points that tie exactly are all kept, in the order in which they were given: none of them dominates another. Two coordinates
    take O(n log n), more take O(n x different points of the front).
    """
    kept: list[int] = []
    different: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (*points[i], i)):
        # Sorted so, no later point can dominate an earlier one, and equal ones follow each other; with two coordinates the last
        # kept one decides.
        if not different or tuple(points[i]) != tuple(points[different[-1]]):
            rivals = different[-1:] if len(points[i]) == 2 else different
            if any(dominates(points[k], points[i]) for k in rivals):
                continue
            different.append(i)
        kept.append(i)
    return kept


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Volume that `points` dominate below `reference`, in the product of the coordinates' units.

    Points that do not lie below the reference in every coordinate add nothing. Computed by slicing along the last
    coordinate (Zitzler 1999, "HSO"): exact, and quick enough for fronts of a few hundred points in up to four coordinates.
    """
    inside = list({tuple(p) for p in points if all(x < r for x, r in zip(p, reference, strict=True))})
    if not inside:
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - min(p[0] for p in inside))
    inside.sort(key=lambda p: p[-1])
    volume = 0.0
    for i, point in enumerate(inside):
        depth = (inside[i + 1][-1] if i + 1 < len(inside) else reference[-1]) - point[-1]
        if depth > 0:
            # Only the front of a slab is handed down: the recursion grows steeply with the number
            # of points.
            slab = [p[:-1] for p in inside[: i + 1]]
            volume += depth * hypervolume([slab[k] for k in front(slab)], reference[:-1])
    return volume
