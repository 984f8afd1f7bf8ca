"""What lies ahead of runs, for the search: their checkpoints, with what each is forecast to cost."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

from workbench.forecast import Forecast, Forecaster, on_offer
from workbench.prices import Offer
from workbench.result import COSTS, Result
from workbench.search import CheckpointForecast
from workbench.study import Recipe


class Outlook:
    """Forecasts of the checkpoints of runs, in the study's first cost.

    Recipes that a forecast cannot tell apart share one, which is worked out once until more is
    learnt.

    Args:
        forecaster: Of the study on this machine.
        offer: What prices it.
        label_usd: What a label costs, in US$.
    """

    def __init__(self, forecaster: Forecaster, offer: Offer, label_usd: float) -> None:
        self.forecaster, self._offer, self._label_usd = forecaster, offer, label_usd
        self._cost = COSTS[forecaster.study.costs[0]]
        self._known: dict[Hashable, Sequence[CheckpointForecast]] = {}

    def learn(self, results: Sequence[Result]) -> None:
        """Take in what the ledger holds now."""
        self.forecaster.learn(results)
        self._known.clear()

    def compute_usd(self, recipe: Recipe, epochs: float) -> float | None:
        """US$ of compute until so many epochs, from cold; None: unknown."""
        forecast = self.forecaster.segment(recipe, 0.0, epochs)
        taken = on_offer(forecast, self.forecaster.machine, self._offer, same_machine=True)
        return None if taken is None or taken.usd is None else float(taken.usd.value)

    def checkpoints(self, recipe: Recipe) -> Sequence[CheckpointForecast]:
        """The checkpoints that a recipe passes, shortest first."""
        # A decision looks at hundreds of recipes, and most differ
        # only in a learning rate, on which no forecast depends.
        key = self.forecaster.key(recipe)
        if key not in self._known:
            self._known[key] = [self._checkpoint(recipe, epochs) for epochs in self.forecaster.checkpoints(recipe)]
        return self._known[key]

    def _checkpoint(self, recipe: Recipe, epochs: float) -> CheckpointForecast:
        forecast = self.forecaster.segment(recipe, 0.0, epochs)
        return CheckpointForecast(
            epochs=epochs,
            progress=max(1.0, float(forecast.steps * recipe.batch_size)),  # both are looked at as logarithms: nothing is as one
            labels=max(1.0, float(forecast.labels)),
            cost=self._of(forecast),
            amount=max(1.0, float(forecast.steps)) * max(1, forecast.parameters),
            load=self._load(forecast),
            fits=_fits(forecast, self.forecaster.machine.memory_bytes),
        )

    def _load(self, forecast: Forecast) -> float:
        """The study's first cost of loading the model; 0 where it is unknown, or labels."""
        load, whole, found = forecast.phases["load"], forecast.seconds, self._of(forecast)
        if self._cost.of_compute is None or load is None or whole is None or found is None or not whole.value:
            return 0.0
        # Loading takes its share of the compute, and none of the labels' price.
        compute = found - (self._cost.of_labels(forecast.labels, self._label_usd) or 0.0)
        return compute * load.value / whole.value

    def _of(self, forecast: Forecast) -> float | None:
        """The study's first cost of what is forecast; None: unknown."""
        if self._cost.of_compute is None:
            return max(self._cost.least, self._cost.of_labels(forecast.labels, self._label_usd) or 0.0)
        # With one evaluation at its end: `segment` counts those on the way in what is spent alone.
        machine, label_usd = self.forecaster.machine, self._label_usd
        taken = on_offer(forecast, machine, self._offer, same_machine=True, label_usd=label_usd)
        found = None if taken is None else taken.cost(self._cost.name)
        return None if found is None else float(found.value)


def _fits(forecast: Forecast, memory_bytes: int) -> float:
    """Chance that the peak of memory stays below what there is: it is taken to be log-normal, nine in ten within its band."""
    peak = forecast.peak_memory_bytes
    if peak is None or peak.value <= 0:
        return 1.0
    # The band holds nine in ten: its ends are the 5 % and 95 %
    # quantiles, 2 x 1.645 standard deviations apart in the logarithm.
    spread = math.log(peak.high / peak.low) / (2 * NormalDist().inv_cdf(0.95))
    room = math.log(memory_bytes / peak.value)
    return NormalDist().cdf(room / spread) if spread > 0 else float(room >= 0)
