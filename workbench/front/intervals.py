"""Means over seeds with their 95 % intervals, and which of them are tied."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, variance
from typing import TypeVar

CONFIDENCE = 0.95
OWN_VARIANCE_SEEDS = 10
"""From this number of seeds on, the variance of a point is estimated from its own seeds: its 95 % interval is then within a
factor of 2 to either side."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval.

    Attributes:
        mean: The mean.
        low: The lower end; None where the variance is unknown.
        high: The upper end, likewise.
        pooled: Whether its variance is that of several groups together.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    pooled: bool = False

    def within(self, ends: tuple[float, float] | None) -> Interval:
        """The same, cut where the score itself ends; as it is where that is unknown."""
        if ends is None or self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, ends[0]), high=min(self.high, ends[1]))


@dataclass(frozen=True)
class SeedVariance:
    """A variance over seeds.

    Attributes:
        variance: The variance.
        dof: Its degrees of freedom, at least 1; infinitely many where no seed changes anything.
        pooled: Whether it is that of several groups together.
    """

    variance: float
    dof: float
    pooled: bool = False


def estimates(groups: Sequence[Sequence[float]], runs: Sequence[Hashable], fixed: Sequence[bool] = ()) -> list[Interval | None]:
    """Return the mean of each group of scores over seeds, with its 95 % interval (Student's t); None for an empty group.

    Args:
        groups: The scores of each point, one a seed.
        runs: The run of each point. Points of one run share their seeds, which are counted once.
        fixed: Whether no seed changes a point, for each: it has no interval then. Left out, seeds change all.
    """
    found: list[Interval | None] = []
    for values, scatter in zip(groups, seed_variances(groups, runs, fixed), strict=True):
        if not values:
            found.append(None)
        elif scatter is None or math.isinf(scatter.dof):
            found.append(Interval(fmean(values)))
        else:
            half = half_width(scatter.dof) * math.sqrt(scatter.variance / len(values))
            found.append(Interval(fmean(values), fmean(values) - half, fmean(values) + half, scatter.pooled))
    return found


def share(score: float, examples: int) -> Interval:
    """Return a score from 0 to 100 with the 95 % interval of a share of so many examples (Wilson 1927, JASA 22:209): how it varies
    with the examples that happen to be there.

    A mean of scores between 0 and 1 varies no more than such a share, for which the interval is at most too wide.
    """
    p, z = score / 100, NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    middle, spread = p + z * z / (2 * examples), z * math.sqrt(p * (1 - p) / examples + (z / (2 * examples)) ** 2)
    low, high = (100 * end / (1 + z * z / examples) for end in (middle - spread, middle + spread))
    return Interval(score, low, high)


def seed_variances(
    groups: Sequence[Sequence[float]], runs: Sequence[Hashable], fixed: Sequence[bool] = ()
) -> list[SeedVariance | None]:
    """Return the variance over seeds of each group; None where it is unknown.

    It is pooled over all groups: the within-groups mean square of a one-way analysis of variance. A group has its own where it has
    at least `OWN_VARIANCE_SEEDS` seeds, or where the groups plainly scatter unlike each other (`alike`). What no seed changes has
    none, and is in no pool. Arguments as for `estimates`.
    """
    still = fixed or [False] * len(groups)
    several = [(v, run) for v, run, off in zip(groups, runs, still, strict=True) if len(v) > 1 and not off]
    pooled = None
    if several:
        within = sum((len(values) - 1) * variance(values) for values, _ in several)
        by_run: dict[Hashable, int] = {}
        for values, run in several:
            # Checkpoints of one run share their seeds: counted one by one they would feign
            # precision.
            by_run[run] = max(by_run.get(run, 0), len(values) - 1)
        mean_square = within / sum(len(values) - 1 for values, _ in several)
        pooled = SeedVariance(mean_square, sum(by_run.values()), pooled=len(several) > 1)
    shared = alike([values for values, _ in several])
    none = SeedVariance(0.0, math.inf)
    found: list[SeedVariance | None] = []
    for values, off in zip(groups, still, strict=True):
        # Scores that happen to be equal are no proof that they do not scatter: those have the pooled variance still.
        own = len(values) >= OWN_VARIANCE_SEEDS or (not shared and len(set(values)) > 1)
        found.append(none if off else SeedVariance(variance(values), len(values) - 1) if own else pooled)
    return found


def alike(groups: Sequence[Sequence[float]]) -> bool:
    """Whether groups of scores may have one variance: whether a test does not tell their variances apart at 5 % (Bartlett 1937,
    Proc. R. Soc. Lond. A 160:268).

    Where one of five members scatters ten times as far as the others, three seeds each, the pooled interval of that one held the
    truth 60 times in a hundred, and its own, behind this test, 89 times; where all scatter alike the test costs about one in a
    hundred.
    """
    from scipy.special import chdtrc

    known = [(len(values) - 1, spread) for values in groups if len(values) > 1 and (spread := variance(values)) > 0]
    if len(known) < 2:
        return True
    freedom = sum(dof for dof, _ in known)
    pooled = sum(dof * spread for dof, spread in known) / freedom
    statistic = freedom * math.log(pooled) - sum(dof * math.log(spread) for dof, spread in known)
    correction = 1 + (sum(1 / dof for dof, _ in known) - 1 / freedom) / (3 * (len(known) - 1))
    return float(chdtrc(len(known) - 1, max(0.0, statistic / correction))) >= 1 - CONFIDENCE


def ties(groups: Sequence[Sequence[float]], runs: Sequence[Hashable], fixed: Sequence[bool] = ()) -> list[set[int]] | None:
    """Return with which other groups each group is tied.

    Each group is compared with the next one and with the best one. Two groups are tied when a t-test of the difference
    of their means, corrected over all comparisons by Holm's method, does not tell them apart at 5 %.

    Args:
        groups: The scores of each point over seeds, cheapest point first; none is empty.
        runs: The run of each point, as for `estimates`.
        fixed: Whether no seed changes a point, for each, as for `estimates`.

    Returns:
        For each group a set of indices; None where a variance is unknown.
    """
    known = [each for each in seed_variances(groups, runs, fixed) if each is not None]
    if len(known) < len(groups) or not groups:
        return None
    means = [fmean(values) for values in groups]
    best = max(range(len(groups)), key=lambda i: (means[i], -i))
    pairs = {(i, i + 1) for i in range(len(groups) - 1)} | {(min(i, best), max(i, best)) for i in range(len(groups)) if i != best}
    chances = {}
    for a, b in pairs:
        error = math.sqrt(known[a].variance / len(groups[a]) + known[b].variance / len(groups[b]))
        # The fewer degrees of freedom of the two: it errs on the side of a tie.
        chances[a, b] = p_value(means[a] - means[b], error, min(known[a].dof, known[b].dof))
    tied: list[set[int]] = [set() for _ in groups]
    for (a, b), p in holm(chances).items():
        if p >= 1 - CONFIDENCE:
            tied[a].add(b)
            tied[b].add(a)
    return tied


def p_value(difference: float, error: float, dof: float) -> float:
    """Two-sided p of Student's t for a difference with this standard error."""
    # Without any scatter a difference is certain, and its t would be infinite.
    if error == 0:
        return float(difference == 0)
    from scipy.special import stdtr

    return float(2 * stdtr(dof, -abs(difference) / error))


def holm(chances: Mapping[K, float]) -> dict[K, float]:
    """p-values adjusted by Holm's step-down method: those below alpha are significant with a family-wise error of at most alpha."""
    adjusted: dict[K, float] = {}
    highest = 0.0
    for i, (key, p) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        # Adjusted p-values never fall in this order: the procedure stops at the first that is not
        # significant.
        highest = max(highest, min(1.0, (len(chances) - i) * p))
        adjusted[key] = highest
    return adjusted


def half_width(dof: float) -> float:
    """Of Student's t with so many degrees of freedom: the half-width of a 95 % interval in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(dof, 0.5 + CONFIDENCE / 2))
