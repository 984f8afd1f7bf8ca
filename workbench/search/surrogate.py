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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from workbench.search.features import Floats

Ints = NDArray[np.intp]

ABSENT = 0.5
"""r: how alike a run that has a setting is to one that lacks it."""

_COMBINED = {1: np.ones((1, 1)), 2: np.array([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)}
"""The independent combinations of the views, by the number of views."""

_PRIOR_SD = 0.8
_JITTER = 1e-4


class Points(NamedTuple):
    """Checkpoints: of which run (an index of the rows that go with them), log progress, and log labels."""

    run: Ints
    progress: Floats
    labels: Floats


@dataclass(frozen=True)
class _Parts:
    kx: Floats  # (runs, runs)
    slopes: list[Floats]  # d log kx / d log parameter, for each setting


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

    def fit(self, rows: Floats, points: Points, y: Floats, *, afresh: bool = False, iterations: int = 30) -> None:
        """Find hyperparameters, starting from those before unless `afresh`. Keeps the start where that fails.

        Args:
            rows: Of the runs, shape (runs, columns).
            points: Where they were seen.
            y: What was seen there, shape (views, points).
            afresh: Whether to forget the hyperparameters that were found before.
            iterations: Of L-BFGS, at most.
        """
        if afresh:
            self.theta = self._start.copy()

        def objective(theta: Floats) -> tuple[float, Floats]:
            value, gradient = self._loss(theta, rows, points, y)
            step = (theta - self._start) / _PRIOR_SD
            return value + 0.5 * float(step @ step), gradient + step / _PRIOR_SD

        bounds = [(m - 4.0, m + 4.0) for m in self._start]
        try:
            found = optimize.minimize(
                objective, self.theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
            )
        except (linalg.LinAlgError, ValueError):
            return
        if np.isfinite(found.x).all():
            self.theta = found.x

    def condition(self, rows: Floats, points: Points, y: Floats) -> Posterior:
        """What is believed after observations as of `fit`. Raises `scipy.linalg.LinAlgError` where the kernel is singular."""
        k, noise = self._kernel(self.theta, rows, rows, points, points), self._noise(self.theta) * np.eye(len(points.run))
        factors = [linalg.cholesky(share * k + noise, lower=True, check_finite=False) for share in self._shares(self.theta)[0]]
        combined = zip(factors, _COMBINED[self.views] @ y, strict=True)
        return Posterior(self, rows, points, factors, [linalg.cho_solve((f, True), z, check_finite=False) for f, z in combined])

    def _prior_variance(self, points: Points) -> Floats:
        a, b, c, d, e = np.exp(self.theta[self._columns + 2 : self._columns + 7])
        return np.asarray(a + b + c + (d + e) * points.progress**2)

    def likeness(self, rows: Floats, others: Floats) -> Floats:
        """K_x of rows and others, from 0 to 1, shape (rows, others)."""
        return self._of_settings(self.theta, rows, others).kx

    @property
    def _columns(self) -> int:
        return len(self.categorical)

    def _noise(self, theta: Floats) -> float:
        return math.exp(theta[self._columns + 7]) + _JITTER

    def _kernel(self, theta: Floats, rows: Floats, others: Floats, p: Points, q: Points) -> Floats:
        kx = self._of_settings(theta, rows, others).kx[np.ix_(p.run, q.run)]
        kt, _, _ = self._of_time(theta, p, q)
        a, b, c, d, e = np.exp(theta[self._columns + 2 : self._columns + 7])
        tau = p.progress[:, None] * q.progress[None]
        k: Floats = kx * (a + b * kt + d * tau) + c * kt + e * tau
        return k

    def _of_settings(self, theta: Floats, rows: Floats, others: Floats) -> _Parts:
        kx, slopes = np.ones((len(rows), len(others))), []
        for j in range(self._columns):
            x, z = rows[:, j, None], others[None, :, j]
            has, had = ~np.isnan(x), ~np.isnan(z)
            both, one = has & had, has ^ had
            scale = math.exp(theta[j])
            with np.errstate(invalid="ignore"):
                if self.categorical[j]:
                    differs = (x != z).astype(float)
                    k = np.exp(-scale * differs)
                    dk = -scale * differs * k
                else:
                    s = np.abs(x - z) * (math.sqrt(5.0) / scale)
                    decay = np.exp(-s)
                    k = (1 + s + s * s / 3) * decay
                    dk = s * s * (1 + s) / 3 * decay
            if not (has.all() and had.all()):
                r2 = ABSENT**2
                k = np.where(both, r2 + (1 - r2) * k, np.where(one, ABSENT, 1.0))
                dk = np.where(both, (1 - r2) * dk, 0.0)
            k = np.maximum(k, 1e-300)
            kx *= k
            slopes.append(dk / k)
        return _Parts(kx, slopes)

    def _of_time(self, theta: Floats, p: Points, q: Points) -> tuple[Floats, Floats, Floats]:
        """K_t, and the squared scaled distances in log progress and log labels."""
        lp, ll = np.exp(theta[self._columns : self._columns + 2])
        dp = ((p.progress[:, None] - q.progress[None]) / lp) ** 2
        dl = ((p.labels[:, None] - q.labels[None]) / ll) ** 2
        return np.exp(-0.5 * (dp + dl)), dp, dl

    def _shares(self, theta: Floats) -> tuple[Floats, Floats]:
        """How much of the kernel each combination of the views has, and by how much that grows with the last parameter."""
        if self.views == 1:
            return np.ones(1), np.zeros(1)
        alike = 1 / (1 + math.exp(-theta[-1] - 1))
        return np.array([1 + alike, 1 - alike]), np.array([1, -1]) * alike * (1 - alike)

    def _loss(self, theta: Floats, rows: Floats, points: Points, y: Floats) -> tuple[float, Floats]:
        """Minus the log marginal likelihood (without its constant), and its gradient."""
        o, run = self._columns, points.run
        parts = self._of_settings(theta, rows, rows)
        kx = parts.kx[np.ix_(run, run)]
        kt, dp, dl = self._of_time(theta, points, points)
        a, b, c, d, e, noise = np.exp(theta[o + 2 : o + 8])
        tau = points.progress[:, None] * points.progress[None]
        of_settings, of_time = a + b * kt + d * tau, c * kt + e * tau
        k = kx * of_settings + of_time
        value, gradient, w = 0.0, np.zeros_like(theta), np.zeros_like(k)
        for share, slope, each in zip(*self._shares(theta), _COMBINED[self.views] @ y, strict=True):
            try:
                factor = linalg.cholesky(share * k + (noise + _JITTER) * np.eye(len(k)), lower=True, check_finite=False)
            except linalg.LinAlgError:
                return 1e25, np.zeros_like(theta)
            alpha = linalg.cho_solve((factor, True), each, check_finite=False)
            value += 0.5 * float(each @ alpha) + float(np.log(np.diag(factor)).sum())
            inverse = linalg.lapack.dpotri(factor, lower=1)[0]
            its = 0.5 * (inverse + np.tril(inverse, -1).T - np.outer(alpha, alpha))  # d value / d matrix
            gradient[o + 7] += noise * np.trace(its)
            gradient[-1] += slope * (its * k).sum()  # of one view: 0
            w += share * its
        wkx = w * kx
        pairs = _summed(wkx * of_settings, run, len(rows))  # the settings' kernel is that of runs
        for j, slopes in enumerate(parts.slopes):
            gradient[j] = (pairs * slopes).sum()
        time = (b * wkx + c * w) * kt
        gradient[o], gradient[o + 1] = (time * dp).sum(), (time * dl).sum()
        gradient[o + 2], gradient[o + 3], gradient[o + 4] = a * wkx.sum(), b * (wkx * kt).sum(), c * (w * kt).sum()
        gradient[o + 5], gradient[o + 6] = d * (wkx * tau).sum(), e * (w * tau).sum()
        return value, gradient


def _summed(matrix: Floats, run: Ints, runs: int) -> Floats:
    """Summed by pairs of runs, shape (runs, runs), from one by pairs of their points."""
    member = np.equal.outer(np.arange(runs), run).astype(float)
    pairs: Floats = member @ matrix @ member.T
    return pairs


@dataclass(frozen=True)
class Posterior:
    """A surrogate after observations."""

    surrogate: Surrogate
    rows: Floats
    points: Points
    factors: list[Floats]
    alphas: list[Floats]

    @property
    def noise(self) -> float:
        """Variance of an observation around its value."""
        return self.surrogate._noise(self.surrogate.theta)

    def predict(self, rows: Floats, points: Points) -> tuple[Floats, Floats, Floats]:
        """Mean and variance of the noiseless values, shape (points,), and V, shape (observations, points).

        The covariance of two predicted points is their kernel less the product of their columns of V.
        """
        k = self.surrogate._kernel(self.surrogate.theta, rows, self.rows, points, self.points)
        weights = self.surrogate._shares(self.surrogate.theta)[0] * _COMBINED[self.surrogate.views][0]  # with each combination
        solved = [
            linalg.solve_triangular(f, w * k.T, lower=True, check_finite=False) for f, w in zip(self.factors, weights, strict=True)
        ]
        v, mean = np.concatenate(solved), k @ sum(w * alpha for w, alpha in zip(weights, self.alphas, strict=True))
        variance = self.surrogate._prior_variance(points) - (v * v).sum(0)
        return mean, np.maximum(variance, 1e-10), v

    def covariance(self, rows: Floats, points: Points, v: Floats, others: Floats, those: Points, u: Floats) -> Floats:
        """Covariance of points with those, shape (points, those); `v` and `u` as `predict` gave them."""
        k = self.surrogate._kernel(self.surrogate.theta, rows, others, points, those)
        return k - v.T @ u
