"""Who listens to a sweep, and how one ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.result import Result

if TYPE_CHECKING:
    from workbench.ledger import Lease


class Observer:
    """What a sweep tells while it works. This one listens to nothing; the command line's prints.

    `note` may be called from other threads.
    """

    def note(self, text: str) -> None:
        """Something a person should read."""

    def stopping(self, text: str) -> None:
        """What a person who pressed Ctrl-C should know."""
        self.note(text)

    def doing(self, text: str) -> None:
        """What goes on from now on, in a few words."""

    def waiting(self, begins: bool) -> None:
        """It begins to wait for other workers, or ends it: meanwhile it holds nothing, and is charged for nothing."""

    def started(self, lease: Lease, run: int, target: float, *, whole: float, since: float) -> None:
        """Run number `run` (from 1) of the study begins, or goes on after others, from `since` epochs towards `target`.

        Its longest form has `whole` epochs.
        """

    def continuing(self, target: float) -> None:
        """The run at hand goes on at once, towards `target` epochs."""

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """A Result is in the ledger; `results` are all of the study."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended: all Results, the reason in words, and whether a person stopped it."""

    results: list[Result]
    reason: str
    interrupted: bool = False
