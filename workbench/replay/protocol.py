"""The protocol: methods x tables x workers x seeds, and what is told of them, as one record of plain data."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np

from workbench.front.intervals import holm
from workbench.meter.host import cpu_model
from workbench.replay import methods, parallel, statistics
from workbench.replay.regret import AREA_FROM, SHARES, Curve, Goal
from workbench.replay.simulation import COLD_START_SHARE, Trace
from workbench.replay.tables import Table

PACKAGES = ("workbench", "numpy", "scipy", "optuna", "torch")
GRID = tuple(float(share) for share in np.geomspace(0.001, 1.0, 121))
"""Shares of the budget at which any-time curves are drawn."""


@dataclass(frozen=True)
class Protocol:
    """What is fixed before anything is run.

    Attributes:
        methods: Names of the methods; the others are compared with `front`, or with the first where it is not among them.
        seeds: How many, from 0: seed s of one method is paired with seed s of another.
        budget: Budget in mean full runs of the table, capped at the whole table's cost.
        workers: Numbers of workers, each its own comparison.
        credit: What is a point of the front, out of `regret.CREDITS`.
        cost: The scale of cost, out of `regret.COST_SCALES`.
        launch_share: Cost of a cold start, as a share of the median full run's.
    """

    methods: tuple[str, ...] = methods.METHODS
    seeds: int = 30
    budget: float = 15.0
    workers: tuple[int, ...] = (1, 8, 64)
    credit: str = "checkpoints"
    cost: str = "log"
    launch_share: float = COLD_START_SHARE

    @property
    def against(self) -> str:
        """The method that others are compared with."""
        return "front" if "front" in self.methods else self.methods[0]


@dataclass(frozen=True, eq=False)
class _Cell:
    """The replays of a method on a table with one number of workers: traces and regret curves by
    seed.
    """

    budget: float
    traces: list[Trace]
    curves: list[Curve]

    @property
    def areas(self) -> list[float]:
        return [curve.area(self.budget) for curve in self.curves]

    def reached(self, share: float, *, time: bool = False) -> list[float | None]:
        reaches = [curve.reach(share) for curve in self.curves]
        return [None if each is None else each[time] for each in reaches]

    def costs(self, share: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What it cost to reach a share of the best; the budget where it was not reached, which is then a lower bound."""
        return np.array([self.budget if cost is None else cost for cost in self.reached(share)])


_Cells = Mapping[tuple[int, int, str], _Cell]


def replay(
    tables: Sequence[Table],
    protocol: Protocol,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    more: methods.Makers | None = None,
) -> dict[str, Any]:
    """Replay all methods on all tables. The record has `protocol`, `machine`, `versions`, `tables`,
    `results`, `across`.

    Args:
        tables: The pools.
        protocol: What is compared, and how.
        processes: How many replays run side by side. The record is the same, but for seconds of
            real time.
        progress: Called with how many replays are done, of how many.
        more: Methods from elsewhere that `protocol` names.

    Raises:
        UsageError: A method is not known, or cannot search a table.
        DataError: No point of a table counts.
    """
    # A wrong name is told now, not after hours of replays.
    for name in protocol.methods:
        methods.make(name, 0, more)
    goals = [Goal(table, protocol.credit, protocol.cost) for table in tables]
    described = [_table_record(table, goal, protocol) for table, goal in zip(tables, goals, strict=True)]
    cells = _run(tables, goals, protocol, processes, progress, more)
    return {
        "protocol": {
            **asdict(protocol),
            "methods": list(protocol.methods),
            "workers": list(protocol.workers),
            "against": protocol.against,
            "shares": list(SHARES),
            "area_from": AREA_FROM,
            "curve_shares": list(GRID),
        },
        "machine": {"system": platform.platform(), "cpu": cpu_model(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "tables": described,
        "results": [
            row
            for t, table in enumerate(tables)
            for workers in protocol.workers
            for row in _comparison(table, {m: cells[t, workers, m] for m in protocol.methods}, workers, protocol, cells, t)
        ],
        "across": [_across(tables, cells, workers, protocol) for workers in protocol.workers],
    }


def _run(
    tables: Sequence[Table],
    goals: Sequence[Goal],
    protocol: Protocol,
    processes: int,
    progress: Callable[[int, int], None],
    more: methods.Makers | None,
) -> dict[tuple[int, int, str], _Cell]:
    jobs = [
        parallel.Job(
            t,
            method,
            workers,
            seed,
            table.budget(protocol.budget),
            _cold_start_cost(table, protocol),
            protocol.credit == "finished",
        )
        for t, table in enumerate(tables)
        for workers in protocol.workers
        for seed in range(protocol.seeds)
        for method in protocol.methods
    ]
    traces: dict[parallel.Job, Trace] = {}
    progress(0, len(jobs))
    for job, trace in parallel.run(tables, jobs, processes, more):
        traces[job] = trace
        progress(len(traces), len(jobs))
    cells: dict[tuple[int, int, str], _Cell] = {}
    for job in jobs:  # in their order, however they ended
        cell = cells.setdefault((job.table, job.workers, job.method), _Cell(job.budget, [], []))
        cell.traces.append(traces[job])
        cell.curves.append(goals[job.table].curve(traces[job]))
    return cells


def _cold_start_cost(table: Table, protocol: Protocol) -> float:
    return protocol.launch_share * float(np.median(table.recorded_costs))


def _table_record(table: Table, goal: Goal, protocol: Protocol) -> dict[str, Any]:
    cost, quality = goal.reference
    meta = {key: table.meta.get(key) for key in ("quality", "cost_unit", "cost_is", "source", "licence")}
    return {
        "table": table.name,
        "digest": table.digest,
        **meta,
        "runs": len(table.runs),
        "failed": sum(run.failed for run in table.runs),
        "checkpoints": len(table.points),
        "budget": table.budget(protocol.budget),
        "launch": _cold_start_cost(table, protocol),
        "reference": {"cost": cost, "quality": quality},
        "hypervolume": goal.best,
    }


def _comparison(
    table: Table, cells: Mapping[str, _Cell], workers: int, protocol: Protocol, everything: _Cells, index: int
) -> list[dict[str, Any]]:
    """A row for each method on a table, with `workers` of them."""
    base = cells[protocol.against]
    others = [name for name in protocol.methods if name != protocol.against]
    p = {name: statistics.rank_test(cells[name].areas, base.areas) for name in others}
    corrected = holm(p)
    rows = []
    for name in protocol.methods:
        cell = cells[name]
        row = {"table": table.name, "workers": workers, "method": name, **_told(cell)}
        for share in (0.95, 0.99):
            row[f"cost_to_{share * 100:.0f}"] = _cost_record(cell, base, share)
        single = everything.get((index, 1, name))
        row["cost_to_95_over_one_worker"] = _ratio(cell, single, 0.95) if single is not None and workers > 1 else None
        row["versus"] = _verdict(cell, base, p[name], corrected[name]) if name != protocol.against else None
        row["seeds"] = [
            {"seed": seed, "area": area, "cost_to_95": to_95, "cost_to_99": to_99}
            for seed, (area, to_95, to_99) in enumerate(zip(cell.areas, cell.reached(0.95), cell.reached(0.99), strict=True))
        ]
        rows.append(row)
    return rows


def _told(cell: _Cell) -> dict[str, Any]:
    areas, regrets = np.array(cell.areas), np.array([curve.at(np.array(SHARES) * cell.budget) for curve in cell.curves])
    seeds = len(areas)
    decisions = sum(trace.decisions for trace in cell.traces)
    return {
        "area": {
            "mean": float(areas.mean()),
            "standard_error": float(areas.std(ddof=1) / seeds**0.5) if seeds > 1 else None,
            "median": float(np.median(areas)),
        },
        "regret": [float(value) for value in regrets.mean(axis=0)],
        "spent": float(np.mean([trace.total_spent for trace in cell.traces])),
        "time": float(np.mean([trace.total_time for trace in cell.traces])),
        "launches": float(np.mean([trace.launches for trace in cell.traces])),
        "failures": float(np.mean([trace.failures for trace in cell.traces])),
        "decisions": decisions / seeds,
        "seconds_per_decision": sum(trace.deciding_seconds for trace in cell.traces) / max(1, decisions),
        "curve": [float(value) for value in np.mean([curve.at(np.array(GRID) * cell.budget) for curve in cell.curves], axis=0)],
    }


def _cost_record(cell: _Cell, base: _Cell, share: float) -> dict[str, Any]:
    """Cost to reach a share of the best hypervolume, and as a ratio to the base's, paired by seed."""
    # A seed that never got there is dearer than all: the median holds while most did.
    costs = [np.inf if cost is None else cost for cost in cell.reached(share)]
    times = [np.inf if when is None else when for when in cell.reached(share, time=True)]
    median, time = float(np.median(costs)), float(np.median(times))
    return {
        "reached": int(np.isfinite(costs).sum()),
        "median": median if np.isfinite(median) else None,
        "share_of_budget": median / cell.budget if np.isfinite(median) else None,
        "time": time if np.isfinite(time) else None,
        "ratio": _ratio(cell, base, share) if cell is not base else None,
    }


def _ratio(cell: _Cell, base: _Cell, share: float) -> dict[str, Any]:
    """Median ratio with its interval. Where a seed did not reach it, the budget stands for its cost: `at_least`, `at_most` seeds.

    The median lies from `least` to `most` whatever those seeds would have paid; None: without an end.
    """
    ratios = cell.costs(share) / base.costs(share)
    dearer, cheaper = (np.array([cost is None for cost in each.reached(share)]) for each in (cell, base))
    bounds = _median_bounds(zip(np.where(cheaper, 0.0, ratios), np.where(dearer, np.inf, ratios), strict=True))
    return {**asdict(statistics.median_interval(ratios)), **bounds, "at_least": int(dearer.sum()), "at_most": int(cheaper.sum())}


def _median_bounds(ranges: Iterable[tuple[float, float]]) -> dict[str, float | None]:
    """Return the bounds of a median of ratios, each of which is only known to lie in a range."""
    least, most = (float(np.median(ends)) for ends in zip(*ranges, strict=True))
    return {"least": least or None, "most": most if np.isfinite(most) else None}


def _verdict(cell: _Cell, base: _Cell, p: float, corrected: float) -> dict[str, Any]:
    difference = float(np.mean(cell.areas) - np.mean(base.areas))
    told_apart = corrected < statistics.LEVEL
    return {
        "difference": difference,
        "p": p,
        "p_holm": corrected,
        # The area is that of regret: less is better.
        "verdict": ("worse" if difference > 0 else "better") if told_apart else "tied",
    }


def _across(tables: Sequence[Table], cells: _Cells, workers: int, protocol: Protocol) -> dict[str, Any]:
    areas = np.array([[np.mean(cells[t, workers, m].areas) for m in protocol.methods] for t in range(len(tables))])
    ranking = statistics.ranking(areas)
    rows = []
    for name, rank in zip(protocol.methods, ranking.mean_ranks, strict=True):
        row = {"method": name, "mean_rank": rank}
        for share in (0.95, 0.99):
            ratios = [_ratio(cells[t, workers, name], cells[t, workers, protocol.against], share) for t in range(len(tables))]
            bounds = _median_bounds((r["least"] or 0.0, np.inf if r["most"] is None else r["most"]) for r in ratios)
            row[f"ratio_{share * 100:.0f}"] = {"median": float(np.median([r["median"] for r in ratios])), **bounds}
        rows.append(row)
    return {
        "workers": workers,
        "friedman_p": ranking.friedman_p,
        "critical_difference": ranking.critical_difference,
        "methods": rows,
    }
