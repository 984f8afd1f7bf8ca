"""The meter in the server: a line in the log, every few seconds, of what the server has consumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.meter import Meter
from workbench.serving.log import Log

TICK_SECONDS = 10.0
"""Seconds between two lines while requests come."""

IDLE_TICKS = 60
"""While none come, a line every so many ticks: ten minutes."""


AMOUNTS = ("seconds", "cpu_seconds", "energy_j", "gpu_seconds")
"""What of a line is shared by the models of a server."""


class Parts:
    """The logs of a server's models: of what the server has consumed each gets the part in which its model answered, or an equal
    one while none did.

    Args:
        logs: Each log, and what tells how many seconds its model has answered for.
    """

    def __init__(self, logs: Sequence[tuple[Log, Callable[[], float]]]) -> None:
        self._logs, self._known = logs, [0.0] * len(logs)

    def event(self, name: str, **about: Any) -> None:
        """Add a line to each log."""
        now = [told() for _, told in self._logs]
        done = [new - old for new, old in zip(now, self._known, strict=True)]
        whole, self._known = sum(done), now
        for (log, _), own in zip(self._logs, done, strict=True):
            part = own / whole if whole > 0 else 1 / len(self._logs)
            log.event(name, **{k: v * part if k in AMOUNTS and v is not None and part < 1 else v for k, v in about.items()})


class Metering(threading.Thread):
    """Writes `usage` lines until `close`.

    Args:
        log: Where to.
        busy: How many requests have come so far.
        more: What else each line says.
        tick_seconds: Seconds between two looks.
    """

    def __init__(
        self,
        log: Log | Parts,
        busy: Callable[[], int],
        more: Callable[[], Mapping[str, Any]] = dict,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        super().__init__(name="workbench-metering", daemon=True)
        self._log, self._busy, self._more, self._tick = log, busy, more, tick_seconds
        # Counters need no reading in between; the power of a GPU without one does.
        meter = Meter(sample_interval_seconds=None)
        if meter.devices:
            meter.close()
            meter = Meter()
        self._meter, self._window = meter, meter.window()
        self._over = threading.Event()

    def run(self) -> None:
        """Write a line whenever there is something to tell."""
        known = told = 0
        while not self._over.wait(self._tick):
            now, told = self._busy(), told + 1
            if now != known or told >= IDLE_TICKS:
                known, told = now, 0
                self._write()

    def close(self) -> None:
        """Write the last line, and stop."""
        self._over.set()
        if self.is_alive():
            self.join()
        self._write()
        self._meter.close()

    def _write(self) -> None:
        # The next window begins before the last one ends, and windows share no instant that is lost.
        after, found = self._meter.window(), self._window.close()
        self._window = after
        self._log.event(
            "usage",
            seconds=round(found.seconds, 3),
            cpu_seconds=found.cpu_seconds,
            energy_j=found.energy_j,
            energy_source=found.sources.get("cpu_energy_j", ""),
            gpu_seconds=found.gpu_seconds,
            peak_memory_bytes=found.peak_memory_bytes,
            **self._more(),
        )
