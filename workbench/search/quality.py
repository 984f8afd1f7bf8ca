"""What is believed of every checkpoint's score, from the scores and losses of those that were made."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import linalg, special

from workbench.search.arms import Arm, Milestone
from workbench.search.features import Features, Floats
from workbench.search.surrogate import Ints, Observations, Posterior, Surrogate
from workbench.search.warp import Warp

MOST_POINTS = 400
"""Most scores and losses together that the model is fitted to. It is exact, and costs the cube of their number; with 400 the search
does no worse on any of the recorded tables."""

KEPT_CHECKPOINTS = 5
"""Checkpoints of a run that the model is fitted to, evenly in the logarithm of their number: neighbours say the same twice."""

REFIT_MOST = 20
"""Hyperparameters are fitted again after so many new points at the latest, however slowly `refit_growth` would have it."""


class Belief:
    """A Gaussian process on warped scores, and on minus the logarithm of losses, of all arms together.

    A key stands for one arm for ever.

    Args:
        features: Turns settings into rows.
        losses: Whether losses are used where arms have them.
        refit_growth: Hyperparameters are fitted again when there are so many times as many points as before. At 1 they are fitted
            anew each time, from the same start: the same history then gives the same belief, whatever was asked before.
        cut: Whether a score that lies far below all others counts as lying less far.
    """

    def __init__(self, features: Features, *, losses: bool = True, refit_growth: float = 1.0, cut: bool = True) -> None:
        self.features, self._losses, self._growth, self._cut = features, losses, refit_growth, cut
        self._rows: dict[object, Floats] = {}
        self._surrogate: Surrogate | None = None
        self._fitted = 0

    def learn(self, arms: Sequence[Arm], rng: np.random.Generator) -> None:
        """Take in all that was observed. Raises `scipy.linalg.LinAlgError` where the model cannot be made."""
        ends = [(arm.milestones[0].progress, arm.milestones[-1].progress) for arm in arms]
        self._first = min(first for first, _ in ends)
        self._range = max(math.log(max(last for _, last in ends) / self._first), 1e-9)
        seen = [arm for arm in arms if arm.done]
        picked = [(i, k) for i, arm in enumerate(seen) for k in log_spaced(arm.done, KEPT_CHECKPOINTS)]
        told = [len(arm.losses) == arm.done for arm in seen]
        views = 2 if self._losses and 2 * sum(told[i] for i, _ in picked) > len(picked) else 1
        most = MOST_POINTS // views
        if len(picked) > most:
            # Sorted, so that the rows keep the order of the arms whatever the generator drew.
            picked = [picked[i] for i in np.sort(rng.choice(len(picked), most, replace=False))]
        scores = np.array([seen[i].scores[k] for i, k in picked])
        # Ranks rather than raw scores: a single diverged run would set the scale on which all others look alike.
        self.warp = Warp(scores, cut=self._cut)
        z = self.warp.to(scores)[None]
        if views > 1:
            # What trains nothing has no loss: it stands in this view where its score stands in the other, which adds nothing to it.
            has = np.array([told[i] for i, _ in picked])
            losses = -np.log(np.maximum([seen[i].losses[k] for i, k in picked if told[i]], 1e-12))
            z = np.vstack([z, z])
            z[1, has] = Warp(losses).to(losses)
        of, run = np.unique([i for i, _ in picked], return_inverse=True)
        points = self._points(run, [seen[i].milestones[k] for i, k in picked])
        rows = self.rows([seen[i] for i in of])
        # With losses gone, or come, the number of hyperparameters changes: the old ones mean nothing then.
        if self._surrogate is None or self._surrogate.views != views:
            self._surrogate, self._fitted = Surrogate(self.features.categorical, views=views), 0
        # At a growth of 1 every fit starts afresh: one that starts from the last fit depends on what was asked before, and a
        # restarted sweep would decide otherwise.
        if self._growth <= 1 or z.size >= self._growth * self._fitted or z.size - self._fitted >= REFIT_MOST:
            self._surrogate.fit(rows, points, z, afresh=self._growth <= 1)
            self._fitted = z.size
        self._posterior = self._surrogate.condition(rows, points, z)

    def rows(self, arms: Sequence[Arm]) -> Floats:
        """The arms' settings as rows, shape (arms, columns)."""
        missing = [arm for arm in arms if arm.key not in self._rows]
        for arm, row in zip(missing, self.features.rows([arm.settings for arm in missing]), strict=True):
            self._rows[arm.key] = row
        return np.array([self._rows[arm.key] for arm in arms]).reshape(len(arms), len(self.features.columns))

    def similarity(self, arms: Sequence[Arm], others: Sequence[Arm]) -> Floats:
        """How similar the settings are to the model, from 0 to 1, shape (arms, others)."""
        assert self._surrogate is not None
        return self._surrogate.similarity(self.rows(arms), self.rows(others))

    def of(self, arms: Sequence[Arm], milestones: Ints) -> ScoreForecasts:
        """What is believed of some milestones of arms, as many of each arm; `milestones` has shape (arms, milestones)."""
        run = np.repeat(np.arange(len(arms)), milestones.shape[1])
        flat = [arm.milestones[k] for arm, ks in zip(arms, milestones, strict=True) for k in ks]
        return ScoreForecasts(self._posterior, self.warp, self.rows(arms), self._points(run, flat))

    def _points(self, run: Ints, milestones: Sequence[Milestone]) -> Observations:
        progress = np.log(np.array([s.progress for s in milestones]) / self._first) / self._range
        return Observations(run, progress, np.log([s.labels for s in milestones]))


class ScoreForecasts:
    """The joint belief of the scores at some milestones, before and after those under way are known.

    Args:
        posterior: The model after all observations.
        warp: The warp of the scores.
        rows: Settings of the arms, shape (arms, columns).
        points: The milestones.

    Attributes:
        rows: As given.
        points: As given.
        v: What `Posterior.covariance` needs of them.
    """

    def __init__(self, posterior: Posterior, warp: Warp, rows: Floats, points: Observations) -> None:
        self.rows, self.points = rows, points
        self._posterior, self._warp = posterior, warp
        self._mean, self._variance, self.v = posterior.predict(rows, points)

    def at(self, nodes: Floats) -> Floats:
        """Scores at so many standard deviations from the mean, shape (nodes, milestones)."""
        return self._warp.back(self._mean + np.sqrt(self._variance) * nodes[:, None])

    def chance(self, least: float) -> Floats:
        """Chance that each score is at least so much, shape (milestones,)."""
        chance: Floats = special.ndtr((self._mean - float(self._warp.to(np.array(least)))) / np.sqrt(self._variance))
        return chance

    def outcomes(self, normals: Floats) -> Floats:
        """Joint samples of the scores of all these milestones, shape (samples, milestones), from standard normals of that shape."""
        return self._warp.back(self._mean + normals @ self.factor().T)

    def given(self, others: ScoreForecasts, normals: Floats, nodes: Floats) -> Floats:
        """Scores as by `at` once `others` came out as `others.outcomes(normals)`, shape (samples, nodes, milestones)."""
        cross = self.covariance(others)
        gain = linalg.solve_triangular(others.factor(), cross.T, lower=True, check_finite=False).T
        # What is under way says less than all about a neighbour: rounding must not make the rest of its variance negative.
        sd = np.sqrt(np.maximum(self._variance - (gain * gain).sum(1), 1e-10))
        mean = self._mean + normals @ gain.T
        return self._warp.back(mean[:, None] + sd * nodes[:, None])

    def covariance(self, others: ScoreForecasts) -> Floats:
        """Covariance of the noiseless values of these milestones and others, shape (milestones, others)."""
        return self._posterior.covariance(self.rows, self.points, self.v, others.rows, others.points, others.v)

    def factor(self) -> Floats:
        """Cholesky factor of the covariance of these milestones with their noise, shape (milestones, milestones)."""
        own = self.covariance(self)
        own[np.diag_indices_from(own)] += self._posterior.noise
        factor: Floats = linalg.cholesky(own, lower=True, check_finite=False)
        return factor


@functools.lru_cache
def log_spaced(count: int, most: int) -> tuple[int, ...]:
    """At most `most` of the indices 0 … count - 1, with the first and the last, spread evenly in the logarithm of index + 1."""
    return tuple(sorted({int(k) - 1 for k in np.round(np.geomspace(1, count, most))}))
