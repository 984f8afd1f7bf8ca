"""Why work ended without a checkpoint: one value that programs go by, so that nobody reads it out
of a sentence.
"""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a Result is infeasible or was interrupted.

    The values are part of stored records and of JSON contracts: names are added, and never changed.
    """

    OUT_OF_MEMORY = "out_of_memory"
    """The model did not fit into memory."""

    DIVERGED = "diverged"
    """A loss was not a finite number."""

    FAULT = "fault"
    """Of an infeasible run: its model cannot be loaded, wrapped or run as the recipe says. Of an
    interrupted one: its machine.
    """

    BUG = "bug"
    """An error that nobody foresaw."""

    DIED = "died"
    """The worker's process is gone, and said nothing."""

    STOPPED_BY_PERSON = "stopped_by_person"
    """Ctrl-C."""

    STOPPED_BY_SIGNAL = "stopped_by_signal"
    """A SIGTERM from outside."""

    STOPPED_BY_BUDGET = "stopped_by_budget"
    """What may be spent was spent."""

    FAILED = "failed"
    """A run that somebody else made failed; their record says no more."""

    CANCELED = "canceled"
    """A run that somebody else made was canceled."""

    UNKNOWN = "unknown"
    """None of the others, or one that only a later version of the workbench knows."""

    @classmethod
    def _missing_(cls, value: object) -> Cause:
        # Enum asks here for a value that it lacks: a later version's record is read, not refused.
        return cls.UNKNOWN

    @property
    def is_stop(self) -> bool:
        """Whether somebody ended the work on purpose: it speaks against nothing, and the run can go
        on.
        """
        return self in (Cause.STOPPED_BY_PERSON, Cause.STOPPED_BY_SIGNAL, Cause.STOPPED_BY_BUDGET)

    @property
    def is_death(self) -> bool:
        """Whether the run may be what killed its worker: one that does so again and again is left
        alone.
        """
        return self in (Cause.DIED, Cause.BUG)

    @property
    def word(self) -> str:
        """The word with which people are told of it, and with which a Result's reason begins."""
        return "stopped" if self.is_stop else str(self)

    def reason(self, detail: str) -> str:
        """A Result's reason: the word, and what exactly happened."""
        return f"{self.word}: {detail}"
