"""What further pre-training on the docstrings behind pydocs buys on the default task: F1 with and without, by steps.

minilm-l3 is tuned on 256 labels after so many steps of masked_lm on texts of the train side alone, at each of a few seeds of the
tuning; the pre-training is the same for all of them. Intervals are Student's t of the paired differences to no pre-training.

    python tests/benchmarks/pretraining.py [--out results/pretraining.json] [--seeds 4]
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

import torch
from scipy import stats

from workbench import Recipe, full, masked_lm, training
from workbench.study import Pretraining
from workbench.tasks import question_answering

STEPS = (0, 50)
MODEL, LABELS, EPOCHS, BATCH, RATE = "minilm-l3", 256, 2, 4, 2e-4


def recipe(steps: int, seed: int) -> Recipe:
    """What is tuned after so many steps of pre-training."""
    how: Pretraining | None = masked_lm("pydocs", steps=steps) if steps else None
    task = question_answering("pydocs", train=LABELS)
    return Recipe(
        task=task, model=MODEL, method=full(learning_rate=RATE), epochs=EPOCHS, batch_size=BATCH, seed=seed, pretrain=how
    )  # fmt: skip


def row(steps: int, seed: int) -> dict[str, object]:
    """Scores of the last checkpoint, and its cold cost by phase."""
    *_, last = training.train(recipe(steps, seed))
    usage = {phase: each for phase, each in last.usage.items() if phase in ("pretrain", "train")}
    return {
        "steps": steps,
        "seed": seed,
        "scores": dict(last.scores),
        "flops": {phase: each.work.flops for phase, each in usage.items()},
        "seconds": {phase: round(each.seconds, 2) for phase, each in usage.items()},
        "examples": {phase: each.work.examples for phase, each in usage.items()},
    }


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    """Mean F1 by steps, and the difference to none with its 95 % interval."""
    f1 = {(r["steps"], r["seed"]): r["scores"]["f1"] for r in rows}  # type: ignore[index]
    seeds = sorted({seed for _, seed in f1})
    found: dict[str, object] = {}
    for steps in STEPS:
        scores = [f1[steps, seed] for seed in seeds]
        gains = [f1[steps, seed] - f1[0, seed] for seed in seeds]
        mean = statistics.fmean(gains)
        half = stats.t.ppf(0.975, len(seeds) - 1) * statistics.stdev(gains) / math.sqrt(len(seeds)) if steps else 0.0
        flops = next(r["flops"] for r in rows if r["steps"] == steps)
        found[str(steps)] = {
            "f1": round(statistics.fmean(scores), 1),
            "gain": round(mean, 1),
            "low": round(mean - half, 1),
            "high": round(mean + half, 1),
            "flops_to_tuning": round(flops.get("pretrain", 0.0) / flops["train"], 1),  # type: ignore[attr-defined,index]
        }
    return found


def main() -> None:
    """Run all and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pretraining.json")
    options.add_argument("--seeds", type=int, default=4)
    chosen = options.parse_args()
    rows = []
    for steps in STEPS:
        for seed in range(chosen.seeds):
            began = time.perf_counter()
            rows.append(row(steps, seed))
            print(rows[-1], f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    machine = {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {p: metadata.version(p) for p in ("torch", "transformers", "pandas", "numpy", "scipy", "scikit-learn")}
    record = {
        "what": __doc__,
        "machine": machine | {"shared": "with other work: seconds are not to be compared; scores and FLOPs do not depend on it"},
        "versions": versions,
        "model": MODEL,
        "labels": LABELS,
        "epochs": EPOCHS,
        "learning_rate": RATE,
        "summary": summary(rows),
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    main()
