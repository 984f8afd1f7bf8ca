"""Which GPUs are ours: those that CUDA shows this process, found by UUID through NVML."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.meter.gpu_energy import Device, Gpu, Lost, ask, nvml


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
        try:
            start = nvml("nvmlInit")
        except ImportError as error:
            return cls(absence=f"the bindings of NVML cannot be imported: {error}")
        if start is None:
            return cls(absence="the module pynvml is none of NVML's bindings")
        try:
            start()
        except nvml("NVMLError", or_else=()) as error:
            return cls(absence=f"NVML: {error}")
        count = _find(nvml("nvmlDeviceGetCount")) or 0
        handles = [_find(nvml("nvmlDeviceGetHandleByIndex"), index) for index in range(count)]
        uuids = [_find(nvml("nvmlDeviceGetUUID"), handle) or "" for handle in handles]
        gpus: list[Gpu] = []
        for uuid in visible(setting, uuids):
            handle = _handle(uuid)
            if handle is None:  # CUDA shows nothing behind a name it cannot find
                break
            # By UUID, never by index: NVML numbers all GPUs by bus, CUDA those that it shows, the fastest first.
            memory = _find(nvml("nvmlDeviceGetMemoryInfo"), handle)
            name = _find(nvml("nvmlDeviceGetName"), handle) or "unknown"
            device = Device(len(gpus), uuid, name, None if memory is None else memory.total)
            board = _board(device, handle)
            gpus.append(Gpu(device, handle, board, _slice_share(device, board)))
        absence = "" if gpus else f"CUDA_VISIBLE_DEVICES={setting!r} shows none of {len(uuids)}" if uuids else "NVML finds none"
        return cls(tuple(gpus), _find(nvml("nvmlSystemGetDriverVersion")), absence)

    def advance(self, at_ns: int) -> None:
        """Read every device at clock time `at_ns`."""
        if self.gpus and os.getpid() != self._pid:
            self._reopen()
        for gpu in self.gpus:
            gpu.advance(at_ns)

    def _reopen(self) -> None:
        """Start NVML anew in a forked child, where the parent's handles mean nothing."""
        self._pid = os.getpid()
        _find(nvml("nvmlInit"))
        for gpu in self.gpus:
            gpu.handle = _handle(gpu.device.uuid)
            gpu.board = _board(gpu.device, gpu.handle)

    def close(self) -> None:
        """Let NVML go. Closing twice is harmless."""
        if self.driver is not None and os.getpid() == self._pid:
            _find(nvml("nvmlShutdown"))
            self.driver = None


def _board(device: Device, handle: Any) -> Any:
    """Handle of the board that a device is on: its own, or that of a MIG slice's parent, None where that is not told."""
    return _find(nvml("nvmlDeviceGetDeviceHandleFromMigDeviceHandle"), handle) if device.is_slice else handle


def _handle(uuid: str) -> Any:
    """Handle of a device by its name. Oldest bindings take that as bytes alone, and say so by an error of ctypes."""
    call = nvml("nvmlDeviceGetHandleByUUID")
    try:
        return _find(call, uuid)
    except TypeError:
        return _find(call, uuid.encode())


def _slice_share(device: Device, board: Any) -> float | None:
    """Share of a board's energy that we call a MIG slice's: its part of the board's memory; 1 for a whole board.

    The memory of a slice follows the instance profile (`3g.40gb`) much as its multiprocessors do, and is always told.
    """
    if not device.is_slice:
        return 1.0
    whole = None if board is None else _find(nvml("nvmlDeviceGetMemoryInfo"), board)
    return None if whole is None or device.memory_bytes is None else min(1.0, device.memory_bytes / whole.total)


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
        # As CUDA has it: a device that is named twice hides all of them, and a run goes on the CPU.
        if named[0] in chosen:
            return []
        chosen += named
    return chosen


def _find(call: Callable[..., Any] | None, *args: Any) -> Any:
    """Answer of one NVML call while devices are looked up, where a lost one is as good as none."""
    try:
        return ask(call, *args)
    except Lost:
        return None
