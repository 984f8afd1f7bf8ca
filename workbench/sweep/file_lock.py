"""One worker at a time in a folder: who chooses what is next also takes its lease before anybody
else chooses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from workbench.process import exclusive


class FileLock:
    """A lock on a folder that workers share. It may be entered in itself.

    A worker decides from what the ledger holds, and writes what it decided. Between the two nobody
    else may decide, or both choose the same run: the ledger's leases would keep them apart, but one
    of the two decisions is lost. It is re-entrant since a checkpoint is recorded, its state saved
    and the next step chosen in one turn: in between another worker would find a run without a lease
    whose newest state is not there yet, and train that stretch again.

    Where the folder cannot be made or locked, `note` is told once: then the ledger's leases alone
    keep workers apart.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._folder, self._note, self._depth, self._told = folder, note, 0, False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the lock, and hold it."""
        with contextlib.ExitStack() as stack:
            if not self._depth:
                try:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(exclusive(self._folder, self._unlockable))
                except OSError as error:
                    self._unlockable(error.strerror or str(error))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def _unlockable(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._note(
                f"{self._folder} cannot be locked ({reason}): workers that share it may choose at the same moment, and of two that "
                "chose the same one then chooses again."
            )
