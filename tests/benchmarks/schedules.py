"""Which schedule without a length is best: does it cost quality against a full decay to zero?

Arms, each at two learning rates, the better counted (by the mean over seeds), on the default task:
  polynomial   constant rate, polynomial averaging of the weights (eta 4): one run gives every length
  last         constant rate, the last weights: one run gives every length
  schedulefree schedule-free AdamW (Defazio et al. 2024): one run gives every length
  decay        linear decay to zero, its end known: a run of its own for every length

    python tests/benchmarks/schedules.py [--out results/schedules.json] [--seeds 2]
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from workbench import Method, Recipe, full, peft, training
from workbench.tasks import question_answering
from workbench.training import loop
from workbench.training.batches import steps_for
from workbench.training.tuning import Tuning

LENGTHS = (1, 2)
EXAMPLES, MODEL, BATCH = 512, "minilm-l3", 8


class Decay(Tuning):
    """Linear decay to zero over the recipe's whole length."""

    def warm_up(self) -> float:
        total = steps_for(self.recipe.epochs, self.recipe.batch_size, EXAMPLES)
        return super().warm_up() * max(0.0, 1 - (self.step - 1) / total)


class ScheduleFree(Tuning):
    """Schedule-free AdamW; its own average is what is evaluated."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        import schedulefree

        optimizer = schedulefree.AdamWScheduleFree(
            list(self.parameters.values()), lr=self.recipe.method.learning_rate, warmup_steps=self.recipe.warmup_steps
        )
        optimizer.train()
        return optimizer

    def learning_rate(self) -> float:
        return self.recipe.method.learning_rate  # it warms up by itself

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        self.optimizer.eval()  # type: ignore[attr-defined]
        self.model.eval()
        yield
        self.model.train()
        self.optimizer.train()  # type: ignore[attr-defined]


ARMS = {"polynomial": (Tuning, 4.0), "last": (Tuning, None), "schedulefree": (ScheduleFree, None), "decay": (Decay, None)}


def scores(arm: str, method: Method, seed: int) -> dict[int, float]:
    """F1 on the dev set at each of LENGTHS."""
    tuning, averaging = ARMS[arm]
    loop.Tuning = tuning  # type: ignore[misc]
    found: dict[int, float] = {}
    for epochs in LENGTHS if arm == "decay" else LENGTHS[-1:]:
        task = question_answering("pydocs", train=EXAMPLES)
        recipe = Recipe(task=task, model=MODEL, method=method, epochs=epochs, batch_size=BATCH, averaging=averaging, seed=seed)
        for checkpoint in training.train(recipe):
            length = checkpoint.recipe.epochs
            if length == epochs or (arm != "decay" and length in LENGTHS):
                found[int(length)] = checkpoint.scores["f1"]
    return found


def main() -> None:
    """Run all arms and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "schedules.json")
    options.add_argument("--seeds", type=int, default=2)
    chosen = options.parse_args()
    methods = {
        "full": [full(learning_rate=rate) for rate in (2e-4, 4e-4)],
        "lora": [peft("lora", learning_rate=rate, r=16, target_modules="all-linear") for rate in (3e-3, 6e-3)],
    }
    rows = []
    for name, variants in methods.items():
        for arm in ARMS:
            for method in variants:
                for seed in range(chosen.seeds):
                    began = time.perf_counter()
                    row = {
                        "arm": arm,
                        "method": name,
                        "learning_rate": method.learning_rate,
                        "seed": seed,
                        "f1": scores(arm, method, seed),
                    }
                    rows.append(row)
                    print(row, f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    summary = {}
    for name, variants in methods.items():
        for arm in ARMS:
            for length in LENGTHS:
                at = [
                    [r["f1"][length] for r in rows if (r["arm"], r["method"], r["learning_rate"]) == (arm, name, m.learning_rate)]  # type: ignore[index]
                    for m in variants
                ]
                summary[f"{name}, {length} epochs, {arm}"] = round(max(statistics.mean(found) for found in at), 1)
    machine = {"cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    versions = {p: metadata.version(p) for p in ("torch", "transformers", "peft", "schedulefree", "pandas", "scikit-learn")}
    record = {
        "what": __doc__,
        "machine": machine,
        "versions": versions,
        "examples": EXAMPLES,
        "model": MODEL,
        "summary": summary,
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
