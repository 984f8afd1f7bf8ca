"""What further pre-training on the docstrings behind pydocs buys on the default task: F1 with and without, by steps.

minilm-l3 is tuned after so many steps of masked_lm on texts of the train side alone, at each of a few seeds of the tuning; the
pre-training is the same for all of them. Intervals are Student's t of the paired differences to no pre-training.

    python tests/benchmarks/pretraining.py [--out results/pretraining.json] [--seeds 5] [--only "50 steps"]
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from workbench import Recipe, full, masked_lm, training
from workbench.tasks import question_answering

LABELS = 256
NONE = "none"
ARMS: dict[str, tuple[int, dict[str, Any]]] = {
    NONE: (LABELS, {}),
    "50 steps": (LABELS, {"steps": 50}),
    "400 steps": (LABELS, {"steps": 400}),
}
"""Labels of each arm, and the settings of its masked_lm; none where nothing is learned before."""
MODEL, EPOCHS, BATCH, RATE = "minilm-l3", 2, 4, 1e-4


def recipe(arm: str, seed: int) -> Recipe:
    """What is tuned in an arm."""
    labels, how = ARMS[arm]
    task = question_answering("pydocs", train=labels)
    before = masked_lm("pydocs", **how) if how else None
    return Recipe(
        task=task, model=MODEL, method=full(learning_rate=RATE), epochs=EPOCHS, batch_size=BATCH, seed=seed, pretrain=before
    )  # fmt: skip


def row(arm: str, seed: int) -> dict[str, Any]:
    """Scores of the last checkpoint, and its cold cost by phase."""
    *_, last = training.train(recipe(arm, seed))
    usage = {phase: each for phase, each in last.usage.items() if phase in ("pretrain", "train")}
    return {
        "arm": arm,
        "seed": seed,
        "scores": dict(last.scores),
        "flops": {phase: each.work.flops for phase, each in usage.items()},
        "seconds": {phase: round(each.seconds, 2) for phase, each in usage.items()},
        "examples": {phase: each.work.examples for phase, each in usage.items()},
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean F1 by arm, the difference to the first with its 95 % interval, and FLOPs over the first's."""
    f1 = {(r["arm"], r["seed"]): r["scores"]["f1"] for r in rows}
    flops = {r["arm"]: sum(r["flops"].values()) for r in rows}
    seeds = sorted({seed for _, seed in f1})
    found = {}
    for arm in flops:
        gains = [f1[arm, seed] - f1[NONE, seed] for seed in seeds]
        mean = statistics.fmean(gains)
        half = stats.t.ppf(0.975, len(seeds) - 1) * statistics.stdev(gains) / math.sqrt(len(seeds))
        found[arm] = {
            "f1": round(statistics.fmean(f1[arm, seed] for seed in seeds), 1),
            "gain": round(mean, 1),
            "low": round(mean - half, 1),
            "high": round(mean + half, 1),
            "flops_to_first": round(flops[arm] / flops[NONE], 1),
        }
    return found


def main() -> None:
    """Run all and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pretraining.json")
    options.add_argument("--seeds", type=int, default=5, help="two or more")
    options.add_argument("--only", action="append", choices=[*ARMS][1:], help="this arm beside none; may be given more than once")
    chosen = options.parse_args()
    rows = []
    for arm in [NONE, *(chosen.only or [*ARMS][1:])]:
        for seed in range(chosen.seeds):
            began = time.perf_counter()
            rows.append(row(arm, seed))
            print(rows[-1], f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    machine = {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {p: metadata.version(p) for p in ("torch", "transformers", "pandas", "numpy", "scipy", "scikit-learn")}
    record = {
        "what": __doc__,
        "machine": machine | {"shared": "with other work: seconds are not to be compared; scores and FLOPs do not depend on it"},
        "versions": versions,
        "model": MODEL,
        "arms": {name: {"labels": labels, **how} for name, (labels, how) in ARMS.items() if name in {r["arm"] for r in rows}},
        "epochs": EPOCHS,
        "learning_rate": RATE,
        "summary": summary(rows),
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    main()
