"""What lies ahead of runs, for the search: their checkpoints, with what each is forecast to cost."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from workbench.forecast import Forecast, Forecaster, on_offer
from workbench.prices import Offer
from workbench.result import Result
from workbench.search import Checkpoint
from workbench.study import Recipe


class Outlook:
    """Forecasts of checkpoints in a study's first cost. What recipes of equal cost share is worked out once until more is learnt.

    Args:
        forecaster: Of the study on this machine.
        offer: What prices it.
        label_usd: What a label costs, in US$.
    """

    def __init__(self, forecaster: Forecaster, offer: Offer, label_usd: float) -> None:
        self.forecaster, self._offer, self._label_usd = forecaster, offer, label_usd
        self._cost = forecaster.study.costs[0]
        self._known: dict[Hashable, Sequence[Checkpoint]] = {}

    def learn(self, results: Sequence[Result]) -> None:
        """Take in what the ledger holds now."""
        self.forecaster.learn(results)
        self._known.clear()

    def checkpoints(self, recipe: Recipe) -> Sequence[Checkpoint]:
        """The checkpoints that a recipe passes, shortest first."""
        key = self.forecaster.key(recipe)
        if key not in self._known:
            self._known[key] = [self._checkpoint(recipe, epochs) for epochs in self.forecaster.checkpoints(recipe)]
        return self._known[key]

    def _checkpoint(self, recipe: Recipe, epochs: float) -> Checkpoint:
        forecast = self.forecaster.segment(recipe, 0.0, epochs)
        return Checkpoint(
            epochs=epochs,
            progress=float(forecast.steps * recipe.batch_size),
            labels=float(forecast.labels),
            cost=self._of(forecast),
            amount=float(forecast.steps) * forecast.parameters,
        )

    def _of(self, forecast: Forecast) -> float | None:
        """The study's first cost of what is forecast; None: unknown."""
        if self._cost == "labels":
            return float(forecast.labels)
        # With one evaluation at its end: `segment` counts those on the way in what is spent alone.
        taken = on_offer(forecast, self.forecaster.machine, self._offer, same_machine=True)
        if taken is None:
            return None
        names = {"usd": "usd", "usd_compute": "usd", "seconds": "seconds", "energy_j": "energy_j", "grams_co2e": "grams_co2e"}
        found = getattr(taken, names[self._cost])
        if found is None:
            return None
        return float(found.value) + (forecast.labels * self._label_usd if self._cost == "usd" else 0.0)
