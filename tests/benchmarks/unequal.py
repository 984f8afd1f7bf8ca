"""Two unequal machines in one sweep against the better of the two alone: replays of recorded runs.

    python tests/benchmarks/unequal.py TABLE… [--seeds 10] [--budget 15] [--out FILE]

The costs of a table are those of machine A. On machine B a run costs so many times as much: `dearer`, 2 for all; `comparative`,
1.6 for the cheaper half of the runs and 0.6 for the dearer half, as of a GPU beside processors; `equal`, 1. B is three times as
fast for a US$. Four ways to work: A alone, B alone, both with each weighing its own costs alone, and both with the rule of
`workbench.sweep.other_machines`: a run is left to another machine at work that makes it for less than its cost here over `DEARER`.
Told is what it costs to reach 95 % of the hypervolume that the better machine's whole table has, each point at the price that was
paid for it; medians over seeds, and how both compare with the better one alone, paired by seed.
"""

import argparse
import heapq
import json
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from workbench.replay import tables
from workbench.replay.front import REFIT_GROWTH, arms_of
from workbench.replay.regret import Goal, Staircase
from workbench.replay.simulation import COLD_START_SHARE
from workbench.search.arms import Arm
from workbench.search.engine import FrontSearch
from workbench.sweep.other_machines import DEARER

WAYS = ("A alone", "B alone", "both, each for itself", "both, by the rule")
SCENARIOS = ("dearer", "comparative", "equal")
SPEED_OF_B = 3.0
SHARE = 0.95


def factors(table: tables.Table, scenario: str) -> np.ndarray:
    """What runs cost on B, over what they cost on A."""
    if scenario != "comparative":
        return np.full(len(table.runs), 2.0 if scenario == "dearer" else 1.0)
    return np.where(table.full_costs > np.median(table.full_costs), 0.6, 1.6)


class Machine:
    """A worker on one machine: what the search of this package decides there, at the costs there."""

    def __init__(self, table: tables.Table, factor: np.ndarray, speed: float, seed: int) -> None:
        self.factor, self.speed, self.busy = factor, speed, False
        self.search = FrontSearch(table.dimensions, seed=seed, refit_growth=REFIT_GROWTH)
        self.arms = [
            replace(arm, milestones=tuple(replace(m, cost=m.cost * float(factor[i])) for m in arm.milestones))
            for i, arm in enumerate(arms_of(table))
        ]


class Sweep:
    """Machines that work on one table, in virtual time."""

    def __init__(self, table: tables.Table, machines: list[Machine], budget: float, cold_start: float, *, rule: bool) -> None:
        self.table, self.machines, self.budget, self.rule = table, machines, budget, rule
        self.cold_start = cold_start
        runs = len(table.runs)
        self.done, self.failed, self.paid = [0] * runs, [False] * runs, [0.0] * runs
        self.pending: dict[int, int] = {}

    def view(self, me: Machine) -> list[Arm]:
        """The runs as one machine sees them; under the rule without what another at work makes for less."""
        seen, others = [], [m for m in self.machines if m is not me and m.busy] if self.rule else []
        for i, arm in enumerate(me.arms):
            qualities = tuple(self.table.runs[i].qualities[: self.done[i]].tolist())
            known = replace(arm, scores=qualities, pending=self.pending.get(i), infeasible=self.failed[i])
            if i not in self.pending and any(m.factor[i] * DEARER < me.factor[i] for m in others):
                if not self.done[i]:
                    continue
                known = replace(known, milestones=known.milestones[: self.done[i]])
            seen.append(known)
        return seen

    def cost_to(self, target: float, stairs: Staircase) -> float:
        """What all machines have spent when the front reaches a hypervolume; the budget where it does not."""
        spent, pushed, now = 0.0, 0, 0.0
        events: list[tuple[float, int, int, int, int, float]] = []
        while True:
            idle = True
            for k, me in enumerate(self.machines):
                if me.busy:
                    idle = False
                    continue
                decision = me.search.decide(self.view(me), cold_start_cost=self.cold_start)
                if decision.action not in ("start", "continue"):
                    continue
                idle, run = False, int(str(decision.key))
                self.pending[run], me.busy = decision.milestone, True
                pushed += 1
                heapq.heappush(events, self._event(now, pushed, k, run))
            if not events or (idle and not self.pending):
                return self.budget
            now, _, k, run, stop, cost = heapq.heappop(events)
            me, record = self.machines[k], self.table.runs[run]
            spent += cost  # charged as it ends: both ways to work are charged alike
            if spent > self.budget:
                return self.budget
            self.paid[run] += cost
            if stop < len(record.qualities):
                self.done[run] += 1
                cold = self.paid[run] - self.cold_start
                if stairs.add(float(np.log(max(cold, 1e-12))), float(record.qualities[stop])) and stairs.volume >= target:
                    return spent
                self.failed[run] = record.failed and self.done[run] == len(record.costs)
                if stop < self.pending[run]:
                    pushed += 1
                    heapq.heappush(events, self._event(now, pushed, k, run))
                    continue
            else:
                self.failed[run] = True
            del self.pending[run]
            me.busy = False

    def _event(self, now: float, pushed: int, k: int, run: int) -> tuple[float, int, int, int, int, float]:
        me, record, at = self.machines[k], self.table.runs[run], self.done[run]
        before = float(record.costs[at - 1]) if at else 0.0
        until = float(record.costs[at]) if at < len(record.qualities) else record.failing_cost
        cost = max(0.0, until - before) * float(me.factor[run]) + (0.0 if at else self.cold_start)
        return now + cost / me.speed, pushed, k, run, at, cost


def one(path: Path, scenario: str, way: str, seed: int, full_runs: float) -> float:
    """What it costs to reach the target, in mean whole runs of A."""
    table = tables.read(path)
    of_b, of_a = factors(table, scenario), np.ones(len(table.runs))
    goals = [_scaled(table, factor) for factor in (of_a, of_b)]
    top = max(1.0001 * float(goal.table.points[:, 0].max()) for goal in goals)
    quality = goals[0].reference[1]
    best = 0.0
    for goal in goals:
        stairs = Staircase(float(np.log(top)), quality)
        for cost, score in goal.table.points:
            stairs.add(float(np.log(cost)), float(score))
        best = max(best, stairs.volume)
    cold_start = COLD_START_SHARE * float(np.median(table.recorded_costs))
    a, b = Machine(table, of_a, 1.0, seed), Machine(table, of_b, SPEED_OF_B, seed + 1000)
    machines = {"A alone": [a], "B alone": [b]}.get(way, [a, b])
    sweep = Sweep(table, machines, 4 * table.budget(full_runs), cold_start, rule=way == WAYS[3])
    return sweep.cost_to(SHARE * best, Staircase(float(np.log(top)), quality)) / float(table.recorded_costs.mean())


def _scaled(table: tables.Table, factor: np.ndarray) -> Goal:
    return Goal(
        replace(table, runs=tuple(replace(run, costs=run.costs * float(f)) for run, f in zip(table.runs, factor, strict=True)))
    )


def main() -> None:
    """Replay, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=float, default=15.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    began = time.perf_counter()
    jobs = list(product(asked.tables, SCENARIOS, WAYS, range(asked.seeds)))
    with ProcessPoolExecutor(asked.processes) as pool:
        found = dict(zip(jobs, pool.map(one, *zip(*jobs, strict=True), [asked.budget] * len(jobs)), strict=True))
    rows = []
    for path, scenario in product(asked.tables, SCENARIOS):
        costs = {way: [found[path, scenario, way, seed] for seed in range(asked.seeds)] for way in WAYS}
        better = min(WAYS[:2], key=lambda way: statistics.median(costs[way]))
        row: dict[str, Any] = {"table": path.name.partition(".")[0], "scenario": scenario, "better_alone": better}
        row |= {"cost_to_95_in_full_runs": {way: round(statistics.median(costs[way]), 3) for way in WAYS}}
        row |= {
            "ratio_to_better_alone": {
                way: round(statistics.median(x / y for x, y in zip(costs[way], costs[better], strict=True)), 3) for way in WAYS[2:]
            }
        }
        rows.append(row)
        print(json.dumps(row))
    record = {
        "what": "US$ to 95 % of the better machine's hypervolume, over that of the better machine alone",
        "seeds": asked.seeds,
        "budget_full_runs": asked.budget,
        "dearer": DEARER,
        "seconds": round(time.perf_counter() - began),
        "machine": platform.platform(),
        "workbench": version("workbench"),
        "rows": rows,
    }
    if asked.out:
        asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
