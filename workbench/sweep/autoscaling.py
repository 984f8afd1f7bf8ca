"""As many workers as a machine's devices are worth: `--workers auto`.

On GPUs it begins with one worker each, and `device_sharing` decides by what is measured. Processors have one rule: processes of few
threads beat one of many, so they are dealt out to as many workers as they, their memory and the work at hand are enough for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.cgroups import whole_cpus
from workbench.forecast import Typical
from workbench.forecast.typical import START_SECONDS, USABLE_SHARE
from workbench.meter import Meter
from workbench.sweep.device_sharing import MOST, Change, DeviceSharing, Pace
from workbench.sweep.launching import LocalLauncher

LOOK_SECONDS = 1.0
"""Seconds between two looks. NVML's utilisation is an average over up to a second before it is asked."""

PROCESS_BYTES = 700 << 20
"""What a process takes of a GPU's memory beside its model: CUDA's context and kernels, and the allocator's gaps. Assumed."""

GAIN = 1.33
"""How many times as fast two processes of one thread were as one of two (MiniLM-L6, two CPUs)."""


def on_processors(run: Typical, runs: float) -> int:
    """How many workers share this machine's processors.

    As many as there are CPUs, at most `MOST`, if their memory holds that many of the largest runs, there is a run for each, and the
    work is long enough: another worker has to import and to load before it gains.

    Args:
        run: The typical run, forecast for this machine's processors.
        runs: How many are to come.

    Returns:
        At least 1; 1 where the memory of a run is unknown.
    """
    if run.peak_memory_bytes is None:
        return 1
    held = int(USABLE_SHARE * run.memory_bytes // run.peak_memory_bytes) if run.peak_memory_bytes else MOST
    workers = max(1, min(whole_cpus(), MOST, held, int(runs)))
    work = None if run.seconds is None else run.seconds.value * runs
    return 1 if work is not None and work * (1 - 1 / GAIN) < START_SECONDS * (workers - 1) else workers


def most_on(gpus: int) -> int:
    """How many workers each of so many GPUs has at most: `MOST`, and a CPU for each to prepare its batches and launch kernels."""
    return max(1, min(MOST, whole_cpus() // max(1, gpus)))


def room_on(run: Typical, memory_bytes: int | None) -> Callable[[int], str]:
    """What says why so many workers do not fit one GPU; empty where they do.

    Args:
        run: The typical run, forecast for that GPU: of the largest recipe of the space.
        memory_bytes: The GPU's memory; None: unknown.
    """
    peak = None if run.peak_memory_bytes is None else run.peak_memory_bytes - (run.resident_bytes if run.gpu is None else 0)

    def why_not(workers: int) -> str:
        if peak is None or memory_bytes is None:
            return "how much memory a run takes is unknown"
        needed = workers * (peak + PROCESS_BYTES)
        if needed <= USABLE_SHARE * memory_bytes:
            return ""
        return f"{workers} would take {needed / 2**30:.1f} GiB of its {memory_bytes / 2**30:.1f} GiB"

    return why_not


@dataclass
class _Device:
    """A GPU: its name for CUDA, its place among the meter's, and who decides about it."""

    name: str
    index: int
    product: str
    sharing: DeviceSharing


class Autoscaler:
    """Has as many workers on each GPU of this machine as it is worth.

    Args:
        launcher: Starts them; it has one place on each GPU.
        names: The GPUs as `CUDA_VISIBLE_DEVICES` names them, in the meter's order.
        run: The typical run.
        meter: Sees all these GPUs. It is closed with this object.
        seconds_left: Seconds until the sweep ends if it goes on as until now; None: unknown.
        clock: Seconds that only rise.
        now: Seconds since 1970.

    Attributes:
        launcher: As given.
        records: What was decided, as plain data, oldest first.
    """

    def __init__(
        self,
        launcher: LocalLauncher,
        names: Sequence[str],
        run: Typical,
        meter: Meter,
        *,
        seconds_left: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.records: list[dict[str, Any]] = []
        self.launcher, self._meter, self._clock, self._now = launcher, meter, clock, now

        def worth(saved: float) -> bool:
            left = seconds_left()
            return left is None or left * saved > START_SECONDS

        self._devices = [
            _Device(name, i, device.name, DeviceSharing(room_on(run, device.memory_bytes), most_on(len(names)), worth))
            for i, (name, device) in enumerate(zip(names, meter.devices, strict=True))
        ]
        self._window = meter.window()
        self._due = clock()

    def look(self, paces: Mapping[str, Mapping[int, Pace | None]]) -> list[tuple[str, Change]]:
        """Look whether anything is to change, at most once in `LOOK_SECONDS`. Places are added here; who leaves is for the caller.

        Args:
            paces: By GPU, by worker there what it said last.

        Returns:
            The decisions, each with its GPU.
        """
        if self._clock() < self._due:
            return []
        self._due = self._clock() + LOOK_SECONDS
        used = self._window.read().devices
        found = []
        for device in self._devices:
            of = used[device.index]
            change = device.sharing.look(of.busy_seconds, of.seconds, paces.get(device.name, {}))
            if change is None:
                continue
            if change.why == "added":
                self.launcher.add(device.name)
            about = {"at": self._now(), "device": f"GPU {device.name}", "name": device.product}
            self.records.append(about | change.to_json())
            found.append((device.name, change))
        return found

    def close(self) -> None:
        """Look no more."""
        self._meter.close()
