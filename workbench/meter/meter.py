"""The meter of a host and the windows of time that are opened on it.

    instruments       running totals of processors, memory, storage and GPUs
    Reading           all of them at one moment (`Meter.measure`)
    Reading           the same moment as a tenant sees it: its share of the totals
    Usage             the difference of two readings of one view: `usage(first, last, ...)`

Instruments keep running totals; a window is the difference of two readings, so windows nest and
overlap freely, and windows that share their edges sum to the one around them. Peaks cannot be
subtracted: each open window keeps its own, raised by every reading.

Whoever measures opens windows by `Meter.window`, or by the `Tenant.window` of what `Meter.hold`
gives. `open_window`, `release`, `usage_of`, `usage_between` and `measure` are for meter, tenants and
windows among themselves, and for `workbench.testing.FakeMeter`: each says who calls it.
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

from workbench import cgroups
from workbench.errors import UsageError
from workbench.meter import cpu_energy, host, readings
from workbench.meter.gpu_energy import Device
from workbench.meter.processors import cpu_power
from workbench.meter.readings import Peaks, Reading
from workbench.meter.tenants import Tenant, Tenants
from workbench.meter.visible_gpus import Nvml
from workbench.usage import Usage


class Meter:
    """Measures what windows of time consume on this host. One per process, owned by the sweep.

    While a window is open, a thread reads all instruments every `sample_interval_seconds`; every
    opening, reading and closing of a window reads them too. GPUs that CUDA_VISIBLE_DEVICES hides
    are not billed. No failing instrument raises out of a window: what could not be measured is None
    in its `Usage`, and `Usage.sources` says why.

    The meter's own windows see all of the host and its GPUs that our processes have. Where several things
    run side by side, each takes a `hold`, and its windows see its share; what is split are integers, so the
    shares of all tenants sum to the meter's window exactly (RAPL's joules, which every window shares out between its
    own ends, do so for windows with the same ends).

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
        self._tree, self._rapl = host.ProcessTree(), cpu_energy.Rapl(root)
        self._nvml = Nvml.open(environ.get("CUDA_VISIBLE_DEVICES")) if gpu else Nvml(absence="none asked for")
        self.devices: tuple[Device, ...] = tuple(gpu.device for gpu in self._nvml.gpus)
        rate = f"sampled at {1 / self._interval:g} Hz and at the edges" if self._interval else "sampled at the edges"
        cpus, model = cgroups.cpus_held(root), host.cpu_model(root)
        # A quota makes threads wait whenever it is used up, on the quietest host too.
        no_waits = "unknown: this container's CPU quota makes threads wait as others do" if cpus < cgroups.cpus() else ""
        self._facts = readings.Facts(
            cpus=cpus,
            cpu_model=model,
            rapl_source=self._rapl.source,
            rate=rate,
            gpus=self.devices,
            gpu_absence=self._nvml.absence,
            watts=cpu_power(model),
            memory_bytes=cgroups.memory_bytes(root),
            no_waits=no_waits,
        )
        self._windows: list[Window] = []
        self._tenants, self._readings, self._reading_s = Tenants(), 0, 0.0
        self._thread: threading.Thread | None = None
        self._lock, self._stop, self._pid = threading.RLock(), threading.Event(), os.getpid()

    @property
    def description(self) -> dict[str, Any]:
        """What was measured and with what, as JSON: the provenance of every `Usage` of this meter.

        `reading_seconds` is what metering costs: the mean time of a reading so far, by the meter's clock; None before the first.
        """
        cpus, model = self._facts.cpus, self._facts.cpu_model
        estimate = cpu_energy.estimate_source(cpus, model, self._facts.watts)
        return {
            "host": platform.node(),
            "system": platform.platform(),
            "cpu": model,
            "logical_cpus": os.cpu_count(),
            "cpus_held": cpus,
            "memory_bytes": self._facts.memory_bytes,
            "gpus": [asdict(device) for device in self.devices],
            "gpu_driver": self._nvml.driver,
            "gpu_absence": self._nvml.absence or None,
            "cpu_energy_source": self._facts.rapl_source if self._rapl.zones else estimate,
            "sample_interval_seconds": self._interval,
            "reading_seconds": self._reading_s / self._readings if self._readings else None,
        }

    @property
    def is_watched(self) -> bool:
        """Whether a window is open."""
        return bool(self._windows)

    def window(self) -> Window:
        """Open a window now, of the whole host: for whoever measures. As a context manager it closes
        when its block ends, by an exception too.
        """
        return self.open_window()

    def hold(self, pid: int | None = None, name: str = "") -> Tenant:
        """Hold the host and its GPUs, beside any others who do: what is measured from now on is split with them.

        Args:
            pid: Root of the process tree that uses them; None for this process, which several may hold. CPU time of a
                tree outside ours is the tenant's and not in the meter's own windows. Close the tenant before a child of
                ours is waited for: what it used after its last reading goes to our own process.
            name: Whatever tells it apart to a reader.
        """
        # The reading ends the interval of those who were here before: the newcomer has no part in it.
        with self._locked():
            self._read()
            tenant = Tenant(self, pid, name, len(self._nvml.gpus))
            self._tenants.add(tenant, self._nvml.gpus)
        return tenant

    def open_window(self, tenant: Tenant | None = None) -> Window:
        """Open a window that sees what a tenant does; the whole where that is None.

        Called by `window` here and by `Tenant.window`.
        """
        with self._locked():
            if tenant is not None and not tenant.is_open:
                raise UsageError("this tenant has been closed and gets no more shares; take a new one with Meter.hold")
            # The window begins with the reading itself, so that windows which share an edge share the reading, and sum.
            window = Window(self, self._seen_by(tenant, self._read()), tenant)
            self._windows.append(window)
        # The thread holds the meter by a weak reference: a meter that is forgotten without `close` must not live for ever.
        if self._thread is None and self._interval:
            self._thread = threading.Thread(target=_run, args=(weakref.ref(self), self._stop, self._interval), daemon=True)
            self._thread.start()
        return window

    def sample(self) -> None:
        """Take the background reading now, as the thread does by itself."""
        with self._locked():
            self._read()

    def close(self) -> None:
        """Close all open windows and tenants, stop the thread and let NVML go. Closing twice is harmless."""
        for window in tuple(self._windows):
            window.close()
        for tenant in tuple(self._tenants.open):
            tenant.close()
        self._stop.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join()
        self._nvml.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _locked(self) -> AbstractContextManager[object]:
        """The lock that keeps the sampler and the windows from reading at once, in a forked child too."""
        if self._pid != os.getpid():
            self._after_fork()
        return self._lock

    def _after_fork(self) -> None:
        """Make this a meter of the child: it has no sampler, and may have inherited a locked lock."""
        self._lock, self._thread, self._pid = threading.RLock(), None, os.getpid()
        # The parent's tenants are not this process's: both would charge for the same host.
        self._tenants.forget()

    def measure(self) -> Reading:
        """Read every instrument. The clock comes first, so a window pays for its own opening.

        Called by the meter itself, at every reading; `FakeMeter` replaces it.
        """
        # CPU time is read right after the clock: what the other instruments take falls into the next interval.
        at, tree = self._clock(), self._tree.read()
        trees = self._tenants.read_trees()
        self._nvml.advance(round(at * 1e9))
        ours, gpus = self._tree.pids if self._nvml.gpus else (), self._nvml.gpus
        totals, memory = tuple(gpu.totals for gpu in gpus), tuple(gpu.memory(ours) for gpu in gpus)
        busy_s, stolen_s = host.cpu_time()
        others_s = busy_s - tree.cpu_ns / 1e9 + stolen_s
        return Reading(at, tree, busy_s, stolen_s, others_s, self._rapl.read(), totals, memory, trees)

    def _read(self) -> Reading:
        """Measure, share out the interval that ends, and raise the peaks of all open windows. The caller holds the lock."""
        began = self._clock()
        reading = self.measure()
        self._tenants.settle(reading, self._nvml.gpus, self._tree.pids if self._tenants.open else ())
        # A peak between two readings cannot be had by subtraction: every reading raises the peaks of all open windows.
        for window in self._windows:
            window.peaks.note(self._seen_by(window.tenant, reading))
        self._reading_s, self._readings = self._reading_s + self._clock() - began, self._readings + 1
        return reading

    def _seen_by(self, tenant: Tenant | None, reading: Reading) -> Reading:
        """A reading as a tenant sees it; as it is for the meter's own windows."""
        if tenant is None:
            return reading
        pids = self._tenants.pids(tenant, self._tree.pids)
        seen = reading.seen_by(tenant.share, [gpu.memory(pids) for gpu in self._nvml.gpus])
        own = None if tenant.pid is None else reading.trees.get(tenant.pid)
        if own is None:
            return seen
        own = own._replace(cpu_ns=seen.tree.cpu_ns, read_bytes=seen.tree.read_bytes, write_bytes=seen.tree.write_bytes)
        return seen._replace(tree=own)

    def usage_of(self, window: Window, close: bool = False) -> Usage:
        """What a window has consumed until now; `close` makes that its last word.

        Called by `Window.read` and `Window.close`; `FakeMeter` lets its scripted time pass here.
        """
        with self._locked():
            if window.final is not None:
                return window.final
            last = self._seen_by(window.tenant, self._read())
            usage = self.usage_between(window.opening, last, window.peaks)
            if close:
                window.final = usage
                self._windows.remove(window)
            return usage

    def usage_between(self, first: Reading, last: Reading, peaks: Peaks) -> Usage:
        """Consumption between two readings of one view, and the highest memory seen meanwhile.

        Called by `usage_of`; `FakeMeter` replaces it.
        """
        return readings.usage(first, last, peaks, self._facts)

    def release(self, tenant: Tenant) -> None:
        """Close a tenant's windows and give it no more shares. Called by `Tenant.close`."""
        with self._locked():
            if not tenant.is_open:
                return
            for window in tuple(self._windows):
                if window.tenant is tenant:
                    window.close()
            tenant.is_open = False
            # Its last interval is settled before it goes; the others have the host to themselves from here on.
            if tenant in self._tenants.open:  # in a forked child it is not
                self._read()
                self._tenants.remove(tenant)


class Window:
    """One span of time on a meter; `Meter.window` opens it, `close` or the end of a `with` block closes it.

    One that `Tenant.window` opened sees that tenant's share.

    Attributes:
        opening: The reading that it began with.
        peaks: Highest memory since then; the meter raises it at every reading.
        tenant: The tenant whose share it sees; None for the whole.
        final: What it consumed, once it is closed; None until then.
    """

    def __init__(self, meter: Meter, opening: Reading, tenant: Tenant | None = None) -> None:
        self.opening, self.peaks, self.tenant = opening, Peaks(opening), tenant
        self.final: Usage | None = None
        self._meter = meter

    def read(self) -> Usage:
        """Usage so far; the window stays open. Once closed, its final usage."""
        return self._meter.usage_of(self)

    def close(self) -> Usage:
        """Close, and return the final usage. Closing twice is harmless."""
        return self._meter.usage_of(self, close=True)

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
        if alive.is_watched:
            alive.sample()
        del alive
