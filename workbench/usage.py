"""What was consumed, physically. No price is in it, so any record can be priced again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Stored records are read by these names for ever: names are added, never changed.
PHASES = ("provision", "load", "data", "pretrain", "train", "evaluate", "test", "checkpoint", "decide", "idle")
"""The flat, sibling phases of a run. A run is their sum."""

_PEAKS = {"peak_memory_bytes", "gpu_peak_memory_bytes"}


@dataclass(frozen=True, slots=True)
class Work:
    """What was done in a window: the denominators of cost.

    Attributes:
        steps: Optimiser steps.
        examples: Examples processed, repeats included.
        tokens: Tokens processed, padding excluded.
        padded_tokens: Tokens processed, padding included.
        flops: Floating-point operations that the tokens needed, padding excluded, by a formula; None where it has no answer.
        formula: Id of that formula (`workbench.flops.FORMULA`); empty without one.
    """

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    flops: float | None = 0.0
    formula: str = ""

    def __add__(self, other: Work) -> Work:
        """Sum; unknown FLOPs stay unknown."""
        flops = None if self.flops is None or other.flops is None else self.flops + other.flops
        return Work(
            self.steps + other.steps,
            self.examples + other.examples,
            self.tokens + other.tokens,
            self.padded_tokens + other.padded_tokens,
            flops,
            _joined(self.formula, other.formula, " + "),
        )

    def __sub__(self, other: Work) -> Work:
        """What remains when a part is taken out, never below 0."""
        flops = None if self.flops is None or other.flops is None else max(0.0, self.flops - other.flops)
        counts = {n: max(0, getattr(self, n) - getattr(other, n)) for n in ("steps", "examples", "tokens", "padded_tokens")}
        return Work(**counts, flops=flops, formula=self.formula)


_NO_WORK = Work()


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """One GPU's part of a window: our share of it where several use it. Energy is that of its board, not of the machine.

    Attributes:
        uuid: NVML's name of the device, `GPU-…` or `MIG-…`.
        name: Its product name.
        seconds: Device-seconds held.
        gpu_board_energy_j: Joules of the board.
        busy_seconds: Seconds in which a kernel ran.
        throttled_seconds: Seconds in which the clocks were held down by heat or a power limit.
        peak_memory_bytes: Highest memory in use. Adds as a maximum.
        energy_source: How the joules were got: `counter`, `instant_power`, `average_power`, `model` or `unknown`; several are
            joined by ` + `.
        energy_error: Relative uncertainty of the joules, e.g. 0.05; None where they are unknown.
        shared_by: How it was split among those who held it: `process_utilisation`, `work`, `equal`; empty for one tenant.
        partial: The device was lost: what is known ends before the window does.
        overheated_seconds: The part of `throttled_seconds` in which heat, or a failing power supply, held the clocks down.
        strangers_seconds: Seconds in which kernels of processes that are not ours ran; None where NVML does not tell them apart.
    """

    uuid: str
    name: str = ""
    seconds: float = 0.0
    gpu_board_energy_j: float | None = 0.0
    busy_seconds: float | None = 0.0
    throttled_seconds: float | None = 0.0
    peak_memory_bytes: int | None = 0
    energy_source: str = ""
    energy_error: float | None = None
    shared_by: str = ""
    partial: bool = False
    overheated_seconds: float | None = 0.0
    strangers_seconds: float | None = 0.0

    def __add__(self, other: DeviceUsage) -> DeviceUsage:
        """Sum of two windows on one device; the error is weighted by joules (errors of one instrument go the same way)."""
        known = {n: _added(getattr(self, n), getattr(other, n)) for n in _DEVICE_SUMS}
        peaks = (self.peak_memory_bytes, other.peak_memory_bytes)
        return DeviceUsage(
            self.uuid,
            self.name or other.name,
            self.seconds + other.seconds,
            peak_memory_bytes=None if None in peaks else max(p for p in peaks if p is not None),
            energy_source=_joined(self.energy_source, other.energy_source, " + "),
            energy_error=error_of_sum((self.gpu_board_energy_j, self.energy_error), (other.gpu_board_energy_j, other.energy_error)),
            shared_by=_joined(self.shared_by, other.shared_by, " + "),
            partial=self.partial or other.partial,
            **known,
        )


_DEVICE_SUMS = ("gpu_board_energy_j", "busy_seconds", "throttled_seconds", "overheated_seconds", "strangers_seconds")

CONTENDED_SHARE = 0.05
"""A window is contended when others made it longer by more than this share of it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Physical consumption of one window of time. Windows add up; `None` is unknown and stays unknown.

    The default value is the empty window: nothing was consumed, and that is known.

    Attributes:
        seconds: Wall-clock seconds, >= 0.
        cpu_seconds: CPU seconds of our processes, user and system.
        cpu_energy_j: Joules of the processor, or our share by CPU time; an estimate can hold memory and fans too: see `sources`.
        peak_memory_bytes: Highest resident memory of the process tree. Adds as a maximum.
        gpu_seconds: Device-seconds held, the sum over GPUs, our share where several hold one. 0 on a machine without one.
        gpu_board_energy_j: Joules of the GPU boards (not of the whole machine).
        gpu_busy_seconds: Device-seconds in which a kernel was running (utilisation x seconds).
        gpu_peak_memory_bytes: Highest memory used on one GPU. Adds as a maximum.
        sources: How each field was measured, e.g. `{"cpu_energy_j": "estimated: …"}`.
        others_seconds: Of the seconds, the part that fell on others who held this host at the same time; 0 for one tenant.
        gpu_throttled_seconds: Device-seconds in which clocks were held down by heat or a power limit.
        io_read_bytes: Bytes that our processes had read from storage.
        io_write_bytes: Bytes that our processes had written to storage.
        errors: Relative uncertainty of a known field, e.g. `{"cpu_energy_j": 0.5}`; adds weighted by the amounts.
        devices: The GPUs' parts, one entry a device; the gpu fields are their sums.
        work: What was done in the window.
        partial: A device was lost in it: what is known is less than what was consumed.
        waited_seconds: Seconds that threads of our process were ready to run and waited for a CPU, the sum over threads.
        stalled_seconds: Of the seconds, the part by which others who used the CPUs and GPUs made the window longer: an estimate,
            with its uncertainty in `errors`. 0 on a machine that does nothing else.
        stalled_energy_j: Joules of the processor that fell on those seconds, and would not have been used without them.
        others_cpu_seconds: CPU seconds that other processes of the host, and other virtual machines on it, used meanwhile.
        gpu_overheated_seconds: The part of `gpu_throttled_seconds` in which heat, or a failing power supply, held the clocks down.
        gpu_strangers_seconds: Device-seconds in which kernels of processes that are not ours ran.
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
    others_seconds: float = 0.0
    gpu_throttled_seconds: float | None = 0.0
    io_read_bytes: int | None = 0
    io_write_bytes: int | None = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    devices: tuple[DeviceUsage, ...] = ()
    work: Work = _NO_WORK
    partial: bool = False
    waited_seconds: float | None = 0.0
    stalled_seconds: float | None = 0.0
    stalled_energy_j: float | None = 0.0
    others_cpu_seconds: float | None = 0.0
    gpu_overheated_seconds: float | None = 0.0
    gpu_strangers_seconds: float | None = 0.0

    @property
    def energy_j(self) -> float | None:
        """Joules of processor and GPU boards together; `None` when either is unknown."""
        if self.cpu_energy_j is None or self.gpu_board_energy_j is None:
            return None
        return self.cpu_energy_j + self.gpu_board_energy_j

    @property
    def held_seconds(self) -> float:
        """Seconds x our share of the host: what a machine's hourly price is multiplied with."""
        return self.seconds - self.others_seconds

    @property
    def contended(self) -> bool | None:
        """Whether other programs, or heat, made the figures differ from those of a quiet machine.

        That is so where others made the window longer by more than `CONTENDED_SHARE` of it, or
        where heat held a GPU's clocks down for more than that share. None where neither is known to
        be so and one of them is unknown.
        """
        parts = ((self.stalled_seconds, self.seconds), (self.gpu_overheated_seconds, self.gpu_seconds))
        shares = [None if part is None or whole is None else part > CONTENDED_SHARE * whole for part, whole in parts]
        return True if any(shares) else None if None in shares else False

    def undisturbed(self, sign: int = 0) -> Usage:
        """Estimate the window had nobody else used the machine: without stalls and their joules.

        Work, CPU time and the effects of heat cannot be told apart and are left as they are. A
        window that was not disturbed, or of which that is unknown, is returned itself.

        Args:
            sign: -1 for the lower end of the estimate's band, 1 for its upper end, else 0.
        """
        if not self.stalled_seconds or self.seconds <= 0:
            return self
        # At the lower end of the band more of the stall is taken out than was estimated.
        certain = max(0.0, 1 - sign * self.errors.get("stalled_seconds", 0.0))
        stalled = min(self.seconds, self.stalled_seconds * certain)
        ratio = 1 - stalled / self.seconds
        shorter: dict[str, Any] = {
            "seconds": self.seconds * ratio,
            "others_seconds": self.others_seconds * ratio,
            "gpu_seconds": None if self.gpu_seconds is None else self.gpu_seconds * ratio,
            "stalled_seconds": 0.0,
            "stalled_energy_j": 0.0,
        }
        if self.cpu_energy_j is not None:
            shorter["cpu_energy_j"] = max(0.0, self.cpu_energy_j - (self.stalled_energy_j or 0.0) * certain)
        told = {name: f"{text}; less what others caused, estimated" for name, text in self.sources.items() if name in shorter}
        devices = tuple(dataclasses.replace(device, seconds=device.seconds * ratio) for device in self.devices)
        return dataclasses.replace(self, **shorter, devices=devices, sources={**self.sources, **told})

    @property
    def flops_per_second(self) -> float | None:
        """Achieved FLOP/s: FLOPs that the tokens needed by wall-clock seconds; None where no work was counted."""
        return self.work.flops / self.seconds if self.work.flops and self.seconds > 0 else None

    @classmethod
    def unknown(cls, seconds: float, reason: str) -> Usage:
        """Make a window of which only the length in seconds is known; `reason` says why."""
        numbers = dict.fromkeys(_NUMBERS, None) | {"seconds": seconds, "others_seconds": 0.0}
        return cls(**numbers, sources=dict.fromkeys(("cpu_seconds", "cpu_energy_j", "gpu_board_energy_j"), f"unknown: {reason}"))  # type: ignore[arg-type]

    def at_this_rate(self, seconds: float, reason: str) -> Usage:
        """Estimate a window that nobody measured, by this one's amounts in proportion to length.

        It has no work and no breakdown by device. Amounts that are unknown here stay unknown; an
        empty window tells nothing.

        Args:
            seconds: Length of the window to estimate.
            reason: Why nobody measured it; it stands in the sources.
        """
        if self.seconds <= 0:
            return Usage.unknown(seconds, reason)
        ratio = seconds / self.seconds
        amounts: dict[str, Any] = {}
        for name in _NUMBERS:
            amount = getattr(self, name)
            # Peaks do not grow with time; bytes stay whole numbers.
            amounts[name] = amount if amount is None or name in _PEAKS else type(amount)(amount * ratio)
        amounts["seconds"] = seconds
        return Usage(**amounts, sources=dict.fromkeys(self.sources, f"estimated: {reason}"), errors=self.errors)

    def doing(self, work: Work) -> Usage:
        """Return the same window with the work that was done in it."""
        return dataclasses.replace(self, work=work)

    def __add__(self, other: Usage) -> Usage:
        """Sum of two windows. A field that is unknown in one of them is unknown in the sum."""
        return total((self, other))

    def __sub__(self, other: Usage) -> Usage:
        """Take a part out of a window. Peaks are kept, and what is unknown stays unknown.

        The breakdown by device is left out, since the rest of a device's window is no window of it.
        """
        rest: dict[str, Any] = {}
        for name in _NUMBERS:
            a, b = getattr(self, name), getattr(other, name)
            # Two readings of one meter may differ by a rounding: what remains is never below 0.
            rest[name] = a if name in _PEAKS else None if a is None or b is None else max(type(a)(0), a - b)
        return Usage(**rest, sources=self.sources, errors=self.errors, work=self.work - other.work, partial=self.partial)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, and the sum `energy_j` for the reader's convenience; what is empty is left out."""
        record = {name: getattr(self, name) for name in _NUMBERS}
        record |= {"energy_j": self.energy_j, "sources": dict(self.sources)}
        more = {
            "errors": dict(self.errors),
            "devices": [dataclasses.asdict(device) for device in self.devices],
            "work": dataclasses.asdict(self.work) if self.work != _NO_WORK else {},
            "partial": self.partial,
        }
        return record | {name: value for name, value in more.items() if value}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> Usage:
        """Rebuild from `to_json`; keys of a later schema are ignored, missing amounts are unknown.

        Args:
            record: The window.
            sources: What it says of its sources beside its own; the windows of a record share it, and are not to change it.
        """
        numbers: dict[str, Any] = {name: record.get(name) for name in _NUMBERS}
        numbers["others_seconds"] = record.get("others_seconds", 0.0)  # records from before hosts were shared
        own = record.get("sources", {})
        return cls(
            **numbers,
            sources=sources if sources is not None and not own else {**(sources or {}), **own},
            errors=dict(record.get("errors", {})),
            devices=tuple(DeviceUsage(**_known(DeviceUsage, device)) for device in record.get("devices", ())),
            work=Work(**_known(Work, record["work"])) if "work" in record else _NO_WORK,
            partial=bool(record.get("partial", False)),
        )


_NUMBERS = tuple(f.name for f in dataclasses.fields(Usage) if f.name not in ("sources", "errors", "devices", "work", "partial"))

Phases = Mapping[str, Usage]
"""Usage by phase, keys out of `PHASES`."""


def total(windows: Iterable[Usage]) -> Usage:
    """Sum of any number of windows; the empty window for none. A field that is unknown in one of them is unknown in the sum."""
    parts = list(windows)
    if len(parts) <= 1:
        return parts[0] if parts else Usage()
    # In one pass, not by `+` pair by pair: ten thousand Results are summed at a look.
    totals: dict[str, Any] = {}
    for name in _NUMBERS:
        amounts = [getattr(part, name) for part in parts]
        totals[name] = None if None in amounts else max(amounts) if name in _PEAKS else sum(amounts)
    sources: Mapping[str, str] = {}
    devices: tuple[DeviceUsage, ...] = ()
    work = Work()
    for part in parts:
        if part.sources != sources:
            sources = _merge(sources, part.sources)
        if part.devices:
            devices = _merged_devices(devices, part.devices)
        # By identity: most windows share the default, and comparing it field by field costs time.
        if part.work is not _NO_WORK:
            work = work + part.work
    partial = any(part.partial for part in parts)
    return Usage(**totals, sources=sources, errors=_errors(parts, totals), devices=devices, work=work, partial=partial)


def _errors(parts: Sequence[Usage], totals: Mapping[str, Any]) -> dict[str, float]:
    """Relative errors of the fields of a sum that are known."""
    names = sorted({name for part in parts for name in part.errors if totals[name] is not None})
    found = {name: error_of_sum(*((getattr(part, name), part.errors.get(name, 0.0)) for part in parts)) for name in names}
    return {name: error for name, error in found.items() if error is not None}


def add_phases(a: Phases, b: Phases) -> dict[str, Usage]:
    """Sum of two records by phase."""
    return {name: a.get(name, Usage()) + b.get(name, Usage()) for name in PHASES if name in a or name in b}


def _added(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a + b


def _joined(a: str, b: str, separator: str) -> str:
    """Join two texts of parts, naming each part once."""
    return separator.join(dict.fromkeys(part for text in (a, b) for part in text.split(separator) if part))


def error_of_sum(*parts: tuple[float | None, float | None]) -> float | None:
    """Relative error of a sum of `(amount, relative error)`, weighted by amount; None where that of an amount is unknown."""
    if any(error is None and amount for amount, error in parts):
        return None
    amounts = sum(abs(amount or 0.0) for amount, _ in parts)
    if not amounts:
        return max((error for _, error in parts if error is not None), default=None)
    # Weighted, not added in squares: errors of one instrument go the same way.
    return sum(abs(amount or 0.0) * (error or 0.0) for amount, error in parts) / amounts


def _merged_devices(a: Sequence[DeviceUsage], b: Sequence[DeviceUsage]) -> tuple[DeviceUsage, ...]:
    merged = {device.uuid: device for device in a}
    for device in b:
        merged[device.uuid] = merged[device.uuid] + device if device.uuid in merged else device
    return tuple(merged.values())


def _known(kind: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a record that a dataclass has fields for."""
    return {name: record[name] for name in _field_names(kind) if name in record}


@functools.cache
def _field_names(kind: Any) -> tuple[str, ...]:
    """Looked up once: a ledger of ten thousand runs asks for them sixty thousand times."""
    return tuple(f.name for f in dataclasses.fields(kind))


def _merge(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, str]:
    """Sources of a sum: one text where both agree, both where they differ."""
    return dict(a) | {name: _joined(a.get(name, ""), text, "; ") for name, text in b.items()}
