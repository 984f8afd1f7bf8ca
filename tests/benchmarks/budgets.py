"""Does a sweep keep to its budget? Real sweeps with `--max-usd` of a third of what the same sweep takes without one.

Each of the runs has a seed and folders of its own. The sweep is first made without a budget; what it spent is the
forecast. Then it is made anew with a third of that. What was spent is read from the ledger, as budgets count it: every
second from the sweep's first to its last, at the study's offer. What a budget cannot see, the start of the interpreter
before the meter opens and what comes after the last result, is in `process_seconds` alone.

    python tests/benchmarks/budgets.py [--runs 20] [--share 0.333] [--epochs 64] [--out results/budgets.json]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench import prices
from workbench.ledger import Ledger, default_url
from workbench.result import by_run, spent_usd
from workbench.testing import tiny_model
from workbench.usage import total

STUDY = '''"""Which tiny method finds the word?"""

from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft
from workbench.testing import TinyTask

study = Study(
    Recipe(
        task=TinyTask(train=choice(256, 512)),
        model={model!r},
        method=choice(
            full(learning_rate=loguniform(1e-3, 1e-2)),
            peft("lora", learning_rate=loguniform(1e-3, 1e-2), r=choice(2, 4)),
            bitfit(learning_rate=loguniform(1e-3, 1e-2)),
        ),
        epochs=integers({low}, {high}, log=True),
        batch_size=8,
    ),
    maximize="accuracy",
    minimize="usd",
    trials={trials},
)
'''


def sweep(folder: Path, study: str, seed: int, *words: str) -> dict[str, Any]:
    """Run one sweep in a folder of its own; what it did, and what its ledger says it spent."""
    folder.mkdir(parents=True)
    (folder / "tiny.py").write_text(study, encoding="utf-8")
    command = [sys.executable, "-m", "workbench", "sweep", "tiny.py", "--seed", str(seed), *words]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    said = [line for line in done.stderr.splitlines() if line.startswith(("The sweep ended", "Nothing to do", "Error"))]
    if done.returncode not in (0, 1, 3):  # 1: nothing was finished within the budget, 3: it was refused
        raise SystemExit(f"{folder}: exit code {done.returncode}\n{done.stderr}")
    try:
        ledger = Ledger.find(None, default_url(folder))
    except Exception as error:  # a sweep that was refused has no ledger: it spent nothing
        if done.returncode != 3:
            raise SystemExit(f"{folder}: {error}\n{done.stderr}") from error
        return {"usd": 0.0, "seconds": 0.0, "runs": 0, "results": 0, "process_seconds": wall, "exit_code": 3, "said": said}
    description, results = ledger.description, ledger.results()
    return {
        "usd": spent_usd(results, prices.find(description["platform"]), description["label_usd"]),
        "seconds": total(r.consumed for r in results).seconds,
        "runs": len(by_run(results)),
        "results": len(results),
        "process_seconds": round(wall, 2),
        "exit_code": done.returncode,
        "said": said,
    }


def main() -> None:
    """Make all runs and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "budgets.json")
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--share", type=float, default=1 / 3, help="of the forecast that is the budget")
    options.add_argument("--epochs", type=int, default=64, help="of the longest run; the shortest has an eighth of it")
    options.add_argument("--trials", type=int, default=6)
    chosen = options.parse_args()
    usd_per_second = float(prices.find(prices.DEFAULT).usd_per_hour) / 3600
    rows = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = tiny_model(place / "model")
        study = STUDY.format(model=model, low=max(1, chosen.epochs // 8), high=chosen.epochs, trials=chosen.trials)
        for seed in range(chosen.runs):
            free = sweep(place / f"{seed}-free", study, seed)
            budget = float(f"{float(free['usd']) * chosen.share:.6g}")  # as it is given on the command line
            bound = sweep(place / f"{seed}-budget", study, seed, "--max-usd", f"{budget:.12f}")
            over = bound["usd"] - budget
            row = {
                "seed": seed,
                "forecast_usd": free["usd"],
                "forecast_seconds": free["seconds"],
                "budget_usd": budget,
                "budget_seconds": budget / usd_per_second,
                "spent_usd": bound["usd"],
                "spent_seconds": bound["seconds"],
                "overshoot_usd": max(0.0, over),
                "overshoot_seconds": max(0.0, over) / usd_per_second,
                "unused_usd": max(0.0, -over),
                **{key: bound[key] for key in ("runs", "results", "process_seconds", "exit_code", "said")},
            }
            rows.append(row)
            print(
                f"seed {seed}: forecast {free['seconds']:.1f} s, budget {row['budget_seconds']:.1f} s, "
                f"spent {row['spent_seconds']:.1f} s, {max(0.0, over) / usd_per_second:.2f} s over; {bound['said']}",
                file=sys.stderr,
                flush=True,
            )
    worst = max(rows, key=lambda row: row["overshoot_usd"])
    summary = {
        "runs": len(rows),
        "exceeded": sum(row["overshoot_usd"] > 0 for row in rows),
        "max_overshoot_usd": worst["overshoot_usd"],
        "max_overshoot_seconds": worst["overshoot_seconds"],
        "max_overshoot_share_of_budget": max(row["overshoot_usd"] / row["budget_usd"] for row in rows),
        "mean_share_of_budget_spent": sum(row["spent_usd"] / row["budget_usd"] for row in rows) / len(rows),
        "with_a_finished_result": sum(row["exit_code"] == 0 for row in rows),
    }
    packages = ("torch", "transformers", "peft", "optuna", "mlflow", "workbench")
    record = {
        "what": __doc__,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "usd_per_hour": usd_per_second * 3600,
        "options": {"share": chosen.share, "epochs": chosen.epochs, "trials": chosen.trials},
        "summary": summary,
        "rows": rows,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
