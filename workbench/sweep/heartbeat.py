"""Tells the ledger, again and again, that this worker lives and what it has consumed.

A lease whose heartbeat has stopped is anybody's to put right: so a beat never waits for the work,
nor the work for a beat. What was consumed after the last beat of a worker that was killed is
charged at its rate until then, for one interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workbench.ledger import HEARTBEAT_SECONDS, Away, Lease, Ledger
from workbench.sweep.pending_results import Unwritten
from workbench.sweep.periodic import Regularly
from workbench.usage import Usage


def heartbeat(
    ledger: Ledger,
    pulse: Callable[[], tuple[Lease | None, Mapping[str, Usage], int]],
    unwritten: Unwritten,
    write: Callable[[Ledger], object],
) -> Regularly:
    """Beats in a ledger while it is entered; where that is away, in a file beside the Results that wait for it.

    Args:
        ledger: Where it beats.
        pulse: Gives the lease now held, if any, what was consumed since the last Result, and the
            labels used so far.
        unwritten: The Results that wait.
        write: Writes them into the ledger, once that is back.
    """
    reader = ledger.reader()  # it waits for nothing

    def beat() -> None:
        lease, spent, labels = pulse()
        held = None if lease is None or lease.finished else lease
        try:
            if unwritten.waits:
                write(reader)
            if held is not None:
                reader.beat(held, spent, labels)
                unwritten.heard(held)
        except Away:
            if held is not None:
                unwritten.beat(held, spent, labels)
            raise

    return Regularly(beat, HEARTBEAT_SECONDS, name="heartbeat")
