"""One worker at a time chooses what to run: a lock that the workers of one folder share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from workbench.process import exclusive


class FileLock:
    """A lock on a folder, re-entrant, under which one worker at a time chooses and takes the lease of what it chose.

    Where the folder cannot be made or locked, `note` is told once: then the ledger's leases alone keep workers apart.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._folder, self._note, self._depth, self._told = folder, note, 0, False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the lock, and hold it within the block."""
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
