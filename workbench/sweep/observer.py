"""The observer, who is told what a sweep does, and the outcome, which says how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.result import Result

if TYPE_CHECKING:
    from workbench.ledger import Lease
    from workbench.sweep.device_sharing import Pace


class Observer:
    """What a sweep tells while it works. This observer ignores all of it; that of the command line
    prints.

    `note` may be called from other threads.
    """

    def note(self, text: str) -> None:
        """Tell something that a person should read."""

    def stopping(self, text: str) -> None:
        """Tell a person who pressed Ctrl-C what will happen."""
        self.note(text)

    def doing(self, text: str) -> None:
        """Tell in a few words what goes on from now."""

    def waiting(self, begins: bool) -> None:
        """The sweep begins or ends to wait for other workers. Meanwhile it holds nothing and is
        charged nothing.
        """

    def started(self, lease: Lease, run: int, target: float, *, whole: float, since: float) -> None:
        """A run begins, or goes on after others.

        Args:
            lease: The lease of the Result to be made.
            run: The run's number in the study, from 1.
            target: The epochs that it is taken to now.
            whole: The epochs of its longest form.
            since: The epochs that it goes on from; 0 at its beginning.
        """

    def continuing(self, target: float) -> None:
        """The run at hand goes on at once, towards `target` epochs."""

    def paced(self, pace: Pace | None) -> None:
        """How far the training of a worker is, about twice a second; None while no run is in hand. From another thread."""

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """A Result is in the ledger; `results` are all of the study."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended: all Results, the reason in words, whether a person stopped it, and whether it ended on this machine alone:
    one with more memory might go on.
    """

    results: list[Result]
    reason: str
    interrupted: bool = False
    here_alone: bool = False
