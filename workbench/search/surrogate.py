"""A Gaussian process over runs and their progress, on plain arrays: exact, float64, deterministic.

    k((x, t), (x', t')) = [ K_x (a + b K_t + d t t') + c K_t + e t t' ] x K_view,    and noise

K_x is a product of one factor per setting, so that it stays positive definite with settings that only some runs have: of a
number Matern-5/2, of an option exp(-w [x != x']); of a setting that may be absent r^2 + (1 - r^2) k where both runs have it, 1
where neither has, and r where one has. K_t is a squared exponential on log progress and on log labels; t is log progress from 0
to 1, so that the terms in t t' are trends: short runs lie near each other, and say how far apart long ones will be only by
where they are heading. K_view ties two views of the same checkpoint, its score and its loss. Hyperparameters are found by
maximum a posteriori with L-BFGS under log-normal priors (Rasmussen & Williams 2006, section 5.4.1, for the gradient).
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

_PRIOR_SD = 0.8
_JITTER = 1e-4


class Points(NamedTuple):
    """Checkpoints: of which run (a row of `Surrogate.rows`), log progress, log labels, and which view (0 score, 1 loss)."""

    run: Ints
    progress: Floats
    labels: Floats
    view: Ints


@dataclass(frozen=True)
class _Parts:
    kx: Floats  # (runs, runs)
    slopes: list[Floats]  # d log kx / d log parameter, for each setting


class Surrogate:
    """Fitted to points of runs; predicts points of the same or other runs.

    Args:
        categorical: Which columns of the rows are options, shape (columns,).
        views: 1 for scores alone, 2 with losses.
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
        """Find hyperparameters, starting from those before unless `afresh`. Keeps the start where that fails."""
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
        """What is believed after these observations. Raises `scipy.linalg.LinAlgError` where the kernel is singular."""
        k = self._kernel(self.theta, rows, rows, points, points)
        k[np.diag_indices_from(k)] += self._noise(self.theta)
        factor = linalg.cholesky(k, lower=True, check_finite=False)
        return Posterior(self, rows, points, factor, linalg.cho_solve((factor, True), y, check_finite=False))

    def _prior_variance(self, points: Points) -> Floats:
        a, b, c, d, e = np.exp(self.theta[self._columns + 2 : self._columns + 7])
        return np.asarray(a + b + c + (d + e) * points.progress**2)

    def likeness(self, rows: Floats, others: Floats) -> Floats:
        """K_x of rows and others, from 0 to 1, shape (rows, others)."""
        return self._of_settings(self.theta, rows, others, slopes=False).kx

    @property
    def _columns(self) -> int:
        return len(self.categorical)

    def _noise(self, theta: Floats) -> float:
        return math.exp(theta[self._columns + 7]) + _JITTER

    def _kernel(self, theta: Floats, rows: Floats, others: Floats, p: Points, q: Points) -> Floats:
        kx = self._of_settings(theta, rows, others, slopes=False).kx[np.ix_(p.run, q.run)]
        kt, _, _ = self._of_time(theta, p, q)
        a, b, c, d, e = np.exp(theta[self._columns + 2 : self._columns + 7])
        tau = p.progress[:, None] * q.progress[None]
        k: Floats = kx * (a + b * kt + d * tau) + c * kt + e * tau
        return k * self._of_views(theta, p, q)[0] if self.views > 1 else k

    def _of_settings(self, theta: Floats, rows: Floats, others: Floats, *, slopes: bool) -> _Parts:
        log_k = np.zeros((len(rows), len(others)))
        found = []
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
            log_k += np.log(k)
            if slopes:
                found.append(dk / k)
        return _Parts(np.exp(log_k), found)

    def _of_time(self, theta: Floats, p: Points, q: Points) -> tuple[Floats, Floats, Floats]:
        """K_t, and the squared scaled distances in log progress and log labels."""
        lp, ll = np.exp(theta[self._columns : self._columns + 2])
        dp = ((p.progress[:, None] - q.progress[None]) / lp) ** 2
        dl = ((p.labels[:, None] - q.labels[None]) / ll) ** 2
        return np.exp(-0.5 * (dp + dl)), dp, dl

    def _of_views(self, theta: Floats, p: Points, q: Points) -> tuple[Floats, Floats]:
        alike = 1 / (1 + math.exp(-theta[-1] - 1))
        differ = p.view[:, None] != q.view[None]
        return np.where(differ, alike, 1.0), differ * (alike * (1 - alike))

    def _loss(self, theta: Floats, rows: Floats, points: Points, y: Floats) -> tuple[float, Floats]:
        """Minus the log marginal likelihood (without its constant), and its gradient."""
        o, run = self._columns, points.run
        parts = self._of_settings(theta, rows, rows, slopes=True)
        kx = parts.kx[np.ix_(run, run)]
        kt, dp, dl = self._of_time(theta, points, points)
        a, b, c, d, e, noise = np.exp(theta[o + 2 : o + 8])
        tau = points.progress[:, None] * points.progress[None]
        plain = kx * (a + b * kt + d * tau) + c * kt + e * tau
        tie, dtie = self._of_views(theta, points, points) if self.views > 1 else (np.ones(()), np.zeros(()))
        k = plain * tie
        k[np.diag_indices_from(k)] += noise + _JITTER
        try:
            factor = linalg.cholesky(k, lower=True, check_finite=False)
        except linalg.LinAlgError:
            return 1e25, np.zeros_like(theta)
        alpha = linalg.cho_solve((factor, True), y, check_finite=False)
        value = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor)).sum())
        inverse = linalg.lapack.dpotri(factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        w = 0.5 * (inverse - np.outer(alpha, alpha))
        gradient = np.zeros_like(theta)
        wt = w * tie
        wx = wt * (a + b * kt + d * tau) * kx  # summed by pairs of runs: the settings' kernel is that of runs
        member = np.equal.outer(np.arange(len(rows)), run).astype(float)
        pairs = member @ wx @ member.T
        for j, slope in enumerate(parts.slopes):
            gradient[j] = (pairs * slope).sum()
        time = wt * (b * kx + c) * kt
        gradient[o], gradient[o + 1] = (time * dp).sum(), (time * dl).sum()
        wkx, wkt = wt * kx, wt * kt
        gradient[o + 2], gradient[o + 3], gradient[o + 4] = a * wkx.sum(), b * (wkx * kt).sum(), c * wkt.sum()
        gradient[o + 5], gradient[o + 6] = d * (wkx * tau).sum(), e * (wt * tau).sum()
        gradient[o + 7] = noise * np.trace(w)
        if self.views > 1:
            gradient[-1] = (w * plain * dtie).sum()
        return value, gradient


@dataclass(frozen=True)
class Posterior:
    """A surrogate after observations."""

    surrogate: Surrogate
    rows: Floats
    points: Points
    factor: Floats
    alpha: Floats

    @property
    def noise(self) -> float:
        """Variance of an observation around its value."""
        return self.surrogate._noise(self.surrogate.theta)

    def predict(self, rows: Floats, points: Points) -> tuple[Floats, Floats, Floats]:
        """Mean and variance of the noiseless values, shape (points,), and V, shape (observations, points).

        The covariance of two predicted points is their kernel less the product of their columns of V.
        """
        k = self.surrogate._kernel(self.surrogate.theta, rows, self.rows, points, self.points)
        v = linalg.solve_triangular(self.factor, k.T, lower=True, check_finite=False)
        variance = self.surrogate._prior_variance(points) - (v * v).sum(0)
        return k @ self.alpha, np.maximum(variance, 1e-10), v

    def covariance(self, rows: Floats, points: Points, v: Floats, others: Floats, those: Points, u: Floats) -> Floats:
        """Covariance of points with those, shape (points, those); `v` and `u` as `predict` gave them."""
        k = self.surrogate._kernel(self.surrogate.theta, rows, others, points, those)
        return k - v.T @ u
