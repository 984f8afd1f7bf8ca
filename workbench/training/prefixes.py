"""The state in which a run was left, and a bounded folder of such states: a run is continued, never repeated."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.usage import Usage


@dataclass(frozen=True)
class Prefix:
    """A run's state after `step` optimiser steps: continuing from it is the same as never having stopped.

    Attributes:
        run_id: Which run.
        epochs: Passes done.
        step: Optimiser steps done.
        tokens: Training tokens processed, padding excluded.
        usage: Cold usage by phase of what came before.
        tensors: Weights, averages, optimiser moments and the random state, by name, on the CPU.
    """

    run_id: str
    epochs: float
    step: int
    tokens: int
    usage: Mapping[str, Usage]
    tensors: Mapping[str, torch.Tensor]


class PrefixCache:
    """A folder with the last state of each run, the oldest dropped when it grows beyond `max_bytes`.

    A dropped prefix is no loss of results: the run would only be dearer to continue.
    """

    def __init__(self, folder: Path, max_bytes: int = 2 << 30) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def save(self, prefix: Prefix) -> None:
        """Write the state in place of the run's earlier one; atomic, so a kill leaves the one or the other."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "run_id": prefix.run_id,
            "epochs": prefix.epochs,
            "step": prefix.step,
            "tokens": prefix.tokens,
            "usage": {name: u.to_json() for name, u in prefix.usage.items()},
        }
        path = self._path(prefix.run_id)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file(dict(prefix.tensors), temporary, metadata={"prefix": json.dumps(record)})
        temporary.replace(path)
        self._shrink(keep=path)

    def find(self, run_id: str) -> Prefix | None:
        """The state of a run, or None where there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        path = self._path(run_id)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                record: dict[str, Any] = json.loads(file.metadata()["prefix"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        except (SafetensorError, OSError, KeyError, ValueError):
            path.unlink(missing_ok=True)
            return None
        usage = {name: Usage.from_json(u) for name, u in record.pop("usage").items()}
        return Prefix(**record, usage=usage, tensors=tensors)

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.safetensors"

    def _shrink(self, keep: Path) -> None:
        for left in self.folder.glob("*.tmp"):
            if not _alive(left):
                left.unlink(missing_ok=True)
        files = sorted(self.folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime)
        size = sum(p.stat().st_size for p in files)
        for path in files:
            if size <= self.max_bytes:
                return
            if path != keep:
                size -= path.stat().st_size
                path.unlink(missing_ok=True)


def _alive(temporary: Path) -> bool:
    """Whether the process that writes this temporary file still runs; its number is in the name."""
    with contextlib.suppress(ValueError, ProcessLookupError):
        os.kill(int(temporary.suffixes[-2].lstrip(".")), 0)
        return True
    return False
