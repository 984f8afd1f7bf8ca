"""Fingerprints of data sets and models by their content, remembered so that unchanged files are not
read again.

A fingerprint stays fixed while a study is loaded (until `look_again`), because data are read once:
editing a file during a sweep changes none of its Results.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from workbench.data import adapters, cache, counts, drawn, hub, poolings, readers, scratch, sources
from workbench.data.builtin import MODELS, BuiltIn, Drawn, is_gguf
from workbench.data.forms import Form
from workbench.errors import DataError, EnvironmentFault, WorkbenchError

Signature = list[list[str | int]]
"""For each file its path, size, times of modification and of change in nanoseconds, and inode. A
file with the same signature is the same.
"""

GGUF_READING = 1
"""The revision of reading GGUF files: it rises when the same file comes to give another model."""

NO_PART = (
    ".*", "README*", "LICENSE*", "NOTICE*", "*.md", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "trainer_state.json",
    "training_args.*", "*_results.json", "events.out.*",
)  # fmt: skip
"""Files of a model's folder that nobody loads: descriptions, and what a trainer keeps in order to
continue.
"""

_SETTLING_SECONDS = 2.0
"""A file that changed within this time may change again without a new time: some file systems count
in steps of two seconds.
"""

_MANY = 10_000
"""A data set's folder with more files than this is read anew each time."""

_fixed: dict[tuple[str, str], str] = {}


def look_again() -> None:
    """Forget the fixed fingerprints: from now on they are those of the files as they are."""
    _fixed.clear()


def data(name: str, form: Form = readers.QUESTIONS) -> str:
    """The digest of a data set, read anew only where its files have changed since the last reading.

    Args:
        name: As in `readers.load`.
        form: As in `readers.load`.

    Raises:
        DataError: The files are not what they must be.
        UsageError: As `readers.load`.
        EnvironmentFault: As `readers.load`.
    """
    of_form = "" if form == readers.QUESTIONS else f" {form}"
    key = ("data", name + of_form)
    if key not in _fixed:
        before = _data_signature(name, form)
        place = f"data {Path(name).expanduser().absolute()} {_readers()}{of_form}"
        digest = None if before is None else _recall(place, before)
        if digest is None:
            if name not in form.built_in:
                readers.load.cache_clear()
            digest = _load(name, form).digest
            # Signed again after reading, in case a file changed meanwhile.
            if before is not None and before == _data_signature(name, form):
                _remember(place, before, digest)
        _fixed[key] = digest
    return _fixed[key]


def _load(name: str, form: Form) -> readers.Dataset:
    return readers.load(name) if form == readers.QUESTIONS else readers.load(name, form)


def dataset(name: str, form: Form = readers.QUESTIONS) -> readers.Dataset:
    """The data set whose digest `data` gives.

    Raises:
        DataError: Its files have changed since; and as `data`.
    """
    digest = data(name, form)
    found = _load(name, form)
    if found.digest != digest:  # kept in memory from before a change
        readers.load.cache_clear()
        found = _load(name, form)
    if found.digest != digest:
        raise DataError(
            f"the data {name!r} were changed while this command was at work. Run it again: it goes on with them as they are."
        )
    return found


def model(name: str) -> str:
    """A fingerprint of a model's files.

    Returns:
        For a folder a hash of the files that are loaded from it, for an adapter's folder together
        with its model's; for a GGUF file as `gguf`; on the hub the commit that the revision stands
        for now; for a built-in model its package's version. Empty where the name alone says which
        files they are, where there is no such model, or where the version is the one that was used
        before there were fingerprints.
    """
    if ("model", name) not in _fixed:
        _fixed["model", name] = _model(name)
    return _fixed["model", name]


def model_now(name: str) -> str:
    """As `model`, but for a folder or file as it is now, whatever was fixed before."""
    return model(name) if _place(name) is None else _model(name)


def content(name: str) -> str:
    """A hash of a model's files as they are now, also of a built-in model, whose `model` is its package's
    version; on the hub the commit.
    """
    if name not in MODELS:
        return model_now(name)
    place = MODELS[name].place
    files = [place] if place.is_file() else list(_parts(place))
    return _hash(json.dumps({each.name: _content(each) for each in files}, sort_keys=True).encode())


def is_built_in(name: str) -> bool:
    """Whether a model comes in a Python package."""
    return name in MODELS


def check_model(name: str) -> None:
    """Raise EnvironmentFault where a model's folder or file has changed since `model` gave its
    fingerprint.
    """
    known, place = model(name), _place(name)
    if place is not None and _model(name) != known:
        what = "folder" if place.is_dir() else "file"
        raise EnvironmentFault(
            f"the model {what} {name!r} changed while this command was at work. Run it again: it goes on with the model as it is."
        )


def gguf(file: Path) -> str:
    """A fingerprint of a GGUF file and of the way it is read.

    Raises:
        EnvironmentFault: The file cannot be read.
    """
    return _hash(f"{_content(file)} {GGUF_READING}".encode())


def _model(name: str) -> str:
    if (origin := scratch.origin(name)) != name:
        return f"drawn {scratch.REVISION} {_model(origin)}"
    if name == counts.NAME:  # there are no files
        return ""
    if name in MODELS:
        return _package(MODELS[name])
    place = _place(name)
    if place is not None and place.is_file():
        return gguf(place)
    if place is not None:
        files = {each.name: _content(each) for each in _parts(place)}
        pooling = place / poolings.FILES[1]
        # A folder without this file pools by the mean as well.
        if pooling.is_file() and not poolings.is_mean(pooling):
            files[poolings.FILES[1]] = _content(pooling)
        if (base := adapters.base(name)) is not None:
            files["base model"] = _model(base)
        return _hash(json.dumps(files, sort_keys=True).encode())
    if name.startswith((".", "/", "~")):
        return ""
    # A full commit already names the files.
    where, _, revision = name.partition("@")
    return "" if re.fullmatch(r"[0-9a-f]{40}", revision) else hub.commit(where, revision or None)


def _package(of: BuiltIn) -> str:
    """Version of a built-in model's package and the way it is read; empty where older recipes
    stated neither.
    """
    if isinstance(of, Drawn):
        return f"drawn {drawn.REVISION} by {', '.join(map(' '.join, drawn.versions().items()))}"
    try:
        version = metadata.version(of.distribution)
    except metadata.PackageNotFoundError:
        return ""
    if version == of.without_fingerprint:
        return ""
    return f"package {version}" + (f", read {GGUF_READING}" if of.is_gguf else "")


def _place(name: str) -> Path | None:
    """The folder or GGUF file on this machine that a model's name stands for; None for built-in
    models and those on the hub.
    """
    path = Path(name).expanduser()
    return path if name not in (*MODELS, counts.NAME) and (path.is_dir() or is_gguf(path)) else None


def _parts(folder: Path) -> Iterator[Path]:
    """The files of a model's folder except `NO_PART`. Folders inside it are left out."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not any(fnmatch.fnmatch(path.name, pattern) for pattern in NO_PART):
            yield path


def _content(file: Path) -> str:
    """The hash of a file's bytes, remembered while its signature stays the same."""
    try:
        before, place = _signature([file]), f"file {file.absolute()}"
        digest = _recall(place, before)
        if digest is None:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if before == _signature([file]):
                _remember(place, before, digest)
    except OSError as error:
        raise EnvironmentFault(f"cannot read {file}: {error.strerror}. Check its permissions.") from error
    return digest


def _data_signature(name: str, form: Form) -> Signature | None:
    """Signature of the files that a data set is read from; None where only reading would show which
    those are.
    """
    if name in form.built_in:
        # The code that builds it is part of `_readers`.
        return [[f"{module} {version}" for module, version in form.built_in[name].versions().items()]]
    path = Path(name).expanduser()
    try:
        beside = [file] if form.answerable and path.name and (file := sources.answers_of(path)).is_file() else []
        if path.is_file():
            # Rows that name other files: these may change while the table stays as it is.
            return None if form.refers else _signature([path, *beside])
        if not path.is_dir():
            return None
        files: list[Path] = []
        for folder, _, names in os.walk(path):
            files += [Path(folder, each) for each in names]
            if len(files) > _MANY:
                return None
        return _signature([*sorted(files), *beside])
    except OSError:
        return None


def _signature(files: list[Path]) -> Signature:
    known = [(str(file.absolute()), file.stat()) for file in files]
    return [[path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for path, s in known]


@functools.cache
def _readers() -> str:
    """A hash of the code that reads data: a digest is remembered only for the code that made it."""
    return _hash(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


def _memory(place: str) -> Path:
    return cache.folder() / "fingerprints" / f"{_hash(place.encode())}.json"


def _recall(place: str, signature: Signature) -> str | None:
    """The digest that was remembered for a place with this signature; None where there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, WorkbenchError):
        record = json.loads(_memory(place).read_bytes())
        # The file's name is only a hash of the place.
        if record["place"] == place and record["signature"] == signature:
            return str(record["digest"])
    return None


def _remember(place: str, signature: Signature, digest: str) -> None:
    """Keep a fingerprint for later processes, unless files changed so lately that another change
    could go unnoticed.
    """
    newest = max((time_ns for _, *rest in signature for time_ns in rest[1:3] if isinstance(time_ns, int)), default=0)
    if newest / 1e9 < time.time() - _SETTLING_SECONDS:
        with contextlib.suppress(OSError, WorkbenchError):
            record = {"place": place, "signature": signature, "digest": digest}
            cache.write(_memory(place), json.dumps(record).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
