"""One GPU as NVML shows it: running totals of its energy, busy and throttled time, read at moments of the meter's choice.

Every call of the bindings goes through `ask`, which maps their errors once: what a device cannot say is None
and costs that figure alone, a device that is gone raises `Lost` inside this package, and nothing leaves it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workbench.usage import error_of_sum

WAYS = ("counter", "instant_power", "average_power", "model")
"""How joules are got, best first: the energy counter's difference; power at this instant, integrated; power averaged by
the driver, integrated; utilisation x (power limit - idle) + idle."""

ERRORS = {"counter": 0.05, "instant_power": 0.10, "average_power": 0.15, "model": 0.50}
"""Relative uncertainty of the joules got in each way.

counter: the sensor's own. NVML's reference (nvmlDeviceGetPowerUsage) states +-5 % for Fermi and Kepler and nothing for later
boards, so it is a hope there: on A100 and H100 the sensor sees only a quarter of the time (Yang et al., "Part-time Power
Measurements", arXiv:2312.02741, 2023), which an even load does not mind and a bursty one does.
instant_power: the sensor's 5 % and, our allowance, 5 % for what a reading a second misses.
average_power: the sensor's 5 % and, our allowance, 10 %: the average lags behind by up to its second (Ampere and later) as well.
model: our allowance; utilisation is the share of time in which any kernel ran, however small. A MIG slice's joules are of
this kind too: nothing on the board measures them (Vamja et al., arXiv:2501.17752, 2025)."""

COUNTER_STEP_S = 0.1
"""The energy counter moves about once in this many seconds: a window's edges are uncertain by a step."""

IDLE_SHARE = 0.115
"""Idle power by the power limit, where no power was ever readable: 8 of 70 W (T4), 35 of 300 W (V100), 46 of 400 W (A100);
idle watts from Cloud Carbon Footprint's AWS constants, limits from NVIDIA's data sheets."""

_GONE = (15, 16)  # NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED
_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT
_OVERHEATED = 0x08 | 0x20 | 0x40 | 0x80  # HW slowdown, SW and HW thermal slowdown, HW power brake
_THROTTLED = 0x04 | _OVERHEATED  # and the SW power cap, at which many boards work whenever they are fully used


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

    @property
    def is_slice(self) -> bool:
        """Whether it is a MIG slice of a board, whose energy nothing measures."""
        return self.uuid.startswith("MIG-")


class Amounts(NamedTuple):
    """What of one GPU was used, in whole nanoseconds and microjoules so that shares sum exactly: by all, or by one tenant.

    Attributes:
        held_ns: Time held.
        busy_ns: Time in which a kernel ran: utilisation times time.
        throttled_ns: Time in which heat or a power limit held the clocks down.
        overheated_ns: The part of it in which heat did, or a power supply that fails.
        strangers_ns: Time in which kernels of processes of no tenant ran; the same for each tenant.
        strangers_dark_ns: Time of which that is unknown.
        counter_uj: Energy by the counter; and so on for each of `WAYS`.
    """

    held_ns: int = 0
    busy_ns: int = 0
    throttled_ns: int = 0
    overheated_ns: int = 0
    strangers_ns: int = 0
    strangers_dark_ns: int = 0
    counter_uj: int = 0
    instant_uj: int = 0
    average_uj: int = 0
    model_uj: int = 0

    @property
    def by_way_uj(self) -> tuple[int, ...]:
        """Energy by each of `WAYS`."""
        return tuple(self[-len(WAYS) :])

    def plus(self, other: Amounts) -> Amounts:
        """Sum, field by field."""
        return Amounts(*map(operator.add, self, other))

    def minus(self, other: Amounts) -> Amounts:
        """Difference, field by field."""
        return Amounts(*map(operator.sub, self, other))


class GpuTotals(NamedTuple):
    """Running totals of one GPU since it was opened; two of them tell about the time between.

    Attributes:
        amounts: What was used and is known.
        dark_ns: Time whose energy is unknown.
        busy_dark_ns: Time whose utilisation is unknown.
        throttled_dark_ns: Time of which it is unknown whether the clocks were held down.
        way: The way of `WAYS` by which the last interval's energy was got; "" while none is.
        lost: The GPU has fallen off the bus.
    """

    amounts: Amounts = Amounts()
    dark_ns: int = 0
    busy_dark_ns: int = 0
    throttled_dark_ns: int = 0
    way: str = ""
    lost: bool = False


class GpuMemory(NamedTuple):
    """Bytes in use on one GPU: by our processes where NVML tells them apart, and by all. None is unknown."""

    ours: int | None = None
    all: int | None = None


class Lost(Exception):
    """The GPU does not answer and will not until it is reset."""


@dataclass(slots=True)
class Gpu:
    """One device and its totals so far.

    Attributes:
        device: What it is.
        handle: NVML's handle of it.
        board: NVML's handle of the board it is on: its own, or for a MIG slice the parent's.
        slice_share: Share of the board's energy that is its: 1, or for a MIG slice its share of memory; None where unknown.
        totals: Since it was opened.
        idle_w: Lowest board power seen so far, which is taken for that of an idle board; None where power was never readable.
        processes: Memory of each compute process on it at the last reading; None where NVML may not tell.
    """

    device: Device
    handle: Any
    board: Any = None
    slice_share: float | None = 1.0
    totals: GpuTotals = field(default_factory=GpuTotals)
    idle_w: float | None = None
    processes: dict[int, int | None] = field(default_factory=dict)
    _used: int | None = None
    _at_ns: int | None = None
    _counter_mj: int | None = None
    _power: tuple[str, float] | None = None
    _seen_us: int = 0

    def advance(self, at_ns: int) -> None:
        """Read the device at clock time `at_ns` and add the interval since the last reading; never raises."""
        if self.totals.lost:
            self._hold(at_ns)
            return
        try:
            self._add(at_ns)
            info = ask(nvml("nvmlDeviceGetMemoryInfo"), self.handle)
            self._used = None if info is None else info.used
            # Listed at every reading: a stranger may come and go, and must not be charged to us meanwhile.
            running = ask(nvml("nvmlDeviceGetComputeRunningProcesses"), self.handle) or ()
            self.processes = {process.pid: process.usedGpuMemory for process in running}
        except Lost:
            self.totals, self._used, self.processes = self.totals._replace(lost=True), None, {}
            self._hold(at_ns)

    def memory(self, pids: Collection[int]) -> GpuMemory:
        """Memory in use at the last reading, `pids` being ours."""
        ours = [used for pid, used in self.processes.items() if pid in pids]
        # An empty list need not mean that we use nothing: in a container NVML may know us by another pid.
        sizes = [used for used in ours if used is not None]
        return GpuMemory(sum(sizes) if ours and len(sizes) == len(ours) else None, self._used)

    def busy_by_process(self) -> dict[int, float] | None:
        """Utilisation by process since this was last asked, any unit; None where NVML does not tell."""
        try:
            samples = ask(nvml("nvmlDeviceGetProcessUtilization"), self.handle, self._seen_us)
        except Lost:
            return None
        if samples is None:
            return None
        busy: dict[int, float] = {}
        for sample in samples:
            if sample.timeStamp > self._seen_us and sample.smUtil <= 100:  # old drivers fill unused rows with rubbish
                busy[sample.pid] = busy.get(sample.pid, 0.0) + sample.smUtil
        self._seen_us = max([self._seen_us, *(sample.timeStamp for sample in samples)])
        return busy

    def idle_uj(self, interval_ns: int) -> int:
        """What the board would have drawn if nobody had used it: `idle_w` x time, in microjoules; 0 where it is unknown."""
        return round((self.idle_w or 0.0) * (self.slice_share or 0.0) * interval_ns / 1e3)

    def _hold(self, at_ns: int) -> None:
        """A lost GPU is held, and paid for, all the same; the rest of its amounts is unknown by `GpuTotals.lost`."""
        held_ns = at_ns - (at_ns if self._at_ns is None else self._at_ns)
        self._at_ns = at_ns
        self.totals = self.totals._replace(amounts=self.totals.amounts.plus(Amounts(held_ns=held_ns)))

    def _add(self, at_ns: int) -> None:
        counter_mj, power = ask(nvml("nvmlDeviceGetTotalEnergyConsumption"), self.board), self._read_power()
        rates = ask(nvml("nvmlDeviceGetUtilizationRates"), self.handle)
        reasons = _reasons(self.handle)
        ns, t = 0 if self._at_ns is None else at_ns - self._at_ns, self.totals
        way, energy_uj = self._energy(ns, counter_mj, power, None if rates is None else rates.gpu)
        t = t._replace(dark_ns=t.dark_ns + ns) if energy_uj is None else t._replace(way=way)
        # NVML's rate is the share of up to a second *before* the call, so it holds for the interval that ends here
        busy_ns = 0 if rates is None else ns * rates.gpu // 100
        throttled_ns, overheated_ns = (ns if (reasons or 0) & mask else 0 for mask in (_THROTTLED, _OVERHEATED))
        by_way = [energy_uj or 0 if way == name else 0 for name in WAYS]
        self.totals = t._replace(
            amounts=t.amounts.plus(Amounts(ns, busy_ns, throttled_ns, overheated_ns, 0, 0, *by_way)),
            busy_dark_ns=t.busy_dark_ns + (ns if rates is None else 0),
            throttled_dark_ns=t.throttled_dark_ns + (ns if reasons is None else 0),
        )
        self._at_ns, self._counter_mj, self._power = at_ns, counter_mj, power

    def _read_power(self) -> tuple[str, float] | None:
        """Watts of the board now, and which of `WAYS` that is; None where it cannot be read."""
        fields = ask(nvml("nvmlDeviceGetFieldValues"), self.board, [_INSTANT])
        if fields is not None and fields[0].nvmlReturn == 0:
            power = ("instant_power", fields[0].value.uiVal / 1e3)
        else:
            average_mw = ask(nvml("nvmlDeviceGetPowerUsage"), self.board)
            if average_mw is None:
                return None
            power = ("average_power", average_mw / 1e3)
        # The lowest power that was seen stands for the idle board: datasheets state limits only.
        self.idle_w = power[1] if self.idle_w is None else min(self.idle_w, power[1])
        return power

    def _energy(
        self, ns: int, counter_mj: int | None, power: tuple[str, float] | None, busy_percent: int | None
    ) -> tuple[str, int | None]:
        """The interval's microjoules by the best way there is, and that way; a slice's share of them is a model."""
        # The ways differ by a factor of ten in their error, so each interval takes the best, and the record says which.
        energy_uj: int | None
        # a counter that fell has been reset by a driver reload: what it says of this interval is worthless
        if counter_mj is not None and self._counter_mj is not None and counter_mj >= self._counter_mj:
            way, energy_uj = "counter", (counter_mj - self._counter_mj) * 1000
        elif power is not None and self._power is not None:
            # A driver may lose a field between two readings: the pair is as good as its worse half.
            way = max(power[0], self._power[0], key=WAYS.index)
            energy_uj = round((power[1] + self._power[1]) / 2 * ns / 1e3)  # trapezoid
        elif counter_mj is not None and self._counter_mj is not None:
            return "counter", None  # and a model is too poor to patch a good counter's record with
        else:
            way, energy_uj = "model", self._modelled(ns, busy_percent)
        if not self.device.is_slice or energy_uj is None:
            return way, energy_uj
        return "model", None if self.slice_share is None else round(energy_uj * self.slice_share)

    def _modelled(self, ns: int, busy_percent: int | None) -> int | None:
        """Microjoules by utilisation and the enforced power limit; None where either is unknown."""
        if busy_percent is None:
            return None
        limit_mw = ask(nvml("nvmlDeviceGetEnforcedPowerLimit"), self.board)
        if limit_mw is None:
            return None
        limit_w = float(limit_mw) / 1e3
        idle_w = IDLE_SHARE * limit_w if self.idle_w is None else min(self.idle_w, limit_w)
        return round((idle_w + busy_percent / 100 * (limit_w - idle_w)) * ns / 1e3)


def energy_error(by_way_uj: Mapping[str, int], seconds: float, short: bool) -> float | None:
    """Relative uncertainty of joules got in several ways: the ways' own, weighted by their joules.

    In a short window the counter's is larger by its step: COUNTER_STEP_S / seconds. None without any way.
    """
    step = COUNTER_STEP_S / seconds if short and seconds > 0 else 0.0
    return error_of_sum(*((energy_uj, ERRORS[way] + (step if way == "counter" else 0.0)) for way, energy_uj in by_way_uj.items()))


def _reasons(handle: Any) -> int | None:
    """Bits of why the clocks are where they are, by the function's present name or its older one."""
    reasons: int | None = ask(nvml("nvmlDeviceGetCurrentClocksEventReasons"), handle)
    if reasons is not None:
        return reasons
    older: int | None = ask(nvml("nvmlDeviceGetCurrentClocksThrottleReasons"), handle)
    return older


def nvml(name: str, *, or_else: Any = None) -> Any:
    """A name of the bindings, or `or_else` where these have none of it.

    Nothing of theirs is taken for granted: another package called pynvml, older by years, may hide those that were asked for.
    """
    import pynvml

    return getattr(pynvml, name, or_else)


def ask(call: Callable[..., Any] | None, *args: Any) -> Any:
    """Answer of one NVML call, or None where the bindings, the driver or the device cannot give it.

    Raises:
        Lost: The GPU is gone.
    """
    if call is None:
        return None
    try:
        answer = call(*args)
    except nvml("NVMLLibraryMismatchError", or_else=()):  # no NVMLError: the driver is older than these bindings
        return None
    except nvml("NVMLError", or_else=()) as error:
        if getattr(error, "value", None) in _GONE:
            raise Lost from error
        return None
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer  # names, in bindings before 11.5
