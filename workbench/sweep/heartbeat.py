"""Tells the ledger, again and again, that this worker lives and what it has consumed.

A lease whose heartbeat has stopped is anybody's to put right: so a beat never waits for the work,
nor the work for a beat. What was consumed after the last beat of a worker that was killed is
charged at its rate until then, for one interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workbench.ledger import HEARTBEAT_SECONDS, Lease, Ledger
from workbench.sweep.periodic import Regularly
from workbench.usage import Usage


def heartbeat(ledger: Ledger, pulse: Callable[[], tuple[Lease | None, Mapping[str, Usage], int]]) -> Regularly:
    """Beats in a ledger while it is entered.

    Args:
        ledger: Where it beats.
        pulse: Gives the lease now held, if any, what was consumed since the last Result, and the
            labels used so far.
    """

    def beat() -> None:
        lease, spent, labels = pulse()
        if lease is not None and not lease.finished:
            ledger.beat(lease, spent, labels)

    return Regularly(beat, HEARTBEAT_SECONDS, name="heartbeat")
