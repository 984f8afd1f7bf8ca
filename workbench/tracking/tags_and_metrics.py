"""What a Result says in MLflow: a readable name, settings, metrics and tags. Plain values: nothing here needs MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from workbench import prices
from workbench.prices import Offer
from workbench.quantities import number
from workbench.result import Result, cost, mean_costs
from workbench.space import Value
from workbench.study import Study
from workbench.study.record import flat
from workbench.usage import Usage

RUN_STATUS = {"running": "RUNNING", "complete": "FINISHED", "infeasible": "FAILED", "interrupted": "KILLED"}
"""How a Result's status reads as the status of its MLflow run."""

MARK = "spent/seconds"
"""The metric that every mirrored Result has: its (step, time) tells that the Result is there."""

ON_FRONT = "workbench.on_front"

_MAX_METRICS = 39  # of one run, all kinds together: a runs table with more columns is read by nobody
_MAX_MIRRORS = 8  # of settings among them: being params already, further ones give way
_BEST_METRICS = 5
_MAX_NOTE = 4900  # characters of a description, which is a tag; longer ones would be moved to a file whole
_MAX_NAME = 250  # characters of a run's name: databases have no more room
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito


def run_name(result: Result) -> str:
    """`0042 lora r8 lr2e-4 minilm-l3 s0`: trial, then what was searched: method, its settings, model, the rest, seed."""
    swept = {name: value for name, value in result.run_settings.items() if name != "seed"}
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
    text = " ".join([*words, f"s{result.seed}"])
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 1]}…"


def params(result: Result) -> dict[str, str]:
    """The settings that were searched. `epochs` is a metric: it grows when a run is continued, and MLflow's params are fixed."""
    return {key(name): str(value) for name, value in result.run_settings.items()}


def file_name(name: str) -> str:
    """A file's name as MLflow takes it for an artifact: it reads `%` as an escape, and refuses some signs."""
    return re.sub(r"[^\w .,()+=@-]", "_", name)


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
    room = _MAX_METRICS - len(mirrors(result)) - _BEST_METRICS
    return dict(list(finite(numbers).items())[:room])


def mirrors(result: Result) -> dict[str, float]:
    """The numeric settings as metrics `hp/…`: MLflow sorts params as texts, where 9 comes after 10."""
    numbers = {f"hp/{name}": value for name, value in result.run_settings.items()}
    return dict(list(finite(numbers).items())[:_MAX_MIRRORS])


def best(results: Iterable[Result], maximize: str) -> Result | None:
    """The checkpoint with the highest score, the earliest of equals; None where none has a finite one."""
    scored = [r for r in results if r.status == "complete" and math.isfinite(r.scores.get(maximize, math.nan))]
    return max(scored, key=lambda r: (r.scores[maximize], -r.step), default=None)


def best_metrics(result: Result, study: Study, offer: Offer, label_usd: float) -> dict[str, float]:
    """The best checkpoint's score, costs and epochs, as `best/…`.

    They are of the run, not of a step. The last of `quality/…` is the last checkpoint's, and MLflow's table shows the last.
    """
    names = dict.fromkeys((*study.costs, "usd"))
    costs = {name: cost(result, name, offer, label_usd) for name in list(names)[: _BEST_METRICS - 2]}
    numbers = {study.maximize: result.scores[study.maximize], **costs, "epochs": result.epochs}
    return finite({f"best/{name}": value for name, value in numbers.items()})


def tags(result: Result) -> dict[str, str]:
    """Where the run stands: the last Result's identity, status and reason, and what one filters runs by."""
    return {
        "workbench.recipe_id": result.recipe_id,
        "workbench.status": result.status,
        "workbench.reason": result.reason,
        "workbench.method": result.method,
        "workbench.model": result.model,
        "workbench.contended": "" if result.contended is None else str(result.contended).lower(),
        "workbench.replicate_of": result.replicate_of or "",
        "workbench.trial": "" if result.trial is None else str(result.trial),
    }


def front_tag(on_front: bool) -> dict[str, str]:
    """Whether a checkpoint of the run is a point of the front."""
    return {ON_FRONT: str(on_front).lower()}


def note(result: Result, study: str) -> str:
    """The run's description, in markdown."""
    lines = [f"A run of the study `{study}`, with all its checkpoints as steps. Its recipe is the artifact `recipe.json`.", ""]
    lines += [f"- {name}: `{value}`" for name, value in result.run_settings.items()]
    return "\n".join(lines)


def sweep_note(question: str, front_markdown: str) -> str:
    """The description of a sweep that has ended: its question, the answer and the front, as long as they are not too long."""
    note = f"{question}\n\n{front_markdown}".strip()
    if len(note) <= _MAX_NOTE:
        return note
    answer = front_markdown.partition("\n\n")[0]
    short = f"{question}\n\n{answer}".strip()
    return f"{short if len(short) <= _MAX_NOTE else 'The question is long.'}\n\nThe front is the artifact `front.md`."


def colour(method: str, methods: Iterable[Value]) -> str:
    """A colour for the charts: one per method of the study, in the order of their names, as in the figures of the front."""
    names = sorted(map(str, methods))
    return _COLOURS[names.index(method) % len(_COLOURS)] if method in names else _COLOURS[0]


def finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that are known and finite, under names MLflow takes. MLflow would store inf as 1.8e308."""
    return {key(name): float(value) for name, value in numbers.items() if _is_number(value) and math.isfinite(value)}


def key(name: str) -> str:
    """A name that MLflow accepts for a param or metric: anything but letters, digits and `_-. :/` becomes `_`."""
    return re.sub(r"[^\w.\- :/]", "_", name)


def texts(record: Mapping[str, Any]) -> dict[str, str]:
    """Nested plain data as texts by dotted names; None is left out."""
    known = {key(name): value for name, value in flat(record) if value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in known.items()}


def milliseconds(seconds: float) -> int:
    """MLflow's time: whole milliseconds since 1970."""
    return round(seconds * 1000)


def _costs(result: Result, offer: Offer, label_usd: float) -> dict[str, float | None]:
    alone = result.alone
    names = ("usd", "usd_compute", "usd_labels", "labels", "seconds", "grams_co2e")
    mean = mean_costs(result, offer)
    return {f"cost/{name}": cost(result, name, offer, label_usd) for name in names} | {
        "cost/usd_per_pretraining_example": mean.pretraining_example,
        "cost/usd_per_tuning_example": mean.tuning_example,
        "cost/gpu_hours": _scaled(alone.gpu_seconds, 3600),
        "cost/cpu_hours": _scaled(alone.cpu_seconds, 3600),
        "cost/energy_kwh": _scaled(alone.energy_j, prices.JOULES_PER_KWH),
        "cost/peak_memory_gib": _scaled(alone.peak_memory_bytes, 2**30),
        "cost/gpu_peak_memory_gib": _scaled(alone.gpu_peak_memory_bytes, 2**30),
        "cost/stalled_seconds": result.cold.stalled_seconds,
    }


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _is_number(value: Any) -> bool:
    """Whether it is a real number of any kind (numpy's too), and no truth value."""
    return not isinstance(value, (bool, str)) and hasattr(value, "__float__")


def _word(name: str, value: Value) -> str:
    """`r8`, `lr2e-4`; with `=` between where name and value would run into each other."""
    last = name.rsplit(".", 1)[-1]
    last = "lr" if last == "learning_rate" else last
    joined = _is_number(value) and not last[-1:].isdigit()
    return f"{last}{'' if joined else '='}{_short(value)}"


def _short(value: Value) -> str:
    """A setting in a few signs: two digits of a number, of a path its last part; the params hold it whole."""
    return number(value) if isinstance(value, float) else str(value).rstrip("/").rsplit("/", 1)[-1]
