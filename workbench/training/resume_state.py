"""The state in which a run was left, and a bounded folder of such states: a run is continued, never repeated."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench import process
from workbench.usage import Usage

_RECORD = "prefix"
"""The name, in a file's metadata, of all that is not tensors. Files of earlier versions have it."""


@dataclass(frozen=True)
class ResumeState:
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


class ResumeCache:
    """A folder with the last state of each run, the oldest dropped when it grows beyond `max_bytes`.

    A dropped state is no loss of results: the run would only be dearer to continue.
    """

    def __init__(self, folder: Path, max_bytes: int = 2 << 30) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def save(self, state: ResumeState) -> None:
        """Write the state in place of the run's earlier one; atomic, so a kill leaves the one or the other."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "run_id": state.run_id,
            "epochs": state.epochs,
            "step": state.step,
            "tokens": state.tokens,
            "usage": {name: u.to_json() for name, u in state.usage.items()},
        }
        path = self._path(state.run_id)
        temporary = process.draft(path)
        save_file(dict(state.tensors), temporary, metadata={_RECORD: json.dumps(record)})
        temporary.replace(path)
        self._shrink(keep=path)

    def find(self, run_id: str) -> ResumeState | None:
        """The state of a run, or None where there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        path = self._path(run_id)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                record: dict[str, Any] = json.loads(file.metadata()[_RECORD])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        except OSError:  # of a folder that machines share: it may be read another time
            return None
        except (SafetensorError, KeyError, ValueError):
            path.unlink(missing_ok=True)
            return None
        usage = {name: Usage.from_json(u) for name, u in record.pop("usage").items()}
        return ResumeState(**record, usage=usage, tensors=tensors)

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.safetensors"

    def _shrink(self, keep: Path) -> None:
        now = keep.stat().st_mtime
        for left in self.folder.glob("*.tmp"):
            if process.is_left(left, now):
                left.unlink(missing_ok=True)
        known = {}
        for path in self.folder.glob("*.safetensors"):
            with contextlib.suppress(FileNotFoundError):  # another worker has just dropped it
                known[path] = path.stat()
        size = sum(found.st_size for found in known.values())
        for path, found in sorted(known.items(), key=lambda item: item[1].st_mtime):
            if size <= self.max_bytes:
                return
            if path != keep:
                size -= found.st_size
                path.unlink(missing_ok=True)
