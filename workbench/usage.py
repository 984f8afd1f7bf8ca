"""What was consumed, physically. No price is in it, so any record can be priced again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PHASES = ("provision", "load", "data", "pretrain", "train", "evaluate", "checkpoint", "idle")
"""The flat, sibling phases of a run. A run is their sum."""

_PEAKS = {"peak_memory_bytes", "gpu_peak_memory_bytes"}


@dataclass(frozen=True, slots=True)
class Usage:
    """Physical consumption of one window of time. Windows add up; `None` is unknown and stays unknown.

    The default value is the empty window: nothing was consumed, and that is known.

    Attributes:
        seconds: Wall-clock seconds, >= 0.
        cpu_seconds: CPU seconds of this process and its children, user and system.
        cpu_energy_j: Joules of the processor, or our share by CPU time; an estimate can hold memory and fans too: see `sources`.
        peak_memory_bytes: Highest resident memory of the process tree. Adds as a maximum.
        gpu_seconds: Device-seconds held, the sum over GPUs. 0 on a machine without one.
        gpu_board_energy_j: Joules of the GPU boards (not of the whole machine).
        gpu_busy_seconds: Device-seconds in which a kernel was running (utilisation x seconds).
        gpu_peak_memory_bytes: Highest memory used on one GPU. Adds as a maximum.
        sources: How each field was measured, e.g. `{"cpu_energy_j": "estimated: …"}`.
    """

    seconds: float = 0.0
    cpu_seconds: float | None = 0.0
    cpu_energy_j: float | None = 0.0
    peak_memory_bytes: int | None = 0
    gpu_seconds: float | None = 0.0
    gpu_board_energy_j: float | None = 0.0
    gpu_busy_seconds: float | None = 0.0
    gpu_peak_memory_bytes: int | None = 0
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def energy_j(self) -> float | None:
        """Joules of processor and GPU boards together; `None` when either is unknown."""
        if self.cpu_energy_j is None or self.gpu_board_energy_j is None:
            return None
        return self.cpu_energy_j + self.gpu_board_energy_j

    @property
    def gpu_utilisation(self) -> float | None:
        """Share of the device-seconds held in which a kernel ran, 0 to 1; `None` without a GPU."""
        return self.gpu_busy_seconds / self.gpu_seconds if self.gpu_seconds and self.gpu_busy_seconds is not None else None

    def __add__(self, other: Usage) -> Usage:
        """Sum of two windows. A field that is unknown in one of them is unknown in the sum."""
        totals: dict[str, Any] = {}
        for name in _NUMBERS:
            a, b = getattr(self, name), getattr(other, name)
            totals[name] = None if a is None or b is None else max(a, b) if name in _PEAKS else a + b
        return Usage(**totals, sources=_merge(self.sources, other.sources))

    def __sub__(self, other: Usage) -> Usage:
        """What remains when a part is taken out (never below 0); peaks are kept, unknown stays unknown."""
        rest: dict[str, Any] = {}
        for name in _NUMBERS:
            a, b = getattr(self, name), getattr(other, name)
            rest[name] = a if name in _PEAKS else None if a is None or b is None else max(0.0, a - b)
        return Usage(**rest, sources=self.sources)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, and the sum `energy_j` for the reader's convenience."""
        return {name: getattr(self, name) for name in _NUMBERS} | {"energy_j": self.energy_j, "sources": dict(self.sources)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Usage:
        """Rebuild from `to_json`; keys of a later schema are ignored, missing ones are unknown."""
        numbers: dict[str, Any] = {name: record.get(name) for name in _NUMBERS}
        return cls(**numbers, sources=dict(record.get("sources", {})))


_NUMBERS = tuple(f.name for f in dataclasses.fields(Usage) if f.name != "sources")

Phases = Mapping[str, Usage]
"""Usage by phase, keys out of `PHASES`."""


def total(windows: Iterable[Usage]) -> Usage:
    """Sum of any number of windows; the empty window for none."""
    result = Usage()
    for window in windows:
        result = result + window
    return result


def add_phases(a: Phases, b: Phases) -> dict[str, Usage]:
    """Sum of two records by phase."""
    return {name: a.get(name, Usage()) + b.get(name, Usage()) for name in PHASES if name in a or name in b}


def _merge(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, str]:
    """Sources of a sum: one text where both agree, both where they differ."""
    merged = dict(a)
    for name, text in b.items():
        merged[name] = "; ".join(dict.fromkeys([*merged.get(name, text).split("; "), *text.split("; ")]))
    return merged
