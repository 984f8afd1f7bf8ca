"""CPU seconds to replay our search on a wide table: 300 runs of 60 checkpoints each, 110 settings that only some runs have.

    python tests/benchmarks/wide.py > tests/benchmarks/results/wide.json

The table is made up: 10 methods of 11 settings each, which no other method has. The budget is that of 60 mean full runs, for each
of ten seeds, one worker, one process with one thread. CPU time is told, which other programs on the machine change little.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy

from workbench.meter.host import cpu_model
from workbench.replay import methods, tables
from workbench.replay.regret import Goal
from workbench.replay.simulation import simulate

RUNS, CHECKPOINTS, METHODS, SETTINGS, BUDGET, SEEDS = 300, 60, 10, 11, 60, 10


def lines(runs: int = RUNS, checkpoints: int = CHECKPOINTS, kinds: int = METHODS, settings: int = SETTINGS) -> list[dict[str, Any]]:
    """A table of recorded runs as it is written: what is known of all of them, then each run."""
    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in range(kinds)]
    space: dict[str, Any] = {"method": {"type": "categorical", "choices": names}}
    for name in names:
        for j in range(settings):
            number = {"type": "float", "low": 1e-4, "high": 1.0, "log": True}
            space[f"{name}.s{j}"] = number if j % 3 else {"type": "categorical", "choices": ["a", "b", "c"]}
    worth = {name: rng.normal(0, 1, settings) / settings for name in names}
    made: list[dict[str, Any]] = [{"meta": {"table": "wide", "space": space}}]
    for i in range(runs):
        name = names[i % kinds]
        places = rng.uniform(0, 1, settings)
        config: dict[str, Any] = {"method": name}
        for j, place in enumerate(places):
            config[f"{name}.s{j}"] = float(10 ** (4 * place - 4)) if j % 3 else "abc"[int(3 * place)]
        height = 0.6 + 0.05 * (i % kinds) / kinds + float(worth[name] @ (places - 0.5))
        step, pace = float(rng.uniform(0.5, 2) * (1 + i % kinds)), float(rng.uniform(3, 20))
        noise = rng.normal(0, 0.003, checkpoints)
        curve = [[step * k, height * (1 - np.exp(-k / pace)) + noise[k - 1]] for k in range(1, checkpoints + 1)]
        made.append({"config": config, "curve": curve, "status": "ok"})
    return made


def table(folder: Path, **size: int) -> tables.Table:
    path = folder / "wide.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines(**size)), encoding="utf-8")
    return tables.read(path)


def measure(of: tables.Table, seed: int, budget: float) -> dict[str, Any]:
    began = time.process_time()
    trace = simulate(of, methods.make("front", seed), budget=of.budget(budget))
    taken = time.process_time() - began
    area = Goal(of).curve(trace).area(of.budget(budget))
    print(f"seed {seed}: {taken:.1f} s, {trace.decisions} decisions", file=sys.stderr)
    return {"seed": seed, "cpu_seconds": round(taken, 1), "decisions": trace.decisions, "area": round(area, 4)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        wide = table(Path(folder))
    seeds = [measure(wide, seed, BUDGET) for seed in range(SEEDS)]
    record = {
        "what": __doc__.splitlines()[0],
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "runs": len(wide.runs),
        "settings": len(wide.dimensions),
        "budget": BUDGET,
        "cpu_seconds": round(sum(each["cpu_seconds"] for each in seeds), 1),
        "seeds": seeds,
    }
    print(json.dumps(record, indent=1))
