"""Where a model's files are, and what can be wrong with them: the one place that asks transformers
to load them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.data import adapters, cache, gguf, hub, scratch
from workbench.data.builtin import GGUF, MODELS, is_gguf
from workbench.errors import EnvironmentFault, UsageError, WorkbenchError, did_you_mean, is_out_of_memory

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of files of weights; the first that exists is read. If it is split, an index is beside it,
`….index.json`.
"""

Stamp = tuple[tuple[str, int, int, int], ...]
"""What `stamp` gives, by which something made of a model's files is remembered."""


def resolve(model: str) -> tuple[str, str | None]:
    """Find a model's files.

    Args:
        model: Its name; on the hub it may be `"name@revision"`; that of a model that is drawn (`scratch.name`).

    Returns:
        The folder or the name on the hub, and the revision (None: the newest). For a GGUF file it
        is the folder made of it in the cache, which is made now if need be; for an adapter's
        folder, its model's.

    Raises:
        UsageError: There is no such model, whether built in, as a folder or GGUF file, or on the
            hub; the file is damaged; or the folder is an adapter's, whose model is not there.
        EnvironmentFault: The package of a built-in model is missing, or the hub cannot be reached.
    """
    if model in MODELS:
        path = MODELS[model].place
        return str(gguf.folder(path) if MODELS[model].is_gguf else path), None
    if (drawn := scratch.folder(model, functools.partial(_of_origin, model), lambda name: len(layers_of(name)))) is not None:
        return str(drawn), None
    path = cache.expanded(model)
    if is_gguf(path):
        return str(gguf.folder(path)), None
    if (base := adapters.base(model)) is not None:
        return resolve(base)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"the folder {model!r} holds no model: there is no config.json in it.")
        return str(path), None
    if model.startswith((".", "/", "~")) or model.endswith(GGUF):
        what = "GGUF file" if model.endswith(GGUF) else "model folder"
        raise UsageError(f"there is no {what} {model!r} (looked in {Path.cwd()}).")
    name, _, revision = model.partition("@")
    if "/" not in name and " Did you mean" in (hint := did_you_mean(name, MODELS)):
        raise UsageError(f"there is no model {model!r}.{hint} A folder is written ./name, a model on the hub owner/name.")
    _on_hub(name, revision or None)
    return name, revision or None


def stamp(model: str) -> Stamp:
    """The files of a model's folder by name, inode, size and time, which tell them from others written over them; of an adapter's
    those of its model, too. Empty for other models, whose names stay for the same files.
    """
    found: list[tuple[str, int, int, int]] = []
    for each in filter(None, (model, adapters.base(model))):
        with contextlib.suppress(OSError), os.scandir(cache.expanded(each)) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries]
            found += sorted((name, of.st_ino, of.st_size, of.st_mtime_ns) for name, of in stats)
    return tuple(found)


def _of_origin(model: str, auto_class: str) -> Any:
    """The configuration or the tokeniser of the model whose architecture a drawn one has."""
    import transformers

    return load(getattr(transformers, auto_class), scratch.origin(model))


@functools.cache
def _on_hub(name: str, revision: str | None) -> None:
    hub.require(name, "model", f"model {name!r}.{did_you_mean(name, MODELS)}", revision)


def layers_of(model: str) -> tuple[int, ...]:
    """The layers of its file that a built-in model keeps; empty: all."""
    model = adapters.base(model) or model
    return MODELS[model].layers if model in MODELS else ()


def load(auto: Any, model: str, place: tuple[str, str | None] | None = None, **more: Any) -> Any:
    """`auto.from_pretrained`, with its errors put in our words. A model's own code is never run."""
    where, revision = place or resolve(model)
    # Told to be local, the hub's client does not retry for each file.
    local = Path(where).is_dir() or not hub.reachable()
    with hub.quiet(), loading(model, auto.__name__):
        return auto.from_pretrained(
            where, revision=revision or "main", local_files_only=local, trust_remote_code=False, **more
        )  # fmt: skip


@contextlib.contextmanager
def loading(model: str, auto_class: str) -> Iterator[None]:
    """The one boundary for what transformers, tokenizers, safetensors and torch raise while a model
    is loaded.

    Raises:
        EnvironmentFault: A file cannot be read.
        UsageError: Anything else, since it is about the content of the model's files. A lack of
            memory stays what it is.
    """
    from safetensors import SafetensorError

    try:
        yield
    except WorkbenchError:
        raise
    except (OSError, SafetensorError) as error:
        raise EnvironmentFault(
            f"cannot load {model!r}: {_first_line(error)} Save or fetch the model again, or choose another one."
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = str(error)
        if "trust_remote_code" in text or "custom code" in text:
            raise UsageError(
                f"{model!r} needs code of its own to be run (auto_map in its config.json or tokenizer_config.json), which "
                "workbench never does. Choose a model that transformers knows by itself."
            ) from error
        if auto_class == "AutoConfig" and ("model type" in text or "model_type" in text):
            raise UsageError(f"{model!r} is no model that transformers knows: {text.splitlines()[0]}") from error
        raise UsageError(
            f"cannot load {model!r} ({auto_class}): {type(error).__name__}: {_first_line(error)} Mend the files of the model, or "
            "choose another one."
        ) from error


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if line.endswith((".", "!", "?")) else f"{line}."


def file_of(model: str, name: str, *, local: bool = True) -> Path | None:
    """The path of one of the model's files, from this machine alone if `local`; None where there is
    none.
    """
    from transformers.utils import cached_file

    where, revision = resolve(model)
    quietly = dict.fromkeys(("missing_entries", "gated_repo", "connection_errors"), False)
    # transformers has these switches for its own use; without them a missing file is an error.
    quietly = {f"_raise_exceptions_for_{kind}": value for kind, value in quietly.items()}
    with hub.quiet():
        found: str | None = cached_file(where, name, revision=revision or "main", local_files_only=local, **quietly)
    return None if found is None else Path(found)


def weight_files(model: str) -> list[str]:
    """The model's files of weights on this machine; none where they have yet to be fetched, or have
    other names.

    Raises:
        UsageError: A part of them is missing.
    """
    with hub.quiet(), loading(model, "AutoModel"):
        for name in _WEIGHTS:
            if whole := file_of(model, name):
                return [str(whole)]
            if index := file_of(model, f"{name}.index.json"):
                parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                files = {part: file_of(model, part) for part in parts}
                lost = [part for part, file in files.items() if file is None]
                if lost and Path(resolve(model)[0]).is_dir():
                    raise UsageError(
                        f"the weights of {model!r} are not whole: {lost[0]} is not there ({len(lost)} of {len(parts)} files that "
                        f"{name}.index.json names). Copy or save the model again."
                    )
                return [] if lost else [str(file) for file in files.values() if file]
    return []
