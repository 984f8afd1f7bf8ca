"""The folder of a sweep: states to continue runs from, and the weights of the front's members; and
their copies at an address that machines share.

Losing a file in it costs time, never a Result: those are in the ledger.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import process, training
from workbench.result import UsagePart, usage_parts

if TYPE_CHECKING:
    from workbench.training import ResumeState, SharedFiles

LEAST_FREE_BYTES = 64 << 20
"""A disk with less room counts as full, and the states of runs are dropped to leave it to the
ledger.
"""


class CheckpointStore:
    """Keeps states and weights.

    Args:
        folder: Where they are kept on this machine.
        note: Is told what could not be kept.
        shared: Where the other machines of the sweep find them too; None: they stay on this one.
        machine: This machine's offer and device: what a state says that it has consumed is told from what others have. None where
            nothing is trained.
    """

    def __init__(
        self,
        folder: Path,
        note: Callable[[str], None],
        shared: SharedFiles | None = None,
        machine: UsagePart | None = None,
    ) -> None:
        self._states, self._weights, self._note = folder / "prefixes", folder / "weights", note
        self._shared, self._machine = shared, machine

    def state(self, run_id: str) -> ResumeState | None:
        """The state in which a run was left, on whichever machine; None where it is gone."""
        kept = training.ResumeCache(self._states)
        if self._shared is not None:
            with self._reading():
                there = self._shared.record(f"states/{run_id}")
                # A copy that could not be written leaves the newer state here.
                if there is not None and int(there.get("step", 0)) > kept.step(run_id):
                    self._shared.fetch(f"states/{run_id}", kept.path(run_id))
        found = kept.find(run_id)
        return found and replace(found, elsewhere=usage_parts.elsewhere(found.elsewhere, self._machine))

    def weights(self, recipe_id: str) -> Path | None:
        """The file with a point's weights; None where there is none."""
        path = self._weights / f"{recipe_id}.safetensors"
        if not path.is_file() and self._shared is not None:
            with self._reading():
                self._shared.fetch(f"weights/{recipe_id}", path)
        return path if path.is_file() else None

    def kept(self) -> set[str]:
        """Ids of the runs whose last state is there."""
        kept = {path.stem for path in self._states.glob("*.safetensors")}
        if self._shared is not None:
            with self._reading():
                kept |= self._shared.names("states")
        return kept

    def save_state(self, state: ResumeState) -> None:
        """Keep the state of a run in place of its earlier one."""
        with self._saving("The state of this run, to continue it from,"):
            kept = training.ResumeCache(self._states)
            kept.save(replace(state, elsewhere=usage_parts.whole(state.usage, state.elsewhere, self._machine)))
            if self._shared is not None:
                self._shared.write(f"states/{state.run_id}", kept.path(state.run_id), {"step": state.step, "epochs": state.epochs})

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
            path = self._weights / f"{recipe_id}.safetensors"
            draft.replace(path)
            if self._shared is not None:
                self._shared.write(f"weights/{recipe_id}", path)

    def keep_weights(self, members: Collection[str]) -> None:
        """Drop the weights of all points but these."""
        with self._saving("The change of the front"):
            for path in self._weights.glob("*.safetensors"):
                if path.stem not in members:
                    path.unlink(missing_ok=True)
            if self._shared is not None:
                for recipe_id in self._shared.names("weights") - set(members):
                    self._shared.drop(f"weights/{recipe_id}")

    def make_room(self) -> None:
        """Drop the states of runs where the disk is full: they can be made again, and a Result
        cannot.
        """
        if self._states.is_dir() and shutil.disk_usage(self._states).free < LEAST_FREE_BYTES:
            for path in self._states.glob("*.safetensors"):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Go on with what is on this machine where the shared files cannot be read."""
        try:
            yield
        except (OSError, ImportError) as error:
            assert self._shared is not None
            self._note(f"{self._shared.shown} could not be read: {error}.")

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
