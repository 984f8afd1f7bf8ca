"""A Gaussian process over runs and their progress, on plain arrays: exact, float64, deterministic.

    k((x, t), (x', t')) = K_x (a + b K_t + d t t') + c K_t + e t t',    and noise

K_x is a product of one factor per setting, so that it stays positive definite with settings that only some runs have: of a
number Matern-5/2, of an option exp(-w [x != x']); of a setting that may be absent r^2 + (1 - r^2) k where both runs have it, 1
where neither has, and r where one has. K_t is a squared exponential on log progress and on log labels; t is log progress from 0
to 1, so that the terms in t t' are trends: short runs lie near each other, and say how far apart long ones will be only by
where they are heading. Every checkpoint may be seen twice, by its score and by its loss: two views that are alike to a degree s,
each with that kernel. Their sum and their difference are then independent, with 1 + s and 1 - s times the kernel, so that two
views take two factorisations of the size that one view takes. Hyperparameters are found by maximum a posteriori with L-BFGS under
log-normal priors (Rasmussen & Williams 2006, section 5.4.1, for the gradient).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, sparse

from workbench.search.features import Floats

Ints = NDArray[np.intp]
Moments = NDArray[np.complex128]

ABSENT = 0.5
"""r: how alike a run that has a setting is to one that lacks it."""

_COMBINED = {1: np.ones((1, 1)), 2: np.array([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)}
"""The independent combinations of the views, by the number of views."""

_BLOCK = 1 << 16
"""Gaps that are worked on at a time: they stay in a core's cache."""

_MOST_COLUMNS = 64
"""Settings of one block: the product of so many polynomials of scaled distances is finite within the bounds of lengths."""

_PRIOR_SD = 0.8
"""Standard deviation of the logarithm of each hyperparameter around its start."""

MOST_ITERATIONS = 30
"""Most iterations of L-BFGS for a fit."""

_JITTER = 1e-4
"""Variance added to every observation, so that equal points leave the kernel positive definite."""


class Observations(NamedTuple):
    """Checkpoints: of which run (an index of the rows that go with them), log progress, and log labels."""

    run: Ints
    progress: Floats
    labels: Floats


class _Block(NamedTuple):
    """Settings of one kind that the same runs have, and pairs of runs that have them.

    Attributes:
        columns: The settings.
        pairs: The pairs, by their place among runs x others.
        gap: How far apart they are, shape (columns, pairs); of options 0 or 1.
        options: Whether the settings are options.
        shared: Whether some runs lack them.
    """

    columns: Ints
    pairs: Ints | slice
    gap: Floats
    options: bool
    shared: bool

    def similarity(self, scale: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """Factors of K_x, shape (pairs,), and what turns a gradient by their logarithm into one by the settings' parameters.

        Args:
            scale: Weights of options or lengths of numbers, shape (columns,).
        """
        s = self.gap * (scale if self.options else math.sqrt(5.0) / scale)[:, None]
        matern = np.ones_like(s) if self.options else 1 + s + s * s / 3
        if self.shared:
            share = (1 - ABSENT**2) * matern * np.exp(-s)
            mixed = ABSENT**2 + share
            factor = mixed.prod(0)
        else:
            factor = np.exp(-s.sum(0)) if self.options else matern.prod(0) * np.exp(-s.sum(0))

        def gradient(by_log: Floats) -> Floats:
            slope = -s if self.options else s * s * (1 + s) / (3 * matern)
            slopes: Floats = (slope * share / mixed if self.shared else slope) @ by_log
            return slopes

        return factor, gradient


class _Gaps:
    """How far apart runs and others are in each setting: all that their similarity needs beside hyperparameters.

    Settings that the same runs have are one array: a study of many methods has many settings, most of them of few runs.

    Args:
        rows: Settings of the runs, shape (runs, columns).
        others: Settings of other runs, shape (others, columns). Given the same array, each pair is looked at once.
        categorical: Which columns are options, shape (columns,).
    """

    def __init__(self, rows: Floats, others: Floats, categorical: NDArray[np.bool_]) -> None:
        self._shape, self._columns, self._mirrored = (len(rows), len(others)), len(categorical), others is rows
        has, had = ~np.isnan(rows), ~np.isnan(others)
        one = has.astype(float) @ (~had).T + (~has).astype(float) @ had.T  # how many settings one of two has
        self._base = ABSENT**one
        groups: dict[tuple[bool, bytes, bytes], list[int]] = {}
        for j, option in enumerate(categorical.tolist()):
            groups.setdefault((option, has[:, j].tobytes(), had[:, j].tobytes()), []).append(j)
        self._blocks = [block for (option, *_), each in groups.items() for block in self._of(np.array(each), rows, others, option)]

    def _of(self, columns: Ints, rows: Floats, others: Floats, options: bool) -> Iterator[_Block]:
        of, to = (np.flatnonzero(~np.isnan(part[:, columns[0]])) for part in (rows, others))
        shared = len(of) < len(rows) or len(to) < len(others)
        i, j = np.triu_indices(len(of), 1) if self._mirrored else (np.arange(len(of))[:, None], np.arange(len(to))[None])
        places = (of[i] * len(others) + to[j]).ravel()
        pairs = places if shared or self._mirrored else slice(None)
        size = min(_MOST_COLUMNS, max(1, _BLOCK // max(1, len(places))))
        for part in (columns[k : k + size] for k in range(0, len(columns), size)):
            gap = np.abs(rows[of].T[part][:, i] - others[to].T[part][:, j]).reshape(len(part), len(places))
            yield _Block(part, pairs, (gap > 0).astype(float) if options else gap, options, shared)

    def similarity(self, theta: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """K_x, shape (runs, others), and what turns a gradient by its logarithm into one by the settings' parameters."""
        scale, flat = np.exp(theta[: self._columns]), np.ones(self._base.size)
        slopes = []
        for block in self._blocks:
            factor, slope = block.similarity(scale[block.columns])
            flat[block.pairs] *= factor
            slopes.append(slope)
        table = flat.reshape(self._shape)
        kx: Floats = self._base * table * (table.T if self._mirrored else 1.0)

        def gradient(by_log: Floats) -> Floats:
            flat, found = (2 * by_log if self._mirrored else by_log).ravel(), np.zeros(self._columns)
            for block, slope in zip(self._blocks, slopes, strict=True):
                found[block.columns] = slope(flat[block.pairs])
            return found

        return kx, gradient


class _Times(NamedTuple):
    """Terms of the kernel that know no settings, by pairs of moments, and what they are made of.

    Attributes:
        factor: What K_x is multiplied by: a + b K_t + d t t'.
        rest: What is added: c K_t + e t t'.
        kt: K_t.
        tau: t t'.
        progress: Squared scaled distances in log progress.
        labels: Squared scaled distances in log labels.
    """

    factor: Floats
    rest: Floats
    kt: Floats
    tau: Floats
    progress: Floats
    labels: Floats

    @classmethod
    def of(cls, parameters: Floats, moments: Moments, others: Moments) -> _Times:
        """The terms of moments; `parameters` are those of the kernel from the length of log progress on."""
        lp, ll, a, b, c, d, e = np.exp(parameters[:7])
        progress = ((moments.real[:, None] - others.real) / lp) ** 2
        labels = ((moments.imag[:, None] - others.imag) / ll) ** 2
        kt, tau = np.exp(-0.5 * (progress + labels)), moments.real[:, None] * others.real
        return cls(a + b * kt + d * tau, c * kt + e * tau, kt, tau, progress, labels)


def _moments(points: Observations) -> tuple[Moments, Ints]:
    """The different moments at which points were seen, log progress + i log labels, and which each point's is.

    Runs are seen at the same moments over and over: the terms of the kernel that know no settings are worked out once for each.
    """
    moments, index = np.unique(points.progress + 1j * points.labels, return_inverse=True)
    return moments, index


def _spread(table: Floats, rows: Ints, columns: Ints) -> Floats:
    """A table's entries at all pairs of some of its rows and columns."""
    return table[rows][:, columns]


class Likelihood:
    """Minus the log marginal likelihood of what was seen (without its constant), and its gradient, by hyperparameters."""

    def __init__(self, surrogate: Surrogate, rows: Floats, points: Observations, y: Floats) -> None:
        self._surrogate, self._points, self._seen = surrogate, points, _COMBINED[surrogate.views] @ y
        self._gaps, (self._moments, self._moment) = _Gaps(rows, rows, surrogate.categorical), _moments(points)
        self._of_runs = _members(points.run, len(rows))
        self._of_moments = _members(self._moment, len(self._moments))

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        """The value and its gradient; 1e25 and none where the kernel is singular."""
        o, run, moment = len(self._surrogate.categorical), self._points.run, self._moment
        of_runs, by_settings = self._gaps.similarity(theta)
        times = _Times.of(theta[o:], self._moments, self._moments)
        kx, factor = _spread(of_runs, run, run), _spread(times.factor, moment, moment)
        k = kx * factor + _spread(times.rest, moment, moment)
        a, b, c, d, e, noise = np.exp(theta[o + 2 : o + 8])
        value, gradient, w = 0.0, np.zeros_like(theta), np.zeros_like(k)
        for share, steeper, values in zip(*self._surrogate.shares(theta), self._seen, strict=True):
            observed = share * k
            observed[np.diag_indices_from(observed)] += noise + _JITTER
            try:  # symmetric: its transpose is itself, in the order that LAPACK works in
                triangle = linalg.cholesky(observed.T, lower=True, overwrite_a=True, check_finite=False)
            except linalg.LinAlgError:
                return 1e25, np.zeros_like(theta)
            alpha = linalg.cho_solve((triangle, True), values, check_finite=False)
            value += 0.5 * float(values @ alpha) + float(np.log(np.diag(triangle)).sum())
            inverse = linalg.lapack.dpotri(triangle, lower=1, overwrite_c=1)[0].T
            its = 0.5 * (inverse + np.triu(inverse, 1).T - np.outer(alpha, alpha))  # d value / d matrix
            gradient[o + 7] += noise * np.trace(its)
            gradient[-1] += steeper * np.vdot(its, k)  # of one view: 0
            w += share * its
        # Settings differ between runs, time between moments: summed over points first, the gradient took a quarter of the
        # time in a space of 110 conditional settings.
        wkx = w * kx
        gradient[:o] = by_settings(_summed(wkx * factor, self._of_runs))  # the settings' kernel is that of runs
        wkx, w = _summed(wkx, self._of_moments), _summed(w, self._of_moments)  # and the others' that of moments
        time = (b * wkx + c * w) * times.kt
        gradient[o], gradient[o + 1] = np.vdot(time, times.progress), np.vdot(time, times.labels)
        gradient[o + 2], gradient[o + 3], gradient[o + 4] = a * wkx.sum(), b * np.vdot(wkx, times.kt), c * np.vdot(w, times.kt)
        gradient[o + 5], gradient[o + 6] = d * np.vdot(wkx, times.tau), e * np.vdot(w, times.tau)
        return value, gradient


def _members(of: Ints, count: int) -> sparse.csr_array:
    """Which points belong to each of `count` things, shape (things, points)."""
    return sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(count, len(of)))


def _summed(matrix: Floats, members: sparse.csr_array) -> Floats:
    """Summed by pairs of things, shape (things, things), from a symmetric one by pairs of their points."""
    pairs: Floats = members @ (members @ matrix).T
    return pairs


class Surrogate:
    """Fitted to points of runs; predicts the first view of points of the same or other runs.

    Args:
        categorical: Which columns of the rows are options, shape (columns,).
        views: How many values each point has: 1 for scores alone, 2 with losses.
    """

    def __init__(self, categorical: NDArray[np.bool_], *, views: int = 1) -> None:
        self.categorical, self.views = categorical, views
        # Lengths grow with the root of the number of settings: else everything is far off (Hvarfner et al. 2024, arXiv:2402.02229).
        scale = np.where(categorical, 0.5, 0.6 * math.sqrt(max(1.0, (~categorical).sum() / 3)))
        # Of settings, then progress, labels, a, b, c, d, e, noise.
        self._start = np.log(np.r_[scale, 0.3, 1.0, 0.5, 0.3, 0.3, 0.4, 0.4, 0.03])
        if views > 1:
            self._start = np.r_[self._start, 0.0]  # logit of how alike score and loss are, less 1
        self.theta = self._start.copy()

    def fit(self, rows: Floats, points: Observations, y: Floats, *, afresh: bool = False) -> None:
        """Find hyperparameters, starting from those before unless `afresh`. Keeps the start where that fails.

        Args:
            rows: Settings of the runs, shape (runs, columns).
            points: Where they were seen.
            y: What was seen there, shape (views, points).
            afresh: Whether to forget the hyperparameters that were found before.
        """
        if afresh:
            self.theta = self._start.copy()

        likelihood = Likelihood(self, rows, points, y)

        def objective(theta: Floats) -> tuple[float, Floats]:
            value, gradient = likelihood(theta)
            step = (theta - self._start) / _PRIOR_SD
            return value + 0.5 * float(step @ step), gradient + step / _PRIOR_SD

        # Four units of logarithm to each side: beyond, kernels are constant or white, and the likelihood is flat.
        bounds = [(m - 4.0, m + 4.0) for m in self._start]
        try:
            fitted = optimize.minimize(
                objective, self.theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MOST_ITERATIONS}
            )
        except (linalg.LinAlgError, ValueError):
            return
        # A fit that failed must not leave nan in the hyperparameters: those before are better than that.
        if np.isfinite(fitted.x).all():
            self.theta = fitted.x

    def condition(self, rows: Floats, points: Observations, y: Floats) -> Posterior:
        """What is believed after observations as of `fit`. Raises `scipy.linalg.LinAlgError` where the kernel is singular."""
        k, noise = self.kernel(rows, rows, points, points), self.noise() * np.eye(len(points.run))
        factors = [linalg.cholesky(share * k + noise, lower=True, check_finite=False) for share in self.shares(self.theta)[0]]
        combined = zip(factors, _COMBINED[self.views] @ y, strict=True)
        return Posterior(self, rows, points, factors, [linalg.cho_solve((f, True), z, check_finite=False) for f, z in combined])

    def prior_variance(self, points: Observations) -> Floats:
        """Variance of the noiseless values before any observation, shape (points,)."""
        a, b, c, d, e = np.exp(self.theta[self._columns + 2 : self._columns + 7])
        return np.asarray(a + b + c + (d + e) * points.progress**2)

    def similarity(self, rows: Floats, others: Floats) -> Floats:
        """K_x of rows and others, from 0 to 1, shape (rows, others)."""
        return _Gaps(rows, others, self.categorical).similarity(self.theta)[0]

    @property
    def _columns(self) -> int:
        return len(self.categorical)

    def noise(self) -> float:
        """Variance of an observation around its value."""
        return math.exp(self.theta[self._columns + 7]) + _JITTER

    def kernel(self, rows: Floats, others: Floats, p: Observations, q: Observations) -> Floats:
        """Covariance of points `p` of the runs in `rows` with points `q` of those in `others`, shape (p, q)."""
        kx = self.similarity(rows, others)
        (moments, i), (those, j) = _moments(p), _moments(q)
        times = _Times.of(self.theta[self._columns :], moments, those)
        k: Floats = _spread(kx, p.run, q.run) * _spread(times.factor, i, j) + _spread(times.rest, i, j)
        return k

    def shares(self, theta: Floats) -> tuple[Floats, Floats]:
        """How much of the kernel each combination of the views has, and by how much that grows with the last parameter."""
        if self.views == 1:
            return np.ones(1), np.zeros(1)
        alike = 1 / (1 + math.exp(-theta[-1] - 1))
        return np.array([1 + alike, 1 - alike]), np.array([1, -1]) * alike * (1 - alike)


@dataclass(frozen=True)
class Posterior:
    """A surrogate after observations."""

    surrogate: Surrogate
    rows: Floats
    points: Observations
    factors: list[Floats]
    alphas: list[Floats]

    @property
    def noise(self) -> float:
        """Variance of an observation around its value."""
        return self.surrogate.noise()

    def predict(self, rows: Floats, points: Observations) -> tuple[Floats, Floats, Floats]:
        """Mean and variance of the noiseless values, shape (points,), and V, shape (observations, points).

        The covariance of two predicted points is their kernel less the product of their columns of V.
        """
        k = self.surrogate.kernel(rows, self.rows, points, self.points)
        weights = self.surrogate.shares(self.surrogate.theta)[0] * _COMBINED[self.surrogate.views][0]  # with each combination
        solved = [
            linalg.solve_triangular(f, w * k.T, lower=True, check_finite=False) for f, w in zip(self.factors, weights, strict=True)
        ]
        v, mean = np.concatenate(solved), k @ sum(w * alpha for w, alpha in zip(weights, self.alphas, strict=True))
        variance = self.surrogate.prior_variance(points) - (v * v).sum(0)
        # Rounding makes the variance of a point that was observed slightly negative.
        return mean, np.maximum(variance, 1e-10), v

    def covariance(self, rows: Floats, points: Observations, v: Floats, others: Floats, those: Observations, u: Floats) -> Floats:
        """Covariance of points with those, shape (points, those); `v` and `u` as `predict` gave them."""
        k = self.surrogate.kernel(rows, others, points, those)
        return k - v.T @ u
