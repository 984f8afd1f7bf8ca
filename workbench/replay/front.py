"""Our own search, met with the arms of a table."""

from __future__ import annotations

from dataclasses import replace

from workbench.replay.simulation import Assignment, Idle, State
from workbench.replay.tables import Table
from workbench.search.arms import Arm, Milestone
from workbench.search.engine import ABLATIONS, FrontSearch

__all__ = ["ABLATIONS", "Front", "arms_of"]

REFIT_GROWTH = 1.07
"""Hyperparameters are fitted again when there are 7 % more points: a replay takes thousands of decisions in one process."""


class Front:
    """The search of `workbench.search.engine`: an arm a configuration, every recorded checkpoint a milestone.

    Progress is counted in checkpoints, labels are the same for all, costs are the table's: known, as they are to every method.
    """

    def __init__(self, seed: int, ablate: frozenset[str] = frozenset()) -> None:
        self._seed, self._ablate = seed, ablate
        self._search: FrontSearch | None = None
        self._arms: list[Arm] = []
        self._seen = 0

    def next(self, state: State) -> Assignment | Idle:
        """What the search decides."""
        if self._search is None:
            self._search = FrontSearch(
                state.table.dimensions,
                seed=self._seed,
                ablate=self._ablate,
                ends_only=state.ends_only,
                refit_growth=REFIT_GROWTH,
            )
            self._arms = arms_of(state.table)
        # Only arms that something happened to are made anew: a replay takes thousands of decisions.
        for run in set(state.changed[self._seen :]):
            pending = int(state.pending[run])
            self._arms[run] = replace(
                self._arms[run],
                scores=tuple(state.scores(run).tolist()),
                losses=state.losses(run),
                pending=pending if pending >= 0 else None,
                infeasible=bool(state.failed[run]),
            )
        self._seen = len(state.changed)
        decision = self._search.decide(self._arms, cold_start_cost=state.cold_start_cost)
        if decision.action in ("wait", "stop"):
            return Idle(decision.action)
        assert isinstance(decision.key, int)
        return Assignment(decision.key, decision.milestone)


def arms_of(table: Table) -> list[Arm]:
    """The configurations of a table as arms that nobody has begun, each by its index."""
    return [
        Arm(i, run.settings, tuple(Milestone(float(n), 1.0, float(cost)) for n, cost in enumerate(run.costs, 1)))
        for i, run in enumerate(table.runs)
    ]
