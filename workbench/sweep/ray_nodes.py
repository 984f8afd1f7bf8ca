"""Machines of a cluster of Ray's: what they cost, what memory their GPUs have, and how many runs that is enough for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.errors import UsageError
from workbench.sweep.autoscaling import room_on

if TYPE_CHECKING:
    from workbench.forecast import Typical

OFFER_LABEL = "offer"
"""The label of a node that names what it costs: `ray start --labels offer=aws_g6.xlarge`. Ray's labels hold no colon."""

MEMORY_LABEL = "gpu_memory_gb"
"""The label of a node that says how much memory each of its GPUs has, 10^9 bytes, where neither its offer nor its type does."""

_TYPE_LABEL = "ray.io/accelerator-type"  # Ray's own


@dataclass(frozen=True)
class Needs:
    """What runs need: a machine with less memory than the one that takes least makes none.

    Attributes:
        host_bytes: Of a machine's memory where processors train, by the run that takes least; None: unknown.
        gpu_bytes: Of a GPU's; None: unknown.
        share: How many workers are to share a GPU that holds so many runs of those that take most.
        largest: The typical run; None: whether a GPU holds several is unknown.
    """

    host_bytes: int | None = None
    gpu_bytes: int | None = None
    share: int = 1
    largest: Typical | None = None

    @classmethod
    def of(cls, run: Typical, share: int = 1) -> Needs:
        """Those of a study, by the forecast of its runs. Of processors nothing is known by one for a GPU."""
        if run.least_memory_bytes is None:
            return cls(share=share)
        least = round(run.least_memory_bytes)
        host, gpu = (None, least) if run.gpu else (least, max(0, least - run.resident_bytes))
        return cls(host, gpu, share, run)

    def sharing(self, memory_bytes: float | None, processors: float) -> tuple[int, str]:
        """How many workers share a GPU for which there are so many processors, and why it is not `share`; empty where it is."""

        def why_not(workers: int) -> str:
            if processors < workers:
                return f"{workers} would have less than a processor each"
            memory = None if memory_bytes is None else round(memory_bytes)
            return "how much memory a run takes is unknown" if self.largest is None else room_on(self.largest, memory)(workers)

        count = next((workers for workers in range(self.share, 1, -1) if not why_not(workers)), 1)
        return count, why_not(self.share) if self.share > 1 else ""


def offer_of(label: str) -> str:
    """The name of an offer that a label means: `aws_g6.xlarge` is `aws:g6.xlarge`; what is no offer's name is left as it is."""
    parts = [offer.name.split(":") for offer in prices.load()]
    names = {":".join(part[:count]) for part in parts for count in range(1, len(part) + 1)}
    return next((name for name in sorted(names) if name.replace(":", "_") == label), label)


def gpu_bytes(node: Mapping[str, Any]) -> float | None:
    """Memory of each GPU of a machine: by its label, its offer or its type; None where none of them says."""
    labels = node.get("Labels", {})
    with contextlib.suppress(ValueError, KeyError):
        return float(labels[MEMORY_LABEL]) * 1e9
    offer = None
    with contextlib.suppress(UsageError, KeyError):
        offer = prices.find(offer_of(labels[OFFER_LABEL]))
    if offer is not None and offer.gpu_memory_gb is not None:
        return offer.gpu_memory_gb * 1e9
    known = prices.gpu(offer.gpu if offer is not None else str(labels.get(_TYPE_LABEL, "")))
    return None if known is None or known.memory_gb is None else known.memory_gb * 1e9
