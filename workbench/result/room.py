"""What ran out of memory, and where: it speaks against its run on devices with as much memory or less, not on larger ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench import prices
from workbench.result.causes import Cause
from workbench.result.record import Result

_ALIKE = 1.02
"""Devices whose memory differs by no more are of one size: two machines of one kind report a few MB more or less."""


@dataclass(frozen=True)
class Room:
    """What holds the model of a run: a GPU, GPUs that hold it together, or a machine without one.

    Attributes:
        name: Product name of the GPU, else of the processors.
        memory_bytes: Memory of all of it; None: unknown.
        devices: How many GPUs hold it together.
    """

    name: str
    memory_bytes: int | None
    devices: int = 1

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> Room | None:
        """That of what is made with a provenance, as Results have it; None where it tells of no device."""
        device, devices = provenance.get("device") or {}, int(provenance.get("devices", 1))
        if gpus := device.get("gpus"):
            sizes = [int(gpu.get("memory_bytes") or _by_datasheet(str(gpu["name"]))) for gpu in gpus[:devices]]
            return cls(str(gpus[0]["name"]), sum(sizes) if all(sizes) else None, devices)
        return cls(str(device.get("cpu") or ""), device.get("memory_bytes") or None) if device else None

    def holds_more(self, other: Room) -> bool:
        """Whether it may hold what did not fit into another one; where a memory is unknown, whether it is of another kind."""
        if self.memory_bytes is not None and other.memory_bytes is not None:
            return self.memory_bytes > _ALIKE * other.memory_bytes
        return (self.name, self.devices) != (other.name, other.devices)


def too_large(result: Result, here: Room | None) -> bool:
    """Whether a Result says that its run does not fit into a device; of a record that names no device: into any.

    Args:
        result: Any Result.
        here: The device; None: unknown, and nothing is known to be smaller.
    """
    if result.status != "infeasible" or result.cause is not Cause.OUT_OF_MEMORY:
        return False
    there = Room.of(result.provenance)
    return here is None or there is None or not here.holds_more(there)


def seen_from(results: Sequence[Result], here: Room | None) -> Sequence[Result]:
    """Results as the worker of a device has to see them: what ran out of memory on a smaller one is broken off, and may go on here.

    Who counts runs or money reads the Results themselves: it has used a start all the same.
    """
    if here is None or not any(_overcomes(here, r) for r in results):
        return results
    return [replace(r, status="interrupted") if _overcomes(here, r) else r for r in results]


def settled(segments: Iterable[Result]) -> list[Result]:
    """The Results of one run without those that it ran out of memory where it has gone further since, on a larger device."""
    known = list(segments)
    last = max((r.number or 0 for r in known if r.status == "complete"), default=-1)
    return [r for r in known if not (r.status == "infeasible" and r.cause is Cause.OUT_OF_MEMORY and (r.number or 0) < last)]


def _overcomes(here: Room, r: Result) -> bool:
    return r.status == "infeasible" and r.cause is Cause.OUT_OF_MEMORY and not too_large(r, here)


def _by_datasheet(name: str) -> float:
    """Memory of a GPU, in bytes; 0 where the table lacks it."""
    known = prices.gpu(name)
    return (known.memory_gb or 0.0) * 1e9 if known else 0.0
