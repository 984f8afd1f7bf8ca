"""What does the default study's whole grid cost, and what share of that do searches need for the same front?

`qa_grid.py` is the space of `studies/qa.py` with every choice and each learning rate at five values. Swept once:

    workbench sweep qa_grid.py --sampler optuna:BruteForceSampler --workers 2

Its runs as a table that `workbench replay` reads, and real sweeps of `studies/qa.py` (each in a folder of its own, with as many
workers on the same machine) against its front and its bill:

    python tests/benchmarks/grid.py table FOLDER --out results/qa-grid.jsonl
    python tests/benchmarks/grid.py compare FOLDER --sweeps front=F0,F1 --sweeps optuna:TPESampler=T0,T1 --out results/grid.json

What somebody would spend who knew the grid's front and made its members alone, put beside that comparison:

    python tests/benchmarks/grid.py least results/qa-grid.jsonl --out results/grid.json

Hypervolume is score x decades of cost against the study's own reference point, which is the same for both studies; at the end of a
sweep also against that of all replays: the 5 % quantile of the grid's scores at 1.0001 times its highest cost. What is spent
is read from the ledger, as budgets count it. A machine that does other work meanwhile makes runs dearer: CPU seconds, which that
changes less, are compared too.
"""

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from workbench import pareto, prices
from workbench.front.hypervolume import hypervolume
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Ledger, default_url
from workbench.meter.host import cpu_model
from workbench.replay import tables
from workbench.report.text import describe
from workbench.result import Result, by_run, spent_usd
from workbench.space import Choice, is_number
from workbench.study import load
from workbench.usage import total


def opened(folder: Path) -> tuple[Ledger, View, list[Result]]:
    """The newest study's ledger in a folder, its view at its own prices, and its Results in the order in which they ended."""
    ledger = Ledger.find(None, default_url(folder))
    description = ledger.description
    view = View.of(description, prices.find(description["platform"]), description["label_usd"])
    return ledger, view, sorted(ledger.results(), key=lambda r: (r.finished or r.started, r.number))


def space(study: Path) -> dict[str, Any]:
    """The space of a study as a table says it; a choice among numbers is a range, as that of the study it stands for."""
    found: dict[str, Any] = {}
    for name, dimension in load(study).dimensions.items():
        values = dimension.space.options if isinstance(dimension.space, Choice) else ()
        if name.endswith("learning_rate"):
            found[name] = {"type": "float", "low": min(values), "high": max(values), "log": True}
        elif all(map(is_number, values)):
            found[name] = {"type": "int", "low": min(values), "high": max(values), "log": True}
        else:
            found[name] = {"type": "categorical", "choices": list(dimension.space.names)}
    return found


def table(folder: Path, study: Path) -> list[dict[str, Any]]:
    """The grid as lines of a table: what each checkpoint costs from cold in US$, its F1 and its loss."""
    ledger, view, results = opened(folder)
    meta = {
        "table": "qa_grid",
        "quality": "F1 on 256 questions about docstrings",
        "cost_unit": "US$",
        "cost_is": "measured",
        "source": ledger.description["question"],
        "licence": "Apache-2.0",
        "machine": cpu_model(),
        "space": space(study),
    }
    lines: list[dict[str, Any]] = [{"meta": meta}]
    for segments in by_run(results).values():
        points = sorted((r for r in segments if r.status == "complete"), key=lambda r: r.epochs)
        curve = [
            [float(f"{view.cost(r, 'usd'):.6g}"), round(r.scores[view.maximize], 3), round(r.scores["dev_loss"], 4)] for r in points
        ]
        status = next((r.status for r in segments if r.status == "infeasible"), "ok")
        lines.append({"config": dict(segments[0].settings), "curve": curve, "status": status})
    return lines


def course(view: View, results: Sequence[Result]) -> list[dict[str, float]]:
    """After each Result: US$ and CPU seconds spent until then, and the hypervolume of what is known by then."""
    steps = []
    for n in range(1, len(results) + 1):
        known = results[:n]
        cpu = total(r.consumed for r in known).cpu_seconds
        usd = spent_usd(known, view.offer, view.label_usd)
        steps.append({"usd": usd, "cpu_seconds": cpu, "hypervolume": hypervolume(known, view)})
    return steps


def summary(steps: Sequence[dict[str, float]], grid: dict[str, float]) -> dict[str, Any]:
    """What a sweep came to, and the share of the grid's bill after which it had so much of its hypervolume; None for never."""
    said: dict[str, Any] = {"final": steps[-1], "share_of_hypervolume": steps[-1]["hypervolume"] / grid["hypervolume"]}
    for share in (0.95, 0.99, 1.0):
        first = next((s for s in steps if s["hypervolume"] >= share * grid["hypervolume"]), None)
        for unit in ("usd", "cpu_seconds"):
            said[f"{unit}_share_to_{share:.0%}"] = None if first is None else first[unit] / grid[unit]
    return said


def compare(folder: Path, sweeps: dict[str, list[Path]]) -> dict[str, Any]:
    """The grid's bill, and of each sampler's sweeps how much of it they needed."""
    ledger, view, results = opened(folder)
    cpu = total(r.consumed for r in results).cpu_seconds
    usd = spent_usd(results, view.offer, view.label_usd)
    grid = {"usd": usd, "cpu_seconds": cpu, "hypervolume": hypervolume(results, view)}
    points = [(view.cost(r, "usd"), r.scores[view.maximize]) for r in results if r.status == "complete"]
    near = {
        "usd": 1.0001 * max(cost for cost, _ in points if cost),
        view.maximize: float(np.quantile([q for _, q in points], 0.05)),
    }
    whole = hypervolume(results, replace(view, reference=near))
    found: dict[str, Any] = {}
    for sampler, folders in sweeps.items():
        for each in folders:
            _, own, made = opened(each)
            assert own.reference == view.reference, "hypervolumes against different reference points cannot be compared"
            steps = course(own, made)
            row = {"runs": len(by_run(made)), "results": len(made), **summary(steps, grid), "course": steps}
            row["share_by_the_reference_of_replays"] = hypervolume(made, replace(own, reference=near)) / whole
            found.setdefault(sampler, []).append(row)
    front = pareto_front(results, view)
    best = [{"cost_usd": view.cost(r, "usd"), "f1": r.scores[view.maximize], "recipe": describe(r)} for r in front]
    return {
        "machine": {"cpu": cpu_model(), "platform": platform.platform()},
        "versions": {name: metadata.version(name) for name in ("workbench", "torch", "transformers", "optuna")},
        "grid": {**grid, "study": ledger.name, "runs": len(by_run(results)), "results": len(results), "front": best},
        "reference_of_replays": near,
        "sweeps": found,
    }


def least(path: Path, grid_usd: float) -> dict[str, Any]:
    """What the runs of the front cost that a table's checkpoints have, each to its last member: for whoever knew them before."""
    runs = tables.read(path).runs
    points = [(cost, -quality, i) for i, run in enumerate(runs) for cost, quality in zip(run.costs, run.qualities, strict=True)]
    members = [points[j] for j in pareto.front([point[:2] for point in points])]
    longest: dict[int, float] = {}
    for cost, _, i in members:
        longest[i] = max(cost, longest.get(i, 0.0))
    usd = sum(longest.values())
    return {"points": len(members), "runs": len(longest), "usd": usd, "usd_share_of_grid": usd / grid_usd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "compare", "least"))
    parser.add_argument("folder", type=Path, help="Of the grid's sweep; for `least` its table.")
    parser.add_argument("--study", type=Path, default=Path(__file__).with_name("qa_grid.py"))
    parser.add_argument("--sweeps", action="append", default=[], help="SAMPLER=FOLDER,FOLDER…")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "least":
        record = json.loads(options.out.read_text(encoding="utf-8"))
        record["knowing_the_front"] = least(options.folder, record["grid"]["usd"])
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return
    if options.what == "table":
        lines = [json.dumps(line) for line in table(options.folder, options.study)]
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    sweeps = {name: [Path(each) for each in folders.split(",")] for name, _, folders in (s.partition("=") for s in options.sweeps)}
    options.out.write_text(json.dumps(compare(options.folder, sweeps), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
