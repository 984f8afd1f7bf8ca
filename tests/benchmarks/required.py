"""What it brings that the search weighs the chance that a member keeps a required bound: replays of recorded runs.

    python tests/benchmarks/required.py FOLDER [--seeds 20] [--budget 15] [--only TEXT] [--out FILE]

FOLDER has the tables `taskset_imdb_0` to `_2`: 400 optimisers' settings, each recorded on three tasks. The score of one task is
maximised, and that of another must be at least so high that a given share of all checkpoints is. `qa-grid.jsonl`, beside this
file, has the loss of each checkpoint, which must be low enough. Only what keeps the bound counts:

    weighed    the search as it is, told by how much each checkpoint keeps the bound
    unaware    the same search, for which every point is a member of the front
    worst      the same search, told that what does not keep the bound has the worst score of all
    random     whole runs drawn at random
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from workbench.replay import methods, tables
from workbench.replay.front import REFIT_GROWTH, arms_of
from workbench.replay.regret import Goal
from workbench.replay.simulation import Assignment, Idle, State, simulate
from workbench.replay.statistics import median_interval, rank_test
from workbench.replay.tables import Table
from workbench.search.arms import Arm
from workbench.search.engine import FrontSearch

SHARES = (0.5, 0.2)
"""Shares of all checkpoints that keep the bound."""

METHODS = ("weighed", "unaware", "worst", "random")
GRID = Path(__file__).parent / "results" / "qa-grid.jsonl"
TASKS = ((0, 1), (1, 2), (2, 0))
"""The task whose score is maximised, and the one whose score is bound."""

Slacks = Sequence[Sequence[float]]
"""By how much each checkpoint of each run keeps the bound."""


class Searched:
    """The search of this package, told of the bound in one of three ways."""

    def __init__(self, seed: int, how: str, slacks: Slacks) -> None:
        self.seed, self.how, self.slacks, self.arms = seed, how, slacks, list[Arm]()

    def next(self, state: State) -> Assignment | Idle:
        """What the search decides."""
        if not self.arms:
            self.search = FrontSearch(state.table.dimensions, seed=self.seed, refit_growth=REFIT_GROWTH)
            self.arms = arms_of(state.table)
        for run in set(state.changed):
            slacks = self.slacks[run][: int(state.passed[run])]
            scores = state.scores(run).tolist()
            if self.how == "worst":
                scores = [score if slack >= 0 else math.nan for score, slack in zip(scores, slacks, strict=True)]
            told: dict[str, Any] = {"slacks": (slacks,)} if self.how == "weighed" else {}
            arm = replace(self.arms[run], scores=scores, losses=state.losses(run), infeasible=bool(state.failed[run]), **told)
            self.arms[run] = arm
        state.changed.clear()
        decision = self.search.decide(self.arms, cold_start_cost=state.cold_start_cost)
        return Assignment(int(str(decision.key)), decision.milestone) if decision.action in ("start", "continue") else Idle.STOP


@dataclass(frozen=True, eq=False)
class Kept(Goal):
    """The front of those points alone that keep the bound."""

    slacks: Slacks = ()

    def counts(self, run: int, stop: int) -> bool:
        return self.slacks[run][stop] >= 0


@dataclass(frozen=True)
class Case:
    """A table, another whose quality is bound (None: its own losses, negated), and the share of checkpoints that keep the bound."""

    path: Path
    other: Path | None
    share: float

    @property
    def name(self) -> str:
        """What reports call it."""
        of = "the loss" if self.other is None else self.other.name.split(".")[0]
        return f"{self.path.name.split('.')[0]}, {of} bound at {self.share:.0%}"

    def read(self) -> tuple[Table, Slacks]:
        """The table, and by how much each of its checkpoints keeps the bound."""
        table = tables.read(self.path)
        bound = table if self.other is None else tables.read(self.other)
        assert [run.settings for run in bound.runs] == [run.settings for run in table.runs]
        known = [[-loss for loss in run.losses] if self.other is None else run.qualities.tolist() for run in bound.runs]
        # A run that ended sooner on one task than on the other has no known value there: it keeps no bound.
        lengths = [len(run.qualities) for run in table.runs]
        values = [[*of, *[math.nan] * count][:count] for of, count in zip(known, lengths, strict=True)]
        least = float(np.nanquantile(np.concatenate([np.array(of) for of in values]), 1 - self.share))
        return table, [[value - least if math.isfinite(value) else -math.inf for value in of] for of in values]


def one(case: Case, method: str, full_runs: float, seed: int) -> tuple[list[float], float]:
    """Share of the hypervolume of what keeps the bound after a third, two thirds and all of the budget; the mean regret."""
    table, slacks = case.read()
    budget = table.budget(full_runs)
    chosen = methods.make("random", seed) if method == "random" else Searched(seed, method, slacks)
    curve = Kept(table, slacks=slacks).curve(simulate(table, chosen, budget=budget))
    return (1 - curve.at([budget / 3, budget * 2 / 3, budget])).tolist(), curve.area(budget)


def main() -> None:
    """Replay, and write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=15.0, help="in mean whole runs")
    parser.add_argument("--only", default="", help="cases with this in their names")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    table = {i: asked.folder / f"taskset_imdb_{i}.jsonl.gz" for i in range(3)}
    cases = [Case(GRID, None, share) for share in SHARES]
    cases += [Case(table[i], table[j], share) for i, j in TASKS for share in SHARES]
    cases = [case for case in cases if asked.only in case.name]
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2) as pool:
        for case in cases:
            areas: dict[str, list[float]] = {}
            for method in METHODS:
                shares, areas[method] = map(
                    list, zip(*pool.map(partial(one, case, method, asked.budget), range(asked.seeds)), strict=True)
                )
                row: dict[str, Any] = {"case": case.name, "method": method}
                row["hypervolume_shares"] = [round(statistics.median(at), 3) for at in zip(*shares, strict=True)]
                row["mean_regret"] = round(statistics.median(areas[method]), 4)
                if method != "weighed":
                    # Below 1: by how much less regret the search has that weighs the bound, by pairs of one seed.
                    ratio = median_interval(np.array(areas["weighed"]) / np.array(areas[method]))
                    row["regret_of_weighed"] = [round(x, 3) for x in (ratio.median, ratio.low, ratio.high)]
                    row["p"] = round(rank_test(areas["weighed"], areas[method]), 4)
                found.append(row)
                print(row, flush=True)
    record = {
        "benchmark": "required",
        "date": time.strftime("%Y-%m-%d"),
        "seeds": asked.seeds,
        "full_runs": asked.budget,
        "versions": {n: version(n) for n in ("numpy", "scipy")} | {"python": platform.python_version()},
        "results": found,
    }
    if asked.out:
        asked.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
