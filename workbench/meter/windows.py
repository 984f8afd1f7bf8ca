"""The meter of a host and the windows of time that are opened on it.

Instruments keep running totals; a window is the difference of two readings, so windows nest and
overlap freely, and windows that share their edges sum to the one around them. Peaks cannot be
subtracted: each open window keeps its own, raised by every reading.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workbench.meter import bill, host, power
from workbench.meter.bill import Peaks, Reading
from workbench.meter.nvidia import Device, Nvml
from workbench.usage import Usage


class Meter:
    """Measures what windows of time consume on this host. One per process, owned by the sweep.

    While a window is open, a thread reads all instruments every `sample_interval_seconds`; every
    opening, reading and closing of a window reads them too. GPUs that CUDA_VISIBLE_DEVICES hides
    are not billed. No failing instrument raises out of a window: what could not be measured is None
    in its `Usage`, and `Usage.sources` says why.

    Args:
        clock: Seconds that only rise; injected in tests.
        sample_interval_seconds: Seconds between two background readings; None for no thread (call `sample`).
        gpu: False when nothing will run on a GPU: then none is billed.
        environ: Where CUDA_VISIBLE_DEVICES is looked up, once.
        root: The file system whose `proc/` and `sys/` tell of energy counters, limits and the CPU's name.

    Attributes:
        devices: The GPUs billed, in CUDA's order; empty without one.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sample_interval_seconds: float | None = 1.0,
        gpu: bool = True,
        environ: Mapping[str, str] = os.environ,
        root: Path = Path("/"),
    ) -> None:
        self._clock, self._interval, self._root = clock, sample_interval_seconds, root
        self._tree, self._rapl = host.ProcessTree(), power.Rapl(root)
        self._nvml = Nvml.open(environ.get("CUDA_VISIBLE_DEVICES")) if gpu else Nvml(absence="none asked for")
        self.devices: tuple[Device, ...] = tuple(gpu.device for gpu in self._nvml.gpus)
        rate = f"sampled at {1 / self._interval:g} Hz and at the edges" if self._interval else "sampled at the edges"
        uuids = tuple(device.uuid for device in self.devices)
        cpus, model = host.cpus_held(root), host.cpu_model(root)
        self._facts = bill.Facts(cpus, model, self._rapl.source, rate, uuids, self._nvml.absence)
        self._windows: list[Window] = []
        self._thread: threading.Thread | None = None
        self._lock, self._stop, self._pid = threading.RLock(), threading.Event(), os.getpid()

    @property
    def description(self) -> dict[str, Any]:
        """What was measured and with what, as JSON: the provenance of every `Usage` of this meter."""
        cpus, model = self._facts.cpus, self._facts.cpu_model
        return {
            "host": platform.node(),
            "system": platform.platform(),
            "cpu": model,
            "logical_cpus": os.cpu_count(),
            "cpus_held": cpus,
            "memory_bytes": host.memory_held(self._root),
            "gpus": [asdict(device) for device in self.devices],
            "gpu_driver": self._nvml.driver,
            "gpu_absence": self._nvml.absence or None,
            "cpu_energy_source": self._facts.rapl_source if self._rapl.zones else power.estimate_source(cpus, model),
            "sample_interval_seconds": self._interval,
        }

    def window(self) -> Window:
        """Open a window now. As a context manager it closes when its block ends, by an exception too."""
        with self._alone():
            window = Window(self, self._read())
            self._windows.append(window)
        if self._thread is None and self._interval:
            self._thread = threading.Thread(target=_run, args=(weakref.ref(self), self._stop, self._interval), daemon=True)
            self._thread.start()
        return window

    def sample(self) -> None:
        """Take the background reading now, as the thread does by itself."""
        with self._alone():
            self._read()

    def close(self) -> None:
        """Close all open windows, stop the thread and let NVML go. Closing twice is harmless."""
        for window in tuple(self._windows):
            window.close()
        self._stop.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join()
        self._nvml.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _alone(self) -> AbstractContextManager[object]:
        """The lock that keeps the sampler and the windows from reading at once."""
        if self._pid != os.getpid():  # a forked child has no sampler, and may have inherited a locked lock
            self._lock, self._thread, self._pid = threading.RLock(), None, os.getpid()
        return self._lock

    def _measure(self) -> Reading:
        """Read every instrument. The clock comes first, so a window pays for its own opening."""
        at, tree = self._clock(), self._tree.read()
        self._nvml.advance(at, self._tree.pids)
        totals, memory = tuple(gpu.totals for gpu in self._nvml.gpus), tuple(gpu.memory for gpu in self._nvml.gpus)
        return Reading(at, tree, host.busy_seconds(), self._rapl.read(), totals, memory)

    def _read(self) -> Reading:
        """Measure, and raise the peaks of all open windows. The caller holds the lock."""
        reading = self._measure()
        for window in self._windows:
            window._peaks.note(reading)
        return reading

    def _so_far(self, window: Window, close: bool = False) -> Usage:
        """What a window has consumed until now; `close` makes that its last word."""
        with self._alone():
            if window._final is not None:
                return window._final
            usage = self._bill(window._first, self._read(), window._peaks)
            if close:
                window._final = usage
                self._windows.remove(window)
            return usage

    def _bill(self, first: Reading, last: Reading, peaks: Peaks) -> Usage:
        return bill.usage(first, last, peaks, self._facts)


class Window:
    """One span of time on a meter; `Meter.window` opens it, `close` or the end of a `with` block closes it."""

    def __init__(self, meter: Meter, opening: Reading) -> None:
        self._meter, self._first, self._peaks = meter, opening, Peaks(opening)
        self._final: Usage | None = None

    def read(self) -> Usage:
        """Usage so far; the window stays open. Once closed, its final usage."""
        return self._meter._so_far(self)

    def close(self) -> Usage:
        """Close, and return the final usage. Closing twice is harmless."""
        return self._meter._so_far(self, close=True)

    @property
    def usage(self) -> Usage:
        """Final usage once closed; so far while open."""
        return self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _run(meter: weakref.ref[Meter], stop: threading.Event, interval_s: float) -> None:
    """The sampler: ends with its meter, whether that was closed or forgotten."""
    while not stop.wait(interval_s):
        alive = meter()
        if alive is None:
            return
        if alive._windows:
            alive.sample()
        del alive
