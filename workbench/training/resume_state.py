"""The state in which a run was left, and a bounded folder of such states: a run is continued, never
repeated.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench import process
from workbench.result import UsagePart
from workbench.usage import Usage

_RECORD = "prefix"
"""The name, in a file's metadata, of all that is not tensors. Files of earlier versions have it."""


@dataclass(frozen=True)
class ResumeState:
    """The state of a run after `step` optimiser steps. Continuing from it is the same as never
    having stopped.

    Attributes:
        run_id: The run that it is of.
        epochs: Passes done.
        step: Optimiser steps done.
        tokens: Training tokens processed, padding excluded.
        usage: Cold usage by phase up to here.
        tensors: Weights, averages, optimiser moments and the random state, by name, on the CPU.
        elsewhere: What of the usage was consumed on other machines. In a file its writer's own part may stand beside it.
    """

    run_id: str
    epochs: float
    step: int
    tokens: int
    usage: Mapping[str, Usage]
    tensors: Mapping[str, torch.Tensor]
    elsewhere: Sequence[UsagePart] = ()


class ResumeCache:
    """A folder with the last state of each run. The oldest are dropped when it grows beyond
    `max_bytes`.

    Without its state a run costs more to continue, but no result is lost.
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
            "elsewhere": [part.to_json() for part in state.elsewhere],
        }
        path = self.path(state.run_id)
        temporary = process.draft(path)
        save_file(dict(state.tensors), temporary, metadata={_RECORD: json.dumps(record)})
        temporary.replace(path)
        self._shrink(keep=path)

    def find(self, run_id: str) -> ResumeState | None:
        """The state of a run, or None where there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        path = self.path(run_id)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                record: dict[str, Any] = json.loads(file.metadata()[_RECORD])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        except OSError:  # in a folder that machines share it may be readable later
            return None
        # A broken file would fail each time; without it the run starts anew.
        except (SafetensorError, KeyError, ValueError):
            path.unlink(missing_ok=True)
            return None
        usage = {name: Usage.from_json(u) for name, u in record.pop("usage").items()}
        elsewhere = tuple(UsagePart.from_json(part) for part in record.pop("elsewhere", ()))
        return ResumeState(**record, usage=usage, tensors=tensors, elsewhere=elsewhere)

    def step(self, run_id: str) -> int:
        """Optimiser steps done in the state of a run, by its file's head alone; -1 where there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(run_id), framework="pt") as file:
                return int(json.loads(file.metadata()[_RECORD])["step"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return -1

    def drop(self, run_id: str) -> None:
        """Forget the state of a run that is not to be continued."""
        self.path(run_id).unlink(missing_ok=True)

    def path(self, run_id: str) -> Path:
        """The file of a run's state."""
        return self.folder / f"{run_id}.safetensors"

    def _shrink(self, keep: Path) -> None:
        # By the clock of the file system, since another machine may have written the drafts.
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
            # The state just written stays even if it exceeds the bound by itself: the run continues
            # from it.
            if path != keep:
                size -= found.st_size
                path.unlink(missing_ok=True)


def random_state(where: torch.device) -> list[torch.Tensor]:
    """What the next random numbers depend on: of the CPU, and of a GPU that trains."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(where)] if where.type == "cuda" else [])


def set_random_state(state: Sequence[torch.Tensor], where: torch.device) -> None:
    """Put a state back that `random_state` gave."""
    torch.set_rng_state(state[0])
    if where.type == "cuda":
        torch.cuda.set_rng_state(state[1], where)
