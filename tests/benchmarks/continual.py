"""What two tasks in a row make a model forget, by each strategy of `continual`, over seeds.

A model learns which of six topics a function of pytopics is about, then which of the five others; it is asked among all eleven.
Three arms: a head on minilm-l6, whose body is left as it is; LoRA on minilm-l3; and the last layer of minilm-l3. With
adapter_per_task the model is told of which of the two tasks a text is; the others are not.
Forgetting is what the accuracy on the first six lost meanwhile, in points. Each seed draws the head and the order of the
examples; intervals are Student's t, of differences to plain over the same seeds. The strength of ewc was chosen on a
seed of its own in each arm, by the harmonic mean of both accuracies.

    python tests/benchmarks/continual.py [--out results/continual.json] [--seeds 5] [--labels 256] [--only lora]
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
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from scipy import stats

from workbench import Recipe, full, head, peft, training
from workbench.data import pytopics
from workbench.methods import Method
from workbench.tasks import Classification, classification, continual

LABELS, DEV, BATCH, MEMORY = 256, 100, 16, 64


@dataclass(frozen=True)
class Arm:
    """What is tuned, by which strategies."""

    model: str
    method: Method
    epochs: int
    seeds: int
    strategies: tuple[str, ...]


ARMS = {
    "head": Arm("minilm-l6", head(learning_rate=1e-2), 8, 5, ("plain", "replay", "ewc", "adapter_per_task", "merge")),
    "lora": Arm(
        "minilm-l3",
        peft("lora", learning_rate=2e-3, head_learning_rate=1e-2, r=8, target_modules=["query", "value"]),
        4,
        3,
        ("plain", "replay", "ewc", "adapter_per_task", "merge"),
    ),
    "last layer": Arm(
        "minilm-l3",
        full(learning_rate=3e-4, head_learning_rate=1e-2, trainable_layers=1),
        4,
        3,
        ("plain", "replay", "ewc", "merge"),
    ),
}
STRENGTHS = (1e4, 1e5, 3e5, 1e6)
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


def recipe(arm: Arm, data: list[Path], labels: int, strategy: str, seed: int, strength: float) -> Recipe:
    """The second of the two tasks, after the first."""
    tasks: list[Classification] = [classification(str(each), train=labels, dev=DEV, test=0, seed=seed) for each in data]
    task = continual(tasks, strategy=strategy, epochs=arm.epochs, memory=MEMORY, strength=strength)
    return Recipe(task=task, model=arm.model, method=arm.method, epochs=arm.epochs, batch_size=BATCH, seed=seed)


def row(name: str, data: list[Path], labels: int, strategy: str, seed: int, strength: float) -> dict[str, object]:
    """Scores of the last checkpoint, and what it took from nothing."""
    began = time.perf_counter()
    *_, last = training.train(recipe(ARMS[name], data, labels, strategy, seed, strength))
    flops = {phase: each.work.flops for phase, each in last.usage.items() if phase in ("pretrain", "train")}
    found = {"arm": name, "strategy": strategy, "seed": seed, "strength": strength if strategy == "ewc" else None}
    found |= {"scores": dict(last.scores), "trainable_parameters": last.trainable_parameters}
    print(found, f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found | {"flops": flops, "labels": last.labels}


def measured(name: str, data: list[Path], labels: int, most_seeds: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """All rows of an arm; and those that the strength of ewc was chosen by."""
    arm = ARMS[name]
    tried = [row(name, data, labels, "ewc", CHOSEN_ON, strength) for strength in STRENGTHS] if "ewc" in arm.strategies else []
    best: float = max(tried, key=both)["strength"] if tried else 1.0  # type: ignore[assignment]
    seeds = range(min(arm.seeds, most_seeds))
    return [row(name, data, labels, strategy, seed, best) for seed in seeds for strategy in arm.strategies], tried


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
    figures: dict[str, object]
    for strategy in dict.fromkeys(str(r["strategy"]) for r in rows):
        figures = {name: interval([of[strategy, s][name] for s in seeds]) for name in ("forgetting", "average_accuracy")}  # type: ignore[index]
        figures["accuracy_of_2"] = interval([of[strategy, s]["score_of_2"] for s in seeds])  # type: ignore[index]
        parameters = {r["trainable_parameters"] for r in rows if r["strategy"] == strategy}
        figures["trainable_parameters"] = parameters.pop()
        cost = [sum(r["flops"].values()) for r in rows if r["strategy"] == strategy]  # type: ignore[attr-defined]
        figures["flops"] = statistics.fmean(cost)
        if strategy != "plain":
            less = [of["plain", s]["forgetting"] - of[strategy, s]["forgetting"] for s in seeds]  # type: ignore[index]
            figures["forgets_less"] = interval(less)
        found[strategy] = figures
    return found


def main() -> None:
    """Run all and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "continual.json")
    options.add_argument("--seeds", type=int, default=5, help="the most in any arm; two or more")
    options.add_argument("--labels", type=int, default=LABELS)
    options.add_argument("--only", action="append", choices=[*ARMS], help="measure this arm; others stay as the record has them")
    chosen = options.parse_args()
    before = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.only else {"rows": [], "strengths": []}
    known = {name: [[r for r in before[part] if r["arm"] == name] for part in ("rows", "strengths")] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        data = halves(Path(folder))
        found = {
            name: measured(name, data, chosen.labels, chosen.seeds) if name in (chosen.only or ARMS) else known[name]
            for name in ARMS
        }
    machine = {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {p: metadata.version(p) for p in ("torch", "transformers", "pandas", "numpy", "scipy", "scikit-learn")}
    arms = {
        name: {"model": arm.model, "method": arm.method.name, "settings": dict(arm.method.settings), "epochs_each": arm.epochs}
        | {"learning_rate": arm.method.learning_rate, "head_learning_rate": arm.method.head_learning_rate}
        | {"strength": next((r["strength"] for r in found[name][0] if r["strength"]), None)}
        for name, arm in ARMS.items()
    }
    record = {
        "what": __doc__,
        "machine": machine | {"shared": "with other work; scores and FLOPs do not depend on it"},
        "versions": versions,
        "settings": {"labels_each": chosen.labels, "batch_size": BATCH, "memory": MEMORY, "arms": arms},
        "summary": summary(found["head"][0]),
        "summaries": {name: summary(rows) for name, (rows, _) in found.items()},
        "strengths": [each for _, tried in found.values() for each in tried],
        "rows": [each for rows, _ in found.values() for each in rows],
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["summaries"], indent=1))


if __name__ == "__main__":
    main()
