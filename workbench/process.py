"""Which process this is, so that another can tell later whether it still lives."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What tells this process from every other: `host`, `pid`, and `process_started` in seconds since 1970."""
    return {"host": host(), "pid": os.getpid(), "process_started": _started(os.getpid())}


def lives(record: Mapping[str, Any]) -> bool | None:
    """Whether the process of such a record lives; None when it is on another host, where this one cannot look."""
    if record.get("host") != host():
        return None
    started = _started(int(record["pid"]))
    return started is not None and abs(started - float(record["process_started"])) < 1.0


@functools.cache
def host() -> str:
    """This host since its last start: process numbers are used again after one."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()}/{Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii')[:8]}"
    return socket.gethostname()


def _started(pid: int) -> float | None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:  # dead, and only not yet taken note of by its parent
            return float(process.create_time())
    return None
