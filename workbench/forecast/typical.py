"""The run that a study makes on average, by recipes drawn from its space; what many of it take, here and on every offer."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from workbench import prices, space
from workbench.estimate import Estimate, least_sure
from workbench.forecast.forecaster import Forecaster
from workbench.forecast.pricing import Compute, CostForecast, compute_on, usage_by_phase
from workbench.prices import Offer, Prices
from workbench.study import Recipe
from workbench.usage import Usage

DRAWS = 200

USABLE_SHARE = 0.9
"""Share of a GPU's memory that a run may be forecast to fill: the rest is the driver's, and the allocator's gaps. Assumed."""

START_SECONDS = 8.0
"""What a start of a sweep takes before its first run: imports, checks, data, MLflow. Rounded from starts of the default study on
two CPU cores (7 to 9 s); within a factor of 2."""


@dataclass(frozen=True, kw_only=True)
class Typical:
    """The mean of runs drawn from a space, on the forecaster's machine. A search that has learnt what is cheap spends less.

    Attributes:
        draws: How many recipes were drawn.
        seconds: What a sweep spends on one, with its band; None: unknown.
        energy_j: Joules of those seconds; None: unknown.
        phases: The same by phase, as usage; what is spent between phases counts as `idle`. Empty where unknown.
        labels: The most labels that one of them uses: bought once for all runs.
        peak_memory_bytes: Peak of the run that takes most; None where the peak of one is unknown.
        resident_bytes: What of it the host's process holds before there is a model.
        memory_bytes: Memory of the machine that it is a forecast for.
        gpu: Product name of its GPU; None for a processor.
        least_memory_bytes: Peak of the run that takes least; None where the peak of one is unknown.
    """

    draws: int
    seconds: Estimate | None
    energy_j: Estimate | None
    phases: Mapping[str, Usage]
    labels: int
    peak_memory_bytes: float | None
    resident_bytes: int
    memory_bytes: int
    gpu: str | None
    least_memory_bytes: float | None = None

    @property
    def devices(self) -> int | None:
        """How many of the machine's GPUs have the memory of the run that takes most, if each holds an equal part; None: unknown, or
        there is no GPU.
        """
        if self.gpu is None or self.peak_memory_bytes is None:
            return None
        return max(1, math.ceil(self.peak_memory_bytes / (USABLE_SHARE * self.memory_bytes)))


def typical(forecaster: Forecaster, *, seed: int = 0, draws: int = DRAWS) -> Typical:
    """Draw recipes from the forecaster's study.

    Raises:
        UsageError: A method cannot be applied to a model.
    """
    rng, study = random.Random(seed), forecaster.study
    holes = study.dimensions
    recipes = [study.resolve(space.draw(holes, rng)) for _ in range(draws if holes else 1)]
    share = _share_of_parents(recipes[: study.trials or DRAWS])
    forecasts = [f if share is None or not f.pretrain_share else f.sharing(share) for f in map(forecaster.run, recipes)]
    peaks = [f.peak_memory_bytes.value if f.peak_memory_bytes else None for f in forecasts]
    return Typical(
        draws=len(recipes),
        seconds=_mean([f.spent_seconds for f in forecasts]),
        energy_j=_mean([f.spent_energy_j for f in forecasts]),
        phases=usage_by_phase(forecasts, forecaster.machine, spent=True),
        labels=max(f.labels for f in forecasts),
        peak_memory_bytes=None if None in peaks else max(p for p in peaks if p is not None),
        resident_bytes=forecaster.machine.resident_bytes,
        memory_bytes=forecaster.machine.memory_bytes,
        gpu=forecaster.machine.name if forecaster.machine.kind == "cuda" else None,
        least_memory_bytes=None if None in peaks else min(p for p in peaks if p is not None),
    )


def _share_of_parents(recipes: Sequence[Recipe]) -> float | None:
    """The share of making what it starts from that a run of a sweep of these pays, since each is made once; None without any."""
    made = [parent.id for recipe in recipes for parent in recipe.parents]
    return len({*made}) / len(made) if made else None


@dataclass(frozen=True)
class Terms:
    """The machine that runs are made on, and the prices that they are paid at.

    Attributes:
        prices: Prices of compute and labels.
        same_machine: Whether the offer is the price of the machine that the forecast is for; None: as `is_price_of` tells.
        whole: Whether all GPUs of the machine are paid for, of which a run holds one; electricity is paid once, for what is
            drawn.
    """

    prices: Prices
    same_machine: bool | None = None
    whole: bool = False


def of_runs(run: Typical, runs: float, terms: Terms, *, starts: int = 0, labels_bought: int = 0) -> CostForecast | None:
    """Forecast what a number of typical runs take on an offer: labels once, all else for each run.

    Args:
        run: The typical run.
        runs: How many.
        terms: Machine and prices.
        starts: How often the sweep is started: each takes `START_SECONDS`.
        labels_bought: Labels that earlier runs have bought: they are not bought again.

    Returns:
        The forecast; None where nothing is known of the runs on that offer.
    """
    offer = priced = terms.prices.offer
    if terms.whole:
        # `prices.usd` charges one GPU of the machine: at the machine's price times its GPUs that is
        # the whole.
        hourly = offer.usd_per_hour * Decimal(max(1, offer.gpus))
        priced = replace(offer, amount=hourly, unit="hour", currency="USD", exchange=None)
    one = compute_on(run.phases, run.gpu, priced, run.seconds, run.energy_j, terms.same_machine)
    if one is None:
        return None
    lasting, nothing = Estimate.within(START_SECONDS * starts, 2.0, one.seconds.basis), Estimate.exact(0.0)
    start = CostForecast.here(lasting, nothing, Prices(priced), gpus=1 if offer.gpus else 0).compute
    whole = Compute(
        seconds=one.seconds * runs + start.seconds,
        usd=_sum(one.usd, runs, start.usd),
        energy_j=_sum(one.energy_j, runs, start.energy_j),
        gpu_seconds=_sum(one.gpu_seconds, runs, start.gpu_seconds),
        carried=one.carried,
    )
    return CostForecast(whole, max(0, run.labels - labels_bought), Prices(priced, terms.prices.label_usd))


def _sum(one: Estimate | None, runs: float, start: Estimate | None) -> Estimate | None:
    """So many runs and the starts of the sweep."""
    return None if one is None or start is None else one * runs + start


def trials_within(
    run: Typical, terms: Terms, budget_usd: float, *, spent_usd: float = 0.0, labels_bought: int = 0
) -> Estimate | None:
    """Forecast the runs that a budget still pays for: (budget - spent - labels) / US$ of a run.

    Labels are bought once for all runs.

    Args:
        run: The typical run.
        terms: Machine and prices.
        budget_usd: The budget, what was spent of it included.
        spent_usd: What was spent of it already, on labels too.
        labels_bought: Labels that earlier runs have bought: they are not bought again.

    Returns:
        A whole number of runs with whole ends, 0 where the labels alone cost more; None where a
        run's cost is unknown.
    """
    taken = of_runs(run, 1, replace(terms, prices=Prices(terms.prices.offer)))
    if taken is None or taken.usd is None:
        return None
    left = max(0.0, budget_usd - spent_usd - terms.prices.label_usd * max(0, run.labels - labels_bought))
    # The dearest run buys the fewest: the ends change places.
    value, low, high = (float(int(left / usd)) if usd > 0 else 0.0 for usd in (taken.usd.value, taken.usd.high, taken.usd.low))
    return Estimate(value, low, high, taken.usd.basis, taken.usd.note)


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
    taken: CostForecast | None


def rank(run: Typical, runs: float, offers: Iterable[Offer], label_usd: float) -> list[Ranked]:
    """Sort offers: those whose memory fits first, the cheapest of them first, and unknown costs
    last.

    A machine is paid for as a whole, however many GPUs it has: that is how it is rented, and a
    sweep holds one.
    """
    ranked = [Ranked(offer, _fits(run, offer), _rented(run, runs, offer, label_usd)) for offer in offers]
    return sorted(ranked, key=_place)


def _rented(run: Typical, runs: float, offer: Offer, label_usd: float) -> CostForecast | None:
    """What runs take on a whole machine. A rented machine is never taken to be this one, as `prices.carry` has it."""
    return of_runs(run, runs, Terms(Prices(offer, label_usd), same_machine=False, whole=True), starts=1)


def _fits(run: Typical, offer: Offer) -> bool | None:
    if run.peak_memory_bytes is None:
        return None
    if offer.commitment == "owned" and offer.gpus == 0 and run.gpu is None and offer.memory_gib is None:
        return run.peak_memory_bytes <= run.memory_bytes  # one's own machine without a GPU is taken to be this one
    # On a GPU what the process itself holds lies in the host's memory.
    on_gpu = offer.gpus > 0 and run.gpu is None
    return prices.fits(run.peak_memory_bytes - (run.resident_bytes if on_gpu else 0), offer)


def _place(ranked: Ranked) -> tuple[bool, bool, float, str]:
    usd = ranked.taken.usd if ranked.taken else None
    return ranked.fits is False, usd is None, usd.value if usd else 0.0, ranked.offer.name


def _mean(parts: Sequence[Estimate | None]) -> Estimate | None:
    """Mean of estimates whose errors go the same way; None where one is unknown."""
    estimates = [part for part in parts if part is not None]
    if len(estimates) < len(parts):
        return None
    # Ends are averaged, not errors in squares: one machine is off in one direction for all runs.
    value, low, high = (statistics.fmean(getattr(part, end) for part in estimates) for end in ("value", "low", "high"))
    basis = least_sure(*(part.basis for part in estimates))
    return Estimate(value, low, high, basis, f"mean of {len(estimates)} recipes drawn from the space")
