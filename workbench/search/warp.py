"""Scores of any scale and shape as numbers that a Gaussian process can model, and back."""

from __future__ import annotations

import numpy as np
from scipy import special

from workbench.search.features import Floats


class Warp:
    """A monotone map from scores to normal scores: the quantile of the normal distribution at a score's rank.

    Diverged runs then lie no further off than the worst of the others, and the few good ones of a space where most do nothing are
    far apart. It is piecewise linear between the seen scores and goes on with the slope of the outer tenth.

    Args:
        y: Seen scores, shape (points,), at least one.
        cut: Whether what lies far below all others counts as lying less far.
    """

    def __init__(self, y: Floats, *, cut: bool = True) -> None:
        # A diverged run is cut to twice as far below the median as the best lies above it: what it says is "bad", not how bad.
        middle = float(np.median(y))
        low = middle - 2 * (float(y.max()) - middle) - 1e-12 if cut else -np.inf
        y = np.maximum(y, low)
        self.y, at, counts = np.unique(y, return_inverse=True, return_counts=True)
        # Half a rank off both ends: the best and the worst would else be infinitely far. Equal scores have their mean rank.
        z = special.ndtri((np.cumsum(counts) - counts / 2) / len(y))
        self._centre, self._scale = float(z[at].mean()), float(z[at].std()) + 1e-12
        self.low = low
        self.z = (z - self._centre) / self._scale
        k = max(1, len(self.y) // 10)
        self._up = self._slope(-1 - k, -1)
        self._down = self._slope(0, k)

    def _slope(self, i: int, j: int) -> float:
        if len(self.y) < 2:
            return 1.0
        i, j = max(i, -len(self.y)), min(j, len(self.y) - 1)
        return float((self.y[j] - self.y[i]) / (self.z[j] - self.z[i] + 1e-12))

    def to(self, y: Floats) -> Floats:
        """Normal scores of scores, any shape."""
        y = np.maximum(y, self.low)
        z = np.interp(y, self.y, self.z)
        above: Floats = self.z[-1] + (y - self.y[-1]) / max(self._up, 1e-12)
        below: Floats = self.z[0] + (y - self.y[0]) / max(self._down, 1e-12)
        return np.where(y < self.y[0], below, np.where(y > self.y[-1], above, z))

    def back(self, z: Floats) -> Floats:
        """Scores of normal scores, any shape."""
        y = np.interp(z, self.z, self.y)
        y = np.where(z > self.z[-1], self.y[-1] + (z - self.z[-1]) * self._up, y)
        return np.where(z < self.z[0], self.y[0] + (z - self.z[0]) * self._down, y)
