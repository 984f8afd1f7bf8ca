"""Results of a sweep that nobody ran, and a ledger that holds them: for tests of what is shown."""

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import made

from workbench.front.objectives import View
from workbench.ledger import Ledger
from workbench.ledger.leases import lease_record
from workbench.prices import Offer
from workbench.result import Result
from workbench.result.legacy import cause_of
from workbench.usage import Usage, Work

RATE = Offer("here", "m", "", 0, "", "owned", Decimal("3.6"), "assumed", "2026-01-01")  # a tenth of a cent a second
VIEW = View("f1", ("usd",), {"f1": 0.0, "usd": 10.0}, RATE, 0.0)
MODELS = {"l2": 1.0, "l3": 1.5, "l6": 3.0}
METHODS = ("full", "ia3", "lora")
EPOCHS = (0.25, 0.5, 1.0, 2.0)


def result(run: str, epochs: float = 1.0, f1: float | None = 50.0, seconds: float = 10.0, **changes: Any) -> Result:
    """One checkpoint of a run, or how it ended without one where `f1` is None."""
    method = changes.pop("method", "lora")
    settings = {"model": changes.pop("model", "l3"), "method": method} | changes.pop("settings", {})
    usage = {"train": Usage(seconds=seconds, peak_memory_bytes=2**30, work=Work(steps=10, flops=1e12))}
    known: dict[str, Any] = {
        "recipe_id": f"{run}-{epochs:g}",
        "run_id": run,
        "recipe": {
            "task": {"data": "d", "seed": 0, "train": settings.get("task.train", 512), "max_length": 192},
            "model": settings["model"],
            "method": {"name": method},
            "epochs": epochs,
            "batch_size": changes.pop("batch_size", 4),
            "precision": "auto",
            "seed": 0,
        },
        "settings": settings,
        "status": "infeasible" if f1 is None else "complete",
        "scores": {} if f1 is None else {"f1": f1, "dev_loss": 1.0},
        "usage": {} if f1 is None else usage,
        "spent": usage,
        "labels": min(512, int(512 * epochs)),
        "step": int(128 * epochs),
        "tokens": int(32000 * epochs),
        "examples": int(512 * epochs),
        "offer": {"id": RATE.id, "platform": "here", "instance": "m", "usd_per_hour": "3.6"},
    }
    return Result(**(known | changes))


def sweep(runs: int = 12, seed: int = 0) -> list[Result]:
    """So many runs with a checkpoint at each of `EPOCHS`: quality rises with model, labels and epochs, cost with the same."""
    rng, found = random.Random(seed), list[Result]()
    for i in range(runs):
        model, method, train = rng.choice(list(MODELS)), rng.choice(METHODS), rng.choice([256, 512, 1024])
        settings = {"task.train": train, f"{method}.learning_rate": rng.choice([1e-4, 3e-4, 1e-3])}
        settings |= {"lora.r": rng.choice([4, 16])} if method == "lora" else {}
        for epochs in EPOCHS:
            f1 = 30 + 8 * MODELS[model] + 6 * math.log2(epochs) + 3 * math.log2(train / 256) + rng.gauss(0, 2)
            seconds = 3 + 5 * MODELS[model] * epochs * train / 256
            more = {"model": model, "method": method, "settings": settings, "labels": min(train, int(train * epochs))}
            found.append(result(f"run{i}", epochs, f1, seconds, step=int(train * epochs / 4), **more))
    return numbered(found)


def failed(run: str, reason: str, status: str = "infeasible", seconds: float = 5.0, **changes: Any) -> Result:
    """A run that ended without a checkpoint."""
    return result(run, f1=None, seconds=seconds, status=status, cause=cause_of(status, reason), reason=reason, **changes)


def numbered(results: Sequence[Result]) -> list[Result]:
    """With the numbers that a ledger gives them, and times a second apart."""
    firsts: dict[str, int] = {}
    return [
        replace(r, number=i, trial=firsts.setdefault(r.run_id, i), started=1.7e9 + i, finished=1.7e9 + i + 1)
        for i, r in enumerate(results)
    ]


def ledger_of(
    folder: Path,
    results: Sequence[Result],
    *,
    running: Sequence[Result] = (),
    ended: str = "",
    limits: Mapping[str, float | None] | None = None,
    **description: Any,
) -> str:
    """The address of a ledger in `folder` that holds them, written as a sweep's; `running` are leased by this process."""
    from optuna.trial import TrialState, create_trial

    url = made.write(folder, results, **description)
    ledger = Ledger.find(None, url)
    if limits is not None:
        ledger.note_begin(limits)
    for r in running:
        attributes = {"workbench:lease": lease_record(r, r.spent) | {"beat": time.time()}}
        ledger._storage.create_new_trial(ledger._study_id, create_trial(state=TrialState.RUNNING, user_attrs=attributes))
    if ended:
        ledger.note_end(ended)
    return url
