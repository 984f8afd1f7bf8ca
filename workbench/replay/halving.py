"""Multi-objective asynchronous successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workbench.replay.simulation import Assignment, Idle, State

ETA = 3
RUNGS = 4
"""Rungs at 1/27, 1/9, 1/3 and all of a run's own checkpoints."""


class MoAsha:
    """MO-ASHA (Schmucker et al. 2021, arXiv:2106.12639): promote the best third of each rung, as soon as there is one.

    Runs of a rung are ranked by non-dominated sorting of (log cost, -quality) there, and within a front by an epsilon-net, which
    spreads out, as in Syne Tune's `NonDominatedPriority`. Promotion is that of ASHA (Li et al. 2020): the highest rung first, else
    a new configuration at random. A promoted run goes on from its checkpoint. Once the pool has no new ones, the best go on anyway.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._new: list[int] | None = None
        self._members: list[list[int]] = [[] for _ in range(RUNGS)]
        self._counts = [0] * RUNGS
        self._promoted: list[set[int]] = [set() for _ in range(RUNGS)]
        self._running: dict[int, int] = {}

    def next(self, state: State) -> Assignment | Idle:
        """A promotion where one is due, else a new configuration."""
        if self._new is None:
            self._new = [int(i) for i in self._rng.permutation(len(state.stops))]
        self._collect(state)
        work = self._promote(state, lambda rung: self._counts[rung] // ETA)
        if work is None and self._new:
            work = self._start(state, self._new.pop(), 0)
        # A run under way may still fill a rung and earn the next promotion.
        if work is None and self._running:
            return Idle.WAIT
        return work or self._promote(state, lambda rung: len(self._members[rung])) or Idle.STOP

    def _collect(self, state: State) -> None:
        """Put runs that reached their rung into it. One that failed counts among its rivals, and is never promoted."""
        for run, rung in list(self._running.items()):
            if state.pending[run] < 0:
                del self._running[run]
                self._counts[rung] += 1
                if not state.failed[run]:
                    self._members[rung].append(run)

    def _promote(self, state: State, places: Callable[[int], int]) -> Assignment | None:
        """The work of the next promotion, the highest rung's first, while fewer than `places` of a rung were promoted."""
        rung = RUNGS - 2
        while rung >= 0:
            run = self._best(state, rung, places(rung))
            if run is None:
                rung -= 1
                continue
            self._promoted[rung].add(run)
            work = self._start(state, run, rung + 1)
            if work:
                return work
            rung = RUNGS - 2  # it is past all its rungs already, and the rungs above have one more member
        return None

    def _best(self, state: State, rung: int, places: int) -> int | None:
        """The best of a rung's members that was not promoted; None where its places are taken."""
        members, promoted = self._members[rung], self._promoted[rung]
        if places <= len(promoted) or len(promoted) == len(members):
            return None
        stops = [stop_of(rung, int(state.stops[run])) for run in members]
        points = np.array(
            [
                (math.log(state.table.runs[run].costs[stop]), -float(state.scores(run)[: stop + 1].max()))
                for run, stop in zip(members, stops, strict=True)
            ]
        )
        return next((members[i] for i in priority(points, places) if members[i] not in promoted), None)

    def _start(self, state: State, run: int, rung: int) -> Assignment | None:
        """Assign a run until a rung. Several rungs of a short run lie on one checkpoint: those it
        has passed are skipped.

        Returns:
            The assignment; None where it has passed all rungs, as a run of a single checkpoint has
            after the first.
        """
        while rung < RUNGS and stop_of(rung, int(state.stops[run])) < state.passed[run]:
            self._members[rung].append(run)
            self._counts[rung] += 1
            if rung < RUNGS - 1:
                self._promoted[rung].add(run)
            rung += 1
        if rung == RUNGS:
            return None
        self._running[run] = rung
        return Assignment(run, stop_of(rung, int(state.stops[run])))


def stop_of(rung: int, stops: int) -> int:
    """Return the checkpoint, by index, at which a run of `stops` checkpoints reaches a rung."""
    # A power of a third is not exact: a rounding up must not cost another checkpoint.
    return max(1, math.ceil(stops * float(ETA) ** (rung - RUNGS + 1) - 1e-9)) - 1


def priority(points: NDArray[np.float64], places: int) -> list[int]:
    """Return the best points by non-dominated sorting, within a front by an epsilon-net.

    Args:
        points: Shape (n, 2), both coordinates to be minimised.
        places: How many points are wanted.

    Returns:
        Their indices, the best first.
    """
    left = np.lexsort((points[:, 1], points[:, 0]))
    # Log cost and quality have different units, so distances are in shares of their ranges.
    scale = np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1.0)
    chosen: list[int] = []
    while len(left) and len(chosen) < places:
        second = points[left, 1]
        best_before = np.concatenate([[np.inf], np.minimum.accumulate(second)[:-1]])
        # Sorted by cost, a point is on the front if its quality beats all cheaper ones. Strictly:
        # of equal points the others go to the next front.
        on_front = second < best_before
        chosen += [int(i) for i in _spread(left[on_front], points / scale)]
        left = left[~on_front]
    return chosen[:places]


def _spread(front: NDArray[np.int64], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """A front in the order of an epsilon-net: the best quality first, then always the one farthest from all before it."""
    at = points[front]
    first = int(np.argmin(at[:, 1]))
    order, distance = [first], np.linalg.norm(at - at[first], axis=1)
    for _ in range(len(front) - 1):
        # Below every distance, so it is not chosen again.
        distance[order[-1]] = -1.0
        chosen = int(np.argmax(distance))
        order.append(chosen)
        distance = np.minimum(distance, np.linalg.norm(at - at[chosen], axis=1))
    return front[order]
