"""Which examples are worth a label: is any choice better than a random one at equal labels?

Three data sets: `pytopics`; banking77 (77 intents); and restaurant8k's sentences in which a guest
tells one thing, by what it is (people, time, date or name). Each strategy buys the same numbers of
labels of the same pool, and is graded on the same dev examples. A seed draws the pool's order, and
with it the first labels. A logistic regression on the embeddings of `minilm-l6` learns from them,
and at one of the numbers SetFit tunes `minilm-l3`, graded on 400 examples. `threshold=…` adds
pseudo-labels. An interval is Student's, at 95 %, over seeds; a difference is to the random choice
of the same seed, without pseudo-labels. A way beats it where the interval of the differences lies
above 0.

    python tests/benchmarks/labelling.py [--data ../shared/data/text] [--seeds 5] [--only pytopics]

What is in the file already is not run again.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from workbench import Recipe, badge, diversity, logistic, pseudo_labels, setfit, training, uncertainty
from workbench.data import load
from workbench.tasks import classification
from workbench.tasks.classification import Classification

COUNTS, TUNED_COUNTS = (32, 64, 128, 256), (128,)
DEV = {"logistic": 2000, "setfit": 400}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "random": {},
    "uncertainty": {"acquire": uncertainty()},
    "diversity": {"acquire": diversity()},
    "badge": {"acquire": badge()},
    "random, threshold=0.9": {"pseudo": pseudo_labels(threshold=0.9)},
}
TUNED_WAYS = ("random", "uncertainty", "diversity", "badge")
SLOTS = {"people": "people", "time": "time", "date": "date", "first_name": "name", "last_name": "name"}
LEARNERS: Mapping[str, Mapping[str, Any]] = {
    "logistic": {"model": "minilm-l6", "method": logistic(C=10.0), "epochs": 0},
    "setfit": {"model": "minilm-l3", "method": setfit(learning_rate=1e-4, C=10.0), "epochs": 1, "batch_size": 8},
}


def restaurants(folder: Path, into: Path) -> str:
    """Write restaurant8k's sentences in which one thing is told, as CSV files of two sides."""
    for side, name in (("train", "train_0"), ("dev", "test")):
        rows = {}
        for document in json.loads((folder / f"{name}.squad.json").read_text(encoding="utf-8"))["data"]:
            for paragraph in document["paragraphs"]:
                told = {SLOTS[each["id"].rsplit("-", 1)[-1]] for each in paragraph["qas"] if each["answers"]}
                if len(told) == 1:
                    rows[paragraph["context"]] = told.pop()
        with (into / f"{side}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows.items()])
    return str(into)


def score(data: str, seed: int, count: int, learner: str, way: str) -> dict[str, Any]:
    """Train once, and tell what came of it."""
    task: Classification = classification(data, train=count, dev=DEV[learner], test=100, max_length=64, seed=seed)
    began = time.perf_counter()
    *_, last = training.train(Recipe(task=task, seed=seed, **LEARNERS[learner], **WAYS[way]))
    assert last.labels == count
    return {
        "accuracy": last.scores["accuracy"],
        "data_seconds": round(last.usage["data"].seconds, 3),
        "seconds": round(time.perf_counter() - began, 2),
    }


def interval(values: Sequence[float]) -> list[float]:
    """The mean, and the half width of Student's interval at 95 %."""
    spread = statistics.stdev(values) / len(values) ** 0.5
    return [round(statistics.mean(values), 2), round(float(stats.t.ppf(0.975, len(values) - 1)) * spread, 2)]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means with intervals by data set, learner, number of labels and way, and differences to random."""
    by: dict[tuple[str, str, int, str], dict[int, float]] = {}
    for row in rows:
        by.setdefault((row["data"], row["learner"], row["labels"], row["way"]), {})[row["seed"]] = row["accuracy"]
    found: dict[str, Any] = {}
    for (data, learner, count, way), scores in by.items():
        base = by.get((data, learner, count, "random"), {})
        both = sorted(scores.keys() & base.keys())
        if len(scores) < 2:
            continue
        entry: dict[str, Any] = {"accuracy": interval([*scores.values()]), "seeds": len(scores)}
        if way != "random" and len(both) > 1:
            entry["above_random"] = interval([scores[seed] - base[seed] for seed in both])
        found.setdefault(data, {}).setdefault(learner, {}).setdefault(str(count), {})[way] = entry
    return found


def verdicts(found: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """For each way the data sets, learners and numbers of labels at which it is above random, and below."""
    told: dict[str, dict[str, list[str]]] = {}
    for data, learners in found.items():
        for learner, counts in learners.items():
            for count, ways in counts.items():
                for way, entry in ways.items():
                    if "above_random" in entry:
                        mean, half = entry["above_random"]
                        which = "above" if mean - half > 0 else "below" if mean + half < 0 else "no different"
                        told.setdefault(way, {}).setdefault(which, []).append(f"{data}, {learner}, {count}")
    return told


def main() -> None:
    """Run what is missing, and write the figures after each run."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "labelling.json")
    options.add_argument("--data", type=Path, default=Path(os.environ.get("WORKBENCH_DATA", "../shared/data")) / "text")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--only", action="append", default=[])
    options.add_argument("--learner", action="append", default=[])
    options.add_argument("--way", action="append", default=[])
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = json.loads(chosen.out.read_text(encoding="utf-8"))["rows"] if chosen.out.exists() else []
    known = {(r["data"], r["learner"], r["labels"], r["way"], r["seed"]) for r in rows}
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            "pytopics": "pytopics",
            "banking77": str(chosen.data / "banking77"),
            "restaurant8k": restaurants(chosen.data / "restaurant8k", Path(folder)),
        }
        sizes = {}
        for name, data in sets.items():
            read = load(data, classification(data, train=1).form)
            classes = {label for example in read.train for label in example["labels"]}
            sizes[name] = {"pool": len(read.train), "dev": len(read.dev), "classes": len(classes)}
        for learner, seed, name in (
            (learner, seed, name)
            for learner in chosen.learner or LEARNERS
            for seed in range(chosen.seeds)
            for name in chosen.only or sets
        ):
            for way in chosen.way or (WAYS if learner == "logistic" else TUNED_WAYS):
                for count in COUNTS if learner == "logistic" else TUNED_COUNTS:
                    if (name, learner, count, way, seed) in known:
                        continue
                    row = {"data": name, "learner": learner, "labels": count, "way": way, "seed": seed}
                    rows.append(row | score(sets[name], seed, count, learner, way))
                    print(rows[-1], file=sys.stderr, flush=True)
                    _write(chosen.out, rows, sizes)
    print(json.dumps(verdicts(summary(rows)), indent=1))


def _write(out: Path, rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, Any]) -> None:
    found = summary(rows)
    record = {
        "what": __doc__,
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {p: metadata.version(p) for p in ("torch", "transformers", "scikit-learn")},
        "data": sizes,
        "summary": found,
        "verdicts": verdicts(found),
        "rows": rows,
    }
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
