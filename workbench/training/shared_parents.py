"""Models that recipes start from, among the machines of a sweep: what one has made the others fetch, and it is paid for once.

A model is one file at the address that machines share (`SharedFiles`): an archive of its folder in the cache, whose record says
what was consumed on which machine. Two machines that begin with the same model at the same time both make it.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import process
from workbench.result import UsagePart, usage_parts
from workbench.study import Recipe
from workbench.study.record import digest
from workbench.training import parent_store
from workbench.training.parent_store import ParentRecord
from workbench.training.shared_files import SharedFiles

FOLDER = "parents"
"""Where they are below the address."""

_SAFELY: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from Python 3.11.4 on

LOOK_SECONDS = 10.0
"""How often it is looked which there are, for forecasts."""


@dataclass
class _Shared:
    files: SharedFiles
    machine: UsagePart | None
    note: Callable[[str], None]
    names: set[str] = field(default_factory=set)  # those that are known to be there
    looked: float = -LOOK_SECONDS


_shared: ContextVar[_Shared | None] = ContextVar("workbench_shared_parents", default=None)


@contextlib.contextmanager
def sharing(files: SharedFiles | None, machine: UsagePart | None, note: Callable[[str], None]) -> Iterator[None]:
    """Share what this machine makes, and use what others have made, within the block.

    Args:
        files: Where; None: nowhere.
        machine: This machine's offer and device, at which it pays; None: nothing is made here, and what others made is fetched.
        note: Is told what could not be read or written: then each machine makes its own.
    """
    token = _shared.set(None if files is None else _Shared(files, machine, note))
    try:
        yield
    finally:
        _shared.reset(token)


def elsewhere(record: ParentRecord) -> list[UsagePart]:
    """What of a parent's usage was consumed on other machines than this one."""
    shared = _shared.get()
    return usage_parts.elsewhere(record.parts, None if shared is None else shared.machine)


def is_within_reach(parent: Recipe) -> bool:
    """Whether a parent's model is kept here, or another machine has made it."""
    if parent_store.is_at_hand(parent):
        return True
    shared = _shared.get()
    if shared is None:
        return False
    if time.monotonic() - shared.looked >= LOOK_SECONDS:
        shared.looked = time.monotonic()
        with _told(shared):
            shared.names |= shared.files.names(FOLDER)
    return _name(parent) in shared.names


def fetched(parent: Recipe) -> ParentRecord | None:
    """Have a parent's model at hand that another machine has made, and what is known of it; None where none has."""
    shared = _shared.get()
    if shared is None:
        return None
    made = parent_store.folder_of(parent)
    draft = process.draft(made)
    try:
        with _told(shared):
            draft.mkdir(parents=True, exist_ok=True)
            archive = draft / "model.tar"
            if not shared.files.fetch(f"{FOLDER}/{_name(parent)}", archive):
                shared.files.drop(f"{FOLDER}/{_name(parent)}")  # where there is one it is not what its record says
                return None
            with tarfile.open(archive) as opened:
                opened.extractall(draft, **_SAFELY)  # noqa: S202  by a machine of the same sweep, and known by its hash
            archive.unlink()
            shutil.rmtree(made, ignore_errors=True)  # one without a record that can be read
            draft.replace(made)
            shared.names.add(_name(parent))
            parent_store.make_room(keep=made)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return parent_store.find(parent)


def share(parent: Recipe) -> None:
    """Have the other machines find the model of a parent that is kept here, once."""
    shared = _shared.get()
    if shared is None or shared.machine is None or _name(parent) in shared.names:
        return
    made, name = parent_store.folder_of(parent), f"{FOLDER}/{_name(parent)}"
    draft = process.draft(made)
    with _told(shared):
        try:
            if shared.files.record(name) is None:
                draft.mkdir(parents=True, exist_ok=True)
                archive = draft / "model.tar"
                _pack(made, shared.machine, archive)
                shared.files.write(name, archive, {"recipe": parent.to_json()})
            shared.names.add(_name(parent))
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def kept(files: SharedFiles, parents: Iterable[Recipe]) -> list[str]:
    """The names among shared files of what is kept of these parents' models, whatever their data were then. Raises OSError."""
    wanted = [json.loads(json.dumps(parent.to_json())) for parent in parents]
    names = [f"{FOLDER}/{name}" for name in sorted(files.names(FOLDER))] if wanted else []
    return [name for name in names if (files.record(name) or {}).get("recipe") in wanted]


def _name(parent: Recipe) -> str:
    return digest({"parent": parent.id})


def _pack(made: Path, machine: UsagePart, archive: Path) -> None:
    """Write the folder of a model as an archive whose record says which part this machine has consumed."""
    record = json.loads((made / parent_store.RECORD).read_bytes())
    known = ParentRecord.from_json(record)
    parts = usage_parts.whole({"pretrain": known.usage}, usage_parts.elsewhere(known.parts, machine), machine)
    text = json.dumps({**record, "parts": [part.to_json() for part in parts]}).encode()
    with tarfile.open(archive, "w") as opened:
        for path in sorted(made.iterdir()):
            if path.name not in (parent_store.RECORD, parent_store.KEPT):
                opened.add(path, path.name)
        about = tarfile.TarInfo(parent_store.RECORD)
        about.size = len(text)
        opened.addfile(about, io.BytesIO(text))


@contextlib.contextmanager
def _told(shared: _Shared) -> Iterator[None]:
    """Go on with what is on this machine where the shared files cannot be read or written."""
    try:
        yield
    except (OSError, ImportError, tarfile.TarError) as error:
        shared.note(f"Models to start from cannot be shared at {shared.files.shown}: {error}.")
