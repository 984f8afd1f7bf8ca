"""How sure a comparison is: ratios with bootstrap intervals, rank tests with Holm's correction, critical differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.05
"""Level of all tests, and what intervals leave out."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float] | Numbers, *, seed: int = 0) -> Interval:
    """The median of seeds, with its 95 % interval by the percentile bootstrap over them (Efron 1979)."""
    sample = np.asarray(values, float)
    # A fixed seed: the same traces give the same record.
    drawn = np.random.default_rng(seed).integers(0, len(sample), (RESAMPLES, len(sample)))
    low, high = np.quantile(np.median(sample[drawn], axis=1), [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(np.median(sample)), float(low), float(high))


def rank_test(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) on pairs; 1 where all pairs are equal."""
    from scipy import stats

    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


@dataclass(frozen=True)
class Ranking:
    """Methods over tables.

    Attributes:
        mean_ranks: Mean rank of each method, 1 the best.
        friedman_p: The p of Friedman's test that all are alike; None with fewer than three methods or two tables.
        critical_difference: Mean ranks that are farther apart differ by Nemenyi's test; None as above.
    """

    mean_ranks: tuple[float, ...]
    friedman_p: float | None
    critical_difference: float | None


def ranking(values: Numbers) -> Ranking:
    """Rank methods (columns) on tables (rows) by a value to be minimised (Friedman 1937, Nemenyi 1963, Demšar 2006)."""
    from scipy import stats

    tables, methods = values.shape
    mean_ranks = tuple(float(rank) for rank in stats.rankdata(values, axis=1).mean(axis=0))
    # Friedman's test needs three methods; with two there is the signed-rank test.
    if tables < 2 or methods < 3:
        return Ranking(mean_ranks, None, None)
    p = float(stats.friedmanchisquare(*values.T).pvalue)
    # Nemenyi's q: the studentised range at infinite degrees of freedom, over the root of 2.
    q = float(stats.studentized_range.ppf(1 - LEVEL, methods, np.inf)) / math.sqrt(2)
    return Ranking(mean_ranks, None if math.isnan(p) else p, q * math.sqrt(methods * (methods + 1) / (6 * tables)))
