"""What a forecast comes to on an offer: of the machine that it is for, or carried over to another one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from workbench import carbon, prices
from workbench.estimate import BASES, Estimate
from workbench.forecast.forecast import Forecast
from workbench.forecast.machine import Machine
from workbench.prices import Offer
from workbench.usage import Usage, Work


@dataclass(frozen=True)
class Taken:
    """What runs take on an offer.

    Attributes:
        seconds: Seconds of work.
        usd: US$ of compute and labels, an owner's electricity in them; None: unknown.
        grams_co2e: Operational grams; None: unknown.
        energy_j: Joules of processors and GPU boards; None: unknown.
        carried: The offer is another machine than the forecast is for: all of this was carried over to it.
        gpu_seconds: GPUs held x seconds; None: unknown.
    """

    seconds: Estimate
    usd: Estimate | None
    grams_co2e: Estimate | None
    energy_j: Estimate | None = None
    carried: bool = False
    gpu_seconds: Estimate | None = None


def is_price_of(gpu: str | None, offer: Offer) -> bool:
    """Whether an offer can be the price of a machine: neither has a GPU, or both have the same model.

    Args:
        gpu: The name of the machine's GPU, as NVML gives it; None without one.
        offer: The offer.
    """
    if gpu is None or not offer.gpus:
        return gpu is None and not offer.gpus
    return prices.same_gpu(gpu, offer.gpu) is True


def on_offer(
    forecast: Forecast, machine: Machine, offer: Offer, *, same_machine: bool | None = None, spent: bool = False
) -> Taken | None:
    """What a recipe takes on an offer, labels not in it; None where nothing is known of it there.

    The band is that of the forecast times that of carrying it over (`prices.carry`).

    Args:
        forecast: The recipe's forecast.
        machine: The machine that it is for.
        offer: The offer.
        same_machine: The offer is the price of that very machine; None: as `is_price_of` tells.
        spent: What a sweep spends on it, rather than what it takes with one evaluation.
    """
    seconds = forecast.spent_seconds if spent else forecast.seconds
    energy_j = forecast.spent_energy_j if spent else forecast.energy_j
    phases = usage_by_phase([forecast], machine, spent=spent)
    return taken_on(phases, machine.name if machine.kind == "cuda" else None, offer, seconds, energy_j, same_machine)


def taken_on(
    phases: Mapping[str, Usage],
    gpu: str | None,
    offer: Offer,
    seconds: Estimate | None,
    energy_j: Estimate | None,
    same_machine: bool | None,
) -> Taken | None:
    """What phases take on an offer, with the bands of their seconds and of carrying them over."""
    same = is_price_of(gpu, offer) if same_machine is None else same_machine
    there = prices.carry(phases, gpu, offer, same_machine=same) if phases else None
    if there is None or seconds is None:
        return None
    drawn, per_joule = energy_j or seconds, carbon.grams_per_joule(offer)
    joules = there.energy_j and _banded(there.energy_j, seconds, drawn)
    paid = seconds if offer.usd_per_kwh is None else replace(seconds, basis=max(seconds.basis, drawn.basis, key=BASES.index))
    return Taken(
        seconds=_banded(there.seconds, seconds, seconds),
        usd=there.usd and _banded(there.usd, seconds, paid),
        grams_co2e=None if joules is None or per_joule is None else joules * per_joule,
        energy_j=joules,
        carried=there.basis == "scaled",
        gpu_seconds=there.gpu_seconds and _banded(there.gpu_seconds, seconds, seconds),
    )


def usage_by_phase(forecasts: Sequence[Forecast], machine: Machine, *, spent: bool) -> dict[str, Usage]:
    """Mean usage by phase, with one evaluation or as a sweep spends it; empty where that of one is unknown."""
    seconds: dict[str, float] = {}
    flops: dict[str, float | None] = {}
    count = len(forecasts)
    for forecast in forecasts:
        if forecast.seconds is None or (spent and forecast.spent_seconds is None):
            return {}
        for name, estimate in forecast.phases.items():
            times = forecast.evaluations if spent and name == "evaluate" else 1
            seconds[name] = seconds.get(name, 0.0) + times * (estimate.value if estimate else 0.0) / count
            so_far, done = flops.get(name, 0.0), forecast.work[name].flops
            flops[name] = None if so_far is None or done is None else so_far + times * done / count
        if spent and forecast.between_seconds:
            seconds["idle"] = seconds.get("idle", 0.0) + forecast.between_seconds.value / count
    steps = round(statistics.fmean(forecast.steps for forecast in forecasts))
    return {
        name: replace(
            _drawing(taken, machine, forecasts[0]),
            work=Work(steps=steps if name == "train" else 0, flops=flops.get(name, 0.0)),
        )
        for name, taken in seconds.items()
    }


def _drawing(seconds: float, machine: Machine, forecast: Forecast) -> Usage:
    """Usage of a machine for so many seconds at the power of a forecast. What the processors do not draw, the GPU's board does."""
    on_gpu, processors, board = machine.kind == "cuda", machine.processor_watts, machine.gpu_watts
    errors = {}
    if forecast.energy_j and forecast.seconds:
        watts = forecast.energy_j.value / forecast.seconds.value
        processors = min(processors, watts) if on_gpu else watts
        board = watts - processors
        error = max(0.0, forecast.energy_j.high / forecast.seconds.high / watts - 1)
        errors = {"cpu_energy_j": error} | ({"gpu_board_energy_j": error} if on_gpu else {})
    return Usage(
        seconds,
        cpu_energy_j=seconds * processors,
        gpu_seconds=seconds if on_gpu else 0.0,
        gpu_board_energy_j=(None if board is None else seconds * board) if on_gpu else 0.0,
        errors=errors,
    )


def _banded(carried: Estimate, seconds: Estimate, band: Estimate) -> Estimate:
    """A carried amount with the band of a forecast's seconds on top: errors of a product are ratios. `said` has basis and note."""
    low, high = (seconds.low / seconds.value, seconds.high / seconds.value) if seconds.value else (1.0, 1.0)
    basis = max(carried.basis, band.basis, key=BASES.index)
    note = "; ".join(note for note in (band.note, carried.note) if note)
    return Estimate(carried.value, carried.low * low, carried.high * high, basis, note)
