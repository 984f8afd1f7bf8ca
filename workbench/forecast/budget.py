"""How many runs a budget buys."""

from __future__ import annotations

import random
import statistics

from workbench import space
from workbench.estimate import BASES, Estimate
from workbench.forecast.forecaster import Forecaster
from workbench.study import Study

DRAWS = 200


def trials_within(
    forecaster: Forecaster,
    study: Study,
    *,
    usd_per_hour: float,
    budget_usd: float,
    label_usd: float = 0.0,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate | None:
    """Runs that a budget pays for, by the mean cost of recipes drawn from the space.

    (budget - label_usd x the most labels of a recipe) / (usd_per_hour x mean spent seconds of a recipe): labels are bought once
    for all runs. A search that has learnt what is cheap does more; bands are those of the seconds.

    Args:
        forecaster: Of this study.
        study: The study.
        usd_per_hour: Price of the machine.
        budget_usd: What may be spent.
        label_usd: Price of a label.
        seed: Of the draws.
        draws: How many recipes.

    Returns:
        A whole number of runs with whole ends, 0 where the labels alone cost more; None where a recipe's seconds are unknown.

    Raises:
        UsageError: A method cannot be applied to a model.
    """
    rng, holes = random.Random(seed), study.dimensions
    drawn = [forecaster.run(study.resolve(space.draw(holes, rng))) for _ in range(draws if holes else 1)]
    seconds = [forecast.spent_seconds for forecast in drawn if forecast.spent_seconds is not None]
    if len(seconds) < len(drawn):
        return None
    left = max(0.0, budget_usd - label_usd * max(forecast.labels for forecast in drawn))
    means = [statistics.fmean(getattr(each, end) for each in seconds) / 3600 * usd_per_hour for end in ("value", "high", "low")]
    value, low, high = (float(int(left / mean)) if mean > 0 else 0.0 for mean in means)
    basis = max((each.basis for each in seconds), key=BASES.index)
    return Estimate(value, low, high, basis, f"mean of {len(drawn)} recipes drawn from the space")
