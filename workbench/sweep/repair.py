"""Puts right what dead workers left behind, and says so."""

from __future__ import annotations

from workbench.quantities import duration
from workbench.sweep.job import Context


class Mending:
    """Puts the ledger right.

    Args:
        context: What the worker works with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def reconcile(self) -> bool:
        """Put right what dead workers left, and say so. Returns whether there was anything."""
        context = self._context
        mended = context.ledger.reconcile(context.study, context.job.offer)
        for result in mended:
            if result.status != "interrupted":
                context.observer.note(f"Trial {result.trial} was killed while its last result was written: it is whole now.")
                continue
            context.observer.note(
                f"Trial {result.trial} was interrupted: {result.detail}. Charged "
                f"{duration(result.consumed.seconds)} of work; its finished checkpoints are kept, and it can be continued."
            )
        return bool(mended)

    def write_what_is_missing(self) -> None:
        """Write Results for which the ledger was away: those of earlier starts, and those that this worker has made since."""
        context = self._context
        with context.lock.taken():
            for result in context.unwritten.write(context.ledger, context.study, context.job.offer):
                context.observer.note(
                    f"Trial {result.trial}: a result that could not be written when it was made is in the ledger now."
                )
