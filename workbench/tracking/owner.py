"""Which process a sweep is, so that a later one can tell whether it still lives."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path


def process() -> dict[str, str]:
    """Tags that tell this process from every other on any machine."""
    import psutil

    started = str(psutil.Process().create_time())
    return {"workbench.host": _host(), "workbench.pid": str(os.getpid()), "workbench.process_started": started}


def lives(tags: Mapping[str, str], running: bool) -> bool:
    """Whether the process of these tags lives. On another host nobody can tell: it is thought to while any run is `running`."""
    import psutil

    if tags.get("workbench.host") != _host():
        return running
    try:
        return abs(psutil.Process(int(tags["workbench.pid"])).create_time() - float(tags["workbench.process_started"])) < 1.0
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False


def user() -> str:
    """Who started it."""
    with contextlib.suppress(Exception):  # a container's user may have no name
        return getpass.getuser()
    return "unknown"


def _host() -> str:
    """The host since its last start: process numbers are used again after one."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()}/{Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii')[:8]}"
    return socket.gethostname()
