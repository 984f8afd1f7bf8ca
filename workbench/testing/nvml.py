"""A machine with GPUs that does not exist: `FakeNvml` stands in for the library under the real bindings.

The bindings of `pynvml` stay as they are, so real structs, pointers, return codes and exceptions
run; only the object that they load from `libnvidia-ml.so.1` is ours.

    clock = ManualClock()
    with FakeNvml([FakeGpu(power_w=300)], clock=clock).installed(), Meter(clock=clock, sample_interval_seconds=None) as meter:
        with meter.window() as window:
            clock.advance(10)
    window.usage.gpu_board_energy_j  # 3000.0
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pynvml


class TraceRow(NamedTuple):
    """What a recording says of one GPU from a moment on.

    Attributes:
        seconds: When, from the start of the trace; rows are in order of time.
        watts: Power of the board.
        utilisation: Per cent of the time in which a kernel runs.
        used_bytes: Memory in use by all.
        reasons: Why the clocks are where they are: `nvmlClocksEventReason…` bits.
        event: `"reset"`: the driver was reloaded; `"lost"`: off the bus; an exported name of the library, or that of a field:
            not supported from here on; empty for nothing.
    """

    seconds: float
    watts: float
    utilisation: int
    used_bytes: int
    reasons: int = 0
    event: str = ""


@dataclass
class FakeGpu:
    """A GPU, or a MIG slice of one. Change its attributes at any moment; power by `set_power`, which keeps the energy so far.

    Attributes:
        name: Product name.
        uuid: `GPU-…`; made from the index when empty.
        memory_bytes: Whole memory.
        power_w: Power drawn from the start.
        counter_j: The energy counter at the start, in joules since the driver was loaded.
        step_s: The counter moves once in this many seconds, as real ones do.
        utilisation: Per cent of the time in which a kernel runs.
        used_bytes: Memory in use by all.
        processes: Memory by process id; None where NVML may not tell.
        unsupported: Library functions that answer NVML_ERROR_NOT_SUPPORTED, by their exported name; and fields that have no value,
            by their constant's name, e.g. `NVML_FI_DEV_POWER_INSTANT`.
        lost: It has fallen off the bus.
        power_limit_w: The power limit enforced.
        reasons: Why the clocks are where they are: `nvmlClocksEventReason…` bits.
        process_utilisation: Per cent of the multiprocessors' time by process id: one sample a process and call.
        parent: The board whose slice this is, for a `MIG-…`; the library counts and finds it by UUID only.
    """

    name: str = "NVIDIA L40S"
    uuid: str = ""
    memory_bytes: int = 48 << 30
    power_w: float = 100.0
    counter_j: float = 12_345.0
    step_s: float = 0.1
    utilisation: int = 50
    used_bytes: int = 1 << 30
    processes: dict[int, int | None] = field(default_factory=dict)
    unsupported: set[str] = field(default_factory=set)
    lost: bool = False
    power_limit_w: float = 350.0
    reasons: int = 0
    process_utilisation: dict[int, int] = field(default_factory=dict)
    parent: FakeGpu | None = field(default=None, repr=False)
    _trace: list[TraceRow] = field(default_factory=list, repr=False)
    _now: Callable[[], float] = field(default=lambda: 0.0, repr=False)
    _course: list[tuple[float, float, float]] = field(default_factory=list, repr=False)  # from when, watts, joules by then

    def plug_in(self, clock: Callable[[], float]) -> None:
        """Run by this clock from now on, the energy counter standing at `counter_j`."""
        self._now, self._course = clock, [(clock(), self.power_w, self.counter_j)]

    def now(self) -> float:
        """The time by the GPU's clock, in seconds."""
        return self._now()

    def set_power(self, watts: float) -> None:
        """Draw another power from now on."""
        self._draw(watts, self._now())

    def _draw(self, watts: float, at: float) -> None:
        since, before, joules = self._course[-1]
        self._course.append((at, watts, joules + before * (at - since)))
        self.power_w = watts

    def reset_counter(self) -> None:
        """Reload the driver: the energy counter starts at 0 again."""
        self._course = [(self._now(), self.power_w, 0.0)]

    def lose(self) -> None:
        """Fall off the bus: every call answers NVML_ERROR_GPU_IS_LOST from now on."""
        self.lost = True

    def follow(self, trace: Iterable[Sequence[Any]]) -> None:
        """Replay a recording from now on: rows of `TraceRow`, the last two columns of which may be left out.

        Each row holds from its moment until the next; the last one for ever.
        """
        start = self._now()
        rows = [TraceRow(*row) for row in trace]
        if any(a.seconds > b.seconds for a, b in itertools.pairwise(rows)):
            raise ValueError("the rows of a trace must be in order of time")
        self._trace = [row._replace(seconds=start + row.seconds) for row in rows]

    def catch_up(self) -> None:
        """Apply the rows of the trace whose moment has come; the library does so at every call."""
        # Sums of binary fractions may fall short of a row's moment by a rounding error.
        while self._trace and self._trace[0].seconds <= self._now() + 1e-9:
            row = self._trace.pop(0)
            self._draw(row.watts, row.seconds)
            self.utilisation, self.used_bytes, self.reasons = row.utilisation, row.used_bytes, row.reasons
            # A reloaded driver counts from 0, which is no negative energy.
            if row.event == "reset":
                self._course = [(row.seconds, row.watts, 0.0)]
            elif row.event == "lost":
                self.lost = True
            elif row.event:
                self.unsupported.add(row.event)

    def energy_mj(self) -> int:
        """What the energy counter shows now: the joules drawn until its last step."""
        step = math.floor(self._now() / self.step_s + 1e-6) * self.step_s  # the last step, despite binary fractions
        return round(1e3 * self._joules(step))

    def average_w(self) -> float:
        """Watts over the last second, or since the counter started if that was later: what `nvmlDeviceGetPowerUsage` tells."""
        now, start = self._now(), max(self._now() - 1.0, self._course[0][0])
        return (self._joules(now) - self._joules(start)) / (now - start) if now > start else self.power_w

    def _joules(self, at: float) -> float:
        since, watts, joules = next((part for part in reversed(self._course) if part[0] <= at), self._course[0])
        return joules + watts * max(0.0, at - since)


class FakeNvml:
    """The library: give it to the bindings with `installed`.

    Args:
        gpus: The GPUs in NVML's order, and MIG slices among them.
        clock: Seconds; energy counters follow it.
        driver: Version of the driver.
        init_code: What starting the library answers, e.g. `pynvml.NVML_ERROR_DRIVER_NOT_LOADED`.

    Attributes:
        calls: How often each function was called, by exported name.
        missing: Exported names that this library, an older one, does not have.
    """

    def __init__(
        self,
        gpus: Sequence[FakeGpu] = (),
        *,
        clock: Callable[[], float] = lambda: 0.0,
        driver: str = "570.86.15",
        init_code: int = 0,
    ) -> None:
        self.gpus, self.driver, self.init_code = list(gpus), driver, init_code
        self.calls: Counter[str] = Counter()
        self.missing: set[str] = set()
        self.users = 0
        for index, gpu in enumerate(self.gpus):
            gpu.uuid = gpu.uuid or f"GPU-{index:08x}-0000-4000-8000-000000000000"
            gpu.plug_in(clock)

    @contextlib.contextmanager
    def installed(self) -> Iterator[FakeNvml]:
        """Put this library under the bindings; afterwards whatever was there is back."""
        before = pynvml.nvmlLib, pynvml._nvmlLib_refcount
        pynvml._nvmlGetFunctionPointer_cache.clear()  # the bindings keep the functions of the library they met first
        pynvml.nvmlLib, pynvml._nvmlLib_refcount = self, 0
        try:
            yield self
        finally:
            pynvml._nvmlGetFunctionPointer_cache.clear()
            pynvml.nvmlLib, pynvml._nvmlLib_refcount = before

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # partial objects, because the bindings set `restype` on what they get
        if name in _OF_LIBRARY and name not in self.missing:
            return functools.partial(self._call, name)
        if name in _OF_DEVICE and name not in self.missing:
            return functools.partial(self._call_device, name)
        raise AttributeError(name)

    def _call(self, name: str, *args: Any) -> Any:
        self.calls[name] += 1
        # As the real one: before it is started only starting
        # it and asking for the text of an error work.
        if self.users == 0 and name not in ("nvmlInit_v2", "nvmlInitWithFlags", "nvmlErrorString"):
            return pynvml.NVML_ERROR_UNINITIALIZED
        return _OF_LIBRARY[name](self, *args)

    def _call_device(self, name: str, handle: Any, *args: Any) -> int:
        self.calls[name] += 1
        if self.users == 0:
            return int(pynvml.NVML_ERROR_UNINITIALIZED)
        number = ctypes.cast(handle, ctypes.c_void_p).value
        # A handle is a place counted from 1, since a null pointer is no device.
        if not number or number > len(self.gpus):
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        gpu = self.gpus[number - 1]
        gpu.catch_up()
        if gpu.lost:
            return int(pynvml.NVML_ERROR_GPU_IS_LOST)
        if name in gpu.unsupported:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if name == "nvmlDeviceGetDeviceHandleFromMigDeviceHandle":
            return _parent(self, gpu, *args)
        return _OF_DEVICE[name](gpu, *args)


# The functions below have the signatures of the C library. The
# bindings pass each output as `byref(x)`, and x itself is its `_obj`.
def _init(fake: FakeNvml, flags: Any = None) -> int:
    # The library counts its users; one that failed to start has none to shut down.
    fake.users += fake.init_code == 0
    return fake.init_code


def _shutdown(fake: FakeNvml) -> int:
    fake.users -= 1
    return 0


def _error_string(fake: FakeNvml, code: Any) -> bytes:
    return pynvml.NVMLError._errcode_to_string.get(getattr(code, "value", code), "Unknown Error").encode()  # type: ignore[no-any-return]


def _count(fake: FakeNvml, count: Any) -> int:
    count._obj.value = len(_boards(fake))
    return 0


def _boards(fake: FakeNvml) -> list[int]:
    """The places of the boards. MIG slices are left out, since NVML gives them no index."""
    return [place for place, gpu in enumerate(fake.gpus) if gpu.parent is None]


def _by_index(fake: FakeNvml, index: Any, handle: Any) -> int:
    boards = _boards(fake)
    return _give(fake, boards[index.value], handle) if index.value < len(boards) else int(pynvml.NVML_ERROR_INVALID_ARGUMENT)


def _by_uuid(fake: FakeNvml, uuid: Any, handle: Any) -> int:
    places = [i for i, gpu in enumerate(fake.gpus) if gpu.uuid.encode() == uuid.value]
    return _give(fake, places[0], handle) if places else int(pynvml.NVML_ERROR_NOT_FOUND)


def _parent(fake: FakeNvml, gpu: FakeGpu, handle: Any) -> int:
    if gpu.parent is None:
        return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return _give(fake, next(place for place, other in enumerate(fake.gpus) if other is gpu.parent), handle)


def _give(fake: FakeNvml, place: int, handle: Any) -> int:
    """Write a handle. It is an opaque pointer, here the place of the GPU counted from 1."""
    if fake.gpus[place].lost:
        return int(pynvml.NVML_ERROR_GPU_IS_LOST)
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = place + 1
    return 0


def _driver(fake: FakeNvml, buffer: Any, size: Any) -> int:
    buffer.value = fake.driver.encode()
    return 0


def _name(gpu: FakeGpu, buffer: Any, size: Any) -> int:
    buffer.value = gpu.name.encode()
    return 0


def _uuid(gpu: FakeGpu, buffer: Any, size: Any) -> int:
    buffer.value = gpu.uuid.encode()
    return 0


def _energy(gpu: FakeGpu, millijoules: Any) -> int:
    millijoules._obj.value = gpu.energy_mj()
    return 0


def _power(gpu: FakeGpu, milliwatts: Any) -> int:
    milliwatts._obj.value = round(gpu.average_w() * 1e3)
    return 0


def _fields(gpu: FakeGpu, count: Any, values: Any) -> int:
    names = {
        pynvml.NVML_FI_DEV_POWER_INSTANT: "NVML_FI_DEV_POWER_INSTANT",
        pynvml.NVML_FI_DEV_POWER_AVERAGE: "NVML_FI_DEV_POWER_AVERAGE",
    }
    # Instant and averaged power differ for a second after
    # each change of load, which a meter must not mix up.
    watts = {"NVML_FI_DEV_POWER_INSTANT": gpu.power_w, "NVML_FI_DEV_POWER_AVERAGE": gpu.average_w()}
    for value in values._obj:
        name = names.get(value.fieldId, "")
        if not name or name in gpu.unsupported:
            value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
        else:
            value.nvmlReturn, value.valueType = 0, pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
            value.value.uiVal = round(watts[name] * 1e3)
    return 0


def _limit(gpu: FakeGpu, milliwatts: Any) -> int:
    milliwatts._obj.value = round(gpu.power_limit_w * 1e3)
    return 0


def _clock_reasons(gpu: FakeGpu, reasons: Any) -> int:
    reasons._obj.value = gpu.reasons
    return 0


def _process_utilisation(gpu: FakeGpu, samples: Any, count: Any, since_us: Any) -> int:
    now_us = round(gpu.now() * 1e6) + 1  # never 0, which asks for everything
    fresh = list(gpu.process_utilisation.items()) if now_us > since_us.value else []
    if not fresh:
        # The library answers so, not with an empty list, where nothing is newer than asked for.
        return int(pynvml.NVML_ERROR_NOT_FOUND)
    room, count._obj.value = count._obj.value, len(fresh)
    # The bindings ask twice: first without room, to learn how many samples there are.
    if samples is None or room < len(fresh):
        return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    for row, (pid, percent) in enumerate(fresh):
        samples[row].pid, samples[row].timeStamp, samples[row].smUtil = pid, now_us, percent
    return 0


def _utilisation(gpu: FakeGpu, rates: Any) -> int:
    rates._obj.gpu, rates._obj.memory = gpu.utilisation, gpu.utilisation // 2
    return 0


def _memory(gpu: FakeGpu, memory: Any) -> int:
    info = memory._obj  # version 1 and 2 of the struct share these fields
    info.total, info.used, info.free = gpu.memory_bytes, gpu.used_bytes, gpu.memory_bytes - gpu.used_bytes
    return 0


def _processes(gpu: FakeGpu, count: Any, array: Any) -> int:
    room, count._obj.value = count._obj.value, len(gpu.processes)
    if room < len(gpu.processes):
        return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    for row, (pid, used) in enumerate(gpu.processes.items()):
        array[row].pid = pid
        array[row].usedGpuMemory = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value if used is None else used
    return 0


_OF_LIBRARY: dict[str, Callable[..., Any]] = {
    "nvmlInit_v2": _init,
    "nvmlInitWithFlags": _init,
    "nvmlShutdown": _shutdown,
    "nvmlErrorString": _error_string,
    "nvmlSystemGetDriverVersion": _driver,
    "nvmlDeviceGetCount_v2": _count,
    "nvmlDeviceGetHandleByIndex_v2": _by_index,
    "nvmlDeviceGetHandleByUUID": _by_uuid,
}
_OF_DEVICE: dict[str, Callable[..., int]] = {
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetUUID": _uuid,
    "nvmlDeviceGetTotalEnergyConsumption": _energy,
    "nvmlDeviceGetPowerUsage": _power,
    "nvmlDeviceGetFieldValues": _fields,
    "nvmlDeviceGetEnforcedPowerLimit": _limit,
    "nvmlDeviceGetCurrentClocksEventReasons": _clock_reasons,
    "nvmlDeviceGetCurrentClocksThrottleReasons": _clock_reasons,
    "nvmlDeviceGetProcessUtilization": _process_utilisation,
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda gpu, handle: 0,  # answered by the library, which knows the others
    "nvmlDeviceGetUtilizationRates": _utilisation,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetMemoryInfo_v2": _memory,
    "nvmlDeviceGetComputeRunningProcesses_v2": _processes,
    "nvmlDeviceGetComputeRunningProcesses_v3": _processes,
}
