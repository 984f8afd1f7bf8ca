"""The score of each run at its checkpoints, and whether it still rises where the runs end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.result import Result, by_run, originals

ALONG = {"step": "optimiser steps", "tokens": "training tokens", "examples": "training examples"}
"""The axes of a curve beside the costs of a view, each with its title."""

SHOWN = 20
"""The most curves that can be told apart on a screen."""


@dataclass(frozen=True)
class Curve:
    """The checkpoints of one run, shortest first.

    Attributes:
        points: The checkpoints.
        x: Their values on the axis that was asked for, all > 0.
        scores: Their scores.
        on_front: Whether each of them is on the front.
    """

    points: tuple[Result, ...]
    x: tuple[float, ...]
    scores: tuple[float, ...]
    on_front: tuple[bool, ...]

    @property
    def last(self) -> Result:
        """The furthest checkpoint."""
        return self.points[-1]


def curves(results: Sequence[Result], view: View, axis: str = "step") -> list[Curve]:
    """Return the curves of all runs, those with a member of the front first, then by their best score.

    Args:
        results: All Results of the study.
        view: Prices and objectives.
        axis: One of `ALONG`, or a cost of the view, from cold: `usd`, `seconds`, …
    """
    members = {id(r) for r in pareto_front(results, view)}
    points = [r for r in originals(results) if r.status == "complete" and view.maximize in r.scores]
    found = []
    for segments in by_run(points).values():
        known = [(r, _along(r, view, axis) or 0.0) for r in sorted(segments, key=lambda r: r.epochs)]
        # Axes are logarithmic: a checkpoint at 0 has no place on them.
        known = [(r, along) for r, along in known if along > 0]
        if known:
            kept, x = zip(*known, strict=True)
            found.append(Curve(kept, x, tuple(r.scores[view.maximize] for r in kept), tuple(id(r) in members for r in kept)))
    return sorted(found, key=lambda curve: (not any(curve.on_front), -max(curve.scores)))


def _along(result: Result, view: View, axis: str) -> float | None:
    """Return the value of a checkpoint on an axis; None where it is unknown."""
    return float(getattr(result, axis)) if axis in ALONG else view.cost(result, axis)


def chosen(known: Sequence[Curve], most: int = SHOWN) -> list[Curve]:
    """Return at most so many of the curves, in their order. All methods take turns, so that the best of each is among them."""
    queues: dict[str, list[Curve]] = {}
    for curve in known:
        queues.setdefault(curve.last.method, []).append(curve)
    members = [curve for curve in known if any(curve.on_front)][:most]
    kept, turn = {id(curve) for curve in members}, 0
    while len(kept) < min(most, len(known)):
        for queue in queues.values():
            if turn < len(queue) and len(kept) < most:
                kept.add(id(queue[turn]))
        turn += 1
    return [curve for curve in known if id(curve) in kept]


@dataclass(frozen=True)
class Rise:
    """Whether quality still rises where runs end.

    Attributes:
        runs: Number of runs with a checkpoint at half of their steps or before; no other run can tell.
        best_at_end: Number of them that scored best at their furthest checkpoint.
        gain: Median gain of the last doubling of steps, in points of the score; None without such a run.
    """

    runs: int
    best_at_end: int
    gain: float | None


def rise(known: Sequence[Curve]) -> Rise:
    """Return whether the score still rises where these runs end."""
    gains, at_end = [], 0
    for curve in known:
        steps = [r.step or r.epochs for r in curve.points]
        # From the last checkpoint in the first half: the gain of at least a doubling.
        halves = [i for i, step in enumerate(steps) if step <= steps[-1] / 2]
        if halves:
            gains.append(curve.scores[-1] - curve.scores[halves[-1]])
            at_end += curve.scores[-1] >= max(curve.scores)
    return Rise(len(gains), at_end, median(gains) if gains else None)
