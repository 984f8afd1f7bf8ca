"""Ledgers that were written, not trained: what tests of pages read."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import prices
from workbench.ledger import ImportedLedger
from workbench.ledger.create import finished
from workbench.ledger.trials import Objectives
from workbench.result import Result
from workbench.result.legacy import cause_of
from workbench.usage import Usage, Work

OFFER = prices.find("local")
QUESTION = "Which small encoder, tuned how, answers best per dollar?"
METHODS = {"full": (1.0, 3e-4), "lora": (0.95, 2e-3), "ia3": (0.85, 1e-2), "bitfit": (0.7, 5e-3)}
MODELS = {"minilm-l3": (0.8, 1.0), "minilm-l6": (1.0, 2.1)}


def describe(minimize: Sequence[str] = ("usd",), **more: Any) -> dict[str, Any]:
    """What is noted of a study."""
    costs = {"usd": 100.0, "usd_compute": 100.0, "labels": 10240.0, "seconds": 86400.0}
    reference = {"f1": 0.0} | {name: costs[name] for name in minimize}
    known = {"question": QUESTION, "maximize": "f1", "minimize": list(minimize), "label_usd": 0.0, "platform": "local"}
    return known | {"reference": reference} | more


def run(number: int, *, epochs: float = 1.0, hours: float = 10.0) -> Result:
    """A run's checkpoint: better and dearer with model, labels and epochs. The same number is the same run."""
    own = random.Random(number)
    method, model = own.choice(list(METHODS)), own.choice(list(MODELS))
    (good, rate), (better, slow) = METHODS[method], MODELS[model]
    rate *= own.choice((0.3, 0.6, 1.0))
    labels = own.choice((128, 512, 1024))
    f1 = 90 * good * better * (1 - math.exp(-epochs * labels / 600)) * own.uniform(0.85, 1.0)
    seconds = hours * 3600 * slow * epochs * labels / 1024 * own.uniform(0.8, 1.2)
    seen = int(labels * epochs)
    work = Work(steps=seen // 8, examples=seen, tokens=seen * 60, padded_tokens=seen * 70, flops=1e12 * seconds)
    settings = {"task.train": labels, "model": model, "method": method, f"{method}.learning_rate": rate, "epochs": epochs}
    usage = {
        "load": Usage(seconds=1.0, cpu_seconds=1.0, cpu_energy_j=4.0, peak_memory_bytes=4 * 10**8),
        "train": Usage(seconds=seconds, cpu_seconds=seconds, cpu_energy_j=4 * seconds, peak_memory_bytes=10**9, work=work),
        "evaluate": Usage(seconds=30.0, cpu_seconds=29.0, cpu_energy_j=120.0, peak_memory_bytes=9 * 10**8, work=Work(flops=3e13)),
    }
    return Result(
        recipe_id=f"recipe{number:06}e{epochs:g}",
        run_id=f"run{number:06}",
        recipe={
            "task": {"type": "Task", "data": "qa", "train": labels, "seed": 0},
            "model": model,
            "method": {"name": method, "learning_rate": rate},
            "epochs": epochs,
            "batch_size": 8,
            "seed": 0,
        },
        settings=settings,
        status="complete",
        scores={"f1": f1, "exact_match": 0.8 * f1, "dev_loss": 3 - f1 / 40},
        usage=usage,
        spent=usage,
        labels=labels,
        step=seen // 8,
        examples=seen,
        tokens=seen * 60,
        trainable_parameters=10**6,
        serving={"predictions_per_second": 120.0, "latency_seconds": 0.01},
        provenance={"versions": {"torch": "2.0"}, "device": {"cpu": "a processor", "gpus": []}},
        offer={"id": OFFER.id, "name": OFFER.name, "platform": OFFER.platform, "instance": OFFER.instance, "usd_per_hour": "0.05"},
        started=1.7e9 + number,
        finished=1.7e9 + number + seconds,
    )


def runs(count: int) -> list[Result]:
    """So many runs, the third of them with three checkpoints and the others with one."""
    return [run(n, epochs=e) for n in range(count) for e in ((1.0, 2.0, 4.0) if n % 3 == 0 else (1.0,))]


def failed(number: int, reason: str = "out_of_memory: 24 GiB asked for") -> Result:
    """A run that came to nothing."""
    return replace(run(number), status="infeasible", cause=cause_of("infeasible", reason), reason=reason, scores={}, usage={})


def again(of: Result, seed: int, f1: float) -> Result:
    """A replicate of a point."""
    ids = {"recipe_id": f"{of.recipe_id}s{seed}", "run_id": f"{of.run_id}s{seed}", "replicate_of": of.recipe_id}
    return replace(of, **ids, recipe={**of.recipe, "seed": seed}, scores={"f1": f1})


def write(
    folder: Path, results: Iterable[Result], name: str = "qa-00000000", minimize: Sequence[str] = ("usd",), **more: Any
) -> str:
    """A ledger with these Results as they are, checkpoints of one run too. Returns the database's URL."""
    url = f"sqlite:///{folder / 'optuna.db'}"
    description = describe(minimize, **more)
    ledger = ImportedLedger.open_imported(name, description, url)
    objectives = Objectives("f1", tuple(minimize))
    firsts: dict[str, int] = {}
    for result in results:
        known = replace(result, trial=firsts.get(result.run_id))
        number = ledger._storage.create_new_trial(ledger._study_id, finished(known, objectives, OFFER))
        firsts.setdefault(result.run_id, ledger._storage.get_trial_number_from_id(number))
        ledger.note_mlflow_run(result.run_id, f"{int(result.started):032x}")
    return url
