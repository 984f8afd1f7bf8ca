"""Other views of a cost: as the platform bills it, per prediction served, and where one model overtakes another."""

from __future__ import annotations

import math

from workbench.errors import UsageError
from workbench.prices.offers import Offer, electricity_usd
from workbench.prices.platforms import platform


def billed_seconds(seconds: float, offer: Offer) -> float | None:
    """Return the seconds on the bill of a machine that was rented once for `seconds`: rounded up,
    at least the minimum.

    An owner pays what was used. None where the platform's rounding or minimum is unknown.
    """
    if offer.commitment == "owned":
        return seconds
    facts = platform(offer.platform)
    step = facts.billing_seconds if offer.billing_seconds is None else offer.billing_seconds
    least = facts.minimum_seconds if offer.minimum_seconds is None else offer.minimum_seconds
    if not step or least is None:
        return None
    # `max`: a quotient that is rounded down must not make the bill shorter than the time.
    return max(least, seconds, math.ceil(seconds / step) * step) if seconds > 0 else 0.0


def billed_usd(seconds: float, offer: Offer, *, energy_j: float | None = None) -> float | None:
    """Return the US$ on the bill for a whole machine, all its GPUs, rented once; never less than
    the direct cost.

    Args:
        seconds: Wall-clock seconds of the rental.
        offer: The machine.
        energy_j: Joules that it took, for an owner who pays electricity by the kWh; None: unknown.

    Returns:
        US$; None where the platform's rounding or minimum, or such an owner's energy, is unknown.
    """
    billed, electricity = billed_seconds(seconds, offer), electricity_usd(energy_j, offer)
    if billed is None or electricity is None:
        return None
    return billed / 3600 * float(offer.usd_per_hour) + electricity


def serving_usd_per_1000(
    offer: Offer,
    predictions_per_second: float,
    load_per_second: float | None = None,
    *,
    energy_j_per_prediction: float | None = None,
) -> float | None:
    """Return the US$ for 1,000 predictions served on an offer.

    Without a load the device is fully used: rate / (devices x throughput). With a load, as many
    whole machines as it needs are held all the time, and their price is spread over it: ceil(load /
    (devices x throughput)) x rate / load.

    Args:
        offer: The machine; its devices are its GPUs, or itself when it has none.
        predictions_per_second: Measured throughput of one device, > 0.
        load_per_second: Predictions asked for, on average, > 0; None for as many as can be served.
        energy_j_per_prediction: For an owner who pays electricity by the kWh; what idle machines
            draw is not in it.

    Returns:
        US$; None where such an owner's energy is unknown.

    Raises:
        UsageError: Throughput or load is not above 0.
    """
    for name, value in (("throughput", predictions_per_second), ("load", load_per_second)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"the {name} must be above 0 predictions a second; got {value}.")
    electricity = electricity_usd(energy_j_per_prediction, offer)
    if electricity is None:
        return None
    machine = max(1, offer.gpus) * predictions_per_second
    rate = float(offer.usd_per_hour) / 3600
    if load_per_second is None:
        return 1000 * (rate / machine + electricity)
    machines = max(1, math.ceil(load_per_second / machine - 1e-9))  # three times a third is one machine, not two
    return 1000 * (machines * rate / load_per_second + electricity)


def break_even_predictions(train_usd_a: float, serve_a: float, train_usd_b: float, serve_b: float) -> float | None:
    """Return the number of predictions after which two models have cost the same, training and
    serving together.

    It solves train_a + n · serve_a / 1000 = train_b + n · serve_b / 1000. Beyond it the model that
    serves for less is cheaper.

    Args:
        train_usd_a: US$ of training the first model.
        serve_a: US$ for 1,000 predictions of it.
        train_usd_b: US$ of training the second model.
        serve_b: US$ for 1,000 predictions of it.

    Returns:
        n >= 0; None where one of them is never overtaken.
    """
    if serve_a == serve_b:
        return None
    number = 1000 * (train_usd_a - train_usd_b) / (serve_b - serve_a)
    # A negative number is a meeting in the past, before anything was served.
    return number if 0 <= number < math.inf else None
