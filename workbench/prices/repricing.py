"""What a run would have taken on another machine, and would have cost there: measured where it is the same, scaled elsewhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from workbench import estimate
from workbench.estimate import Estimate
from workbench.prices.datasheets import SMALL_STEP_SHARE, Gpu, gpu, same_gpu
from workbench.prices.offers import Offer, usd
from workbench.usage import Usage, add_phases, total

COMPUTING = ("pretrain", "train", "evaluate")
"""Phases that another device makes shorter or longer. Loading, data, checkpoints and waiting stay as they were."""

WIDENING = 1.3
"""The band between the ratios of peak and of bandwidth is widened by this factor at both ends: kernels, clocks and hosts differ."""

WIDE = 3.0
"""Factor of the band where only arithmetic is known: another CPU, or a GPU after a run on a CPU."""

STEP_SECONDS = 0.02
"""Least time of an optimiser step on a GPU, assumed (not measured here): launching its kernels takes it, whatever the model."""

PASS_TOKENS = 65536
"""Padded tokens of an evaluation that go through a GPU in one pass, each of which takes a step's least time."""

IDLE_POWER_SHARE = 0.15
"""Share of its board power that a GPU is assumed to draw while a run loads data or saves; datasheets do not say."""


@dataclass(frozen=True)
class Carried:
    """A run on another machine.

    Attributes:
        phases: The best guess of its usage by phase.
        seconds: Wall-clock seconds of all phases.
        usd: Direct compute cost there, US$; None where it is unknown (`prices.usd`).
        energy_j: Joules of processor and GPU boards; None where unknown.
        basis: `measured`, `contended` or `scaled`, as in `workbench.estimate.BASES`.
        note: By what it was scaled or corrected; empty for a measured one.
    """

    phases: Mapping[str, Usage]
    seconds: Estimate
    usd: Estimate | None
    energy_j: Estimate | None
    basis: str
    note: str = ""

    @property
    def gpu_seconds(self) -> Estimate | None:
        """GPUs held x seconds on that machine, with the band of the seconds; None where it is
        unknown.
        """
        held = total(self.phases.values()).gpu_seconds
        return None if held is None or not self.seconds.value else self.seconds * (held / self.seconds.value)

    def __add__(self, other: Carried) -> Carried:
        """Both, one after the other on that machine: of what is unknown in one of them the sum is unknown, too."""
        seconds = self.seconds + other.seconds
        return Carried(
            phases=add_phases(self.phases, other.phases),
            seconds=seconds,
            usd=estimate.total((self.usd, other.usd)),
            energy_j=estimate.total((self.energy_j, other.energy_j)),
            basis=seconds.basis,
            note=seconds.note,
        )


def carry(
    phases: Mapping[str, Usage], measured_on: str | None, offer: Offer, *, same_machine: bool = False, contended: bool = False
) -> Carried | None:
    """Carry the usage of a run over to the machine of an offer. A record is never changed by it.

    - The same GPU model, or `same_machine`: as measured.
    - A run on a CPU stands as measured on a machine of one's own without a GPU (`owned`: it is taken to be this one), and is
      `scaled` with a factor of 1 and a band of x/÷ 3 on a rented one: CPUs differ in cores and age.
    - From one GPU to another: `COMPUTING` phases x sqrt(p·b), p = peak here / peak there, b = bandwidth here / bandwidth there,
      within [min(p, b) / 1.3, max(p, b) x 1.3]; the GPU's joules also x board power there / here.
    - From a CPU to a GPU: FLOPs / (0.15 x peak), at least 0.02 s a step, within x/÷ 3; joules of the GPU at full board power.
    - The rest has no answer: from a GPU to a machine without one, to fewer GPUs than were held, to or from a GPU whose figures
      are unknown, or from a CPU where FLOPs were not counted.

    Args:
        phases: Usage by phase, e.g. a Result's cold usage.
        measured_on: The GPU's name as NVML gives it; None for a run on the CPU alone.
        offer: The machine to carry it to.
        same_machine: The offer is a price of the very machine it ran on.
        contended: Others used that machine meanwhile: it is carried as it would have been without
            them (`Usage.undisturbed`).

    Returns:
        The usage there, with bands meant to hold nine in ten outcomes; None where there is no
        honest answer.
    """
    held = max((len(usage.devices) for usage in phases.values()), default=0)
    as_it_was = _UNDISTURBED if contended else _AS_IT_WAS
    if same_machine:
        return _carried(phases, as_it_was, offer)
    if measured_on is None:
        return _from_cpu(phases, offer, as_it_was)
    # On fewer GPUs than were held it would be another run, not the same at another price.
    if offer.gpus < max(1, held):
        return None
    if same_gpu(measured_on, offer.gpu):
        return _carried(phases, as_it_was, offer)
    here, there = gpu(measured_on), gpu(offer.gpu)
    rule = _between(here, there) if here and there else None
    return rule and _carried(phases, rule._replace(contended=contended), offer)


class _Rule(NamedTuple):
    """Ratios of time there to time here: best, low, high; and of the power of the boards."""

    times: tuple[float, float, float]
    power: float | None
    basis: str
    note: str = ""
    contended: bool = False


_AS_IT_WAS = _Rule((1.0, 1.0, 1.0), 1.0, "measured")
_UNDISTURBED = _Rule((1.0, 1.0, 1.0), 1.0, "contended", "less what other programs on the machine caused", contended=True)


def _between(here: Gpu, there: Gpu) -> _Rule | None:
    peak, bandwidth = _ratio(here.tensor_tflops, there.tensor_tflops), _ratio(here.bandwidth_gb_s, there.bandwidth_gb_s)
    if peak is None or bandwidth is None:
        return None
    # What computes goes by the peak, what moves memory by the bandwidth; a step is a mixture of
    # both.
    times = (math.sqrt(peak * bandwidth), min(peak, bandwidth) / WIDENING, max(peak, bandwidth) * WIDENING)
    note = f"from {here.name} to {there.name}: time x{peak:.2f} by peak, x{bandwidth:.2f} by bandwidth"
    # Times go by here / there, power by there / here.
    return _Rule(times, _ratio(there.board_power_w, here.board_power_w), "scaled", note)


def _from_cpu(phases: Mapping[str, Usage], offer: Offer, as_it_was: _Rule) -> Carried | None:
    contended = as_it_was.contended
    if not offer.gpus:
        if offer.commitment == "owned":
            return _carried(phases, as_it_was, offer)
        return _carried(phases, _Rule((1.0, 1 / WIDE, WIDE), 1.0, "scaled", f"another CPU: ×/÷ {WIDE:g}", contended), offer)
    there = gpu(offer.gpu)
    if there is None or there.tensor_tflops is None:
        return None
    on_gpu = {}
    for name, usage in phases.items():
        moved = _on_gpu(usage.undisturbed() if contended else usage, there, computing=name in COMPUTING)
        if moved is None:
            return None
        on_gpu[name] = moved
    note = f"from a CPU by FLOPs at {SMALL_STEP_SHARE:.0%} of the peak of {there.name}: ×/÷ {WIDE:g}"
    return _carried(on_gpu, _Rule((1.0, 1 / WIDE, WIDE), 1.0, "scaled", note), offer)


def _on_gpu(usage: Usage, there: Gpu, *, computing: bool) -> Usage | None:
    """Carry a window of a CPU over to one GPU; None where its FLOPs are unknown. The processor
    keeps the power it had.
    """
    seconds, power = usage.held_seconds, there.board_power_w
    if computing and usage.seconds > 0:
        if not usage.work.flops or there.tensor_tflops is None:
            return None
        # A small model's steps do not become free on a large GPU: launching them takes time.
        passes = usage.work.steps or 1 + usage.work.padded_tokens // PASS_TOKENS
        seconds = max(usage.work.flops / (SMALL_STEP_SHARE * there.tensor_tflops * 1e12), passes * STEP_SECONDS)
        # On the other machine it has the host alone, so its share of the seconds is all of them.
        alone = dataclasses.replace(usage, seconds=usage.held_seconds, others_seconds=0.0)
        usage = _scaled(alone, seconds / usage.held_seconds if usage.held_seconds > 0 else 1.0, 1.0, "from FLOPs")
        usage = dataclasses.replace(usage, seconds=seconds)
    elif power is not None:
        power *= IDLE_POWER_SHARE
    energy = None if power is None else power * seconds
    # Nothing was seen of a GPU: what it would have shown stays unknown, not 0.
    unknown: dict[str, Any] = dict.fromkeys(_SEEN_OF_A_GPU)
    return dataclasses.replace(usage, gpu_seconds=seconds, gpu_board_energy_j=energy, **unknown)


def _carried(phases: Mapping[str, Usage], rule: _Rule, offer: Offer) -> Carried:
    best, low, high = (
        {name: _end(usage, rule, name, ratio, sign) for name, usage in phases.items()}
        for ratio, sign in zip(rule.times, (0, -1, 1), strict=True)
    )
    sums = [total(end.values()) for end in (best, low, high)]
    return Carried(
        phases=best,
        seconds=Estimate(sums[0].seconds, sums[1].seconds, sums[2].seconds, rule.basis, rule.note),
        usd=Estimate.of_ends((usd(s, offer) for s in sums), rule.basis, rule.note),
        energy_j=Estimate.of_ends((s.energy_j for s in sums), rule.basis, rule.note),
        basis=rule.basis,
        note=rule.note,
    )


def _end(usage: Usage, rule: _Rule, phase: str, ratio: float, sign: int) -> Usage:
    """Return one end of a phase's band: joules shifted by their uncertainty, and time scaled where
    the phase computes.
    """
    # Each end of the band with its own estimate of what others caused.
    if rule.contended:
        usage = usage.undisturbed(sign)
    if sign:
        shifted = {name: _shifted(usage, name, sign) for name in ("cpu_energy_j", "gpu_board_energy_j")}
        usage = dataclasses.replace(usage, **shifted)  # type: ignore[arg-type]
    as_it_was = rule.basis in ("measured", "contended")
    return usage if phase not in COMPUTING or as_it_was else _scaled(usage, ratio, rule.power, rule.note)


def _shifted(usage: Usage, name: str, sign: int) -> float | None:
    joules: float | None = getattr(usage, name)
    return None if joules is None else joules * max(0.0, 1 + sign * usage.errors.get(name, 0.0))


_SEEN_OF_A_GPU = (
    "gpu_busy_seconds",
    "gpu_throttled_seconds",
    "gpu_overheated_seconds",
    "gpu_strangers_seconds",
    "gpu_peak_memory_bytes",
)

_TIMES = (
    "seconds",
    "others_seconds",
    "cpu_seconds",
    "cpu_energy_j",
    "gpu_seconds",
    "gpu_board_energy_j",
    "gpu_busy_seconds",
    "gpu_throttled_seconds",
    "gpu_overheated_seconds",
    "gpu_strangers_seconds",
    "waited_seconds",
    "stalled_seconds",
    "stalled_energy_j",
    "others_cpu_seconds",
)
"""All of a window that grows with its length: what of it others caused goes along, as shares of it are read (`Usage.contended`)."""


def _scaled(usage: Usage, ratio: float, power: float | None, note: str) -> Usage:
    """Stretch a window to `ratio` x its time, its boards drawing `power` x as much. It loses its
    breakdown by device.
    """
    numbers = {name: None if (value := getattr(usage, name)) is None else value * ratio for name in _TIMES}
    joules = numbers["gpu_board_energy_j"]
    if joules:
        numbers["gpu_board_energy_j"] = None if power is None else joules * power
    sources = {name: f"{text}; scaled {note}" for name, text in usage.sources.items()}
    return dataclasses.replace(usage, **numbers, sources=sources, devices=())  # type: ignore[arg-type]


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b
