"""Which process a sweep is, as tags of its parent run, so that a later sweep can tell whether it still lives."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Mapping

from workbench.process import lives as process_lives
from workbench.process import this_process

_PREFIX = "workbench."


def process() -> dict[str, str]:
    """Tags that tell this process from every other on any machine."""
    return {_PREFIX + name: str(value) for name, value in this_process().items()}


def lives(tags: Mapping[str, str], running: bool) -> bool:
    """Whether the process of these tags lives. On another host nobody can tell: it is thought to while any run is `running`."""
    try:
        alive = process_lives({name.removeprefix(_PREFIX): value for name, value in tags.items() if name.startswith(_PREFIX)})
    except (KeyError, ValueError):  # not a sweep's tags
        return False
    return running if alive is None else alive


def user() -> str:
    """Who started it."""
    with contextlib.suppress(Exception):  # a container's user may have no name
        return getpass.getuser()
    return "unknown"
