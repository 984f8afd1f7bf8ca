"""Which process this is, so that another can tell later whether it still lives; how it was begun; what it may use and do."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import EnvironmentFault


def this_process() -> dict[str, Any]:
    """Return a record that tells this process from every other: `host`, `pid`, and
    `process_started`, in seconds of a host's clock.
    """
    return {"host": host(), "pid": os.getpid(), "process_started": _started(os.getpid())}


def lives(record: Mapping[str, Any]) -> bool | None:
    """Whether the process of a `this_process` record is alive; None for another host, where this
    one cannot look.
    """
    if record.get("host") != host():
        return None
    # A process number is given out again, and then its start differs. The clock ticks at 10 ms, and
    # records may have gone through text: a second covers both.
    started = _started(int(record["pid"]))
    return started is not None and abs(started - float(record["process_started"])) < 1.0


def command_line() -> str:
    """The command as it was typed, flags included, quoted for a shell, without passwords: it is put on record."""
    return shlex.join(["workbench", *map(without_secrets, sys.argv[1:])])


_SECRETS = (
    re.compile(r"(?<=[^/]//)([^/\s:@]*):[^\s]*@"),  # of a user
    re.compile(r"(?i)(?<=[?&])([^=&\s]*(?:password|passwd|secret|token|passfile|key)[^=&\s]*)=[^&\s]*"),
)


def without_secrets(text: str) -> str:
    """A text in which the addresses have no passwords and tokens: `postgresql://me:***@host/name`."""
    text = _SECRETS[0].sub(r"\1:***@", text)
    return _SECRETS[1].sub(r"\1=***", text)


SPIN_COUNT = "3000"
"""How often a thread of OpenMP looks whether it may go on before it sleeps: see `sleep_at_barriers`.

Of 1,000, 3,000 and 10,000 the one that costs next to nothing on a quiet machine (a step of 190 ms takes 190 ms; with 1,000 it takes
250 to 310) and is much better on a busy one (380 ms in the place of 590; with 10,000 it takes 490).
"""


def sleep_at_barriers() -> None:
    """Have OpenMP's threads sleep where they wait for each other, unless the user has said what they do.

    Otherwise they spin for milliseconds, and on a machine that does something else too a thread spins on the very CPU that the
    one it waits for needs: beside one busy program a step of training then takes several times as long. Measured in
    `tests/benchmarks/contention.py`. Call it before torch is imported: its OpenMP looks at the environment once. Processes
    that are started from here inherit it.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104
"""Addresses to listen on that mean all addresses of this machine."""


def reached_at(host: str) -> str:
    """The name under which this machine reaches a server that listens on `host`, as it stands in an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def check_port(host: str, port: int) -> None:
    """Raise EnvironmentFault unless a server can listen on a port: its own complaint would not say what to do."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # Otherwise the port of a server that has just ended counts as taken for another minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EnvironmentFault(f"port {port} on {host} cannot be used ({error.strerror}). Give another one: --port.") from error


@functools.cache
def host() -> str:
    """Return a name of this host that changes with each start and differs between containers.

    Process numbers are given out anew after a restart, and in another container they belong to
    other processes.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    return "/".join(parts)


def is_before_start(recorded: str, at: float) -> bool:
    """Whether a record was written by this host before its last start: then its process is gone.

    Args:
        recorded: The record's `host`.
        at: The moment of the record, in seconds since 1970.

    Returns:
        False as well where the host is another one, or its start is not known.
    """
    then, own = recorded.split("/"), host().split("/")
    if then[0] != own[0] or len(then) < 2 or then[1:2] == own[1:2] or not hasattr(time, "CLOCK_BOOTTIME"):
        return False
    # CLOCK_BOOTTIME goes on while the host is suspended, which CLOCK_MONOTONIC does not.
    return at < time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


LOCK_FILE = ".workbench.lock"
"""In a folder that is held by one process at a time. It stays; the lock on it dies with its process."""


@contextlib.contextmanager
def exclusive(folder: Path, unlockable: Callable[[str], None] = lambda reason: None) -> Iterator[None]:
    """Hold a folder alone among all processes of all machines that share it; on Windows nobody is
    held back.

    Args:
        folder: It must be there.
        unlockable: Is told why the folder cannot be locked, where it cannot: then nobody is held
            back.

    Raises:
        OSError: The folder is not there.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = _lock(folder, unlockable)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path, unlockable: Callable[[str], None]) -> int | None:
    """Wait for the lock and return the descriptor that holds it; None where the folder cannot be
    locked.
    """
    import fcntl

    descriptor = None
    try:
        try:  # on NFS there are locks only on files that are open for writing
            descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            raise
        except OSError:  # a folder that may not be written, or on a full disk: on a local one a lock on itself does as well
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        # A flock belongs to the open file: were it inherited, a child would hold it after our
        # death.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Ctrl-C while waiting for the lock must not leak the descriptor either.
    except BaseException as error:
        if descriptor is not None:
            os.close(descriptor)
        if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
            raise
        unlockable(error.strerror or str(error))
        return None
    return descriptor


_DRAFT_SECONDS = 86400.0
"""A draft that nobody has written to for so long is left over, whoever began it."""


def draft(path: Path) -> Path:
    """The path beside `path` at which this process writes it first. The name tells its owner, for
    `is_left`.
    """
    return path.with_name(f"{path.stem}.{_host_id()}-{os.getpid()}.tmp")


def is_left(draft: Path, now: float) -> bool:
    """Whether a draft is left over: begun by a process of this host that is gone, or a day old, in a folder that hosts may share.

    Args:
        draft: Made by `draft`.
        now: The time by the clock of the file system it is on, which may be another machine's: that of a file just written.
    """
    host_id, _, pid = draft.suffixes[-2].lstrip(".").rpartition("-") if len(draft.suffixes) > 1 else ("", "", "")
    # Of another host or container a process number says nothing here: there only age tells.
    if host_id == _host_id() and pid.isdigit() and _started(int(pid)) is None:
        return True
    try:
        return now - draft.stat().st_mtime > _DRAFT_SECONDS
    except OSError:  # it has become what it was a draft of
        return False


@functools.cache
def _host_id() -> str:
    return hashlib.sha256(host().encode()).hexdigest()[:8]


def _started(pid: int) -> float | None:
    """When a process began, in seconds of a clock of this host; None for no process, and for a
    zombie.
    """
    if sys.platform == "linux":  # since the host's start: the time of day may be put right while the process lives
        try:
            # The second field is the name in brackets and may hold blanks and brackets itself, so
            # fields are counted from the last one: the state first, the start in clock ticks
            # twentieth.
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
