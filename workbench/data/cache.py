"""The folder where built things are kept, and files that appear in it whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from workbench.errors import EnvironmentFault


def folder() -> Path:
    """The cache folder: `$WORKBENCH_CACHE`, else `workbench` under `$XDG_CACHE_HOME` or `~/.cache`. It may not exist yet."""
    if chosen := os.environ.get("WORKBENCH_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "workbench"


def write(file: Path, content: bytes) -> None:
    """Put `content` at `file` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        EnvironmentFault: The folder cannot be written to, or the disk is full.
    """
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).replace(file)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise EnvironmentFault(
            f"cannot write {file}: {error.strerror}. Free some space or set WORKBENCH_CACHE to a folder that can be written to."
        ) from error
