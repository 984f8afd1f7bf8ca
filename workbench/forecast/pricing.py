"""What a forecast comes to on an offer: of the machine that it is for, or carried over to another one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from workbench import prices
from workbench.estimate import Estimate, least_sure
from workbench.forecast.forecast import Forecast
from workbench.forecast.machine import Machine
from workbench.prices import Offer, Prices
from workbench.result import COSTS, Spending
from workbench.usage import Usage, Work


@dataclass(frozen=True)
class Compute:
    """What compute will take on the machine of an offer.

    Attributes:
        seconds: Seconds of work.
        usd: US$ of compute, an owner's electricity in them; None: unknown.
        energy_j: Joules of processors and GPU boards; None: unknown.
        gpu_seconds: GPUs held x seconds; None: unknown.
        carried: The offer is another machine than the forecast is for: all of this was carried over to it.
    """

    seconds: Estimate
    usd: Estimate | None
    energy_j: Estimate | None
    gpu_seconds: Estimate | None
    carried: bool = False


@dataclass(frozen=True)
class CostForecast:
    """What work that is still to be done will cost at an offer: the one form of all such forecasts.

    It is worked out by `here` for the machine that works, from seconds and joules alone, and by `on_offer` and `of_runs`
    for any offer, from usage by phase.

    Attributes:
        compute: What compute will take.
        labels: How many labels are to be bought for it.
        prices: Prices of compute and labels.
    """

    compute: Compute
    labels: int
    prices: Prices

    @classmethod
    def here(cls, seconds: Estimate, energy_j: Estimate | None, paid: Prices, *, gpus: int = 0, labels: int = 0) -> CostForecast:
        """Return the cost of work on the very machine that is paid for: nothing is carried over.

        Args:
            seconds: How long the work takes.
            energy_j: Joules of processors and GPU boards; None: unknown.
            paid: Prices of compute and labels.
            gpus: How many GPUs of the machine are held.
            labels: How many labels are to be bought.
        """

        # Low seconds are paid with low joules: both are off by the same speed of one machine.
        def at(end: str) -> float | None:
            joules = None if energy_j is None else getattr(energy_j, end)
            lasts = getattr(seconds, end)
            return prices.usd(Usage(lasts, cpu_energy_j=joules, gpu_seconds=lasts * gpus), paid.offer)

        usd = Estimate.of_ends(map(at, ("value", "low", "high")), seconds.basis, seconds.note)
        return cls(Compute(seconds, usd, energy_j, seconds * gpus), labels, paid)

    def cost(self, name: str) -> Estimate | None:
        """Return one of `workbench.result.COSTS`, in its stored unit; None where it is unknown."""
        return COSTS[name].of(self.compute, self.labels, self.prices.offer, self.prices.label_usd)

    @property
    def seconds(self) -> Estimate:
        """Seconds of work."""
        return self.compute.seconds

    @property
    def usd(self) -> Estimate | None:
        """US$ of compute and labels, an owner's electricity in them; None where they are unknown."""
        return self.cost("usd")

    @property
    def energy_j(self) -> Estimate | None:
        """Joules of processors and GPU boards; None where they are unknown."""
        return self.compute.energy_j

    @property
    def grams_co2e(self) -> Estimate | None:
        """Operational grams of CO2e; None where they are unknown."""
        return self.cost("grams_co2e")

    @property
    def carried(self) -> bool:
        """Whether the offer is another machine than the forecast is for: all was carried over to it."""
        return self.compute.carried

    @property
    def spending(self) -> Spending:
        """What would be spent, by the best guesses."""
        usd, energy_j = (None if each is None else each.value for each in (self.usd, self.energy_j))
        return Spending(usd, self.seconds.value, energy_j, self.labels)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, each estimate with its band."""
        figures = {name: getattr(self, name) for name in ("seconds", "usd", "grams_co2e", "energy_j")}
        return {name: of and asdict(of) for name, of in figures.items()} | {"carried": self.carried}


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
    forecast: Forecast,
    machine: Machine,
    offer: Offer,
    *,
    same_machine: bool | None = None,
    spent: bool = False,
    label_usd: float = 0.0,
) -> CostForecast | None:
    """Forecast what a recipe will cost on an offer; None where nothing is known of it there.

    The band is that of the forecast times that of carrying it over (`prices.carry`).

    Args:
        forecast: The recipe's forecast.
        machine: The machine that it is for.
        offer: The offer.
        same_machine: The offer is the price of that very machine; None: as `is_price_of` tells.
        spent: What a sweep spends on it, rather than what it takes with one evaluation.
        label_usd: Price of one labelled example in US$.
    """
    seconds = forecast.spent_seconds if spent else forecast.seconds
    energy_j = forecast.spent_energy_j if spent else forecast.energy_j
    phases = usage_by_phase([forecast], machine, spent=spent)
    compute = compute_on(phases, machine.name if machine.kind == "cuda" else None, offer, seconds, energy_j, same_machine)
    return None if compute is None else CostForecast(compute, forecast.labels, Prices(offer, label_usd))


def compute_on(
    phases: Mapping[str, Usage],
    gpu: str | None,
    offer: Offer,
    seconds: Estimate | None,
    energy_j: Estimate | None,
    same_machine: bool | None,
) -> Compute | None:
    """Carry phases over to an offer; None where nothing is known of them there.

    Args:
        phases: The best guess of usage by phase.
        gpu: The GPU's name as NVML gives it; None without one.
        offer: The offer.
        seconds: Seconds of all phases, whose band the result takes beside that of carrying over.
        energy_j: Joules of all phases; None where they are unknown.
        same_machine: Whether the offer prices that very machine; None: as `is_price_of` tells.
    """
    same = is_price_of(gpu, offer) if same_machine is None else same_machine
    there = prices.carry(phases, gpu, offer, same_machine=same) if phases else None
    if there is None or seconds is None:
        return None
    drawn = energy_j or seconds
    joules = there.energy_j and _banded(there.energy_j, seconds, drawn)
    paid = seconds if offer.usd_per_kwh is None else replace(seconds, basis=least_sure(seconds.basis, drawn.basis))
    return Compute(
        seconds=_banded(there.seconds, seconds, seconds),
        usd=there.usd and _banded(there.usd, seconds, paid),
        energy_j=joules,
        gpu_seconds=there.gpu_seconds and _banded(there.gpu_seconds, seconds, seconds),
        carried=there.basis == "scaled",
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
            times = {"evaluate": forecast.evaluations, "pretrain": forecast.pretrain_share}.get(name, 1) if spent else 1
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
    """Make the usage of a machine for some seconds at the power of a forecast, split into
    processors and GPU board.
    """
    on_gpu, processors, board = machine.kind == "cuda", machine.processor_watts, machine.gpu_watts
    errors = {}
    if forecast.energy_j and forecast.seconds:
        watts = forecast.energy_j.value / forecast.seconds.value
        processors = min(processors, watts) if on_gpu else watts
        # Only the sum is known from earlier runs; the processors draw what the meter's model says.
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
    """Widen a carried amount by the band of a forecast's seconds: errors of a product are ratios.

    Args:
        carried: The amount.
        seconds: The forecast's seconds, whose band is taken.
        band: The estimate whose basis and note are taken beside those of `carried`.
    """
    low, high = (seconds.low / seconds.value, seconds.high / seconds.value) if seconds.value else (1.0, 1.0)
    basis = least_sure(carried.basis, band.basis)
    note = "; ".join(note for note in (band.note, carried.note) if note)
    return Estimate(carried.value, carried.low * low, carried.high * high, basis, note)
