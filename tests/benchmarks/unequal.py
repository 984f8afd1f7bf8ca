"""Two unequal machines in one sweep against the better of the two alone: replays of recorded runs.

    python tests/benchmarks/unequal.py TABLE… [--seeds 10] [--budget 15] [--out FILE]

The costs of a table are those of machine A. On machine B a run costs so many times as much: `dearer`, 2 for all; `comparative`,
1.6 for the cheaper half of the runs and 0.6 for the dearer half, as of a GPU beside processors; `equal`, 1. B is three times as
fast for a US$. Four ways to work: A alone, B alone, both with each weighing its own costs alone, and both with the rule of
`workbench.sweep.other_machines`, which is called as a sweep calls it: it is told of Results and learns from them what the other
machine takes, by the model's name (a table without models has one) and the size of the run; a run that it leaves to the other is
not admitted here. Told is what it costs to reach 95 % of the hypervolume that the better machine's whole table has, each point at
the price that was paid for it; medians over seeds, and how both compare with the better one alone, paired by seed.
"""

import argparse
import functools
import heapq
import json
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from decimal import Decimal
from importlib.metadata import version
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import sweeps

from workbench.prices import Offer
from workbench.replay import tables
from workbench.replay.front import REFIT_GROWTH, arms_of
from workbench.replay.regret import Goal, Staircase
from workbench.replay.simulation import COLD_START_SHARE
from workbench.result import Result, offer_record
from workbench.search import next_run
from workbench.search.engine import FrontSearch
from workbench.search.runs import Run
from workbench.sweep.other_machines import DEARER, GONE_SECONDS, OtherMachines

WAYS = ("A alone", "B alone", "both, each for itself", "both, by the rule")
SCENARIOS = ("dearer", "comparative", "equal")
SPEED_OF_B = 3.0
SHARE = 0.95
RUN_SECONDS = 600.0
"""What a mean whole run takes on A: a machine is waited for a minute after it was last seen at work."""


def factors(table: tables.Table, scenario: str) -> np.ndarray:
    """What runs cost on B, over what they cost on A."""
    if scenario != "comparative":
        return np.full(len(table.runs), 2.0 if scenario == "dearer" else 1.0)
    return np.where(table.full_costs > np.median(table.full_costs), 0.6, 1.6)


class Machine:
    """A worker on one machine: what the search of this package decides there, at the costs there.

    Args:
        table: The runs.
        name: The machine's.
        factor: What runs cost here, over what the table says.
        speed: How many units of cost it spends while A spends one.
        seed: Of its decisions.
    """

    def __init__(self, table: tables.Table, name: str, factor: np.ndarray, speed: float, seed: int) -> None:
        self.factor, self.speed, self.busy, self.now = factor, speed, False, 0.0
        # A unit of the table's cost is a US$, and a US$ is a second.
        self.offer = Offer(name, "m", "", 0, "", "owned", Decimal(3600), "assumed", "2026-01-01")
        self.search = FrontSearch(table.dimensions, seed=seed, refit_growth=REFIT_GROWTH)
        self.runs = [
            Run({"run": i}, range(1, len(arm.milestones) + 1), replace(arm, milestones=self._dear(arm.milestones, i)), str(i))
            for i, arm in enumerate(arms_of(table))
        ]
        study = SimpleNamespace(costs=("usd",), longest=dict, resolve=functools.partial(recipe_of, table))
        job = SimpleNamespace(joined=True, standing=SimpleNamespace(apart=True), offer=self.offer)
        second = RUN_SECONDS / float(table.recorded_costs.mean())
        context: Any = SimpleNamespace(job=job, study=study)
        self.others = OtherMachines(context, self.here, clock=lambda: self.now * second)
        self.resolve = study.resolve

    def _dear(self, milestones: Any, run: int) -> tuple[Any, ...]:
        return tuple(replace(each, cost=each.cost * float(self.factor[run])) for each in milestones)

    def here(self, recipe: Any, epochs: float) -> float:
        """What a run costs here until so many checkpoints."""
        return float(self.runs[recipe.run].arm.milestones[int(epochs) - 1].cost)

    def admits(self, settings: Mapping[str, Any], until: float | None) -> bool:
        """Whether a run is made here, as far as the rule goes."""
        return not self.others.cheaper(self.resolve(settings))


def recipe_of(table: tables.Table, settings: Mapping[str, Any]) -> Any:
    """What stands for the recipe of a run."""
    run = int(settings["run"])
    of = table.runs[run]
    return SimpleNamespace(run=run, model_name=str(of.settings.get("model", "one")), epochs=len(of.costs))


class Sweep:
    """Machines that work on one table, in virtual time."""

    def __init__(self, table: tables.Table, machines: list[Machine], budget: float, cold_start: float, *, rule: bool) -> None:
        self.table, self.machines, self.budget, self.rule = table, machines, budget, rule
        self.cold_start, self.now = cold_start, 0.0
        runs = len(table.runs)
        self.done, self.failed, self.paid = [0] * runs, [False] * runs, [0.0] * runs
        self.pending: dict[int, int] = {}
        self.made_by: list[set[int]] = [set() for _ in range(runs)]
        self.results: list[Result] = []

    def look(self) -> None:
        """Have the machines look at the ledger, as those that wait do time and again."""
        known = [*self.results, *(self._result(0, m, "running") for m in self.machines if m.busy)]
        for me in self.machines if self.rule else ():
            me.now = self.now
            me.others.look(known)

    def _result(self, run: int, machine: Machine, status: str, cost: float = 0.0) -> Result:
        settings, model = {"run": run}, recipe_of(self.table, {"run": run}).model_name
        more: dict[str, Any] = {"status": status, "settings": settings, "model": model, "offer": offer_record(machine.offer)}
        return sweeps.result(str(run), float(max(1, self.done[run])), 1.0, cost, number=len(self.results), **more)

    def next(self, me: Machine) -> tuple[int, int] | None:
        """The run that a machine takes next, and its milestone; None where it waits."""
        seen = []
        for i, run in enumerate(me.runs):
            qualities = tuple(self.table.runs[i].qualities[: self.done[i]].tolist())
            seen.append(
                replace(run, arm=replace(run.arm, scores=qualities, pending=self.pending.get(i), infeasible=self.failed[i]))
            )
        ask = functools.partial(me.search.decide, cold_start_cost=self.cold_start)
        chosen, decision = next_run._admitted(ask, seen, me.admits if self.rule else lambda settings, until: True)
        return None if chosen is None else (int(str(chosen.key)), decision.milestone)

    def cost_to(self, target: float, stairs: Staircase) -> float:
        """What all machines have spent when the front reaches a hypervolume; the budget where it does not."""
        spent, pushed = 0.0, 0
        events: list[tuple[float, int, int, int, int, float]] = []
        while True:
            for k, me in enumerate(self.machines):
                self.look()
                if me.busy or (taken := self.next(me)) is None:
                    continue
                run, me.busy = taken[0], True
                self.pending[run] = taken[1]
                pushed += 1
                heapq.heappush(events, self._event(self.now, pushed, k, run))
            if not events:
                if not any(me.others.left for me in self.machines):
                    return self.budget
                # What was left to another that has ended is taken once that is gone.
                self.now += (GONE_SECONDS + 1) / RUN_SECONDS * float(self.table.recorded_costs.mean())
                continue
            self.now, _, k, run, stop, cost = heapq.heappop(events)
            self.look()  # what is at work until now
            me, record = self.machines[k], self.table.runs[run]
            spent += cost  # charged as it ends: both ways to work are charged alike
            if spent > self.budget:
                return self.budget
            self.paid[run] += cost
            self.made_by[run].add(k)
            if stop < len(record.qualities):
                self.done[run] += 1
                cold = self.paid[run] - self.cold_start
                # What two machines have made together says nothing of either: a sweep's Result says so by `elsewhere`.
                if self.rule and len(self.made_by[run]) == 1:
                    self.results.append(self._result(run, me, "complete", cold))
                if stairs.add(float(np.log(max(cold, 1e-12))), float(record.qualities[stop])) and stairs.volume >= target:
                    return spent
                self.failed[run] = record.failed and self.done[run] == len(record.costs)
                if stop < self.pending[run]:
                    pushed += 1
                    heapq.heappush(events, self._event(self.now, pushed, k, run))
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
    a, b = Machine(table, "a", of_a, 1.0, seed), Machine(table, "b", of_b, SPEED_OF_B, seed + 1000)
    machines = {"A alone": [a], "B alone": [b]}.get(way, [a, b])
    sweep = Sweep(table, machines, 4 * table.budget(full_runs), cold_start, rule=way == WAYS[3])
    return sweep.cost_to(SHARE * best, Staircase(float(np.log(top)), quality)) / float(table.recorded_costs.mean())


def _scaled(table: tables.Table, factor: np.ndarray) -> Goal:
    return Goal(
        replace(table, runs=tuple(replace(run, costs=run.costs * float(f)) for run, f in zip(table.runs, factor, strict=True)))
    )


def table_of(record: dict[str, Any]) -> str:
    """The table of `tests/benchmarks/README.md`."""
    lines = ["| table, and B | the better one alone | both, each for itself | both, by the rule |", "|---|---|---|---|"]
    for row in record["rows"]:
        costs, ratios = row["cost_to_95_in_full_runs"], row["ratio_to_better_alone"]
        both = " | ".join(f"{costs[way]:.2f} ({ratios[way]:.2f})" for way in WAYS[2:])
        lines.append(f"| {row['table']}, {row['scenario']} | {row['better_alone'][0]}: {costs[row['better_alone']]:.2f} | {both} |")
    return "\n".join(lines)


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
