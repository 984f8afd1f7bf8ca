"""Does a sweep live through restarts of its database? Real sweeps on a PostgreSQL server of their own.

Each sweep is one of a small study, by one worker or by two. At a random moment of it the server is restarted as after a crash,
or is away for a minute. Then it is told whether the sweep ended by itself, within its limit, with every run whole and none
twice, and whether a trial is left that nobody is at. Results that were in the ledger before are looked for afterwards.

    python tests/benchmarks/restarts.py [--moments 10] [--away 60] [--trials 4] [--seed 0] [--out results/restarts.json]
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from places import Place
from servers import Server, server

from workbench.ledger import Ledger
from workbench.result import Result, by_run
from workbench.testing import tiny_model


def known(url: str) -> list[Result]:
    """What the ledger holds, those being made included; nothing where there is none yet."""
    try:
        return Ledger.find(None, url, read_only=True).results(running=True)
    except Exception:  # the sweep has not opened it yet
        return []


def sweep(place: Place, database: Server, rng: random.Random, workers: int, how: str, chosen: Any) -> dict[str, Any]:
    """One sweep with one fault in it, and what became of it."""
    began = time.monotonic()
    process = place.start("--storage", database.url, "--trials", str(chosen.trials), "--workers", str(workers), "--no-progress")
    at = rng.randrange(1, 3 * chosen.trials)  # so many trials: every checkpoint is one
    while len(known(database.url)) < at and process.poll() is None:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 2))
    before = [r for r in known(database.url) if r.status != "running"]
    ended_before = process.poll() is not None
    moment = time.monotonic() - began
    if how == "restart":
        database.restart()
    else:
        database.stop()
        time.sleep(chosen.away)
        database.start()
    code = process.wait(timeout=900)
    found = known(database.url)
    recipes = [r.recipe_id for r in found if r.status == "complete"]
    return {
        "workers": workers,
        "how": how,
        "moment_seconds": round(moment, 1),
        "results_before": len(before),
        "ended_before": ended_before,
        "exit_code": code,
        "runs": len(by_run(found)),
        "results": len(found),
        "lost": sum(r not in found for r in before),
        "twice": len(recipes) - len(set(recipes)),
        "not_complete": sum(r.status not in ("complete", "running") for r in found),
        "left_running": sum(r.status == "running" for r in found),
        "told_away": place.said.count("The ledger is away ("),
        "said": [line for line in place.said.splitlines() if line.startswith(("The sweep ended", "Error"))],
    }


def main() -> None:
    """Make all sweeps and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "restarts.json")
    options.add_argument("--moments", type=int, default=10, help="of each number of workers")
    options.add_argument("--away", type=float, default=60.0, help="seconds, at every other moment")
    options.add_argument("--trials", type=int, default=4)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    rng, rows = random.Random(chosen.seed), []
    with tempfile.TemporaryDirectory() as name:
        model = tiny_model(Path(name) / "model")
        for i in range(chosen.moments):
            for workers in (1, 2):
                folder = Path(name) / f"{i}-{workers}"
                folder.mkdir()
                with server() as database:  # each its own: what one leaves is no other's
                    how = "away" if i % 2 else "restart"
                    rows.append(sweep(Place(folder, model, train=128, epochs=4), database, rng, workers, how, chosen))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    summary = {
        f"{workers} worker{'' if workers == 1 else 's'}": {
            "sweeps": len(made),
            "ended_by_themselves": sum(row["exit_code"] == 0 for row in made),
            "with_all_runs_and_no_more": sum(row["runs"] == chosen.trials for row in made),
            "that_saw_the_fault": sum(row["told_away"] > 0 for row in made),
            **{name: sum(row[name] for row in made) for name in ("results", "lost", "twice", "not_complete", "left_running")},
        }
        for workers in (1, 2)
        if (made := [row for row in rows if row["workers"] == workers])
    }
    packages = ("torch", "optuna", "sqlalchemy", "psycopg2-binary", "workbench")
    record = {
        "what": __doc__,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "options": {"moments": chosen.moments, "away": chosen.away, "trials": chosen.trials, "seed": chosen.seed},
        "summary": summary,
        "rows": rows,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
