"""What it brings to weigh a start as a whole run where the number of runs is bounded: replays of recorded runs.

    python tests/benchmarks/starts.py TABLE… [--starts 12] [--seeds 20] [--out FILE]

Each method may begin so many runs and spend what it likes; the search of this package stops by its own rule, that of
`workbench.search.next_run`: when all are begun and another would bring more than going on with one of them. Told are the share of
the table's hypervolume that was found, and what was spent, in mean whole runs: medians over the seeds.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workbench.replay import methods, tables
from workbench.replay.front import REFIT_GROWTH, arms_of
from workbench.replay.regret import Goal
from workbench.replay.simulation import Assignment, Idle, SearchMethod, State, simulate
from workbench.search.arms import Arm
from workbench.search.engine import FrontSearch

SHAPED = ("nmt_lora_fr-en", "peft_metamathqa", "taskset_imdb_0")
"""Tables that were looked at before the worth of a start was chosen; the others were run once, after it."""


class Bounded:
    """The search, with so many starts, each worth a share of a mean whole run."""

    def __init__(self, seed: int, starts: int, share: float) -> None:
        self.seed, self.starts, self.share, self.arms = seed, starts, share, list[Arm]()

    def next(self, state: State) -> Assignment | Idle:
        """What the search decides; `Idle.STOP` when only a start would be worth it and none is left."""
        if not self.arms:
            self.search = FrontSearch(state.table.dimensions, seed=self.seed, refit_growth=REFIT_GROWTH)
            self.arms = arms_of(state.table)
        for run in set(state.changed):
            self.arms[run] = replace(self.arms[run], scores=tuple(state.scores(run).tolist()), infeasible=bool(state.failed[run]))
        begun = [arm for arm in self.arms if arm.done or arm.infeasible]
        penalty = self.share * statistics.fmean(arm.milestones[-1].cost for arm in self.arms if not arm.done)
        ask = partial(self.search.decide, cold_start_cost=state.cold_start_cost, start_penalty=penalty)
        decision = ask(self.arms)
        if decision.action == "start" and len(begun) >= self.starts:
            decision = replace(decision, action="stop") if decision.gain > 0 else ask(begun)
        return Assignment(int(str(decision.key)), decision.milestone) if decision.action in ("start", "continue") else Idle.STOP


class First:
    """The first so many whole runs of another method."""

    def __init__(self, name: str, seed: int, starts: int) -> None:
        self.inner, self.left = methods.make(name, seed), starts

    def next(self, state: State) -> Assignment | Idle:
        """The method's next run, while any is left."""
        self.left -= 1
        return self.inner.next(state) if self.left >= 0 else Idle.STOP


METHODS: dict[str, Callable[[int, int], SearchMethod]] = {
    "front, a start worth nothing": lambda seed, starts: Bounded(seed, starts, 0.0),
    "front, a start worth a whole run": lambda seed, starts: Bounded(seed, starts, 1.0),
    "random": lambda seed, starts: First("random", seed, starts),
    "optuna:TPESampler": lambda seed, starts: First("optuna:TPESampler", seed, starts),
}


def one(path: Path, method: str, starts: int, seed: int) -> tuple[float, float]:
    """Share of the hypervolume, and mean whole runs spent."""
    table = tables.read(path)
    trace = simulate(table, METHODS[method](seed, starts), budget=1e18)
    whole = statistics.fmean(float(run.costs[-1]) for run in table.runs)
    return 1.0 - float(Goal(table).curve(trace).regret[-1]), trace.total_spent / whole


def main() -> None:
    """Replay, and write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--starts", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2) as pool:
        for path in asked.tables:
            name = path.name.split(".")[0]
            for method in METHODS:
                pairs = list(pool.map(partial(one, path, method, asked.starts), range(asked.seeds)))
                shares, spent = zip(*pairs, strict=True)
                row = {"table": name, "shaped_the_choice": name in SHAPED, "method": method}
                row |= {"hypervolume_share": round(statistics.median(shares), 3), "least_share": round(min(shares), 3)}
                found.append(row | {"whole_runs_spent": round(statistics.median(spent), 2)})
                print(found[-1], flush=True)
    record = {
        "benchmark": "starts",
        "date": time.strftime("%Y-%m-%d"),
        "starts": asked.starts,
        "seeds": asked.seeds,
        "versions": {n: version(n) for n in ("numpy", "scipy", "optuna")} | {"python": platform.python_version()},
        "results": found,
    }
    if asked.out:
        asked.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
