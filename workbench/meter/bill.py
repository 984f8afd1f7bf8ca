"""From two readings of the instruments to the `Usage` between them, each number with its source.

Texts of sources are few and fixed for a meter (no measured figure in them), because sums of windows
list every different text once. Parts within a text are joined by " + ".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from workbench.meter import power
from workbench.meter.host import TreeReading
from workbench.meter.nvidia import GpuMemory, GpuTotals
from workbench.usage import Usage

SHORT_S = 5.0
"""Seconds below which a window's GPU energy is flagged: the counter steps at about 100 ms, several percent of such a window."""


class Reading(NamedTuple):
    """All instruments at one moment: running totals, and memory as it stands.

    Attributes:
        at: Clock time in seconds.
        tree: CPU seconds and memory of our processes.
        host_s: CPU seconds of all processes of the host.
        package_j: Joules of all processor packages; None where RAPL cannot be read.
        gpus: Totals of each GPU held.
        memory: Memory in use on each GPU held.
    """

    at: float
    tree: TreeReading = TreeReading(0.0, 0, 0)
    host_s: float = 0.0
    package_j: float | None = None
    gpus: tuple[GpuTotals, ...] = ()
    memory: tuple[GpuMemory, ...] = ()


class Peaks:
    """Highest memory seen while one window was open."""

    def __init__(self, opening: Reading) -> None:
        self.resident_bytes = opening.tree.resident_bytes
        self.gpus = list(opening.memory)

    def note(self, reading: Reading) -> None:
        """Take in one more reading."""
        self.resident_bytes = max(self.resident_bytes, reading.tree.peak_bytes)
        self.gpus = [GpuMemory(*map(_highest, zip(*pair, strict=True))) for pair in zip(self.gpus, reading.memory, strict=True)]


class Facts(NamedTuple):
    """What stays the same over a meter's life and explains its numbers.

    Attributes:
        cpus: Logical CPUs this process may use.
        cpu_model: The processor's name.
        rapl_source: The text for energy from RAPL.
        rate: When samples are taken, e.g. `"sampled at 1 Hz and at the edges"`.
        gpu_uuids: The GPUs held.
        gpu_absence: Why there are none.
    """

    cpus: float
    cpu_model: str
    rapl_source: str
    rate: str
    gpu_uuids: tuple[str, ...]
    gpu_absence: str


def usage(first: Reading, last: Reading, peaks: Peaks, facts: Facts) -> Usage:
    """Consumption between two readings of one meter."""
    seconds, cpu_s = last.at - first.at, last.tree.cpu_s - first.tree.cpu_s
    if first.package_j is not None and last.package_j is not None:
        cpu_j = power.shared_joules(last.package_j - first.package_j, cpu_s, last.host_s - first.host_s)
        cpu_source = facts.rapl_source
    else:
        cpu_j = power.estimated_joules(seconds, cpu_s, facts.cpus)
        cpu_source = power.estimate_source(facts.cpus, facts.cpu_model)
    sources = {
        "cpu_seconds": "getrusage of this process and those it waited for, kernel accounts of its living descendants",
        "cpu_energy_j": cpu_source,
        "peak_memory_bytes": f"resident sets of the process tree, {facts.rate}, and its own high-water mark where that rose",
    }
    if not facts.gpu_uuids:
        sources["gpu_seconds"] = f"no GPU ({facts.gpu_absence})"
        return Usage(seconds, cpu_s, cpu_j, peaks.resident_bytes, sources=sources)
    spans = list(zip(facts.gpu_uuids, first.gpus, last.gpus, strict=True))
    energy_j, sources["gpu_board_energy_j"] = _sum(_energy(*span, short=seconds < SHORT_S, rate=facts.rate) for span in spans)
    busy_s, sources["gpu_busy_seconds"] = _sum(_busy(*span, rate=facts.rate) for span in spans)
    memory, sources["gpu_peak_memory_bytes"] = _memory(spans, peaks, facts.rate)
    sources["gpu_seconds"] = f"clock x {len(spans)} GPU held"
    return Usage(seconds, cpu_s, cpu_j, peaks.resident_bytes, seconds * len(spans), energy_j, busy_s, memory, sources)


def _energy(uuid: str, first: GpuTotals, last: GpuTotals, short: bool, rate: str) -> tuple[float | None, str]:
    """Joules of one GPU's board, and how they were got."""
    if last.lost:
        return None, _gone(uuid)
    if last.dark_s > first.dark_s:
        return None, "unknown: neither energy counter nor power readable"
    counter = "nvml total energy counter" + (" (window under 5 s, counter steps of 100 ms)" if short else "")
    ways = [counter] if last.counted_s > first.counted_s or last.integrated_s == first.integrated_s else []
    ways += [f"nvml power integrated, {rate}"] if last.integrated_s > first.integrated_s else []
    return last.energy_j - first.energy_j, " + ".join(ways)


def _busy(uuid: str, first: GpuTotals, last: GpuTotals, rate: str) -> tuple[float | None, str]:
    """Seconds in which one GPU ran a kernel."""
    if last.lost:
        return None, _gone(uuid)
    if last.busy_dark_s > first.busy_dark_s:
        return None, "unknown: utilisation not readable"
    return last.busy_s - first.busy_s, f"nvml utilisation x time, {rate}"


def _memory(spans: Iterable[tuple[str, GpuTotals, GpuTotals]], peaks: Peaks, rate: str) -> tuple[int | None, str]:
    """Highest memory in use on one GPU: of our processes where known, else of all that use it."""
    highest, ways = 0, set()
    for (uuid, _, last), peak in zip(spans, peaks.gpus, strict=True):
        if last.lost:
            return None, _gone(uuid)
        known = peak.all if peak.ours is None else peak.ours
        if known is None:
            return None, "unknown: memory not readable"
        highest = max(highest, known)
        ways.add("all processes on it, ours not told apart" if peak.ours is None else "our processes")
    return highest, f"nvml memory of {' + '.join(sorted(ways))}, {rate}"


def _sum(parts: Iterable[tuple[float | None, str]]) -> tuple[float | None, str]:
    """Sum over GPUs, unknown as soon as one is, with each way of measuring named once."""
    total: float | None = 0.0
    ways: dict[str, None] = {}
    for value, way in parts:
        total = None if total is None or value is None else total + value
        ways[way] = None
    return total, " + ".join(ways)


def _gone(uuid: str) -> str:
    return f"unknown: {uuid} is lost"


def _highest(pair: tuple[int | None, int | None]) -> int | None:
    """The larger of two figures; an unknown one counts for nothing."""
    known = [value for value in pair if value is not None]
    return max(known, default=None)
