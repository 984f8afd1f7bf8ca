"""Says while a sweep or a confirmation works that others use its machine, and when they are done."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator

from workbench.meter import Tenant
from workbench.quantities import duration
from workbench.sweep.periodic import Regularly
from workbench.usage import Usage

LOOK_SECONDS = 2.0
"""Seconds between two looks at the meter."""

SPAN_SECONDS = 10.0
"""The seconds over which the lost share of time is averaged, so that a compiler that runs for one
second is not worth a line."""

BEGINS, ENDS = 0.15, 0.03
"""The lost shares of time at which a disturbance begins and ends. They lie apart, or a share near
one limit would print line after line."""


class Disturbance:
    """Says when work begins to lose time to others, and when it no longer does.

    Args:
        note: Called with a line when a disturbance begins, and with one when it ends.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._seen: deque[Usage] = deque()
        self._since: float | None = None  # seconds of the window at which the disturbance began

    def look(self, usage: Usage) -> None:
        """Take in what one window has consumed until now."""
        self._seen.append(usage)
        while len(self._seen) > 2 and usage.seconds - self._seen[1].seconds >= SPAN_SECONDS:
            self._seen.popleft()
        first = self._seen[0]
        span = usage.seconds - first.seconds
        if span < SPAN_SECONDS or usage.stalled_seconds is None or first.stalled_seconds is None:
            return
        share = (usage.stalled_seconds - first.stalled_seconds) / span
        if self._since is None and share >= BEGINS:
            self._since = first.seconds
            recent = usage - self._seen[max(-3, -len(self._seen))]  # the span began before the others did
            longer = 1 / (1 - min((recent.stalled_seconds or 0.0) / recent.seconds, 0.99))
            cpus = (recent.others_cpu_seconds or 0.0) / recent.seconds
            self._note(
                f"Other programs use this machine ({cpus:.1f} CPUs): work takes about {longer:.1f} times as long. Budgets count "
                "what it takes; points are marked as contended, and compared by what they would take alone."
            )
        elif self._since is not None and share <= ENDS:
            self._note(f"The machine is quiet again, after {duration(usage.seconds - self._since)}.")
            self._since = None


@contextlib.contextmanager
def lookout(tenant: Tenant, note: Callable[[str], None]) -> Iterator[None]:
    """Have a `Disturbance` look at a tenant's meter regularly while the context is entered.

    Args:
        tenant: The tenant whose work may be disturbed.
        note: As for `Disturbance`; called from another thread.
    """
    disturbance = Disturbance(note)
    with tenant.window() as window, Regularly(lambda: disturbance.look(window.read()), LOOK_SECONDS, name="disturbance"):
        yield
