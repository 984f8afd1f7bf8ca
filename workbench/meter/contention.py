"""How long the threads of a process were ready to run and did not, because somebody else had the CPUs; and what that cost.

The kernel tells of each thread how long it ran and how long it was ready and waited (`/proc/<pid>/task/<thread>/schedstat`, the
first and second field, nanoseconds); the rest it slept. A program whose threads meet at barriers, as training does, is as long as
its busiest thread: that one's wait makes it longer, and so does its sleep where that only waits for another thread which waits.
Measured on two CPUs (`tests/benchmarks/contention.py`): the busiest thread sleeps for about a tenth of what it runs when nobody
disturbs it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import NamedTuple

ALONE_ERROR = 0.25
"""Relative uncertainty of what remains of a window without what others caused: nine in ten of what
`tests/benchmarks/contention.py` measured lie within."""

BARRIER_SHARE = 0.1
"""How long the busiest thread of an undisturbed training sleeps at barriers, by how long it runs."""

STEADY_NS = 1_000_000_000
"""The kernel brings a running thread's time up to date at its ticks, every few milliseconds: over a second that is nothing."""


class Waits(NamedTuple):
    """Running totals of one process since it was first read, in nanoseconds.

    Attributes:
        waited_ns: Waiting for a CPU, the sum over threads.
        stalled_ns: Time by which the waits made the time since then longer.
    """

    waited_ns: int = 0
    stalled_ns: int = 0


class Thread(NamedTuple):
    """Nanoseconds that a thread ran, and was ready and waited, since it began or in some interval."""

    ran_ns: int = 0
    waited_ns: int = 0


class RunQueue:
    """The waits of one process. What a thread waited after the last reading before it ended is not seen.

    Args:
        pid: The process; None for this one.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid, self._read_pid, self._at_ns = pid, 0, 0
        self._last: dict[str, Thread] = {}
        self._settled = Waits()

    def read(self) -> Waits | None:
        """Totals until now; None where the kernel does not tell. About 10 us a thread."""
        pid = os.getpid() if self._pid is None else self._pid
        at_ns, now = time.perf_counter_ns(), threads(pid)
        if now is None:
            return None
        total = self._settled
        if pid == self._read_pid:  # else the first reading, or a fork: what its threads waited before is nobody's
            none = Thread()
            pairs = [(thread, self._last.get(name, none)) for name, thread in now.items()]
            grown = [Thread(max(0, new.ran_ns - old.ran_ns), max(0, new.waited_ns - old.waited_ns)) for new, old in pairs]
            waited_ns = sum(thread.waited_ns for thread in grown)
            total = Waits(total.waited_ns + waited_ns, total.stalled_ns + stalled(at_ns - self._at_ns, grown))
            # A shorter interval is told, and read again with the next one: its ticks would round the waits to nothing.
            if at_ns - self._at_ns < STEADY_NS:
                return total
        self._settled, self._last, self._read_pid, self._at_ns = total, now, pid, at_ns
        return total


class OwnTime:
    """A clock of this process alone: seconds that only rise, without those by which others that had the CPUs made it longer. Where
    the kernel does not tell, it is the clock on the wall.
    """

    def __init__(self) -> None:
        self._waits, self._now = RunQueue(), 0.0

    def __call__(self) -> float:
        """Seconds since some moment. A reading takes about 10 us a thread."""
        known = self._waits.read() or Waits()
        # The waits of an interval are estimates, which may come out lower once more of it has been seen.
        self._now = max(self._now, time.perf_counter() - known.stalled_ns / 1e9)
        return self._now


def stalled(interval_ns: int, grown: Collection[Thread]) -> int:
    """Nanoseconds by which the waits of threads made an interval longer, at most all of it.

    That is the wait of the busiest thread, and as much of its sleep as the others waited, but for what it would sleep anyway.
    """
    if not grown:
        return 0
    busiest = max(grown)
    slept_ns = max(0, interval_ns - busiest.ran_ns - busiest.waited_ns)
    others_ns = sum(thread.waited_ns for thread in grown) - busiest.waited_ns
    anyway_ns = max(slept_ns - others_ns, min(slept_ns, round(BARRIER_SHARE * busiest.ran_ns)))
    return min(interval_ns, busiest.waited_ns + slept_ns - anyway_ns)


def threads(pid: int) -> dict[str, Thread] | None:
    """What each living thread of a process has done since it began, by its number; None where the kernel does not tell."""
    folder = f"/proc/{pid}/task"
    try:
        names = os.listdir(folder)  # noqa: PTH208  five times as fast as Path.iterdir, several times a second
    except OSError:
        return None
    by_name: dict[str, Thread] = {}
    for name in names:
        try:
            descriptor = os.open(f"{folder}/{name}/schedstat", os.O_RDONLY)
        except OSError:  # it ended while we looked, or the kernel has no such counts: then there are none of any thread
            continue
        try:
            ran, waited = os.read(descriptor, 100).split()[:2]
            by_name[name] = Thread(int(ran), int(waited))
        except (OSError, ValueError):  # it ended
            continue
        finally:
            os.close(descriptor)
    return by_name or None
