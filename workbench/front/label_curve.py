"""The best score at each number of labels, and what more labels would add to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from workbench.estimate import Estimate
from workbench.front.confirmed import corrected_points
from workbench.front.intervals import half_width
from workbench.front.objectives import View
from workbench.result import Result

MORE = 1000
"""Number of further labels whose gain is estimated."""

LEAST_COUNTS = 3
"""Least number of counts for a line: through two a line always goes, and its error cannot be seen."""


@dataclass(frozen=True)
class Best:
    """The best point with a number of labels.

    Attributes:
        labels: Distinct labels that reached its loss, > 0.
        point: The point, with its confirmed score where it has one.
        score: That score.
        points: Number of points with so many labels.
    """

    labels: int
    point: Result
    score: float
    points: int


def best_by_labels(results: Sequence[Result], view: View, *, by: str = "") -> dict[str, list[Best]]:
    """Return the best point at each number of labels, fewest first.

    Args:
        results: All Results of the study.
        view: Prices and objectives.
        by: `method` or `model`: a list for each; empty for one of all, under the empty name.
    """
    groups: dict[str, dict[int, list[Result]]] = {}
    for r in corrected_points(results, view):
        if r.status == "complete" and r.replicate_of is None and view.maximize in r.scores and r.labels > 0:
            groups.setdefault(str(getattr(r, by)) if by else "", {}).setdefault(r.labels, []).append(r)
    return {name: [_best(counts[labels], view) for labels in sorted(counts)] for name, counts in sorted(groups.items())}


def _best(points: Sequence[Result], view: View) -> Best:
    point = max(points, key=lambda r: r.scores[view.maximize])
    return Best(point.labels, point, point.scores[view.maximize], len(points))


@dataclass(frozen=True)
class Line:
    """The best scores as a straight line in the logarithm of the number of labels: score = base + slope x log2(labels).

    A learning curve bends down sooner or later, so a line is the hopeful side of what more labels buy. And the best of many points
    is higher than the best of few: where a search looked harder at one number of labels, the line leans towards it.

    Attributes:
        base: Of the line, in points of the score.
        slope: What a doubling of the labels brings, in points of the score.
        slope_error: 95 % half-width of it, Student's t on `counts` - 2 degrees of freedom.
        counts: Numbers of labels that it goes through, at least 3.
        most: The largest of them.
    """

    base: float
    slope: float
    slope_error: float
    counts: int
    most: int

    def at(self, labels: float) -> Estimate:
        """Return the score that the line gives at so many labels. Its band is that of the slope, and 0 at `most`."""
        doublings = math.log2(labels / self.most)
        # Only the slope's error grows from `most` on; how surely the best score there is known is
        # not in it.
        middle, half = self.base + self.slope * math.log2(labels), abs(self.slope_error * doublings)
        return Estimate(middle, middle - half, middle + half, "formula", f"a line through {self.counts} numbers of labels")

    def gain(self, more: int = MORE) -> Estimate:
        """Return what so many labels beyond `most` would add to the score."""
        now, then = self.base + self.slope * math.log2(self.most), self.at(self.most + more)
        return Estimate(then.value - now, then.low - now, then.high - now, then.basis, then.note)


def bent(best: Sequence[Best]) -> bool:
    """Return whether the most labels did no better than fewer of them: then no line says what more would add."""
    return len(best) > 1 and best[-1].score <= max(each.score for each in best[:-1])


def line(best: Sequence[Best]) -> Line | None:
    """Fit the line by least squares; None from fewer than three numbers of labels, and where the curve has bent."""
    if len(best) < LEAST_COUNTS or bent(best):
        return None
    x, y = [math.log2(each.labels) for each in best], [each.score for each in best]
    middle, mean = fmean(x), fmean(y)
    spread = sum((a - middle) ** 2 for a in x)
    slope = sum((a - middle) * (b - mean) for a, b in zip(x, y, strict=True)) / spread
    base, dof = mean - slope * middle, len(best) - 2
    off = sum((b - base - slope * a) ** 2 for a, b in zip(x, y, strict=True)) / dof
    # The standard error of a slope: residual variance over the spread of x.
    return Line(base, slope, half_width(dof) * math.sqrt(off / spread), len(best), best[-1].labels)
