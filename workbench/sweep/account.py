"""What a sweep has spent and bought so far, and whether what comes next fits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench import prices
from workbench.estimate import Estimate
from workbench.forecast import CostForecast, Forecaster
from workbench.result import Result, Spending, label_order, labels_by_order
from workbench.study import Recipe
from workbench.sweep.budget import Budget
from workbench.sweep.limits import promised
from workbench.usage import Usage

if TYPE_CHECKING:
    from workbench.training import Checkpoint


class Account:
    """The budget of a sweep as its work goes on.

    Args:
        budget: The limits at the sweep's prices.
        forecaster: Says what a run will take.

    Attributes:
        refusals: Why runs were not admitted since the last decision began, by the US$ that each
            would cost.
    """

    def __init__(self, budget: Budget, forecaster: Forecaster) -> None:
        self.budget, self.forecaster = budget, forecaster
        self.refusals: dict[float, str] = {}
        self._recorded = Spending()
        self._bought: dict[str, int] = {}  # labels, by the order in which they are bought
        self._asked: dict[Hashable, bool] = {}

    @property
    def bounded(self) -> bool:
        """Whether anything but the number of trials ends the sweep."""
        return self.budget.watched or self.budget.limits.max_labels is not None

    def ask_anew(self) -> None:
        """Forget what was admitted and refused: a decision begins, and forecasts may have changed."""
        self.refusals.clear()
        self._asked.clear()

    def note(self, results: Sequence[Result], more: Usage | None = None) -> None:
        """Bring the account up to date with the ledger.

        The labels that runs in progress are going to use count as bought, since nobody else has to
        pay for them again.

        Args:
            results: All Results, those that are being made included.
            more: What was consumed and is charged to none of them yet.
        """
        # A run in progress has used few of its labels so far. Counting only
        # those would let several workers together pass the budget of labels.
        results = [replace(r, labels=max(r.labels, promised(r))) if promised(r) else r for r in results]
        self._asked.clear()
        self._bought = labels_by_order(results)
        self._recorded = self.budget.spent(results)
        if more is not None:
            self._recorded = self.with_work(more, {})

    def with_work(self, usage: Usage, labels: Mapping[str, int]) -> Spending:
        """What is spent with the work under way: its usage, and the labels that it has used, by data set."""
        recorded = self._recorded
        more = Spending(prices.usd(usage, self.budget.offer), usage.seconds, usage.energy_j)
        if labels and more.usd is not None:
            new = self._new_labels(labels)
            more = Spending(more.usd + new * self.budget.label_usd, more.seconds, more.energy_j, new)
        return recorded + more

    def unseen(self, seconds: float, others: Sequence[Result]) -> Spending:
        """What other workers may have spent while the ledger was away and they could not report it.

        Args:
            seconds: How long the ledger has been silent.
            others: What each of them was making when it was heard of last. It is taken to have
                worked or waited all the time, at its machine's price and at the mean power of the
                study so far.
        """
        known, usd = self._recorded, list[float | None]()
        joules = known.energy_j and known.energy_j / known.seconds * seconds
        for each in others:
            offer = each.paid or self.budget.offer
            used = Usage(seconds, cpu_energy_j=joules, gpu_seconds=seconds * each.devices if offer.gpus else 0.0)
            usd.append(prices.usd(used, offer))
        energy_j = None if joules is None else joules * len(others)
        return Spending(None if None in usd else sum(filter(None, usd)), seconds * len(others), energy_j)

    def labels_to_come(self, recipe: Recipe) -> Mapping[str, int]:
        """How many labels a run will have used at its end, by data set; empty where no budget asks for it."""
        return self.forecaster.segment(recipe, 0.0, float(recipe.epochs), cold=True).labels_by_order if self.bounded else {}

    def exhausted(self) -> str:
        """Which budget was spent when the ledger was last read, in words; empty when none was."""
        return self.budget.exhausted(self._recorded)

    def usd_left(self) -> float | None:
        """What may still be spent, as far as the ledger was read; None where neither US$ nor hours are bounded."""
        return self.budget.usd_left(self._recorded)

    @property
    def refused(self) -> str:
        """A sentence that no run fits, naming the cheapest that was refused; empty when none
        was.
        """
        if not self.refusals:
            return ""
        return f"no run that is left fits the budget (the cheapest one looked at would take {self.refusals[min(self.refusals)]})"

    def admits(
        self,
        recipe: Recipe,
        results: Sequence[Result],
        until: float | None = None,
        *,
        least: CostForecast | None = None,
    ) -> bool:
        """Whether the forecast of a run, or of the rest of it, fits what is left of the budgets.

        A run whose cost cannot be forecast is admitted, or a study without any measurement could
        never begin; the watch stops it if it proves too dear.

        Args:
            recipe: The run.
            results: All Results, which say how far the run has come.
            until: The epochs that it is taken to; None for its end.
            least: A lower bound for the seconds, which counts where the forecast is below it.
        """
        # A run goes on from its last checkpoint, so only the stretch beyond it has to fit.
        began = max((r.epochs for r in results if r.run_id == recipe.run_id and r.status == "complete"), default=0.0)
        end = float(recipe.epochs if until is None else until)
        # Hundreds of runs are asked about in one decision, and most differ in what no forecast depends on.
        asked = (self.forecaster.key(recipe), began, end, least and least.seconds)
        # The heartbeat's thread reads the ledger meanwhile, and empties what was answered by the spending before.
        fits = self._asked.get(asked)
        if fits is None:
            fits = self._asked[asked] = self._fits(recipe, began, end, least)
        return fits

    def _fits(self, recipe: Recipe, began: float, end: float, least: CostForecast | None) -> bool:
        """Whether the run fits. The reason for a refusal is kept in `refusals`."""
        forecast = self.forecaster.segment(recipe, began, end, cold=True)
        seconds, energy_j = forecast.spent_seconds, forecast.spent_energy_j
        if least and (seconds is None or least.seconds.value > seconds.value):
            seconds = least.seconds
        if seconds is None:  # its labels alone are known
            seconds = energy_j = Estimate.exact(0.0)
        labels = self._new_labels(forecast.labels_by_order)
        more = self.budget.forecast(seconds, energy_j, labels).spending
        refused = self.budget.overrun(self._recorded, more)
        if refused:
            # Keyed by cost, so that the sentence at the
            # end names the cheapest run that did not fit.
            self.refusals[more.usd or 0.0] = refused
        return not refused

    def overrun(self, result: Result, checkpoint: Checkpoint) -> str:
        """Which budget is spent, or would be passed by the next stretch of the run; empty when
        none.

        Args:
            result: The checkpoint's Result, whose own usage says how fast this run trains.
            checkpoint: The same checkpoint, with the step at which the next one comes.
        """
        assert checkpoint.next_step is not None
        train, evaluate = result.usage["train"], result.usage["evaluate"]
        # The speed of this very run replaces the forecast that admitted it, which may have been
        # off by a factor. Evaluations do not grow with the stretch: there is one at its end.
        stretch = checkpoint.next_step / checkpoint.step - 1  # relative to all steps so far
        joules = (train.energy_j, evaluate.energy_j)
        energy_j = None if None in joules else stretch * (train.energy_j or 0.0) + (evaluate.energy_j or 0.0)
        # What it started from is bought: its own labels alone grow.
        own = label_order(result.recipe)
        more_labels = checkpoint.next_labels - checkpoint.labels
        labels = self._new_labels({own: checkpoint.labels_by_order.get(own, 0) + more_labels})
        more = self.budget.of_work(stretch * train.seconds + evaluate.seconds, energy_j, labels)
        return self.budget.exhausted(self._recorded) or self.budget.overrun(self._recorded, more)

    def _new_labels(self, labels: Mapping[str, int]) -> int:
        """How many of these labels, by the order in which they are bought, are not bought yet; at most so many where a strategy
        is yet to choose them.
        """
        return sum(max(0, count - self._bought.get(name, 0)) for name, count in labels.items())
