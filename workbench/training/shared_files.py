"""Files that machines share: whole or not at all, known by their hash, bounded; at any address that fsspec can read and write.

No rename is needed, which object stores lack. A file is written under a name that holds its hash, then a small record that
points to it: whoever reads finds the file before or the file after. What a kill left without a record goes when it is a day old.

    ADDRESS/states/RUN.json                     the record: file, hash, bytes, and what the writer adds
    ADDRESS/states/RUN.0f3a….safetensors        the file
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from workbench import process
from workbench.errors import EnvironmentFault, UsageError

MOST_BYTES = 16 << 30
"""The most that a folder of an address keeps; those written longest ago go first."""

ORPHAN_SECONDS = 86400.0
"""A file without a record is left over once it is so old: a younger one may be about to get its record."""

_DIGITS = 16  # of the hash, in a file's name


class SharedFiles:
    """Files below an address.

    Args:
        address: `s3://bucket/folder`, `file:///shared/folder`, or any other that fsspec knows.
        most_bytes: The most that each folder keeps.

    Raises:
        UsageError: It is no such address.
        EnvironmentFault: The package that reads such addresses is not installed.
    """

    def __init__(self, address: str, most_bytes: int = MOST_BYTES) -> None:
        self.shown, self._most = shown(address), most_bytes
        check(address)
        try:
            from fsspec.core import url_to_fs

            self._fs, self._root = url_to_fs(address)
        except ImportError as error:
            raise EnvironmentFault(f"{self.shown} cannot be read here: {error}.") from error
        except ValueError as error:
            raise UsageError(f"{self.shown} is no address of files: {error}.") from error

    def write(self, name: str, file: Path, more: Mapping[str, Any] | None = None) -> None:
        """Put a file under a name such as `states/RUN`, in the place of the one before. Raises OSError.

        Args:
            name: A folder and a name in it.
            file: What is put there; it keeps its suffix.
            more: Is kept in its record, beside `file`, `sha256` and `bytes`.
        """
        digest, size = _hash(file), file.stat().st_size
        stem = PurePosixPath(name)
        content = f"{stem.name}.{digest[:_DIGITS]}{file.suffix}"
        with _mapped():
            folder = self._path(stem.parent)
            self._fs.makedirs(folder, exist_ok=True)
            before = self.record(name)
            self._fs.put_file(str(file), f"{folder}/{content}")
            self._point(f"{folder}/{stem.name}.json", {"file": content, "sha256": digest, "bytes": size, **(more or {})})
            if before is not None and before["file"] != content:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(f"{folder}/{before['file']}")
            self._shrink(folder, keep=stem.name)

    def record(self, name: str) -> dict[str, Any] | None:
        """The record of a file; None where there is none that can be read. Raises OSError."""
        with _mapped():
            try:
                known = json.loads(self._fs.cat_file(f"{self._path(name)}.json"))
            except FileNotFoundError:
                return None
            except ValueError:  # half a record, where writing one is not atomic: its writer is still at it, or dead
                return None
        return known if isinstance(known, dict) and {"file", "sha256", "bytes"} <= known.keys() else None

    def fetch(self, name: str, target: Path) -> bool:
        """Write a file's content to a path of this machine, whole or not at all; whether that could be done.

        Without a record, or where the content is not what its record says, nothing is written. Raises OSError.
        """
        for _ in range(2):  # another machine may put a newer one there between the record and the file
            known = self.record(name)
            if known is None:
                return False
            draft = process.draft(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with _mapped():
                    self._fs.get_file(f"{self._path(PurePosixPath(name).parent)}/{known['file']}", str(draft))
                if _hash(draft) == known["sha256"]:
                    draft.replace(target)
                    return True
            except FileNotFoundError:
                continue
            finally:
                draft.unlink(missing_ok=True)
        return False

    def names(self, folder: str) -> set[str]:
        """Names of the files in a folder, without it and without their suffixes. Raises OSError."""
        return {PurePosixPath(each["name"]).stem for each in self._listed(self._path(folder)) if each["name"].endswith(".json")}

    def drop(self, name: str) -> bool:
        """Delete a file; whether it was there. Raises OSError."""
        known, folder = self.record(name), self._path(PurePosixPath(name).parent)
        if known is None:
            return False
        with _mapped():
            # The record first: what it points to must be there for as long as it is.
            for each in (f"{self._path(name)}.json", f"{folder}/{known['file']}"):
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(each)
        return True

    def _path(self, name: object) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        with _mapped():
            # Listings are kept by some file systems, and another machine's files would be missing in them.
            self._fs.invalidate_cache()
            try:
                return [each for each in self._fs.ls(folder, detail=True) if each["type"] == "file"]
            except FileNotFoundError:
                return []

    def _point(self, path: str, record: Mapping[str, Any]) -> None:
        text = json.dumps(record).encode()
        if "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)):
            draft = process.draft(Path(path))
            draft.write_bytes(text)
            draft.replace(path)  # an object store replaces an object at once; a disk needs the rename for it
        else:
            self._fs.pipe_file(path, text)

    def _shrink(self, folder: str, keep: str) -> None:
        """Drop files written longest ago until the others are within the bound, and what a kill has left."""
        listed = self._listed(folder)
        sizes = {PurePosixPath(each["name"]).name: int(each["size"] or 0) for each in listed}
        records = {name[:-5] for name in sizes if name.endswith(".json")}
        whole = sum(sizes.values())
        if whole > self._most:
            for name in sorted(records - {keep}, key=lambda each: self._fs.modified(f"{folder}/{each}.json")):
                of_it = [each for each in sizes if each.startswith(f"{name}.")]
                self.drop(f"{PurePosixPath(folder).name}/{name}")
                whole -= sum(sizes.pop(each) for each in of_it)
                if whole <= self._most:
                    break
        now = self._fs.modified(f"{folder}/{keep}.json").timestamp()  # by the clock of the store
        for name in sizes:
            owner = name.partition(".")[0]
            if name.endswith(".json") or (owner in records and sum(each.startswith(f"{owner}.") for each in sizes) <= 2):
                continue
            with contextlib.suppress(FileNotFoundError):
                known = self.record(f"{PurePosixPath(folder).name}/{owner}")
                if known is not None and known["file"] == name:
                    continue
                if now - self._fs.modified(f"{folder}/{name}").timestamp() > ORPHAN_SECONDS:
                    self._fs.rm_file(f"{folder}/{name}")


def check(address: str) -> None:
    """Raise UsageError unless an address has a scheme that fsspec knows."""
    from fsspec import available_protocols

    scheme = address.partition("://")[0] if "://" in address else ""
    if scheme not in available_protocols():
        raise UsageError(
            f"{shown(address)!r} is no address of files that machines share. Use for instance s3://bucket/folder, "
            "gs://bucket/folder or file:///shared/folder."
        )


def shown(address: str) -> str:
    """An address without the password that may be in it."""
    parts = urlsplit(address)
    return address.replace(f":{parts.password}@", ":***@") if parts.password else address


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Errors of a store's own library as OSError: callers go on without what they wanted of it."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
