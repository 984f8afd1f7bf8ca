"""Which process this is, so that another can tell later whether it still lives; how it was begun; what it may use and do."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What tells this process from every other: `host`, `pid`, and `process_started` in seconds of a clock of that host."""
    return {"host": host(), "pid": os.getpid(), "process_started": _started(os.getpid())}


def lives(record: Mapping[str, Any]) -> bool | None:
    """Whether the process of such a record lives; None when it is on another host, where this one cannot look."""
    if record.get("host") != host():
        return None
    started = _started(int(record["pid"]))
    return started is not None and abs(started - float(record["process_started"])) < 1.0


def command_line() -> str:
    """The command as it was typed, flags included, quoted for a shell."""
    return shlex.join(["workbench", *sys.argv[1:]])


SPIN_COUNT = "1000"
"""How often a thread of OpenMP looks whether it may go on before it sleeps: see `sleep_at_barriers`."""


def sleep_at_barriers() -> None:
    """Have OpenMP's threads sleep where they wait for each other, unless the user has said what they do.

    Otherwise they spin for milliseconds, and on a machine that does something else too a thread spins on the very CPU that the
    one it waits for needs: beside one busy program a step of training then takes many times as long. Measured in
    `tests/benchmarks/contention.py`. Call it before torch is imported: its OpenMP looks at the environment once. Processes that
    are started from here inherit it.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def cpus() -> int:
    """Logical CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def host() -> str:
    """The host since its last start, as far as its processes see each other.

    Process numbers are used again after a restart, and mean something else in another container.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    return "/".join(parts)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Held by one process at a time for a folder; on Windows it holds nobody back. It dies with its process."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)  # a lock on the folder itself leaves no lock file behind
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _started(pid: int) -> float | None:
    """When a process began; None when there is none, or it is dead and its parent has not taken note of it."""
    if sys.platform == "linux":  # since the host's start: the time of day may be put right while the process lives
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return float(process.create_time())
    return None
