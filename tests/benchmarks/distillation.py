"""What a teacher brings a small model at equal labels, and what it costs.

    python tests/benchmarks/distillation.py [--seeds 5] [--only opinions] [--out FILE]

The teacher is `minilm-l6`, tuned in full; the student is `minilm-l2`. Both have the same labels. A seed draws them, and all that is
random in training; differences are of one seed. Four ways on two data sets that are built in:

    teacher         the large model itself
    alone           the student, on the labels
    alone, longer   the student, on the labels, for as many steps as it takes with a teacher
    distilled       the student, on the labels and what the teacher answers to examples that nobody labelled

The cost of a model is that of making it from cold, without its grading, at the default offer's price for an hour: of a distilled
one the teacher's too. Intervals are Student's, at 95 %, over seeds.
"""

import argparse
import json
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from workbench import Recipe, distil, full, prices, training
from workbench.tasks import classification
from workbench.training import parent_store

DATA = ("pytopics", "opinions")
LABELS, MOST, DEV = 80, 480, 400
EPOCHS = {"teacher": 4, "student": 2}
METHOD = full(learning_rate=3e-4, head_learning_rate=0.01)


def recipes(data: str, seed: int) -> dict[str, Recipe]:
    """What is compared, by its name."""
    task = classification(data, train=LABELS, dev=DEV, test=100, max_length=64, seed=seed)
    rest: dict[str, Any] = {"method": METHOD, "batch_size": 8, "seed": seed}
    teacher = Recipe(task=task, model="minilm-l6", epochs=EPOCHS["teacher"], **rest)
    alone = Recipe(task=task, model="minilm-l2", epochs=EPOCHS["teacher"], **rest)
    return {
        "teacher": teacher,
        "alone": alone,
        "alone, longer": replace(alone, epochs=EPOCHS["student"] * (LABELS + MOST) // LABELS),
        "distilled": replace(alone, epochs=EPOCHS["student"], pseudo=distil(teacher, most=MOST)),
    }


def measured(recipe: Recipe) -> dict[str, float]:
    """Make a model, and tell what came of it."""
    for parent in recipe.parents:  # one that was made on another day took another time
        for path in parent_store.kept(parent):
            shutil.rmtree(path, ignore_errors=True)
    *_, last = training.train(recipe)
    assert last.labels == LABELS
    seconds = {phase: usage.seconds for phase, usage in last.usage.items()}
    made = sum(taken for phase, taken in seconds.items() if phase != "evaluate")
    return {
        "accuracy": last.scores["accuracy"],
        "usd": made / 3600 * float(prices.find(prices.DEFAULT).usd_per_hour),
        "teacher_seconds": round(seconds.get("pretrain", 0.0), 2),
        "seconds": round(made, 2),
        "steps": last.step,
        "predictions_per_second": round(last.serving["predictions_per_second"], 1),
    }


def interval(values: Sequence[float]) -> list[float]:
    """The mean, and the half width of Student's interval at 95 %."""
    spread = statistics.stdev(values) / len(values) ** 0.5
    return [float(f"{statistics.mean(values):.4g}"), float(f"{stats.t.ppf(0.975, len(values) - 1) * spread:.3g}")]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means by data set and way, and the gain of each way over the student alone, by pairs of one seed."""
    found: dict[str, Any] = {}
    for data in dict.fromkeys(row["data"] for row in rows):
        of = {row["way"]: [r for r in rows if (r["data"], r["way"]) == (data, row["way"])] for row in rows}
        for way, own in of.items():
            entry: dict[str, Any] = {
                name: interval([r[name] for r in own]) for name in ("accuracy", "usd", "seconds", "predictions_per_second")
            }
            for other in ("alone", "alone, longer"):
                if way != other:
                    gains = [a["accuracy"] - b["accuracy"] for a, b in zip(own, of[other], strict=True)]
                    entry[f"above {other}"] = interval(gains)
            found.setdefault(data, {})[way] = entry
    return found


def main() -> None:
    """Measure, and write the record."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--only", action="append", default=[])
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "distillation.json")
    asked = options.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        for data in asked.only or DATA:
            for way, recipe in recipes(data, seed).items():
                rows.append({"data": data, "seed": seed, "way": way} | measured(recipe))
                print(rows[-1], file=sys.stderr, flush=True)
    record = {
        "benchmark": "distillation",
        "date": time.strftime("%Y-%m-%d"),
        "labels": LABELS,
        "asked": MOST,
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
        "summary": summary(rows),
        "rows": rows,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    main()
