"""Each GPU's part of a window, with how every figure of it was got, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from workbench.meter.gpu_energy import WAYS, Device, GpuMemory, GpuTotals, energy_error
from workbench.meter.shares import METHODS
from workbench.usage import DeviceUsage, error_of_sum

_TEXTS = {
    "counter": "nvml total energy counter",
    "instant_power": "nvml instant power integrated",
    "average_power": "nvml average power integrated",
    "model": "modelled: utilisation x (power limit - idle power) + idle power",
}
_SLICE = "modelled: the slice's share of its board's memory x its board's energy"
_SUMS = {
    "gpu_board_energy_j": "gpu_board_energy_j",
    "gpu_busy_seconds": "busy_seconds",
    "gpu_throttled_seconds": "throttled_seconds",
    "gpu_overheated_seconds": "overheated_seconds",
    "gpu_strangers_seconds": "strangers_seconds",
}


class Part(NamedTuple):
    """One device's part of a window.

    Attributes:
        usage: The figures.
        sources: How each was got, by the flat field that it goes into.
    """

    usage: DeviceUsage
    sources: dict[str, str]


SHORT_S = 5.0
"""Seconds below which a window's GPU energy is flagged: the counter steps at about 100 ms, several percent of such a window."""


class Span(NamedTuple):
    """What a window saw of one device.

    Attributes:
        first: Totals at its opening, of all or of one tenant.
        last: Totals at its end.
        peak: Highest memory in between.
        shares: How long the device was split in each of `shares.METHODS`; empty for no tenant's window.
    """

    first: GpuTotals
    last: GpuTotals
    peak: GpuMemory
    shares: Sequence[int] = ()


def usage(device: Device, span: Span, *, seconds: float, rate: str) -> Part:
    """What was used of one device in a window.

    Args:
        device: The device.
        span: What the window saw of it.
        seconds: Length of the window.
        rate: When samples are taken, in words.
    """
    first, last, peak, shares = span
    short = seconds < SHORT_S
    used = last.amounts.minus(first.amounts)
    by_way = {way: energy_uj for way, energy_uj in zip(WAYS, used.by_way_uj, strict=True) if energy_uj}
    by_way = by_way or ({last.way: 0} if last.way else {})
    shared_by = " + ".join(method for method, ns in zip(METHODS, shares, strict=bool(shares)) if ns)
    gone = f"unknown: {device.uuid} is lost" if last.lost else ""
    no_energy = gone or ("unknown: no counter, power or power limit readable" if last.dark_ns > first.dark_ns or not by_way else "")
    no_busy = gone or ("unknown: utilisation not readable" if last.busy_dark_ns > first.busy_dark_ns else "")
    no_reasons = gone or (
        "unknown: reasons for the clocks not readable" if last.throttled_dark_ns > first.throttled_dark_ns else ""
    )
    no_strangers = gone or ("unknown: utilisation by process not readable" if used.strangers_dark_ns else "")
    memory = None if gone else peak.all if peak.ours is None else peak.ours
    no_memory = gone or ("unknown: memory not readable" if memory is None else "")
    whose = "all processes on it, ours not told apart" if peak.ours is None else "our processes"
    split = f", split by {shared_by}" if shared_by else ""
    figures = DeviceUsage(
        device.uuid,
        device.name,
        used.held_ns / 1e9,
        None if no_energy else sum(used.by_way_uj) / 1e6,
        None if no_busy else used.busy_ns / 1e9,
        None if no_reasons else used.throttled_ns / 1e9,
        memory,
        "unknown" if no_energy else " + ".join(by_way),
        None if no_energy else energy_error(by_way, seconds, short),
        shared_by,
        partial=last.lost,
        overheated_seconds=None if no_reasons else used.overheated_ns / 1e9,
        strangers_seconds=None if no_strangers else used.strangers_ns / 1e9,
    )
    return Part(
        figures,
        {
            "gpu_board_energy_j": no_energy or _energy_text(device, by_way, short, rate) + split,
            "gpu_busy_seconds": no_busy or f"nvml utilisation x time, {rate}{split}",
            "gpu_throttled_seconds": no_reasons or f"nvml clock event reasons x time, {rate}",
            "gpu_overheated_seconds": no_reasons or f"nvml clock event reasons x time, {rate}",
            "gpu_strangers_seconds": no_strangers or f"nvml utilisation by process x time, {rate}",
            "gpu_peak_memory_bytes": no_memory or f"nvml memory of {whose}, {rate}",
        },
    )


def totals(parts: Sequence[Part], absence: str) -> tuple[dict[str, Any], dict[str, str], float | None]:
    """Sums over devices, unknown as soon as one is, their sources, and the relative uncertainty of the joules."""
    if not parts:
        return {}, {"gpu_seconds": absence}, None
    all_of = [part.usage for part in parts]
    figures: dict[str, Any] = {"gpu_seconds": sum(each.seconds for each in all_of)}
    for name, field in _SUMS.items():
        amounts = [getattr(each, field) for each in all_of]
        figures[name] = None if None in amounts else sum(amounts)
    peaks = [each.peak_memory_bytes for each in all_of]
    figures["gpu_peak_memory_bytes"] = None if None in peaks else max(peak for peak in peaks if peak is not None)
    sources = {name: " + ".join(dict.fromkeys(part.sources[name] for part in parts)) for name in parts[0].sources}
    sources["gpu_seconds"] = f"clock x {len(parts)} GPU held"
    error = error_of_sum(*((each.gpu_board_energy_j, each.energy_error) for each in all_of))
    return figures, sources, None if figures["gpu_board_energy_j"] is None else error


def _energy_text(device: Device, ways: dict[str, int], short: bool, rate: str) -> str:
    """How joules were got, in words."""
    if device.is_slice:
        return f"{_SLICE}, {rate}"
    flag = " (window under 5 s, counter steps of 100 ms)" if short else ""
    return " + ".join(_TEXTS[way] + (flag if way == "counter" else f", {rate}") for way in ways)
