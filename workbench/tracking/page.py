"""What a Result says in MLflow: a readable name, settings, metrics and tags. Plain values: nothing here needs MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench import prices
from workbench.prices import Offer
from workbench.result import Result, cost, mean_costs
from workbench.space import Value
from workbench.study import Study
from workbench.usage import Usage

RUN_STATUS = {"running": "RUNNING", "complete": "FINISHED", "infeasible": "FAILED", "interrupted": "KILLED"}
"""How a Result's status reads as the status of its MLflow run."""

MARK = "spent/seconds"
"""The metric that every mirrored Result has: its (step, time) tells that the Result is there."""

_MAX_METRICS = 39  # a runs table with more columns is read by nobody
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")  # Okabe and Ito


def run_name(result: Result) -> str:
    """`0042 lora r=8 lr=2e-4 minilm-l3 s0`: trial, then what was searched: method, its settings, model, the rest, seed."""
    swept = {name: value for name, value in result.settings.items() if name not in ("epochs", "seed")}
    if not swept:
        swept = {"method": result.method, "model": result.model}
    words = ["----" if result.trial is None else f"{result.trial:04d}"]
    if "method" in swept:
        words.append(result.method)
    own = [name for name in swept if name.startswith(f"{result.method}.")]
    words += [_word(name, swept[name]) for name in sorted(own, key=lambda name: name.endswith(".learning_rate"))]
    if "model" in swept:
        words.append(result.model.rstrip("/").rsplit("/", 1)[-1])
    words += [_word(name, value) for name, value in swept.items() if name not in ("method", "model", *own)]
    return " ".join([*words, f"s{result.seed}"])


def params(result: Result) -> dict[str, str]:
    """The settings that were searched. `epochs` is a metric: it grows when a run is continued, and MLflow's params are fixed."""
    return {key(name): str(value) for name, value in result.settings.items() if name != "epochs"}


def metrics(result: Result, offer: Offer, label_usd: float) -> dict[str, float]:
    """The numbers of one Result, each with its unit in its name; what is unknown or not finite is left out.

    A complete Result has its scores and cold costs. Every Result has what its segment really consumed (`spent/…`).
    """
    spent = result.consumed
    numbers: dict[str, Any] = {MARK: spent.seconds, "spent/usd": prices.usd(spent, offer)}
    if result.status == "complete":
        numbers |= {f"quality/{name}": value for name, value in result.scores.items()}
        numbers |= {f"test/{name}": value for name, value in result.test_scores.get(result.recipe_id, {}).items()}
        numbers |= _costs(result, offer, label_usd)
        numbers |= {"epochs": result.epochs, "examples": result.examples, "tokens": result.tokens}
        train = result.usage.get("train", Usage())
        numbers |= {"trainable_parameters": result.trainable_parameters, "flops": train.work.flops or None}
        numbers |= {f"serving/{name}": value for name, value in result.serving.items()}
        numbers |= {f"seconds/{phase}": usage.seconds for phase, usage in result.usage.items()}
        numbers |= {f"hp/{name}": value for name, value in result.settings.items() if name != "epochs" and _is_number(value)}
    known = finite(numbers)
    # Mirrors of settings come last: where a study searches very many, they give way, being params already.
    return dict(list(known.items())[:_MAX_METRICS])


def tags(result: Result) -> dict[str, str]:
    """Where the run stands: the last Result's identity, status and reason, and what one filters runs by."""
    return {
        "workbench.recipe_id": result.recipe_id,
        "workbench.status": result.status,
        "workbench.reason": result.reason,
        "workbench.method": result.method,
        "workbench.model": result.model,
        "workbench.replicate_of": result.replicate_of or "",
        "workbench.trial": "" if result.trial is None else str(result.trial),
    }


def note(result: Result, study: str) -> str:
    """The run's description, in markdown."""
    lines = [f"A run of the study `{study}`, with all its checkpoints as steps. Its recipe is the artifact `recipe.json`.", ""]
    lines += [f"- {name}: `{value}`" for name, value in result.settings.items() if name != "epochs"]
    return "\n".join(lines)


def experiment_tags(study: Study) -> dict[str, str]:
    """What the experiment says of its study: the question, and which score to look at."""
    question = study.question if len(study.question) <= 5000 else f"The study `{study.name}`: its question is long, see its file."
    return {
        "mlflow.note.content": question or f"The study `{study.name}`.",
        "mlflow.experimentKind": "custom_model_development",  # the page then opens on the table of runs
        "mlflow.experiment.primaryMetric.name": f"quality/{key(study.maximize)}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
    }


def colour(method: str, methods: tuple[Value, ...]) -> str:
    """A colour for the charts: one per method, told apart by colour-blind readers too."""
    return _COLOURS[methods.index(method) % len(_COLOURS)] if method in methods else _COLOURS[-1]


def finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that are known and finite, under names MLflow takes. MLflow would store inf as 1.8e308."""
    return {key(name): float(value) for name, value in numbers.items() if _is_number(value) and math.isfinite(value)}


def key(name: str) -> str:
    """A name that MLflow accepts for a param or metric: anything but letters, digits and `_-. :/` becomes `_`."""
    return re.sub(r"[^\w.\- :/]", "_", name)


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested plain data as dotted names and texts; None is left out."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield key(f"{prefix}{name}"), value if isinstance(value, str) else json.dumps(value, default=str)


def milliseconds(seconds: float) -> int:
    """MLflow's time: whole milliseconds since 1970."""
    return round(seconds * 1000)


def _costs(result: Result, offer: Offer, label_usd: float) -> dict[str, float | None]:
    cold = result.cold
    names = ("usd", "usd_compute", "usd_labels", "labels", "seconds", "grams_co2e")
    mean = mean_costs(result, offer)
    return {f"cost/{name}": cost(result, name, offer, label_usd) for name in names} | {
        "cost/usd_per_pretraining_example": mean.pretraining_example,
        "cost/usd_per_tuning_example": mean.tuning_example,
        "cost/gpu_hours": _scaled(cold.gpu_seconds, 3600),
        "cost/cpu_hours": _scaled(cold.cpu_seconds, 3600),
        "cost/energy_kwh": _scaled(cold.energy_j, prices.JOULES_PER_KWH),
        "cost/peak_memory_gib": _scaled(cold.peak_memory_bytes, 2**30),
        "cost/gpu_peak_memory_gib": _scaled(cold.gpu_peak_memory_bytes, 2**30),
    }


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _is_number(value: Any) -> bool:
    """Whether it is a real number of any kind (numpy's too), and no truth value."""
    return not isinstance(value, (bool, str)) and hasattr(value, "__float__")


def _word(name: str, value: Value) -> str:
    last = name.rsplit(".", 1)[-1]
    return f"{'lr' if last == 'learning_rate' else last}={_short(value)}"


def _short(value: Value) -> str:
    """`2e-4`, `0.25`, `128`: two digits are enough to tell runs apart at a glance; the params hold them all."""
    if not isinstance(value, float):
        return str(value).rstrip("/").rsplit("/", 1)[-1]
    text = f"{value:.1e}" if value and not 0.01 <= abs(value) < 1e4 else f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    return re.sub(r"(\.0)?e([+-])0*(\d)", lambda m: f"e{m[2].replace('+', '')}{m[3]}", text)
