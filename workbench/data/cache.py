"""The folder where built things are kept, and files that appear in it whole or not at all.

A container's user can have no home (`docker run --user 54321`: no name, no HOME), or one that cannot be written to (`/`). Libraries
that look for one then fail in the middle of their work, or make a folder called `~`: `make_home` puts another in its place.
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
    """The cache folder: `$WORKBENCH_CACHE`, else `workbench` under `$XDG_CACHE_HOME` or `~/.cache`. It may not exist yet.

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
    """Give this process, and all that it starts, a home and a user's name where it has none, and a place for caches.

    In the place of a home is a folder of this user's alone: `home` in `$WORKBENCH_CACHE`, else one for temporary files, named by
    the user's number. A home that is there stays; where no `.cache` can be in it caches alone go there, unless `$XDG_CACHE_HOME`
    says where.

    Returns:
        What was done, in words; empty where home is as it must be.

    Raises:
        EnvironmentFault: There is no such folder either, or somebody else has made one of that name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # before Python 3.13, and since
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
    """Whether a folder is there to be read, or can be made. What is in one that is there is of use even where it is sealed."""
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
        found = path.lstat()  # a link may lead into what is another's
    except OSError as error:
        raise EnvironmentFault(f"this user has no home folder, and none can be made: {error}. {advice}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EnvironmentFault(f"this user has no home folder, and {path} is not a folder of this user's alone. {advice}")
    return path


def built(name: str, made_from: Mapping[str, str], code: Iterable[Path], build: Callable[[], Any]) -> Any:
    """What `build` gives, plain data, from the cache; built anew where what it is made from or by has changed, or the file has.

    Args:
        name: What the file is called, without its end.
        made_from: Names and versions of what it is built from.
        code: The files that build it.
        build: Builds it; raises what it will.

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
