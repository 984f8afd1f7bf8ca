"""The run that a study makes on average, by recipes drawn from its space; what many of it take, here and on every offer."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workbench import carbon, prices, space
from workbench.estimate import BASES, Estimate
from workbench.forecast.forecast import Forecast
from workbench.forecast.forecaster import Forecaster
from workbench.prices import Offer
from workbench.study import Recipe
from workbench.usage import Usage, Work

DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Typical:
    """The mean of runs drawn from a space, on the forecaster's machine. A search that has learnt what is cheap spends less.

    Attributes:
        draws: How many recipes were drawn.
        seconds: What a sweep spends on one, with its band; None: unknown.
        phases: The same by phase, as usage; empty where unknown.
        labels: The most labels that one of them uses: bought once for all runs.
        peak_memory_bytes: Of the one that takes most; None where that of one is unknown.
        resident_bytes: What of it the host's process holds before there is a model.
        memory_bytes: Memory of the machine that it is a forecast for.
        gpu: Product name of its GPU; None for a processor.
    """

    draws: int
    seconds: Estimate | None
    phases: Mapping[str, Usage]
    labels: int
    peak_memory_bytes: float | None
    resident_bytes: int
    memory_bytes: int
    gpu: str | None


def typical(forecaster: Forecaster, *, seed: int = 0, draws: int = DRAWS) -> Typical:
    """Draw recipes from the forecaster's study.

    Raises:
        UsageError: A method cannot be applied to a model.
    """
    rng, study = random.Random(seed), forecaster.study
    holes = study.dimensions
    recipes = [study.resolve(space.draw(holes, rng)) for _ in range(draws if holes else 1)]
    forecasts = [forecaster.run(recipe) for recipe in recipes]
    peaks = [f.peak_memory_bytes.value if f.peak_memory_bytes else None for f in forecasts]
    return Typical(
        draws=len(recipes),
        seconds=_mean([f.spent_seconds for f in forecasts]),
        phases=_phases(forecaster, recipes, forecasts),
        labels=max(f.labels for f in forecasts),
        peak_memory_bytes=None if None in peaks else max(p for p in peaks if p is not None),
        resident_bytes=forecaster.machine.resident_bytes,
        memory_bytes=forecaster.machine.memory_bytes,
        gpu=forecaster.machine.name if forecaster.machine.kind == "cuda" else None,
    )


def of_runs(
    run: Typical, runs: float, offer: Offer, label_usd: float, *, same_machine: bool = False, whole: bool = False
) -> Taken | None:
    """What so many typical runs take on an offer: labels once, the rest each time; None where nothing is known of it there.

    The band is that of the forecast times that of carrying it over (`prices.carry`).

    Args:
        run: The typical run.
        runs: How many.
        offer: The machine.
        label_usd: Price of a label.
        same_machine: The offer is the price of the machine that the forecast is for.
        whole: Pay for all GPUs of the machine, of which a run holds one.
    """
    there = prices.carry(run.phases, run.gpu, offer, same_machine=same_machine) if run.phases else None
    if there is None or run.seconds is None:
        return None
    labels, per_joule = run.labels * label_usd, carbon.grams_per_joule(offer)
    machines = float(max(1, offer.gpus)) if whole else 1.0
    usd = None if there.usd is None else _banded(there.usd, run.seconds) * (runs * machines) + Estimate.exact(labels)
    grams = None if there.energy_j is None or per_joule is None else _banded(there.energy_j, run.seconds) * runs * per_joule
    return Taken(_banded(there.seconds, run.seconds) * runs, usd, grams)


def trials_within(run: Typical, offer: Offer, budget_usd: float, label_usd: float = 0.0) -> Estimate | None:
    """Runs that a budget pays for on this machine: (budget - labels, bought once) / US$ of a typical run.

    Returns:
        A whole number of runs with whole ends, 0 where the labels alone cost more; None where a run's cost is unknown.
    """
    taken = of_runs(run, 1, offer, 0.0, same_machine=True)
    if taken is None or taken.usd is None:
        return None
    left = max(0.0, budget_usd - label_usd * run.labels)
    value, low, high = (float(int(left / usd)) if usd > 0 else 0.0 for usd in (taken.usd.value, taken.usd.high, taken.usd.low))
    return Estimate(value, low, high, taken.usd.basis, run.seconds.note if run.seconds else "")


@dataclass(frozen=True)
class Taken:
    """What runs take on an offer.

    Attributes:
        seconds: Seconds of work.
        usd: US$ of compute and labels; None: unknown.
        grams_co2e: Operational grams; None: unknown.
    """

    seconds: Estimate
    usd: Estimate | None
    grams_co2e: Estimate | None


@dataclass(frozen=True)
class Ranked:
    """An offer as a place for a study.

    Attributes:
        offer: The offer.
        fits: Whether the largest recipe drawn fits its memory; None: unknown.
        taken: What the sweep would take there; None: unknown.
    """

    offer: Offer
    fits: bool | None
    taken: Taken | None


def rank(run: Typical, runs: float, offers: Iterable[Offer], label_usd: float) -> list[Ranked]:
    """The offers, those that fit first, the cheapest of them first; where the cost is unknown last.

    A machine is paid for as a whole, however many GPUs it has: that is how it is rented, and a sweep holds one.
    """
    found = [Ranked(offer, _fits(run, offer), of_runs(run, runs, offer, label_usd, whole=True)) for offer in offers]
    return sorted(found, key=_place)


def _fits(run: Typical, offer: Offer) -> bool | None:
    if run.peak_memory_bytes is None:
        return None
    if offer.commitment == "owned" and offer.gpus == 0 and run.gpu is None and offer.memory_gib is None:
        return run.peak_memory_bytes <= run.memory_bytes  # one's own machine without a GPU is taken to be this one
    on_gpu = offer.gpus > 0 and run.gpu is None
    return prices.fits(run.peak_memory_bytes - (run.resident_bytes if on_gpu else 0), offer)


def _place(ranked: Ranked) -> tuple[bool, bool, float, str]:
    usd = ranked.taken.usd if ranked.taken else None
    return ranked.fits is False, usd is None, usd.value if usd else 0.0, ranked.offer.name


def _phases(forecaster: Forecaster, recipes: Sequence[Recipe], forecasts: Sequence[Forecast]) -> dict[str, Usage]:
    """Mean usage by phase, an evaluation at every checkpoint; empty where a recipe's is unknown."""
    if any(f.spent_seconds is None for f in forecasts):
        return {}
    machine, count = forecaster.machine, len(recipes)
    seconds: dict[str, float] = {}
    flops: dict[str, float] = {}
    for recipe, forecast in zip(recipes, forecasts, strict=True):
        amounts = forecaster.amounts(recipe)
        for name, estimate in forecast.phases.items():
            times = forecast.evaluations if name == "evaluate" else 1
            seconds[name] = seconds.get(name, 0.0) + times * (estimate.value if estimate else 0.0) / count
            flops[name] = flops.get(name, 0.0) + times * amounts.get(name, {}).get("flops", 0.0) / count
    steps = round(statistics.fmean(f.steps for f in forecasts))
    processors = machine.processor_watts
    on_gpu = machine.kind == "cuda"
    return {
        name: Usage(
            taken,
            cpu_energy_j=taken * processors,
            gpu_seconds=taken if on_gpu else 0.0,
            gpu_board_energy_j=(None if machine.gpu_watts is None else taken * machine.gpu_watts) if on_gpu else 0.0,
            work=Work(steps=steps if name == "train" else 0, flops=flops[name]),
        )
        for name, taken in seconds.items()
    }


def _banded(carried: Estimate, forecast: Estimate) -> Estimate:
    """A carried mean with the forecast's own band on top: errors of a product are ratios."""
    if not forecast.value:
        return carried
    low, high = forecast.low / forecast.value, forecast.high / forecast.value
    basis = max(carried.basis, forecast.basis, key=BASES.index)
    note = "; ".join(note for note in (forecast.note, carried.note) if note)
    return Estimate(carried.value, carried.low * low, carried.high * high, basis, note)


def _mean(parts: Sequence[Estimate | None]) -> Estimate | None:
    """Mean of estimates whose errors go the same way; None where one is unknown."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    value, low, high = (statistics.fmean(getattr(part, end) for part in known) for end in ("value", "low", "high"))
    basis = max((part.basis for part in known), key=BASES.index)
    return Estimate(value, low, high, basis, f"mean of {len(known)} recipes drawn from the space")
