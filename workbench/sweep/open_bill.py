"""What was consumed since the last Result.

One window of the meter is always open while the worker works, so that no time is missing from the
bill, whatever it was spent on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from workbench.meter import Tenant, Window
from workbench.usage import Usage, add_phases, total


class OpenBill:
    """What one worker has consumed since its last Result: its open bill.

    Args:
        tenant: The tenant of the meter whose windows are the bill.
        window: A window of the tenant, opened when the work began; None for a new one.
        before: What was consumed before that window. It is charged with it.

    Attributes:
        settling: Held while the ledger and the meter both know of the same work, so that it counts once.
        charged: Whether a Result has taken what was on it.
    """

    def __init__(self, tenant: Tenant, window: Window | None = None, before: Usage | None = None) -> None:
        self.settling, self.charged = threading.Lock(), False
        self._tenant = tenant
        self._window = window or tenant.window()
        self._before = before or Usage()
        self._resting = False  # the window is closed, and what it saw in `_before`
        self._phases: dict[str, Usage] = {}

    def consumed(self) -> Usage:
        """All that was consumed since the last Result. Other threads may ask."""
        return self._before if self._resting else self._before + self._window.read()

    def unaccounted(self) -> Usage:
        """What was consumed since the last Result and belongs to no phase yet."""
        return self.consumed() - total(self._phases.values())

    def add(self, phases: Mapping[str, Usage]) -> None:
        """Note that part of what was consumed went into these phases."""
        self._phases = add_phases(self._phases, phases)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge what is consumed in the block to a phase."""
        window = self._tenant.window()
        try:
            yield
        finally:
            self.add({name: window.close()})

    @contextlib.contextmanager
    def settled(self, phases: Mapping[str, Usage]) -> Iterator[dict[str, Usage]]:
        """Yield all that was consumed since the last Result, by phase, for a Result to charge.

        What belongs neither to `phases` nor to a phase noted before is `idle`. After the block a
        new bill is open; after an error in the block the old bill stays open.
        """
        # The next window opens where this bill ends, before the Result is written: the time that
        # the write takes is then charged to the next Result, and none is lost or counted twice.
        whole, fresh = self.consumed(), self._tenant.window()
        known = add_phases(phases, self._phases)
        try:
            yield add_phases(known, {"idle": whole - total(known.values())})
        except BaseException:
            fresh.close()
            raise
        self._window.close()
        self._window, self._before, self._phases, self.charged = fresh, Usage(), {}, True

    @contextlib.contextmanager
    def rest(self) -> Iterator[None]:
        """Consume nothing within the block. The other workers of the machine are charged for all of
        it meanwhile.
        """
        # Closing the window and setting the flag must look like one step to the
        # budget's watch; a reading in between would count the window twice.
        with self.settling:
            self._before, self._resting = self._before + self._window.close(), True
        try:
            yield
        finally:
            with self.settling:
                self._window, self._resting = self._tenant.window(), False

    def close(self) -> None:
        """End the measurement."""
        self._window.close()
