"""Numbers, settings and recipes as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from workbench.estimate import Estimate
from workbench.result import Result
from workbench.usage import Usage


def dollars(value: float | None) -> str:
    """US$ to the cent, below a dollar to three significant digits: `$12.30`, `$0.00042`; `unknown` for None."""
    if value is None:
        return "unknown"
    if not 0 < abs(value) < 1:
        return f"${value:,.2f}"
    cents, digits = f"{value:.{2 - math.floor(math.log10(abs(value)))}f}".split(".")
    return f"${cents}.{digits.rstrip('0'):0<2}"


def duration(seconds: float) -> str:
    """`1.2 s`, `42 s`, `3 min 20 s`, `2 h 05 min`, `1,672 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 6000 else f"{seconds / 3600:,.0f} h"


def number(value: Any) -> str:
    """A setting as people write it: `2e-4` rather than 0.00020134, `128` rather than 128.0."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


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


def banded(estimate: Estimate, write: Callable[[float], str]) -> str:
    """A figure, with its band and basis where it has a band: `$0.0021 ($0.001 to $0.0044, scaled)`."""
    if estimate.low == estimate.high:
        return write(estimate.value)
    return f"{write(estimate.value)} ({write(estimate.low)} to {write(estimate.high)}, {estimate.basis})"


def count(value: float) -> str:
    """How many of something, to the last one: `1,024`, `22,713,216`. What is counted is never rounded; a part stays: `0.5`."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.10g}"


def many(value: float, noun: str) -> str:
    """`1 label`, `1,024 labels`, `0.5 epochs`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def peak_memory(usage: Usage) -> int | None:
    """Bytes of the memory that training is bound by: one GPU's, else the process tree's; None where not measured."""
    return usage.gpu_peak_memory_bytes if usage.gpu_seconds else usage.peak_memory_bytes
