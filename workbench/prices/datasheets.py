"""What a GPU can do by its datasheet: the ratios by which a run is carried over to another one."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from workbench.prices.offers import Offer

# Two shares of a GPU's dense peak (`Gpu.tensor_tflops`), because they divide two times: that of the
# arithmetic alone, and that of a whole step with everything that a small model's step waits for.

ARITHMETIC_SHARE = 0.3
"""Share that the arithmetic of training reaches where launches, updates and loading are counted beside it (`forecast.timing`):
0.2 to 0.5 are usual (Chowdhery et al. 2022, arXiv:2204.02311, table 3, lists 21 to 46 % for models trained on thousands of
chips). Assumed, with the formula's band of a factor of 3."""

SMALL_STEP_SHARE = 0.15
"""Share that whole steps of small models reach, everything counted in, where nothing but FLOPs is known of a run (`carry` from a
CPU): half of `ARITHMETIC_SHARE`. Assumed, not measured here; with the band of a factor of 3 it says 5 to 45 %."""


@dataclass(frozen=True)
class Gpu:
    """A GPU model. A figure that we are not certain of is None.

    Attributes:
        name: The model as the price book calls it.
        tensor_tflops: Peak of its tensor cores in fp16 or bf16, 10^12 FLOP/s, dense: without the doubling by sparsity.
        fp32_tflops: Peak in fp32 outside the tensor cores, 10^12 FLOP/s.
        bandwidth_gb_s: Memory bandwidth, 10^9 bytes/s.
        memory_gb: Memory as sold, 10^9 bytes; what can be used of it is a little more.
        board_power_w: Highest power of the board, W.
        source: The datasheet.
    """

    name: str
    tensor_tflops: float | None
    fp32_tflops: float | None
    bandwidth_gb_s: float | None
    memory_gb: float | None
    board_power_w: float | None
    source: str


def gpu(name: str) -> Gpu | None:
    """Return the GPU of a name, as NVML or the price book spells it; None where the table lacks it,
    and for a MIG slice.
    """
    return _table()[1].get(_plain(name))


def same_gpu(a: str, b: str) -> bool | None:
    """Whether two names are of one GPU model; None where they differ and the table lacks one of them."""
    if a == b:
        return True
    here, there = gpu(a), gpu(b)
    # Two names that the table lacks may be one model in two spellings.
    return None if here is None or there is None else here == there


def gpus() -> tuple[Gpu, ...]:
    """Return all GPUs of the table."""
    return _table()[0]


def fits(memory_bytes: float, offer: Offer) -> bool | None:
    """Whether that much memory is on one GPU of the offer, or in the machine when it has none; None where that is unknown.

    A GPU's GB are taken as 10^9 bytes, which is a little less than it has, to leave the driver its part.
    """
    if not offer.gpus:
        return None if offer.memory_gib is None else memory_bytes <= offer.memory_gib * 2**30
    model, memory_gb = gpu(offer.gpu), offer.gpu_memory_gb
    if memory_gb is None and model is not None:
        memory_gb = model.memory_gb
    return None if memory_gb is None else memory_bytes <= memory_gb * 1e9


@lru_cache
def _table() -> tuple[tuple[Gpu, ...], dict[str, Gpu]]:
    text = resources.files("workbench.prices").joinpath("gpus.csv").read_text(encoding="utf-8")
    models, names = [], {}
    for row in csv.DictReader(io.StringIO(text)):
        figures = ("tensor_tflops", "fp32_tflops", "bandwidth_gb_s", "memory_gb", "board_power_w")
        model = Gpu(row["gpu"], **{n: float(row[n]) if row[n] else None for n in figures}, source=row["source"])
        models.append(model)
        for name in (row["gpu"], *row["aliases"].split("|")):
            names[_plain(name)] = model
    return tuple(models), names


def _plain(name: str) -> str:
    """Strip a name of its maker, brands and punctuation: `NVIDIA GeForce RTX 4090` and `RTX4090`
    become `rtx4090`.
    """
    words = name.casefold().replace("-", " ").replace("_", " ").split()
    return "".join(word for word in words if word not in ("nvidia", "tesla", "geforce"))
