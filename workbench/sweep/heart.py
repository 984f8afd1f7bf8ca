"""The thread that tells the ledger, again and again, that this worker lives and what it has consumed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping

from workbench.ledger import HEARTBEAT_SECONDS, Lease, Ledger
from workbench.usage import Usage


class Heart:
    """Beats in a ledger while it is entered. A beat that fails is left out: the next may succeed.

    Args:
        ledger: Where it beats.
        pulse: Gives the lease now held, if any, what was consumed since the last Result, and the labels used so far.
    """

    def __init__(self, ledger: Ledger, pulse: Callable[[], tuple[Lease | None, Mapping[str, Usage], int]]) -> None:
        self._ledger, self._pulse = ledger, pulse
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):
                lease, spent, labels = self._pulse()
                if lease is not None and not lease.finished:
                    self._ledger.beat(lease, spent, labels)
