"""What is compared: each method by its name, made fresh for a seed.

All meet the same pool, know every configuration's cost beforehand, and pay the same for a cold start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from workbench.errors import UsageError, did_you_mean
from workbench.replay.front import ABLATIONS, Front
from workbench.replay.halving import MoAsha
from workbench.replay.sampler import Sampler
from workbench.replay.simulation import Assignment, Idle, SearchMethod, State
from workbench.search.optuna_study import samplers

FIRST_RUNG = 0.25
"""Share of a run's checkpoints that `one-epoch-top-k` trains of every configuration: one of the usual four epochs."""


class InOrder:
    """Full runs, one after another, in an order that is fixed beforehand.

    Args:
        order: Runs of the pool by index, the first first; made of the state and a generator when the first is asked for.
        seed: The generator's.
    """

    def __init__(self, order: Callable[[State, np.random.Generator], Sequence[int]], seed: int) -> None:
        self._order, self._rng = order, np.random.default_rng(seed)
        self._left: list[int] | None = None

    def next(self, state: State) -> Assignment | Idle:
        """The next run of the order."""
        if self._left is None:
            self._left = [int(i) for i in self._order(state, self._rng)][::-1]
        if not self._left:
            return Idle.STOP
        run = self._left.pop()
        return Assignment(run, int(state.stops[run]) - 1)


class TopK:
    """The first quarter of every configuration, then the best in full.

    Where a quarter of every configuration would cost more than half the budget, a random part of them is tried that costs half.
    The others then go on in the order of their quality after that quarter, as many as the budget has room for.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._first: list[int] | None = None
        self._tried: list[int] = []

    def next(self, state: State) -> Assignment | Idle:
        """The next first rung, then the best that is left."""
        if self._first is None:
            self._first = self._sample(state)
        if self._first:
            run = self._first.pop()
            self._tried.append(run)
            return Assignment(run, _rung(state, run))
        # All first rungs are compared at once, so the last ones are waited for.
        if any(state.pending[run] == _rung(state, run) for run in self._tried):
            return Idle.WAIT
        free = [run for run in self._tried if state.is_free(run)]
        if not free:
            return Idle.STOP
        best = max(free, key=lambda run: state.scores(run)[-1])
        return Assignment(best, int(state.stops[best]) - 1)

    def _sample(self, state: State) -> list[int]:
        order = self._rng.permutation(len(state.stops))
        costs = np.array([state.cold_start_cost + state.table.runs[run].costs[_rung(state, run)] for run in order])
        # Half of the budget is left for the full runs of the best.
        affordable = int(np.searchsorted(np.cumsum(costs), 0.5 * state.budget, side="right"))
        return [int(run) for run in order[: max(1, affordable)]]


def _rung(state: State, run: int) -> int:
    return max(1, round(FIRST_RUNG * int(state.stops[run]))) - 1


def _cheap(state: State, rng: np.random.Generator) -> Sequence[int]:
    """All runs, drawn without replacement with probability ∝ 1/cost: exponential clocks of that rate, by when they ring."""
    return [int(run) for run in np.argsort(rng.exponential(state.table.full_costs))]


Makers = Mapping[str, Callable[[int], SearchMethod]]
"""Methods by name, each made of a seed."""

_MAKERS: Makers = {
    "random": lambda seed: InOrder(lambda state, rng: [int(i) for i in rng.permutation(len(state.stops))], seed),
    "random-cheap": lambda seed: InOrder(_cheap, seed),
    "cheapest-first": lambda seed: InOrder(
        lambda state, rng: [int(i) for i in np.lexsort((rng.random(len(state.stops)), state.table.full_costs))], seed
    ),
    "one-epoch-top-k": TopK,
    "mo-asha": MoAsha,
}

METHODS = (
    "front",
    *_MAKERS,
    "optuna:TPESampler",
    "optuna:TPESampler-group",
    "optuna:GPSampler",
    "optuna:NSGAIISampler",
)
"""Compared unless told otherwise. `front:no-dollars` and the like, and Optuna's other samplers, are known too."""


def make(name: str, seed: int, more: Makers | None = None) -> SearchMethod:
    """Make a fresh method, of those here or of `more`.

    Args:
        name: Its name, as in `METHODS`, `front:no-freeze` or `optuna:TPESampler`.
        seed: Its seed.
        more: Makers of further methods by name.

    Raises:
        UsageError: There is no method of that name.
    """
    if more and name in more:
        return more[name](seed)
    head, _, tail = name.partition(":")
    if name in _MAKERS:
        return _MAKERS[name](seed)
    if head == "front" and set(parts := tail.split(":") if tail else []) <= {f"no-{each}" for each in ABLATIONS}:
        return Front(seed, frozenset(part.removeprefix("no-") for part in parts))
    if head == "optuna" and tail.removesuffix("-group") in samplers():
        return Sampler(tail.removesuffix("-group"), seed, group=tail.endswith("-group"))
    names = (*METHODS, *(more or ()), *(f"front:no-{each}" for each in ABLATIONS), *(f"optuna:{each}" for each in samplers()))
    raise UsageError(f"there is no method {name!r}.{did_you_mean(name, names)}")
