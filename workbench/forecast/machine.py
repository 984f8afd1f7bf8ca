"""The machine that a forecast is for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench import cgroups, prices, training
from workbench.meter import cpu_energy, host, number_gpus_as_nvml
from workbench.meter.processors import AVERAGE, CpuPower, cpu_power

PROCESS_BYTES = 1100 << 20
"""What a sweep's process on a CPU comes to hold beside the model: libraries, stores, data, and freed blocks that the allocator
keeps. Rounded from the medians of two sweeps of the default study (1,000 and 1,150 MiB; torch 2.13, Linux)."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What trains: this machine (`here`), or one that is thought of.

    Attributes:
        name: Product name of its GPU, or model of its processor and how many logical CPUs we may use.
        kind: `cuda` or `cpu`: what trains.
        cpus: Logical CPUs.
        memory_bytes: Memory of what trains: the GPU's, or what the host has available.
        threads: Logical CPUs that training keeps busy.
        resident_bytes: Memory that a sweep's process holds beside the model; counts on a CPU only.
        peak_flops: Peak of the GPU in FLOP/s at the precision that trains; None: unknown.
        gpu_watts: Power of its board under load; None: unknown.
        cpu_watts: What one logical CPU draws, idle and busy; the meter's average where the processor is not known.
    """

    name: str
    kind: str
    cpus: float
    memory_bytes: int
    threads: float = 1.0
    resident_bytes: int = 0
    peak_flops: float | None = None
    gpu_watts: float | None = None
    cpu_watts: CpuPower = AVERAGE

    @property
    def processor_watts(self) -> float:
        """Power of the processors under load, by the meter's model."""
        return cpu_energy.estimated_joules(1.0, min(self.threads, self.cpus), self.cpus, self.cpu_watts)

    @property
    def watts(self) -> float | None:
        """Power under load of the processors and the GPU's board; None where that is unknown."""
        if self.kind == "cpu":
            return self.processor_watts
        return None if self.gpu_watts is None else self.gpu_watts + self.processor_watts

    @classmethod
    def here(cls) -> Machine:
        """Describe the machine that this process runs on; a GPU's peak and power are those of its
        datasheet.

        Call it before CUDA is used, as `meter.training_meter`: CUDA is made to number the GPUs as
        NVML does.
        """
        import torch

        number_gpus_as_nvml()
        cpus, model = cgroups.cpus_held(), host.cpu_model()
        common: dict[str, Any] = {"cpus": cpus, "memory_bytes": device_memory_bytes(), "cpu_watts": cpu_power(model)}
        if torch.cuda.is_available():
            name = torch.cuda.get_device_properties(0).name
            sheet = prices.gpu(name)
            peak = sheet.tensor_tflops * 1e12 if sheet and sheet.tensor_tflops else None
            return cls(name=name, kind="cuda", peak_flops=peak, gpu_watts=sheet.board_power_w if sheet else None, **common)
        threads = float(torch.get_num_threads())
        return cls(name=_processors(model, cpus), kind="cpu", threads=threads, resident_bytes=PROCESS_BYTES, **common)


def name_of(description: Mapping[str, Any]) -> str:
    """Return the `Machine.name` of a Result's `provenance["device"]`, a meter's description; empty
    where it lacks one.
    """
    gpus = description.get("gpus") or ()
    if gpus:
        return str(gpus[0].get("name", ""))
    return _processors(description["cpu"], description["cpus_held"]) if {"cpu", "cpus_held"} <= description.keys() else ""


def device_memory_bytes() -> int:
    """Return the bytes of memory that training has: the first GPU's, else what this host has
    available.
    """
    import torch

    number_gpus_as_nvml()
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return cgroups.available_bytes()


def _processors(model: str, cpus: float) -> str:
    return f"{cpus:g} x {model}"


PEAK_SECONDS = 0.3
"""How long products of matrices are timed to measure a machine's peak."""


def measured_peak_flops(
    seconds: float = PEAK_SECONDS, clock: Callable[[], float] = time.perf_counter, *, precision: str = "auto"
) -> float:
    """Measure the most FLOP/s that one device reaches: the quickest product of two square matrices.

    On a CPU they are of width 1,024, with the threads that training has, on a GPU of width 8,192.

    Args:
        seconds: How long to time, at least.
        clock: Seconds that only rise.
        precision: `float32`, `bfloat16`, or `auto`: as training has it by default, bfloat16 where there are instructions for it.
    """
    import torch

    cuda = torch.cuda.is_available()
    width = 8192 if cuda else 1024
    half = precision == "bfloat16" or (precision == "auto" and training.has_bfloat16("cuda" if cuda else "cpu"))
    dtype = torch.bfloat16 if half else torch.float32
    ones = torch.ones(width, width, dtype=dtype, device="cuda" if cuda else "cpu")
    out, quickest, began = torch.empty_like(ones), math.inf, clock()
    while True:
        start = clock()
        torch.mm(ones, ones, out=out)
        if cuda:
            torch.cuda.synchronize()
        end = clock()
        quickest = min(quickest, end - start) if end > start else quickest
        if end - began >= seconds and math.isfinite(quickest):
            return 2.0 * width**3 / quickest
