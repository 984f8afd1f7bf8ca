"""The machine that a forecast is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.meter import host, power

SWEEP_BYTES = 550 << 20
"""What a sweep on a CPU comes to hold beside the model and what `workbench plan` has imported: its stores' libraries (260 MiB),
data, freed blocks that the allocator keeps. Rounded from six runs of the default study with torch 2.13 on Linux."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What trains: this machine (`here`), or one that is thought of.

    Attributes:
        name: Product name of its GPU, or model of its processor and how many logical CPUs we may use.
        kind: `cuda` or `cpu`: what trains.
        cpus: Logical CPUs.
        memory_bytes: Memory of what trains: the GPU's, or what the host has available.
        threads: Logical CPUs that training keeps busy.
        resident_bytes: Memory that a sweep holds beside the model; counts on a CPU only.
        peak_flops: Peak of the GPU in FLOP/s at the precision that trains; None: unknown.
        gpu_watts: Power of its board under load; None: unknown.
    """

    name: str
    kind: str
    cpus: float
    memory_bytes: int
    threads: float = 1.0
    resident_bytes: int = 0
    peak_flops: float | None = None
    gpu_watts: float | None = None

    @property
    def watts(self) -> float | None:
        """Power under load by the meter's model of processors, and the GPU's board; None where that is unknown."""
        processors = power.estimated_joules(1.0, min(self.threads, self.cpus), self.cpus)
        if self.kind == "cpu":
            return processors
        return None if self.gpu_watts is None else self.gpu_watts + processors

    @classmethod
    def here(cls, *, peak_flops: float | None = None, gpu_watts: float | None = None) -> Machine:
        """The machine that this process runs on, and what the process holds of it: ask once models have been built."""
        import psutil
        import torch

        cpus = host.cpus_held()
        common: dict[str, Any] = {"cpus": cpus, "memory_bytes": device_memory_bytes()}
        if torch.cuda.is_available():
            name = torch.cuda.get_device_properties(0).name
            return cls(name=name, kind="cuda", peak_flops=peak_flops, gpu_watts=gpu_watts, **common)
        resident = int(psutil.Process().memory_info().rss) + SWEEP_BYTES
        threads = float(torch.get_num_threads())
        return cls(name=_processors(host.cpu_model(), cpus), kind="cpu", threads=threads, resident_bytes=resident, **common)


def name_of(description: Mapping[str, Any]) -> str:
    """The `Machine.name` of a Result's `provenance["device"]`, which is a meter's description; empty where it does not tell."""
    gpus = description.get("gpus") or ()
    if gpus:
        return str(gpus[0].get("name", ""))
    return _processors(description["cpu"], description["cpus_held"]) if {"cpu", "cpus_held"} <= description.keys() else ""


def device_memory_bytes() -> int:
    """Memory of the device that trains: the first GPU's, else what this machine has available."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().available)


def _processors(model: str, cpus: float) -> str:
    return f"{cpus:g} x {model}"
