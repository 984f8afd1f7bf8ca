"""The folder of a sweep: states to continue runs from, and the weights of the front's members.

Losing a file in it costs time, never a Result: those are in the ledger.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import process, training

if TYPE_CHECKING:
    from workbench.training import ResumeState

LEAST_FREE_BYTES = 64 << 20
"""A disk with less room counts as full, and the states of runs are dropped to leave it to the
ledger.
"""


class CheckpointStore:
    """Keeps states and weights in `folder`; `note` is told what could not be kept."""

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._states, self._weights, self._note = folder / "prefixes", folder / "weights", note

    def state(self, run_id: str) -> ResumeState | None:
        """The state in which a run was left; None where it is gone."""
        return training.ResumeCache(self._states).find(run_id)

    def weights(self, recipe_id: str) -> Path | None:
        """The file with a point's weights; None where there is none."""
        path = self._weights / f"{recipe_id}.safetensors"
        return path if path.is_file() else None

    def kept(self) -> set[str]:
        """Ids of the runs whose last state is there."""
        return {path.stem for path in self._states.glob("*.safetensors")}

    def save_state(self, state: ResumeState) -> None:
        """Keep the state of a run in place of its earlier one."""
        with self._saving("The state of this run, to continue it from,"):
            training.ResumeCache(self._states).save(state)

    def save_weights(self, recipe_id: str, weights: Mapping[str, Any]) -> None:
        """Keep the weights of a point: tensors by name."""
        from safetensors.torch import save_file

        with self._saving("The weights of this checkpoint"):
            for folder in (self._states, self._weights):
                folder.mkdir(parents=True, exist_ok=True)
            draft = process.draft(self._states / recipe_id)  # where drafts of dead workers are cleared away
            save_file(dict(weights), draft)
            # Both folders are on one file system, so the
            # rename is atomic: no reader sees half a file.
            draft.replace(self._weights / f"{recipe_id}.safetensors")

    def keep_weights(self, members: Collection[str]) -> None:
        """Drop the weights of all points but these."""
        with self._saving("The change of the front"):
            for path in self._weights.glob("*.safetensors"):
                if path.stem not in members:
                    path.unlink(missing_ok=True)

    def make_room(self) -> None:
        """Drop the states of runs where the disk is full: they can be made again, and a Result
        cannot.
        """
        if self._states.is_dir() and shutil.disk_usage(self._states).free < LEAST_FREE_BYTES:
            for path in self._states.glob("*.safetensors"):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _saving(self, what: str) -> Iterator[None]:
        from safetensors import SafetensorError

        try:
            yield
        # Safetensors reports a full disk as an error of its own, which is no OSError.
        except (OSError, SafetensorError) as error:
            self._note(f"{what} could not be saved: {error}.")
            # What is left of the file would keep the disk full.
            with contextlib.suppress(OSError):
                for draft in self._states.glob(process.draft(Path("*")).name):
                    draft.unlink(missing_ok=True)
