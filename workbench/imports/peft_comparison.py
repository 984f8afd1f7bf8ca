"""The result files of PEFT's method comparison: github.com/huggingface/peft, folder `method_comparison`, task MetaMathQA.

One JSON file is one training run: Llama-3.2-3B tuned on MetaMathQA (`max_steps` batches in the data's order, no example
twice) and tested once, at the end, on GSM8K. What its figures mean, by `MetaMathQA/run.py` there:

    train_time               preparing the data, training and the one test; not the validations, not loading the model
    total_time               the whole process
    accelerator_memory_max   highest memory reserved on the GPU, in bytes (`cuda_memory_max` in older files)
    test accuracy            share of answers that are right, 0 to 1

So `train_time` is what a point costs from cold but for loading the model, and it is what their app draws against accuracy.
Each file becomes one Result: accuracies in percent like every score here, `train_time` as its usage, `total_time` as what
was spent. How much of `train_time` was the test is not told, so all of it stands under `train`. Energy and processor
time were not measured and are unknown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench import prices
from workbench.errors import DataError, UsageError
from workbench.imports import Imported
from workbench.imports.fields import Fields
from workbench.prices import Offer
from workbench.result import Cause, Result, offer_record
from workbench.space import Value
from workbench.usage import Usage, Work

NAME = "peft-comparison"
GPU, PLATFORM = "NVIDIA L40S", "aws:g6e.xlarge"
"""The comparison's GPU, and the offer that prices it unless told otherwise: the kernels in the files are AWS's."""

_SOURCE = "huggingface/peft method comparison"
_SIZES = ("r", "num_virtual_tokens", "n_frequency", "adapter_len")
"""PEFT's settings that say how large an adapter is; the others are in the recipe, and told by the experiment's name."""
_NO_SETTINGS = {"peft_type", "task_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"}


def read(folder: Path, *, name: str = NAME, platform: str | None = None) -> Imported:
    """Read all result files of a folder.

    Args:
        folder: The task's folder, or the `results` in it.
        name: Stem of the study's name.
        platform: The offer that prices the runs; None for an L40S's.

    Raises:
        UsageError: There is no such folder or no file in it, or no price is at hand for the GPU.
        DataError: A file is broken or is no such result; the message names it, and the place in it.
    """
    if not re.fullmatch(r"\w[\w.-]*", name) or name.endswith(".py"):
        raise UsageError(f"--name {name!r} is no name for a study. Use letters, digits, dashes and dots, as in {NAME!r}.")
    files = [(path.name, _bytes(path)) for path in _paths(folder)]
    records = [(file, text, _parsed(file, text)) for file, text in files]
    offer = prices.find(platform or _platform(fields for _, _, fields in records))
    _check_offer(offer, {_gpu(fields) for _, _, fields in records})
    results = [_result(fields, file, hashlib.sha256(text).hexdigest(), offer) for file, text, fields in records]
    results.sort(key=lambda r: r.started)
    description = _description(results, offer)
    digest = _hash({key: description[key] for key in ("maximize", "minimize", "imported")})
    return Imported(f"{name}-{digest[:8]}", description, tuple(results))


def _paths(folder: Path) -> list[Path]:
    """The result files, by name."""
    if not folder.is_dir():
        wrong = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"the folder {folder} {wrong}. Give the folder method_comparison/MetaMathQA of a checkout of PEFT.")
    inner = folder / "results"
    folder = inner if inner.is_dir() else folder
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.is_file())
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read: {error.strerror}.") from error
    if not paths:
        raise UsageError(f"{folder} holds no .json file. Give the folder method_comparison/MetaMathQA of a checkout of PEFT.")
    return paths


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read: {error.strerror}. Nothing was imported.") from error


def _parsed(file: str, text: bytes) -> Fields:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON: {error}. Mend or remove it; nothing was imported.") from error
    fields = Fields(file, content, "a result of PEFT's method comparison")
    if not fields.inside("meta_info.dataset_info").get("metamath"):
        raise fields.wrong("meta_info.dataset_info.metamath", "is missing: only results of its task MetaMathQA are read")
    return fields


def _platform(records: Iterable[Fields]) -> str:
    gpus = {_gpu(fields) for fields in records}
    if gpus != {GPU}:
        raise UsageError(
            f"the runs were made on {', '.join(sorted(gpus))}, and only for {GPU} is a price set. Name an offer with --platform."
        )
    return PLATFORM


def _check_offer(offer: Offer, gpus: set[str]) -> None:
    """Raise UsageError when the runs were not made on the offer's GPU: what they cost there was not measured."""
    others = sorted(name for name in gpus if not prices.same_gpu(name, offer.gpu))
    if others:
        raise UsageError(
            f"runs were made on {', '.join(others)}, and {offer.name!r} has {offer.gpu or 'no GPU'}. Import runs of one GPU "
            "at an offer of it; `workbench front --platform …` prices them elsewhere."
        )


def _result(fields: Fields, file: str, sha256: str, offer: Offer) -> Result:
    recipe = _recipe(fields)
    metrics = fields.objects("train_info.metrics")
    status, cause, reason, scores = _outcome(fields, metrics)
    seconds, total = fields.number("train_info.train_time"), fields.number("run_info.total_time")
    memory = fields.count_or("train_info.accelerator_memory_max", fields.count_or("train_info.cuda_memory_max", None))
    work = _work(metrics)
    train = replace(_usage(seconds, "train_time"), gpu_peak_memory_bytes=memory, work=work)
    # `train_time` holds the test and not the validations, `total_time` all of them.
    validation = sum(m.number_or("eval time", 0.0) for m in metrics)
    rest = max(0.0, total - seconds - validation)
    started = _time(fields)
    return Result(
        recipe_id=_hash(recipe),
        run_id=_hash({"recipe": recipe, "file": sha256}),  # trained again is another run, and so is a file that was put right
        recipe=recipe,
        settings=_settings(fields, recipe),
        status=status,
        cause=cause,
        reason=reason,
        scores=scores,
        # Only what reached its end has a cold cost; the others are on the bill and on no front.
        usage={"train": train} if status == "complete" else {},
        spent={"train": train, "evaluate": _usage(validation, "eval time"), "load": _usage(rest, "total_time less the others")},
        labels=work.examples,
        step=work.steps,
        examples=work.examples,
        tokens=work.tokens,
        trainable_parameters=fields.count_or("train_info.num_trainable_params", None),
        provenance=_provenance(fields, file, sha256),
        offer=offer_record(offer),
        started=started,
        finished=started + total,
    )


def _outcome(fields: Fields, metrics: Sequence[Fields]) -> tuple[str, Cause | None, str, dict[str, float]]:
    """Status, cause, reason and scores. A run without a test accuracy is never complete: it is kept, and on no front."""
    state = fields.text("train_info.status")
    message = " ".join(fields.text_or("run_info.error_msg", fields.text_or("train_info.error_msg", "")).split())
    scores = _scores(metrics)
    # "success" alone is not enough: without a test there is no score to be a point with.
    if state == "success" and "accuracy" in scores:
        return "complete", None, "", scores
    if "out of memory" in message.lower():
        return "infeasible", Cause.OUT_OF_MEMORY, Cause.OUT_OF_MEMORY.reason(message), {}
    why = message or ("the file has no test accuracy" if state == "success" else "the file does not say why")
    return "interrupted", Cause(state), f"{state}: {why}", {}


def _scores(metrics: Sequence[Fields]) -> dict[str, float]:
    """Accuracies in percent; the losses as they are: `forgetting` is the rise of the loss on text of another kind."""
    if not metrics:
        return {}
    last = metrics[-1]
    validations = [share for m in metrics if (share := m.measured("valid accuracy", 0, 1)) is not None]
    shares = {"accuracy": last.measured("test accuracy", 0, 1), "dev_accuracy": validations[-1] if validations else None}
    losses = {"train_loss": last.measured("train loss"), "forgetting": last.measured("forgetting")}
    percent = {name: 100.0 * share for name, share in shares.items() if share is not None}
    return percent | {name: loss for name, loss in losses.items() if loss is not None}


def _work(metrics: Sequence[Fields]) -> Work:
    """Return the work done by the end of a run, or by its last validation where it did not get
    there.
    """
    if not metrics:
        return Work(flops=None)
    last = metrics[-1]
    return Work(
        steps=last.count_or("step", 0),
        examples=last.count_or("train samples", 0),
        tokens=last.count_or("train total tokens", 0),
        flops=None,
    )


def _usage(seconds: float, field: str) -> Usage:
    """Make a window whose seconds are known, all of them with the GPU held, and nothing else."""
    usage = Usage.unknown(seconds, f"not measured by the {_SOURCE}")
    told = dict.fromkeys(("seconds", "gpu_seconds"), f"imported: {_SOURCE}, {field}")
    memory = {"gpu_peak_memory_bytes": f"imported: {_SOURCE}, memory reserved while training"} if field == "train_time" else {}
    return replace(usage, gpu_seconds=seconds, sources={**usage.sources, **told, **memory}, work=Work(flops=None))


def _recipe(fields: Fields) -> dict[str, Any]:
    """The recipe as plain data, with our names where there is one for a thing; `train_config` holds theirs in full."""
    config = fields.inside("run_info.train_config")
    optimizer = config.inside("optimizer_kwargs")
    kind = fields.text("run_info.peft_config.peft_type").lower() if fields.get("run_info.peft_config") else "full"
    peft = fields.inside("run_info.peft_config").content if kind != "full" else {}
    # AdaLoRA writes the ranks that it arrived at into its configuration.
    found_by_training = {"rank_pattern"} if kind == "adalora" else set()
    settings = {key: value for key, value in peft.items() if key not in _NO_SETTINGS | found_by_training}
    batch = config.count("batch_size")
    data = {key: fields.get(f"meta_info.dataset_info.{key}.sha") for key in fields.inside("meta_info.dataset_info").content}
    return {
        "task": {"type": NAME, "data": "MetaMathQA", "train": config.count("max_steps") * batch, "revisions": data},
        "model": config.text("model_id"),
        "model_revision": fields.get("meta_info.model_info.sha"),
        "method": {"type": "Method", "name": kind, "kind": kind, "learning_rate": optimizer.number("lr"), "settings": settings},
        "epochs": 1,  # one pass over the examples that it reads
        "batch_size": batch,
        "seed": config.count("seed"),
        "weight_decay": optimizer.number_or("weight_decay", None),
        "precision": config.text("dtype"),
        "train_config": config.content,
    }


def _settings(fields: Fields, recipe: Mapping[str, Any]) -> dict[str, Value]:
    """Return the settings that tell runs apart: the experiment's name, the learning rate, the
    adapter's size.
    """
    method = recipe["method"]
    name = method["name"]
    settings: dict[str, Value] = {
        "method": name,
        f"{name}.experiment": fields.text("run_info.experiment_name"),
        f"{name}.learning_rate": method["learning_rate"],
    }
    # By type: True would pass for an int.
    return settings | {f"{name}.{size}": value for size in _SIZES if type(value := method["settings"].get(size)) is int}


def _provenance(fields: Fields, file: str, sha256: str) -> dict[str, Any]:
    packages = fields.inside("meta_info.package_info").content
    return {
        "imported_from": _SOURCE,
        "file": file,
        "sha256": sha256,
        "created_at": fields.text("run_info.created_at"),
        "peft_branch": fields.get("run_info.peft_branch"),
        "versions": {key.removesuffix("-version"): text for key, text in packages.items() if key.endswith("-version")},
        "commits": {key.removesuffix("-commit-hash"): text for key, text in packages.items() if key.endswith("-hash") and text},
        "device": {"gpus": [{"name": _gpu(fields)}], "system": fields.get("meta_info.system_info")},
    }


def _gpu(fields: Fields) -> str:
    older = fields.get("meta_info.system_info.gpu")
    return fields.text("meta_info.system_info.accelerator") if older is None else fields.text("meta_info.system_info.gpu")


def _time(fields: Fields) -> float:
    """When a run began, in seconds since 1970."""
    text = fields.text("run_info.created_at")
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise fields.wrong("run_info.created_at", f"is no time: {text!r}") from None
    # Without a zone it counts as UTC, so that every machine imports the same moment.
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _description(results: Sequence[Result], offer: Offer) -> dict[str, Any]:
    models = ", ".join(sorted({r.model for r in results}))
    day = Usage(seconds=86400.0, gpu_seconds=86400.0)
    return {
        "question": f"Which method of PEFT tunes {models} best per dollar? ({_SOURCE}, MetaMathQA)",
        "maximize": "accuracy",
        "minimize": ["usd"],
        "label_usd": 0.0,
        "platform": offer.name,
        "reference": {"accuracy": 0.0, "usd": prices.usd(day, offer)},  # as of every study: score 0 for a day of the machine
        "imported": NAME,
    }


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
