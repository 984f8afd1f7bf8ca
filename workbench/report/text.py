"""Settings, recipes and windows of usage as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.quantities import count, duration, many, number
from workbench.result import Result
from workbench.usage import Usage


def short_settings(settings: Mapping[str, Any]) -> str:
    """Write settings in a few characters: `r=8, lr=2e-4`. A setting is called by the last part of its path."""
    names = {name: name.rsplit(".", 1)[-1].replace("learning_rate", "lr") for name in settings}
    return ", ".join(f"{names[name]}={number(value)}" for name, value in settings.items())


def own_settings(settings: Mapping[str, Any], method: str, model: str) -> dict[str, Any]:
    """The settings of a method, of what its model learned before, of how its labels were chosen, and of the strategy by which
    tasks are learned in turn, out of those that a study left open.

    Args:
        settings: By path.
        method: The method's name.
        model: The model's name, as `workbench.result.model_name` gives it.
    """
    name, *learned = model.split(" + ")
    before = [" + ".join([name, *learned[: i + 1]]) for i in range(len(learned))]
    chosen = {field: settings[field] for field in ("acquire", "pseudo") if settings.get(field) is not None}
    chosen |= {path: value for path, value in settings.items() if path.endswith(".strategy")}
    owners = tuple(f"{owner}." for owner in (method, *learned, *before, *map(str, chosen.values())))
    return chosen | {path: value for path, value in settings.items() if path.startswith(owners)}


def settings_text(result: Result) -> str:
    """Write the settings of a point's method, and of what its model learned before, that the study left open."""
    return short_settings(own_settings(result.settings, result.method, result.model))


def describe(result: Result) -> str:
    """Describe a point shortly: `lora (r=8, lr=2e-4) on minilm-l6, 512 labels, 2 epochs`; `256 of 512 labels, 0.5 epochs`."""
    return f"{_method(result)} on {result.model}, {_labels(result)}{_length(result)}"


def plain_score(score: float) -> str:
    """Write a score of any kind: a per cent with one digit, `30.0`; a loss with three."""
    return f"{score:.1f}" if abs(score) >= 10 else f"{score:.3g}"


def describe_plan(result: Result) -> str:
    """Describe what is being made in a few words: as `describe`, but with the labels that will be used, not those used so far."""
    train = result.recipe["task"].get("train")
    labels = "" if train is None else f", {many(train, 'label')}"
    return f"{_method(result)} on {result.model}{labels}{_length(result)}"


def _labels(result: Result) -> str:
    """Write how many labels reached the loss, and of how many where that is not all, within the first epoch."""
    train = result.recipe["task"].get("train")
    # After the first epoch every label has reached the loss.
    part = isinstance(train, int) and 0 < result.labels < train and result.epochs < 1
    return f"{count(result.labels)} of {many(train, 'label')}" if part else many(result.labels, "label")


def _length(result: Result) -> str:
    """Write the number of epochs; nothing for a model that was not trained."""
    return f", {many(result.epochs, 'epoch')}" if result.epochs else ""


def _method(result: Result) -> str:
    own = settings_text(result)
    return f"{result.method} ({own})" if own else result.method


def usage_cells(usage: Usage | None) -> tuple[str, str, str, str]:
    """Write time, CPU time, energy and peak memory of a window; `unknown` for what was not measured."""
    if usage is None:
        return ("", "", "", "")
    cpu = "unknown" if usage.cpu_seconds is None else duration(usage.cpu_seconds)
    energy = "unknown" if usage.energy_j is None else f"{usage.energy_j:,.0f} J"
    peak = peak_memory(usage)
    return duration(usage.seconds), cpu, energy, "unknown" if peak is None else f"{peak / 2**20:,.0f} MiB"


def peak_memory(usage: Usage) -> int | None:
    """Return the peak bytes of the memory that bounds training: that of one GPU, else of the process tree; None if not measured."""
    return usage.gpu_peak_memory_bytes if usage.gpu_seconds else usage.peak_memory_bytes
