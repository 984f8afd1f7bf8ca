"""GPUs through NVML: which ones are ours, and running totals of their energy and busy time.

Every call of the bindings goes through `_ask`, which maps their errors once: what a device cannot
say is None, a device that is gone raises `_Lost` inside this module, and nothing leaves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a slice of one, that this process may use.

    Attributes:
        index: Its number among the visible ones, as in `cuda:0` (where CUDA_DEVICE_ORDER=PCI_BUS_ID or all GPUs are alike).
        uuid: NVML's name for it, `GPU-…` or `MIG-…`, the same on every boot and in every container.
        name: Its product name, e.g. `"NVIDIA L40S"`.
        memory_bytes: Its whole memory; None where NVML does not say.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int | None


class GpuTotals(NamedTuple):
    """Running totals of one GPU since it was opened; two of them tell about the time between.

    Attributes:
        energy_j: Joules known, by counter or by power.
        counted_s: Seconds whose energy came from the energy counter.
        integrated_s: Seconds whose energy came from power samples.
        dark_s: Seconds whose energy is unknown.
        busy_s: Seconds in which a kernel ran: utilisation times seconds.
        busy_dark_s: Seconds whose utilisation is unknown.
        lost: The GPU has fallen off the bus.
    """

    energy_j: float = 0.0
    counted_s: float = 0.0
    integrated_s: float = 0.0
    dark_s: float = 0.0
    busy_s: float = 0.0
    busy_dark_s: float = 0.0
    lost: bool = False


class GpuMemory(NamedTuple):
    """Bytes in use on one GPU: by our processes where NVML tells them apart, and by all. None is unknown."""

    ours: int | None = None
    all: int | None = None


class _Lost(Exception):
    """The GPU does not answer and will not until it is reset."""


@dataclass(slots=True)
class Gpu:
    """One device and its totals so far."""

    device: Device
    handle: Any
    totals: GpuTotals = field(default_factory=GpuTotals)
    memory: GpuMemory = field(default_factory=GpuMemory)
    _at: float | None = None
    _counter_j: float | None = None
    _power_w: float | None = None

    def advance(self, at: float, pids: Collection[int]) -> None:
        """Read the device at clock time `at` and add the interval since the last reading; never raises."""
        if self.totals.lost:
            return
        try:
            self._add(at)
            self.memory = _memory(self.handle, pids)
        except _Lost:
            self.totals, self.memory = self.totals._replace(lost=True), GpuMemory()

    def _add(self, at: float) -> None:
        import pynvml

        counter_mj = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, self.handle)
        power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, self.handle)
        rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, self.handle)
        counter_j = None if counter_mj is None else counter_mj / 1e3
        power_w = None if power_mw is None else power_mw / 1e3
        seconds, t = 0.0 if self._at is None else at - self._at, self.totals
        # a counter that fell has been reset by a driver reload: what it says of this interval is worthless
        if counter_j is not None and self._counter_j is not None and counter_j >= self._counter_j:
            t = t._replace(energy_j=t.energy_j + counter_j - self._counter_j, counted_s=t.counted_s + seconds)
        elif power_w is not None and self._power_w is not None:
            joules = (power_w + self._power_w) / 2 * seconds  # trapezoid
            t = t._replace(energy_j=t.energy_j + joules, integrated_s=t.integrated_s + seconds)
        else:
            t = t._replace(dark_s=t.dark_s + seconds)
        # NVML's rate is the share of up to a second *before* the call, so it holds for the interval that ends here
        if rates is None:
            t = t._replace(busy_dark_s=t.busy_dark_s + seconds)
        else:
            t = t._replace(busy_s=t.busy_s + rates.gpu / 100 * seconds)
        self._at, self._counter_j, self._power_w, self.totals = at, counter_j, power_w, t


@dataclass(slots=True)
class Nvml:
    """The GPUs that CUDA shows this process, or the reason there are none.

    Attributes:
        gpus: One entry a visible device, in CUDA's order.
        driver: Version of the NVIDIA driver; None without one.
        absence: Why `gpus` is empty; "" when it is not.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    absence: str = ""
    _pid: int = field(default_factory=os.getpid)

    @classmethod
    def open(cls, setting: str | None) -> Nvml:
        """Start NVML and find the devices that `setting`, the value of CUDA_VISIBLE_DEVICES, leaves visible."""
        if setting is not None and not setting.strip():
            return cls(absence="CUDA_VISIBLE_DEVICES is empty")
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return cls(absence=f"NVML: {error}")
        handles = [_find(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(_find(pynvml.nvmlDeviceGetCount) or 0)]
        uuids = [_find(pynvml.nvmlDeviceGetUUID, handle) or "" for handle in handles]
        gpus: list[Gpu] = []
        for uuid in visible(setting, uuids):
            handle = _find(pynvml.nvmlDeviceGetHandleByUUID, uuid)
            if handle is None:  # CUDA shows nothing behind a name it cannot find
                break
            memory = _find(pynvml.nvmlDeviceGetMemoryInfo, handle)
            name = _find(pynvml.nvmlDeviceGetName, handle) or "unknown"
            gpus.append(Gpu(Device(len(gpus), uuid, name, None if memory is None else memory.total), handle))
        absence = "" if gpus else f"CUDA_VISIBLE_DEVICES={setting!r} shows none of {len(uuids)}" if uuids else "NVML finds none"
        return cls(tuple(gpus), _find(pynvml.nvmlSystemGetDriverVersion), absence)

    def advance(self, at: float, pids: Collection[int]) -> None:
        """Read every device at clock time `at`; `pids` are the processes whose memory is ours."""
        if self.gpus and os.getpid() != self._pid:
            self._reopen()
        for gpu in self.gpus:
            gpu.advance(at, pids)

    def _reopen(self) -> None:
        """Start NVML anew in a forked child, where the parent's handles mean nothing."""
        import pynvml

        self._pid = os.getpid()
        _find(pynvml.nvmlInit)
        for gpu in self.gpus:
            gpu.handle = _find(pynvml.nvmlDeviceGetHandleByUUID, gpu.device.uuid)

    def close(self) -> None:
        """Let NVML go. Closing twice is harmless."""
        if self.driver is not None and os.getpid() == self._pid:
            import pynvml

            _find(pynvml.nvmlShutdown)
            self.driver = None


def visible(setting: str | None, uuids: Sequence[str]) -> list[str]:
    """UUIDs of the devices that a value of CUDA_VISIBLE_DEVICES leaves visible, in CUDA's order.

    The rules are CUDA's: entries are indices, UUIDs or unique beginnings of a UUID (`GPU-8f2`), or
    names of MIG slices; the first entry that names nothing hides itself and all behind it; a device named
    twice hides all. Unset (None) shows everything. The existence of MIG names is not checked here.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    if setting is None:
        return list(uuids)
    chosen: list[str] = []
    for entry in map(str.strip, setting.split(",")):
        if entry.startswith("MIG-"):
            named = [entry]
        elif entry.startswith("GPU-"):
            named = [uuid for uuid in uuids if uuid.startswith(entry)]
        else:
            named = [uuids[int(entry)]] if re.fullmatch(r"\+?\d+", entry) and int(entry) < len(uuids) else []
        if len(named) != 1:
            break
        if named[0] in chosen:
            return []
        chosen += named
    return chosen


def _memory(handle: Any, pids: Collection[int]) -> GpuMemory:
    import pynvml

    info = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    running = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
    ours = [process.usedGpuMemory for process in running if process.pid in pids]
    # An empty list need not mean that we use nothing: in a container NVML may know us by another pid.
    known = sum(ours) if ours and None not in ours else None
    return GpuMemory(known, None if info is None else info.used)


def _find(call: Callable[..., Any], *args: Any) -> Any:
    """Answer of one NVML call while devices are looked up, where a lost one is as good as none."""
    try:
        return _ask(call, *args)
    except _Lost:
        return None


def _ask(call: Callable[..., Any], *args: Any) -> Any:
    """Answer of one NVML call, or None where the device or driver cannot give it.

    Raises:
        _Lost: The GPU is gone.
    """
    import pynvml

    try:
        return call(*args)
    except pynvml.NVMLLibraryMismatchError:  # no NVMLError: the driver is older than these bindings
        return None
    except pynvml.NVMLError as error:
        if error.value in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED):
            raise _Lost from error
        return None
