"""Numbers, settings and recipes as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.quantities import count, duration, many, number
from workbench.result import Result
from workbench.usage import Usage


def short_settings(settings: Mapping[str, Any]) -> str:
    """Settings in a few characters: `r=8, lr=2e-4`; a setting is called by the last part of its path."""
    names = {name: name.rsplit(".", 1)[-1].replace("learning_rate", "lr") for name in settings}
    return ", ".join(f"{names[name]}={number(value)}" for name, value in settings.items())


def settings_text(result: Result) -> str:
    """The settings of the method that the study left open."""
    return short_settings({name: value for name, value in result.settings.items() if name.startswith(f"{result.method}.")})


def describe(result: Result) -> str:
    """A point in a few words: `lora (r=8, lr=2e-4) on minilm-l6, 512 labels, 2 epochs`; `256 of 512 labels, 0.5 epochs`."""
    return f"{_method(result)} on {result.model}, {_labels(result)}{_length(result)}"


def describe_plan(result: Result) -> str:
    """What is being made, in a few words: as `describe`, with the labels that it is going to use, not those used so far."""
    train = result.recipe["task"].get("train")
    labels = "" if train is None else f", {many(train, 'label')}"
    return f"{_method(result)} on {result.model}{labels}{_length(result)}"


def _labels(result: Result) -> str:
    """How many labels reached the loss, and of how many where that is not all: within the first epoch."""
    train = result.recipe["task"].get("train")
    part = isinstance(train, int) and 0 < result.labels < train and result.epochs < 1
    return f"{count(result.labels)} of {many(train, 'label')}" if part else many(result.labels, "label")


def _length(result: Result) -> str:
    """How long it was trained; nothing of what was not."""
    return f", {many(result.epochs, 'epoch')}" if result.epochs else ""


def _method(result: Result) -> str:
    own = settings_text(result)
    return f"{result.method} ({own})" if own else result.method


def usage_cells(usage: Usage | None) -> tuple[str, str, str, str]:
    """Time, CPU time, energy and peak memory of a window as text; `unknown` where it was not measured."""
    if usage is None:
        return ("", "", "", "")
    cpu = "unknown" if usage.cpu_seconds is None else duration(usage.cpu_seconds)
    energy = "unknown" if usage.energy_j is None else f"{usage.energy_j:,.0f} J"
    peak = peak_memory(usage)
    return duration(usage.seconds), cpu, energy, "unknown" if peak is None else f"{peak / 2**20:,.0f} MiB"


def peak_memory(usage: Usage) -> int | None:
    """Bytes of the memory that training is bound by: one GPU's, else the process tree's; None where not measured."""
    return usage.gpu_peak_memory_bytes if usage.gpu_seconds else usage.peak_memory_bytes
