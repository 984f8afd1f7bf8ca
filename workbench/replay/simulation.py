"""Virtual time: workers train configurations of a table to checkpoints that a method asks for, and pay what they cost.

A unit of cost takes a worker a unit of time. What all of them spend is charged as they spend it, launches and failures
included; a checkpoint is seen, and credited, at the moment it is reached; what a worker is at is seen as pending.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.replay.tables import Table

COLD_START_SHARE = 0.02
"""Share of the median full run's cost that a cold start costs beside the curve, the same for every method."""

_EXACT = 1e-9  # relative; events so near each other are one moment


class Assignment(NamedTuple):
    """Train a configuration of the pool, by index, until a checkpoint, by index."""

    run: int
    stop: int


class Idle(Enum):
    """The answer of a method that has no work to give."""

    WAIT = "wait"
    """… until something is recorded."""
    STOP = "stop"
    """… ever again."""


class SearchMethod(Protocol):
    """Chooses what a free worker does next; told nothing but the state."""

    def next(self, state: State) -> Assignment | Idle: ...


@dataclass(eq=False)
class State:
    """What is known at a moment of virtual time.

    Attributes:
        table: The pool; of a run's qualities a method may look at the first `passed` only.
        workers: How many work at once.
        cold_start_cost: What a cold start costs, in the table's unit.
        budget: What may be spent.
        ends_only: Whether only finished runs are credited.
        spent: What all workers have spent so far.
        time: Since the start.
        passed: How many checkpoints each run has passed.
        pending: The checkpoint, by index, that a worker is taking each run to; -1 where nobody is.
        failed: Whether it was seen to fail.
        changed: Runs that something happened to, once for each event: what a method has not yet seen lies at the end.
    """

    table: Table
    workers: int
    cold_start_cost: float
    budget: float
    ends_only: bool = False
    spent: float = 0.0
    time: float = 0.0
    passed: NDArray[np.int64] = field(init=False)
    pending: NDArray[np.int64] = field(init=False)
    failed: NDArray[np.bool_] = field(init=False)
    changed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.table.runs)
        self.passed, self.pending, self.failed = np.zeros(n, np.int64), np.full(n, -1), np.zeros(n, bool)

    @property
    def stops(self) -> NDArray[np.int64]:
        """How many checkpoints each run is to have."""
        return self.table.stops

    def is_free(self, run: int) -> bool:
        """Whether a worker may take it up."""
        return bool(self.pending[run] < 0 and not self.failed[run] and self.passed[run] < self.table.stops[run])

    def scores(self, run: int) -> NDArray[np.float64]:
        """Qualities of the checkpoints it has passed."""
        return self.table.runs[run].qualities[: self.passed[run]]

    def losses(self, run: int) -> Sequence[float]:
        """Losses of the checkpoints it has passed; none where the table has none."""
        return self.table.runs[run].losses[: self.passed[run]]


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened: one entry of each array a checkpoint that was reached within the budget, in order.

    Attributes:
        spent: What all workers had spent by then.
        time: Virtual time of the moment.
        run: The run, by index.
        stop: Which of its checkpoints, by index.
        total_spent: At the end; at most the budget.
        total_time: At the end.
        launches: How many cold starts.
        failures: How many runs were seen to fail.
        decisions: How often the method was asked.
        deciding_seconds: Real seconds that it took for that.
    """

    spent: NDArray[np.float64]
    time: NDArray[np.float64]
    run: NDArray[np.int64]
    stop: NDArray[np.int64]
    total_spent: float
    total_time: float
    launches: int
    failures: int
    decisions: int
    deciding_seconds: float


def simulate(
    table: Table,
    method: SearchMethod,
    *,
    budget: float,
    workers: int = 1,
    cold_start_cost: float | None = None,
    ends_only: bool = False,
) -> Trace:
    """Replay a method on a table until the budget is spent, it stops, or nothing is left.

    Args:
        table: The pool.
        method: A fresh one: it may remember.
        budget: What may be spent, in the table's unit; what is reached after that is not credited.
        workers: How many work at once.
        cold_start_cost: What a cold start costs; None takes `COLD_START_SHARE` of the median full run.
        ends_only: Whether only finished runs are credited, which a method may know. The trace is of all checkpoints.
    """
    if cold_start_cost is None:
        cold_start_cost = COLD_START_SHARE * float(np.median(table.recorded_costs))
    return _Simulation(State(table, workers, cold_start_cost, budget, ends_only), method).run()


class _Simulation:
    def __init__(self, state: State, method: SearchMethod) -> None:
        self.state, self.method = state, method
        self.free, self.stopped = state.workers, False
        self.events: list[tuple[float, int, int]] = []  # when, tie-breaker, run
        self.reached: list[tuple[float, float, int, int]] = []
        self.pushed = self.launches = self.decisions = 0
        self.seconds = 0.0

    def run(self) -> Trace:
        state = self.state
        self._assign()
        while self.events and self._advance(self.events[0][0]):
            now = self.events[0][0]
            # All that falls on one moment is seen before anybody is given work.
            while self.events and self.events[0][0] <= now * (1 + _EXACT):
                self._reach(heapq.heappop(self.events)[2])
            self._assign()
        spent, times, runs, stops = zip(*self.reached, strict=True) if self.reached else ((), (), (), ())
        return Trace(
            spent=np.array(spent, np.float64),
            time=np.array(times, np.float64),
            run=np.array(runs, np.int64),
            stop=np.array(stops, np.int64),
            total_spent=state.spent,
            total_time=state.time,
            launches=self.launches,
            failures=int(state.failed.sum()),
            decisions=self.decisions,
            deciding_seconds=self.seconds,
        )

    def _advance(self, when: float) -> bool:
        """Charge all busy workers until `when`; False where the budget ends before."""
        state, busy = self.state, self.state.workers - self.free
        spend = busy * (when - state.time)
        if state.spent + spend > state.budget * (1 + _EXACT):
            # The workers go on until the money ends, somewhere before the next checkpoint.
            state.time += (state.budget - state.spent) / busy
            state.spent = state.budget
            return False
        state.spent, state.time = min(state.spent + spend, state.budget), when
        return True

    def _assign(self) -> None:
        """Ask for work for every free worker. One that is told to wait is asked again when something was recorded."""
        while self.free and not self.stopped:
            # Real time, for the record alone: no decision depends on it.
            began = time.perf_counter()
            work = self.method.next(self.state)
            self.seconds += time.perf_counter() - began
            self.decisions += 1
            if isinstance(work, Idle):
                self.stopped = work is Idle.STOP
                return
            self._start(*work)

    def _start(self, run: int, stop: int) -> None:
        state = self.state
        if not state.is_free(run) or not state.passed[run] <= stop < state.stops[run]:
            raise RuntimeError(
                f"run {run} cannot be taken to checkpoint {stop}: {state.passed[run]} passed, {state.pending[run]} pending"
            )
        self.free -= 1
        state.pending[run] = stop
        state.changed.append(run)
        cold = state.passed[run] == 0
        self.launches += bool(cold)
        self._push(run, state.cold_start_cost if cold else 0.0)

    def _push(self, run: int, more: float = 0.0) -> None:
        """Note the moment at which a run under way passes its next checkpoint, or fails."""
        record, done = self.state.table.runs[run], int(self.state.passed[run])
        before = record.costs[done - 1] if done else 0.0
        target = record.costs[done] if done < len(record.qualities) else record.failing_cost
        self.pushed += 1
        # A run out of memory fails at cost 0: with its cold start paid, its moment has come.
        # `pushed` keeps moments that coincide in the order of their assignment.
        heapq.heappush(self.events, (self.state.time + more + max(0.0, float(target - before)), self.pushed, run))

    def _reach(self, run: int) -> None:
        state, record = self.state, self.state.table.runs[run]
        stop = int(state.passed[run])
        state.changed.append(run)
        if stop < len(record.qualities):
            self.reached.append((state.spent, state.time, run, stop))
            state.passed[run] += 1
            state.failed[run] = record.failed and state.passed[run] == len(record.costs)
            if stop < state.pending[run]:
                self._push(run)
                return
        else:
            state.failed[run] = True
        state.pending[run] = -1
        self.free += 1
