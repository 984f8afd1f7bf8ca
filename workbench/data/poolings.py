"""How a model makes one vector of a text's tokens: as sentence-transformers wrote it into its
folder, else by their mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.errors import EnvironmentFault, UsageError

MEAN, CLS = "mean", "cls"
"""The mean of all tokens, and the first token."""

FILES = ("modules.json", "1_Pooling/config.json")
"""Files of a model's folder that state the pooling."""

_KNOWN = ("Transformer", "Pooling", "Normalize")


def stated(model: str, modules: Path | None, pooling: Path | None) -> str:
    """`MEAN` or `CLS`, as a model's files state; `MEAN` where they state nothing.

    Args:
        model: Its name, for errors.
        modules: The first of `FILES`; None where there is none.
        pooling: The second of `FILES`, likewise.

    Raises:
        UsageError: They state something else, or modules behind the pooling, which would not be
            applied.
        EnvironmentFault: A file cannot be read.
    """
    listed, pooled = _read(modules), _read(pooling)
    for module in listed if isinstance(listed, list) else ():
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in _KNOWN:
            raise UsageError(
                f"the embeddings of {model!r} are made by a module {kind} (modules.json), which is not known here: "
                f"{', '.join(_KNOWN)} are. Choose another model, or save it without that module."
            )
    found = _modes(pooled)
    if found not in ([MEAN], [CLS]):
        raise UsageError(
            f"the embeddings of {model!r} are pooled by {' and '.join(found)} (1_Pooling/config.json); {MEAN} and {CLS} are "
            "known. Choose another model."
        )
    return found[0]


def is_mean(pooling: Path) -> bool:
    """Whether the second of `FILES` states the mean, or nothing. Raises as `stated`."""
    return _modes(_read(pooling)) == [MEAN]


def _modes(said: Any) -> list[str]:
    said = said if isinstance(said, dict) else {}
    # sentence-transformers writes either names here, or a flag for each way.
    mode = said.get("pooling_mode")
    if mode is None:
        modes = [name.removeprefix("pooling_mode_") for name, on in said.items() if name.startswith("pooling_mode_") and on]
    else:
        modes = [mode] if isinstance(mode, str) else [str(each) for each in mode]
    return [{"mean_tokens": MEAN, "cls_token": CLS}.get(each, each) for each in modes] or [MEAN]


def _read(file: Path | None) -> Any:
    """The content of a JSON file; None where there is none."""
    if file is None:
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentFault(f"cannot read {file}: {error.strerror}. Check its permissions.") from error
    except ValueError as error:
        raise UsageError(f"{file} is not JSON that can be read ({error}). Save or fetch the model again.") from error
