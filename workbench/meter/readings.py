"""Two readings of the instruments become the `Usage` between them, each number with its source.

Texts of sources are few and fixed for a meter (no measured figure in them), because sums of windows
list every different text once. Parts within a text are joined by " + ".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from workbench.meter import cpu_energy, devices
from workbench.meter.contention import ALONE_ERROR
from workbench.meter.gpu_energy import Device, GpuMemory, GpuTotals
from workbench.meter.host import TreeReading
from workbench.meter.processors import AVERAGE, CpuPower
from workbench.meter.tenants import Share
from workbench.usage import Usage

_CONTENTION = "estimated: waits of the busiest thread, and of those it waits for (schedstat), and our part of stolen time"


class Reading(NamedTuple):
    """All instruments at one moment: running totals, and memory as it stands; of the host, or as one tenant sees them.

    Attributes:
        at: Clock time in seconds.
        tree: CPU time, bytes moved and memory of our processes.
        host_s: CPU seconds of all processes of the host.
        stolen_s: CPU seconds that went to other virtual machines while processes of the host were ready to run.
        others_s: CPU seconds of the host's processes that are not of the meter's own tree, and the stolen ones.
        package_j: Joules of all processor packages; None where RAPL cannot be read.
        gpus: Totals of each GPU held.
        memory: Memory in use on each GPU held.
        trees: The process trees of tenants that have one of their own, by root.
        share: What fell on the tenant whose view this is; None in the host's.
    """

    at: float
    tree: TreeReading = TreeReading()
    host_s: float = 0.0
    stolen_s: float = 0.0
    others_s: float = 0.0
    package_j: float | None = None
    gpus: tuple[GpuTotals, ...] = ()
    memory: tuple[GpuMemory, ...] = ()
    trees: Mapping[int, TreeReading] = MappingProxyType({})
    share: Share | None = None

    @property
    def at_ns(self) -> int:
        """Clock time in whole nanoseconds."""
        return round(self.at * 1e9)

    @property
    def held_ns(self) -> int:
        """Time of the host: all of it, or the tenant's share."""
        return self.at_ns if self.share is None else self.share.held_ns

    def seen_by(self, share: Share, memory: Iterable[GpuMemory]) -> Reading:
        """The same moment as a tenant sees it: its share of the totals, and its own memory."""
        own = self.tree._replace(cpu_ns=share.cpu_ns, read_bytes=share.read_bytes, write_bytes=share.write_bytes)
        gpus = tuple(gpu._replace(amounts=part) for gpu, part in zip(self.gpus, share.gpus, strict=False))
        return self._replace(tree=own, gpus=gpus, memory=tuple(memory), share=share)


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
        gpus: The GPUs held.
        gpu_absence: Why there are none.
        watts: What one of the logical CPUs draws.
        memory_bytes: Memory of the host, or as much of it as we may use.
        no_waits: Why it is not known how long our threads waited for others; empty where it is.
    """

    cpus: float
    cpu_model: str
    rapl_source: str
    rate: str
    gpus: tuple[Device, ...]
    gpu_absence: str
    watts: CpuPower = AVERAGE
    memory_bytes: int = 0
    no_waits: str = ""


def usage(first: Reading, last: Reading, peaks: Peaks, facts: Facts) -> Usage:
    """Consumption between two readings of one view of a meter."""
    seconds = last.at - first.at
    read = _moved(first.tree.read_bytes, last.tree.read_bytes)
    written = _moved(first.tree.write_bytes, last.tree.write_bytes)
    cpu_j, cpu_error, cpu_source = _cpu_energy(first, last, facts)
    sources = {
        "cpu_seconds": "getrusage of this process and those it waited for, kernel accounts of its living descendants",
        "cpu_energy_j": cpu_source,
        "peak_memory_bytes": f"resident sets of the process tree, {facts.rate}, and its own high-water mark where that rose",
        "io_read_bytes": _io_source(read),
        "io_write_bytes": _io_source(written),
    }
    others_s = others_seconds(first, last)
    if others_s > 0:
        sources["others_seconds"] = "the host's seconds, equally among the holders of each moment"
        sources["cpu_seconds"] += "; its tree's, among holders in one process by work reported, else equally"
    parts = [
        devices.usage(device, devices.Span(before, after, memory, shares), seconds=seconds, rate=facts.rate)
        for device, before, after, memory, shares in zip(
            facts.gpus, first.gpus, last.gpus, peaks.gpus, _ways(first, last, len(facts.gpus)), strict=True
        )
    ]
    figures, texts, gpu_error = devices.totals(parts, f"no GPU ({facts.gpu_absence})")
    errors = {"cpu_energy_j": cpu_error} | ({} if gpu_error is None else {"gpu_board_energy_j": gpu_error})
    contention, sources["stalled_seconds"] = _contention(first, last, figures, facts)
    if stalled_s := contention.stalled_seconds:
        errors["stalled_seconds"] = min(1.0, ALONE_ERROR * (seconds - stalled_s) / stalled_s)
    return Usage(
        seconds,
        _cpu_seconds(first, last),
        cpu_j,
        peaks.resident_bytes,
        **figures,
        **contention._asdict(),
        sources=sources | texts,
        others_seconds=others_s,
        io_read_bytes=read,
        io_write_bytes=written,
        errors=errors,
        devices=tuple(part.usage for part in parts),
        partial=any(part.usage.partial for part in parts),
    )


def _cpu_seconds(first: Reading, last: Reading) -> float:
    """CPU seconds of our processes between two readings."""
    return (last.tree.cpu_ns - first.tree.cpu_ns) / 1e9


class _Contention(NamedTuple):
    """What others took of a window: fields of `Usage` by their names."""

    waited_seconds: float | None
    stalled_seconds: float | None
    stalled_energy_j: float | None
    others_cpu_seconds: float


def _contention(first: Reading, last: Reading, gpus: Mapping[str, Any], facts: Facts) -> tuple[_Contention, str]:
    """How long we waited for others, by how much they made the window longer, and how that is known.

    What waits cost is bounded by the CPU time that others used: what our own threads wait for each other is no disturbance.
    On a GPU a wait for a CPU holds up only what the GPU was idle for.
    """
    seconds, others_s = last.at - first.at, max(0.0, last.others_s - first.others_s)
    waits, before = last.tree.waits, first.tree.waits
    if facts.no_waits or waits is None or before is None:
        why = facts.no_waits or "unknown: the kernel does not tell how long threads wait"
        return _Contention(None, None, None, others_s), why
    waited_s = (waits.waited_ns - before.waited_ns) / 1e9
    # Our own threads wait for each other at barriers, too: only what others used can have held us up.
    held_up = min(others_s, (waits.stalled_ns - before.stalled_ns) / 1e9 + _stolen_from_us(first, last))
    idle_s, strangers_s = _gpu_waits(gpus)
    if strangers_s is None:
        return _Contention(waited_s, None, None, others_s), "unknown: GPU kernels of others cannot be told from ours"
    # Not even on all CPUs at once would our work have taken less.
    most = max(0.0, seconds - _cpu_seconds(first, last) / facts.cpus)
    stalled_s = min(most, held_up if idle_s is None else min(held_up, idle_s) + strangers_s)
    by_cpu_time = last.package_j is not None  # RAPL's joules: whoever else computed meanwhile has paid for it
    joules = 0.0 if by_cpu_time else cpu_energy.estimated_joules(stalled_s, 0.0, facts.cpus, facts.watts)
    return _Contention(waited_s, stalled_s, joules, others_s), _CONTENTION


def _stolen_from_us(first: Reading, last: Reading) -> float:
    """Seconds by which the hypervisor's stealing made a window longer.

    It is our part of the stolen time, by CPU time, on all CPUs that we used at once.
    """
    seconds, cpu_s, host_s = last.at - first.at, _cpu_seconds(first, last), last.host_s - first.host_s
    if seconds <= 0 or host_s <= 0:
        return 0.0
    return (last.stolen_s - first.stolen_s) * min(1.0, cpu_s / host_s) / max(1.0, cpu_s / seconds)


def _gpu_waits(gpus: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Seconds in which the GPUs were idle, None without one or where unknown; and those by which strangers held us up.

    While we have a kernel to run, strangers take their share of the time: ours would have been busy for
    `ours / (1 - theirs)` of it alone.
    """
    held, busy, strangers = (gpus.get(f"gpu_{name}seconds") for name in ("", "busy_", "strangers_"))
    if not held:
        return None, 0.0
    if strangers is None:
        return None, None
    if busy is None:
        return None, 0.0 if not strangers else None
    wanted = min(1.0, busy / (held - strangers)) if held > strangers else 1.0
    return max(0.0, held - busy - strangers), strangers * wanted


def _cpu_energy(first: Reading, last: Reading, facts: Facts) -> tuple[float, float, str]:
    """Joules of the processors, their relative uncertainty, and how they were got."""
    cpu_s, held_s = _cpu_seconds(first, last), (last.held_ns - first.held_ns) / 1e9
    if first.package_j is not None and last.package_j is not None:
        whole_s = last.at - first.at
        held = held_s / whole_s if whole_s > 0 else 1.0
        joules = cpu_energy.shared_joules(last.package_j - first.package_j, cpu_s, last.host_s - first.host_s, held)
        return joules, cpu_energy.RAPL_ERROR, facts.rapl_source
    joules = cpu_energy.estimated_joules(held_s, cpu_s, facts.cpus, facts.watts)
    return joules, facts.watts.error, cpu_energy.estimate_source(facts.cpus, facts.cpu_model, facts.watts)


def others_seconds(first: Reading, last: Reading) -> float:
    """The part of the window's seconds that fell on our other tenants."""
    return 0.0 if last.share is None else (last.at_ns - first.at_ns - (last.held_ns - first.held_ns)) / 1e9


def _ways(first: Reading, last: Reading, gpus: int) -> list[tuple[int, ...]]:
    """How long each GPU was split in each way."""
    if first.share is None or last.share is None:
        return [()] * gpus
    spans = zip(first.share.ways_ns, last.share.ways_ns, strict=True)
    return [tuple(b - a for a, b in zip(*span, strict=True)) for span in spans]


def _moved(first: int | None, last: int | None) -> int | None:
    """Bytes moved between two counts."""
    return None if first is None or last is None else last - first


def _io_source(moved: int | None) -> str:
    return "unknown: no kernel accounts of bytes moved" if moved is None else "kernel accounts of the process tree"


def _highest(pair: tuple[int | None, int | None]) -> int | None:
    """The larger of two figures; an unknown one counts for nothing."""
    figures = [value for value in pair if value is not None]
    return max(figures, default=None)
