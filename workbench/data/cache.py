"""The folder where built things are kept, and files that appear in it whole or not at all.

A container's user can have no home (`docker run --user 54321`: no name, no HOME), or one that
cannot be written to (`/`). Libraries that look for a home then fail in the middle of their work, or
make a folder called `~`. `make_home` gives them another.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import EnvironmentFault, UsageError


def folder() -> Path:
    """The cache folder: `$WORKBENCH_CACHE`, else `workbench` under `$XDG_CACHE_HOME` or `~/.cache`.
    It may not exist yet.

    Raises:
        UsageError, EnvironmentFault: As `expanded` and `make_home`.
    """
    if chosen := os.environ.get("WORKBENCH_CACHE"):
        return expanded(chosen)
    make_home()
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "workbench"


def expanded(path: str) -> Path:
    """A path with the home folder for `~`. Raises UsageError where there is none of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path!r}: there is no such home folder on this machine. Write the path in full.") from error


@functools.cache
def make_home() -> str:
    """Give this process, and all that it starts, a home, a user's name and a place for caches,
    where they are missing.

    The stand-in for a home is a folder of this user's alone: `home` in `$WORKBENCH_CACHE`, or else
    a folder for temporary files, named by the user's number. An existing home stays; if it can hold
    no `.cache`, only caches move there, unless `$XDG_CACHE_HOME` says where.

    Returns:
        What was done, in words; empty where nothing had to be.

    Raises:
        EnvironmentFault: There can be no such folder either, or somebody else has made one of that
            name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError before Python 3.13, OSError since
        # torch and MLflow ask for the user's name, and fail without one.
        os.environ["USER"] = f"uid{os.getuid()}"
    try:
        cache = Path.home() / ".cache"
    except RuntimeError:
        folder = _stand_in()
        os.environ["HOME"] = str(folder)
        return f"this user has no home folder: {folder} is used"
    if os.environ.get("XDG_CACHE_HOME") or _writable(cache):
        return ""
    folder = _stand_in()
    os.environ["XDG_CACHE_HOME"] = str(folder / ".cache")
    return f"no cache can be kept in {cache}: {folder} is used"


def _writable(folder: Path) -> bool:
    """Whether a folder can be read or can be made. One that exists and cannot be written to is
    useful all the same.
    """
    if folder.is_dir():
        return os.access(folder, os.R_OK | os.X_OK)
    there = next(each for each in folder.parents if each.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _stand_in() -> Path:
    chosen = os.environ.get("WORKBENCH_CACHE")
    advice = "Set HOME, or WORKBENCH_CACHE, to a folder of your own."
    try:
        if chosen:
            path = expanded(chosen) / "home"
            path.mkdir(parents=True, exist_ok=True)
            return path.absolute()
        path = Path(tempfile.gettempdir()) / f"workbench-{os.getuid()}"
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()  # not stat: a link may lead to another user's folder
    except OSError as error:
        raise EnvironmentFault(f"this user has no home folder, and none can be made: {error}. {advice}") from error
    # Temporary folders are open to all, so another user may have put this name there first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EnvironmentFault(f"this user has no home folder, and {path} is not a folder of this user's alone. {advice}")
    return path


def built(name: str, made_from: Mapping[str, str], code: Iterable[Path], build: Callable[[], Any]) -> Any:
    """What `build` gives, which is plain data, from the cache. It is built anew where its sources,
    its code or the file changed.

    Args:
        name: The file's name without its suffix.
        made_from: Names and versions of what it is built from.
        code: The files of code that build it.
        build: Builds it; may raise anything.

    Raises:
        EnvironmentFault: As `write`.
    """
    key = hashlib.sha256(json.dumps(made_from).encode() + b"".join(file.read_bytes() for file in code)).hexdigest()[:16]
    file = folder() / "data" / f"{name}-{key}.json"
    try:
        checksum, _, content = file.read_bytes().partition(b"\n")
    except OSError:
        checksum, content = b"", b""
    if hashlib.sha256(content).hexdigest().encode() != checksum:  # missing, cut short or touched: build it again
        content = json.dumps(build(), ensure_ascii=False).encode()
        write(file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    return json.loads(content)


def write(file: Path, content: bytes) -> None:
    """Put `content` at `file` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        EnvironmentFault: The folder cannot be written to, or the disk is full.
    """
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, since a rename is atomic only within one file system.
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
