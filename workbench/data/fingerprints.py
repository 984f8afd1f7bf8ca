"""Fingerprints of data sets and models by their content, and a memory of them: what did not change is not read again.

A fingerprint is fixed for as long as a study stays loaded (`look_again` forgets them), because data are read once: a file that is
edited while a sweep works changes no Result of it.
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

from workbench.data import adapters, cache, hub, poolings, readers
from workbench.data.builtin import MODELS, BuiltIn, is_gguf
from workbench.data.forms import Form
from workbench.errors import DataError, EnvironmentFault, WorkbenchError

Signature = list[list[str | int]]
"""Of each file its path, size, times of modification and of change in nanoseconds, and inode: a file with the same is the same."""

GGUF_READING = 1
"""Which way of reading GGUF files a model is of: it rises when another model comes of the same file."""

NO_PART = (
    ".*", "README*", "LICENSE*", "NOTICE*", "*.md", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "trainer_state.json",
    "training_args.*", "*_results.json", "events.out.*",
)  # fmt: skip
"""Files of a model's folder that nobody loads: descriptions, and what a trainer keeps to go on from."""

_SETTLING_SECONDS = 2.0
"""A file that changed so lately may change again without a new time: some file systems count by two seconds."""

_MANY = 10_000
"""A data set's folder with more files than this is read anew each time."""

_fixed: dict[tuple[str, str], str] = {}


def look_again() -> None:
    """Forget what was fixed: from here on a fingerprint is that of the files as they are now."""
    _fixed.clear()


def data(name: str, form: Form = readers.QUESTIONS) -> str:
    """The digest of a data set (`readers.load`), without reading it where its files are as they were at the last reading.

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
                readers.load.cache_clear()  # it may have been read before it was changed
            digest = _load(name, form).digest
            if before is not None and before == _data_signature(name, form):
                _remember(place, before, digest)
        _fixed[key] = digest
    return _fixed[key]


def _load(name: str, form: Form) -> readers.Dataset:
    return readers.load(name) if form == readers.QUESTIONS else readers.load(name, form)


def dataset(name: str, form: Form = readers.QUESTIONS) -> readers.Dataset:
    """The data set of which `data` tells the digest.

    Raises:
        DataError: Its files were changed since; and as `data`.
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
    """A fingerprint of a model's files; empty where the name alone says which they are, or where there is no such model.

    Of a folder a hash of what is loaded from it, of an adapter's together with its model's; of a GGUF file `gguf`; on the hub the
    commit that its revision stands for now; of a built-in one the version of its package, or nothing where that is the one before
    there were fingerprints.
    """
    if ("model", name) not in _fixed:
        _fixed["model", name] = _model(name)
    return _fixed["model", name]


def model_now(name: str) -> str:
    """As `model`, of a folder or file as it is now, whatever was fixed before."""
    return model(name) if _place(name) is None else _model(name)


def check_model(name: str) -> None:
    """Raise EnvironmentFault when a model's folder or file is no longer what `model` has told of."""
    known, place = model(name), _place(name)
    if place is not None and _model(name) != known:
        what = "folder" if place.is_dir() else "file"
        raise EnvironmentFault(
            f"the model {what} {name!r} changed while this command was at work. Run it again: it goes on with the model as it is."
        )


def gguf(file: Path) -> str:
    """A fingerprint of a GGUF file and of how it is read. Raises EnvironmentFault where it cannot be read."""
    return _hash(f"{_content(file)} {GGUF_READING}".encode())


def _model(name: str) -> str:
    if name in MODELS:
        return _package(MODELS[name])
    place = _place(name)
    if place is not None and place.is_file():
        return gguf(place)
    if place is not None:
        files = {each.name: _content(each) for each in _parts(place)}
        pooling = place / poolings.FILES[1]
        if pooling.is_file() and not poolings.is_mean(pooling):  # the mean is what there is without a word
            files[poolings.FILES[1]] = _content(pooling)
        if (base := adapters.base(name)) is not None:
            files["base model"] = _model(base)
        return _hash(json.dumps(files, sort_keys=True).encode())
    if name.startswith((".", "/", "~")):
        return ""
    where, _, revision = name.partition("@")
    return "" if re.fullmatch(r"[0-9a-f]{40}", revision) else hub.commit(where, revision or None)


def _package(of: BuiltIn) -> str:
    """The version of a built-in model's package, and how the model is read from it; empty where recipes had none of it."""
    try:
        version = metadata.version(of.distribution)
    except metadata.PackageNotFoundError:
        return ""
    if version == of.without_fingerprint:
        return ""
    return f"package {version}" + (f", read {GGUF_READING}" if of.is_gguf else "")


def _place(name: str) -> Path | None:
    """The folder or GGUF file on this machine that a model's name stands for; None of a built-in or one on the hub."""
    path = Path(name).expanduser()
    return path if name not in MODELS and (path.is_dir() or is_gguf(path)) else None


def _parts(folder: Path) -> Iterator[Path]:
    """The files of a model: those of its folder, none of folders in it, but for `NO_PART`."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not any(fnmatch.fnmatch(path.name, pattern) for pattern in NO_PART):
            yield path


def _content(file: Path) -> str:
    """The hash of a file's bytes, from memory where it is as it was."""
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
    """Of the files that a data set is read from; None where it cannot be told without reading it."""
    if name in form.built_in:
        return [
            [f"{module} {version}" for module, version in form.built_in[name].versions().items()]
        ]  # and what builds it is in `_readers`
    path = Path(name).expanduser()
    try:
        if path.is_file():
            return None if form.refers else _signature([path])
        if not path.is_dir():
            return None
        files: list[Path] = []
        for folder, _, names in os.walk(path):
            files += [Path(folder, each) for each in names]
            if len(files) > _MANY:
                return None
        return _signature(sorted(files))
    except OSError:
        return None


def _signature(files: list[Path]) -> Signature:
    known = [(str(file.absolute()), file.stat()) for file in files]
    return [[path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for path, s in known]


@functools.cache
def _readers() -> str:
    """Of the code that reads data: what it makes of a file is remembered for it alone."""
    return _hash(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


def _memory(place: str) -> Path:
    return cache.folder() / "fingerprints" / f"{_hash(place.encode())}.json"


def _recall(place: str, signature: Signature) -> str | None:
    """What was remembered of files with this signature."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, WorkbenchError):
        record = json.loads(_memory(place).read_bytes())
        if record["place"] == place and record["signature"] == signature:
            return str(record["digest"])
    return None


def _remember(place: str, signature: Signature, digest: str) -> None:
    """Keep a fingerprint for the next process, where no change can hide behind equal times. A full disk keeps nothing."""
    newest = max((time_ns for _, *rest in signature for time_ns in rest[1:3] if isinstance(time_ns, int)), default=0)
    if newest / 1e9 < time.time() - _SETTLING_SECONDS:
        with contextlib.suppress(OSError, WorkbenchError):
            record = {"place": place, "signature": signature, "digest": digest}
            cache.write(_memory(place), json.dumps(record).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
