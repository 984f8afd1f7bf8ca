"""Optuna's samplers on a pool: the configuration nearest to what they propose is run in full."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from workbench.replay.simulation import Assignment, Idle, State
from workbench.search.baseline import Peer
from workbench.space import Choice, Dimension, Value

MISMATCH = 4.0
"""Squared distance of two options of a choice; two ends of a range are 1 apart. A proposed model is kept where it can be."""


class Sampler:
    """Full runs, as a sampler of Optuna proposes them, with Optuna's own defaults (TPE: ten random starts).

    It is told the logarithm of each run's cost and the quality of its last checkpoint, for the settings that were run. A run that
    failed is told with the cost that it was to have and the worst quality seen.
    """

    def __init__(self, sampler: str, seed: int, *, group: bool = False) -> None:
        self._sampler, self._seed, self._group = sampler, seed, group
        self._peer: Peer | None = None
        self._running: dict[int, int] = {}
        self._worst = math.inf
        self._failed: list[int] = []

    def next(self, state: State) -> Assignment | Idle:
        """A full run of the free configuration nearest to the proposal."""
        if self._peer is None:
            self._peer = Peer(state.table.dimensions, self._sampler, seed=self._seed, group=self._group, parallel=state.workers > 1)
            self._coordinates = Coordinates(state.table.dimensions, [run.settings for run in state.table.runs])
        self._tell(state)
        free = np.flatnonzero((state.passed == 0) & (state.pending < 0) & ~state.failed)
        if not len(free):
            return Idle.STOP
        proposed, number = self._peer.ask()
        run = int(free[np.argmin(self._coordinates.distances(proposed)[free])])
        # The sampler is told the settings that were run, not those that it had proposed.
        self._running[run] = self._peer.instead(number, state.table.runs[run].settings)
        return Assignment(run, int(state.stops[run]) - 1)

    def _tell(self, state: State) -> None:
        assert self._peer is not None
        ended = [run for run in self._running if state.pending[run] < 0]
        scores = [float(state.scores(run)[-1]) for run in ended if state.passed[run]]
        self._worst = min([self._worst, *scores])
        for run in ended:
            if state.failed[run] and math.isinf(self._worst):
                continue  # nothing is known yet that it could be worse than
            quality = self._worst if state.failed[run] else float(state.scores(run)[-1])
            self._peer.tell(self._running.pop(run), [math.log(state.table.full_costs[run]), quality])


class Coordinates:
    """Settings of a pool as numbers, for distances: ranges as shares of themselves, choices as codes, NaN where absent.

    Attributes:
        rows: A row a configuration of the pool, a column a dimension.
        chosen: Which columns are choices.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], pool: list[Mapping[str, Value]]) -> None:
        self._dimensions = dimensions
        self.rows = np.array([self._row(settings) for settings in pool])
        self.chosen = np.array([isinstance(dimension.space, Choice) for dimension in dimensions.values()])

    def distances(self, settings: Mapping[str, Value]) -> NDArray[np.float64]:
        """Squared distance of every configuration of the pool. A setting that only one of two has counts as another option."""
        row = self._row(settings)
        gap = self.rows - row
        # A conditional setting is absent in rows of another method; absent in both is no
        # difference.
        one = np.isnan(self.rows) != np.isnan(row)
        part = np.where(self.chosen, MISMATCH * (gap != 0), gap**2)
        part = np.where(np.isnan(gap), 0.0, part)
        return np.asarray((part + MISMATCH * one).sum(axis=1))

    def _row(self, settings: Mapping[str, Value]) -> list[float]:
        return [
            _number(dimension, settings[name]) if name in settings else math.nan for name, dimension in self._dimensions.items()
        ]


def _number(dimension: Dimension, value: Value) -> float:
    space = dimension.space
    if isinstance(space, Choice):
        return float(space.names.index(value))
    low, high = space.ends
    assert isinstance(value, (int, float))
    if getattr(space, "log", False):
        return float((math.log(value) - math.log(low)) / (math.log(high) - math.log(low)))
    return float((value - low) / (high - low))
