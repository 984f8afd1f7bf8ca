"""Means over seeds with their 95 % intervals, and which of them are tied."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TypeVar

CONFIDENCE = 0.95
OWN_VARIANCE_SEEDS = 10
"""From so many seeds on a point's own variance is known well enough (95 % within a factor of 2 to either side)."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval, whose ends are None where nothing is known of the scatter."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scatter:
    """A variance over seeds, and its degrees of freedom, at least 1."""

    variance: float
    dof: int


def estimates(groups: Sequence[Sequence[float]], runs: Sequence[Hashable]) -> list[Interval | None]:
    """Mean and interval of each group of scores over seeds; None for an empty one. `runs` names the run of each group."""
    found: list[Interval | None] = []
    for values, scatter in zip(groups, scatters(groups, runs), strict=True):
        if not values:
            found.append(None)
        elif scatter is None:
            found.append(Interval(fmean(values)))
        else:
            half = half_width(scatter.dof) * math.sqrt(scatter.variance / len(values))
            found.append(Interval(fmean(values), fmean(values) - half, fmean(values) + half))
    return found


def scatters(groups: Sequence[Sequence[float]], runs: Sequence[Hashable]) -> list[Scatter | None]:
    """The variance over seeds that holds for each group: pooled, or its own from `OWN_VARIANCE_SEEDS` seeds on; None: not known."""
    several = [(values, run) for values, run in zip(groups, runs, strict=True) if len(values) > 1]
    pooled = None
    if several:
        within = sum((len(values) - 1) * variance(values) for values, _ in several)
        by_run: dict[Hashable, int] = {}
        for values, run in several:
            by_run[run] = max(by_run.get(run, 0), len(values) - 1)
        pooled = Scatter(within / sum(len(values) - 1 for values, _ in several), sum(by_run.values()))
    return [Scatter(variance(v), len(v) - 1) if len(v) >= OWN_VARIANCE_SEEDS else pooled for v in groups]


def ties(groups: Sequence[Sequence[float]], runs: Sequence[Hashable]) -> list[set[int]] | None:
    """Indices of the groups that each is tied with, of those it is compared with; groups in the order of their cost, none empty.

    Returns:
        A set for each group; None where nothing is known of the scatter.
    """
    known = [each for each in scatters(groups, runs) if each is not None]
    if len(known) < len(groups) or not groups:
        return None
    means = [fmean(values) for values in groups]
    best = max(range(len(groups)), key=lambda i: (means[i], -i))
    pairs = {(i, i + 1) for i in range(len(groups) - 1)} | {(min(i, best), max(i, best)) for i in range(len(groups)) if i != best}
    chances = {}
    for a, b in pairs:
        error = math.sqrt(known[a].variance / len(groups[a]) + known[b].variance / len(groups[b]))
        chances[a, b] = p_value(means[a] - means[b], error, min(known[a].dof, known[b].dof))
    tied: list[set[int]] = [set() for _ in groups]
    for (a, b), p in holm(chances).items():
        if p >= 1 - CONFIDENCE:
            tied[a].add(b)
            tied[b].add(a)
    return tied


def p_value(difference: float, error: float, dof: int) -> float:
    """Two-sided p of Student's t for a difference with this standard error."""
    if error == 0:
        return float(difference == 0)
    from scipy.special import stdtr

    return float(2 * stdtr(dof, -abs(difference) / error))


def holm(chances: Mapping[K, float]) -> dict[K, float]:
    """p-values adjusted by Holm's step-down method: those below alpha are significant with a family-wise error of at most alpha."""
    adjusted: dict[K, float] = {}
    highest = 0.0
    for i, (key, p) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(chances) - i) * p))
        adjusted[key] = highest
    return adjusted


def half_width(dof: int) -> float:
    """Of Student's t with so many degrees of freedom: the half-width of a 95 % interval in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(dof, 0.5 + CONFIDENCE / 2))
