"""What two tasks in a row make a model forget: plain tuning, replay and elastic weight consolidation, over seeds.

A head on minilm-l6, whose body is left as it is, learns which of six topics a function of pytopics is about, then which of the five
others; it is asked among all eleven.
Forgetting is what the accuracy on the first six lost meanwhile, in points. Each seed draws the head and the order of the
examples; intervals are Student's t, of differences to plain over the same seeds. The strength of ewc was chosen on a
seed of its own, by the harmonic mean of both accuracies.

    python tests/benchmarks/continual.py [--out results/continual.json] [--seeds 5]
"""

import argparse
import csv
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import torch
from scipy import stats

from workbench import Recipe, head, training
from workbench.data import pytopics
from workbench.tasks import Classification, classification, continual

MODEL, LABELS, DEV, EPOCHS, BATCH, RATE, MEMORY = "minilm-l6", 256, 100, 8, 16, 1e-2, 64
STRENGTHS = (1e4, 1e5, 1e6)
CHOSEN_ON = 100
"""The seed that the strength is chosen on; none of those that are reported."""


def halves(folder: Path) -> list[Path]:
    """Write pytopics into two folders, each with half of the classes."""
    sides = pytopics.load()
    names = sorted({label for example in sides["train"] for label in example["labels"]})
    found = []
    for number, own in enumerate((names[::2], names[1::2])):
        found.append(folder / f"half{number + 1}")
        found[-1].mkdir()
        for side, examples in sides.items():
            with (found[-1] / f"{side}.csv").open("w", newline="", encoding="utf-8") as file:
                rows = [(e["text"], e["labels"][0]) for e in examples if e["labels"][0] in own]
                csv.writer(file).writerows([("text", "label"), *rows])
    return found


def recipe(data: list[Path], strategy: str, seed: int, strength: float) -> Recipe:
    """The second of the two tasks, after the first."""
    tasks: list[Classification] = [classification(str(each), train=LABELS, dev=DEV, test=0, seed=seed) for each in data]
    task = continual(tasks, strategy=strategy, epochs=EPOCHS, memory=MEMORY, strength=strength)
    return Recipe(task=task, model=MODEL, method=head(learning_rate=RATE), epochs=EPOCHS, batch_size=BATCH, seed=seed)


def row(data: list[Path], strategy: str, seed: int, strength: float) -> dict[str, object]:
    """Scores of the last checkpoint, and what it took from nothing."""
    began = time.perf_counter()
    *_, last = training.train(recipe(data, strategy, seed, strength))
    flops = {phase: each.work.flops for phase, each in last.usage.items() if phase in ("pretrain", "train")}
    found = {"strategy": strategy, "seed": seed, "strength": strength if strategy == "ewc" else None, "scores": dict(last.scores)}
    print(found, f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found | {"flops": flops, "labels": last.labels}


def both(row: dict[str, object]) -> float:
    """The harmonic mean of the two accuracies: who forgets the first task whole has 0."""
    one, two = (row["scores"][f"score_of_{i}"] for i in (1, 2))  # type: ignore[index]
    return 2 * one * two / (one + two) if one + two else 0.0


def interval(values: list[float]) -> dict[str, float]:
    """The mean, with its 95 % interval."""
    mean = statistics.fmean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": round(mean, 1), "low": round(mean - half, 1), "high": round(mean + half, 1)}


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    """By strategy: the mean of each figure, and of what it forgets less than plain."""
    of = {(r["strategy"], r["seed"]): r["scores"] for r in rows}
    seeds = sorted({seed for _, seed in of})  # type: ignore[type-var]
    found: dict[str, object] = {}
    for strategy in ("plain", "replay", "ewc"):
        figures = {name: interval([of[strategy, s][name] for s in seeds]) for name in ("forgetting", "average_accuracy")}  # type: ignore[index]
        figures["accuracy_of_2"] = interval([of[strategy, s]["score_of_2"] for s in seeds])  # type: ignore[index]
        if strategy != "plain":
            less = [of["plain", s]["forgetting"] - of[strategy, s]["forgetting"] for s in seeds]  # type: ignore[index]
            figures["forgets_less"] = interval(less)
        found[strategy] = figures
    return found


def main() -> None:
    """Run all and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "continual.json")
    options.add_argument("--seeds", type=int, default=5)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = halves(Path(folder))
        tried = [row(data, "ewc", CHOSEN_ON, strength) for strength in STRENGTHS]
        best = max(tried, key=both)
        rows = [row(data, s, seed, best["strength"]) for seed in range(chosen.seeds) for s in ("plain", "replay", "ewc")]  # type: ignore[arg-type]
    machine = {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {p: metadata.version(p) for p in ("torch", "transformers", "pandas", "numpy", "scipy", "scikit-learn")}
    settings = {"model": MODEL, "labels_each": LABELS, "epochs_each": EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
    record = {
        "what": __doc__,
        "machine": machine | {"shared": "with other work; scores and FLOPs do not depend on it"},
        "versions": versions,
        "settings": settings | {"method": "head", "memory": MEMORY, "strength": best["strength"]},
        "summary": summary(rows),
        "strengths": tried,
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    main()
