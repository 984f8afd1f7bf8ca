"""Processor time and memory of this process and its descendants, and what the host offers them."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workbench import cgroups
from workbench.meter.contention import RunQueue, Waits

if TYPE_CHECKING:
    import psutil

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB on Linux


class TreeReading(NamedTuple):
    """State of the process tree at one moment.

    Attributes:
        cpu_ns: CPU time, user and system, used since the tree was first read, in nanoseconds. Never falls.
        resident_bytes: Resident memory now, the sum over processes; a page shared by two counts twice.
        peak_bytes: Highest known resident memory since the previous reading, >= resident_bytes.
        read_bytes: Bytes had read from storage since the tree was first read; None where the system does not tell.
        write_bytes: Bytes had written to storage, likewise.
        waits: What the threads of its root waited for a CPU since the tree was first read; None where the kernel does not tell.
    """

    cpu_ns: int = 0
    resident_bytes: int = 0
    peak_bytes: int = 0
    read_bytes: int | None = 0
    write_bytes: int | None = 0
    waits: Waits | None = Waits()


class _Counts(NamedTuple):
    """What one process has used since it started: by itself, and by the children it waited for."""

    own_s: float = 0.0
    reaped_s: float = 0.0
    read_bytes: int = 0  # the kernel adds a waited-for child's to its parent's, so these hold both
    write_bytes: int = 0


class ProcessTree:
    """A process, ours by default, and every descendant it was seen to have.

    CPU time of a child that ended moves to the parent that waits for it, so a plain sum over living
    processes would jump. Here each reading adds what living processes grew by, plus the reaped time
    that had not been counted while its owner lived. Time is lost only where no reading and no wait
    ever saw it (a daemon born and dead between two readings). Bytes move from child to parent likewise.

    Args:
        pid: The tree's root; None for this process, whose time is known to the microsecond (others': 10 ms).
    """

    def __init__(self, pid: int | None = None) -> None:
        self._root, self._pid = pid, 0
        self._cpu_s, self._read_bytes, self._write_bytes = 0.0, 0, 0
        self._io_known = _HAS_IO
        self._run_queue = RunQueue(pid)
        self._last: dict[psutil.Process, _Counts] = {}
        self._high_water = 0
        self.read()
        self._cpu_s, self._read_bytes, self._write_bytes = 0.0, 0, 0

    def read(self) -> TreeReading:
        """Read every process of the tree once: about 0.1 ms, and 0.1 ms more for each child."""
        now: dict[psutil.Process, _Counts] = {}
        resident = 0
        for process in self._members():
            counted = self._look(process)
            if counted is not None:
                now[process], resident = counted[0], resident + counted[1]
        peak = resident
        if self._root is None and self._me is not None:
            me, waited = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
            # getrusage counts microseconds, /proc only ticks of 10 ms, too coarse for a short window
            own = now.get(self._me, _Counts())
            now[self._me] = own._replace(own_s=me.ru_utime + me.ru_stime, reaped_s=waited.ru_utime + waited.ru_stime)
            # the high-water mark cannot be reset, but while it rises it is the peak of the interval exactly
            high_water, before = me.ru_maxrss * _MAXRSS_UNIT, self._high_water
            self._high_water = high_water
            peak = max(resident, high_water) if high_water > before else resident
        self._count(now)
        read, written = (self._read_bytes, self._write_bytes) if self._io_known else (None, None)
        return TreeReading(round(self._cpu_s * 1e9), resident, peak, read, written, self._run_queue.read())

    def _look(self, process: psutil.Process) -> tuple[_Counts, int] | None:
        """What a process has used, and its resident bytes; None when it has ended."""
        import psutil

        try:
            with process.oneshot():
                resident, times = process.memory_info().rss, process.cpu_times()
        except psutil.Error:  # it ended under our eyes; whoever waits for it will show its time
            return None
        # The last counts stand in where this process will not tell: a fall of the sum would be read as a new beginning.
        read, written = self._last.get(process, _Counts())[2:]
        try:
            if self._io_known:
                moved = process.io_counters()
                read, written = moved.read_bytes, moved.write_bytes
        except (psutil.NoSuchProcess, psutil.ZombieProcess):  # its counts will be its parent's
            pass
        except (psutil.AccessDenied, OSError):  # another user's child: from here on the sum is not known
            self._io_known = False
        return _Counts(times.user + times.system, times.children_user + times.children_system, read, written), resident

    def _count(self, now: dict[psutil.Process, _Counts]) -> None:
        """Add what was used since the last reading; a fall of any part counts as nothing."""
        last, none = self._last, _Counts()
        # A child that ended is in its parent's reaped time now. What was counted while it lived is taken off again,
        # or its last work would be charged twice.
        ended = [counts for process, counts in last.items() if process not in now]
        pairs = [(counts, last.get(process, none)) for process, counts in now.items()]
        grown = sum(max(0.0, new.own_s - old.own_s) for new, old in pairs)
        reaped = sum(max(0.0, new.reaped_s - old.reaped_s) for new, old in pairs)
        self._cpu_s += grown + max(0.0, reaped - sum(counts.own_s + counts.reaped_s for counts in ended))
        read = sum(max(0, new.read_bytes - old.read_bytes) for new, old in pairs)
        self._read_bytes += max(0, read - sum(counts.read_bytes for counts in ended))
        written = sum(max(0, new.write_bytes - old.write_bytes) for new, old in pairs)
        self._write_bytes += max(0, written - sum(counts.write_bytes for counts in ended))
        self._last = now

    def _members(self) -> Iterator[psutil.Process]:
        """Our process, its descendants, and orphans that were descendants when last seen."""
        import psutil

        root = os.getpid() if self._root is None else self._root
        if root != self._pid:  # the first reading, or a fork: the parent is none of ours
            self._pid, self._me, self._last = root, _process(root), {}
        # Orphans are kept as long as they run: a worker whose parent died goes on computing for us.
        living = {process.pid: process for process in self._last if process.is_running()}
        if self._me is not None and (self._root is None or self._me.is_running()):
            living[self._pid] = self._me
        queue, met = list(living), set(living)
        while queue:
            pid = queue.pop()
            try:
                yield living.get(pid) or psutil.Process(pid)
            except psutil.NoSuchProcess:
                continue
            new = set(_children(pid)) - met
            queue += new
            met |= new

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the tree as last read."""
        return frozenset(process.pid for process in self._last)


def _process(pid: int) -> psutil.Process | None:
    """A process; None when there is none of that id."""
    import psutil

    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _children(pid: int) -> list[int]:
    """Ids of a process's living children; none when it has ended."""
    # psutil scans every process of the host for this: 1.2 ms with 74 of them, against 15 us here
    if not _HAS_CHILDREN_FILE:
        import psutil

        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    pids: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text(encoding="ascii").split())
    except OSError:  # a thread ended while we looked
        pass
    return pids


_HAS_CHILDREN_FILE = Path("/proc/thread-self/children").exists()
_HAS_IO = sys.platform == "win32" or Path("/proc/self/io").exists()  # macOS tells no bytes, nor do some sandboxes


class CpuTime(NamedTuple):
    """CPU seconds of a host since it started.

    Attributes:
        busy_s: Those that its processes have used, all together.
        stolen_s: On a virtual machine those that its host gave to others while processes here were ready to run.
    """

    busy_s: float = 0.0
    stolen_s: float = 0.0


def cpu_time() -> CpuTime:
    """CPU seconds of this host until now, to 10 ms."""
    import psutil

    times = psutil.cpu_times()
    busy = float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))
    return CpuTime(busy, float(getattr(times, "steal", 0.0)))


def cpu_model(root: Path = Path("/")) -> str:
    """Name of the processor as the kernel gives it, e.g. `"Intel(R) Xeon(R) Processor"`."""
    for line in (cgroups.read(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
