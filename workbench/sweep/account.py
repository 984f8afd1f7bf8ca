"""What a sweep has spent and bought so far, and whether what comes next fits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench import prices
from workbench.estimate import Estimate
from workbench.forecast import CostForecast, Forecaster
from workbench.result import Result, Spending, labelled_set, labels_bought
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
        refusals: Why runs were not admitted since the last one that was started, by what each would cost.
    """

    def __init__(self, budget: Budget, forecaster: Forecaster) -> None:
        self.budget, self.forecaster = budget, forecaster
        self.refusals: dict[float, str] = {}
        self._recorded = Spending()
        self._bought: dict[str, int] = {}  # labels, by data set
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
        """Take in what the ledger holds now; `more` is what was consumed and charged to none of it.

        What runs that are being made will buy counts as bought: nobody else has to spend that.
        """
        results = [replace(r, labels=max(r.labels, promised(r))) if promised(r) else r for r in results]
        self._asked.clear()
        self._bought = labels_bought(results)
        self._recorded = self.budget.spent(results)
        if more is not None:
            self._recorded = self.with_work(more, None, 0)

    def with_work(self, usage: Usage, making: Result | None, labels: int) -> Spending:
        """What is spent with the work under way: its usage, and the labels that the Result being made has used."""
        recorded = self._recorded
        more = Spending(prices.usd(usage, self.budget.offer), usage.seconds, usage.energy_j)
        if making is not None and more.usd is not None:
            new = self._new_labels(making.recipe["task"], labels)
            more = Spending(more.usd + new * self.budget.label_usd, more.seconds, more.energy_j, new)
        return recorded + more

    def unseen(self, seconds: float, workers: int) -> Spending:
        """What so many other workers have spent at most in so many seconds in which they could not say it, by the rates so far."""
        known, work = self._recorded, seconds * workers
        energy_j = known.energy_j and known.energy_j / known.seconds * work
        return self.budget.of_work(work, energy_j, 0)

    def labels_to_come(self, recipe: Recipe) -> int:
        """How many labels a run will have used at its end; 0 where nothing is bounded, and nobody asks."""
        return self.forecaster.segment(recipe, 0.0, float(recipe.epochs), cold=True).labels if self.bounded else 0

    def exhausted(self) -> str:
        """Which budget was spent when the ledger was last read, in words; empty when none was."""
        return self.budget.exhausted(self._recorded)

    def usd_left(self) -> float | None:
        """What may still be spent, as far as the ledger was read; None where neither US$ nor hours are bounded."""
        return self.budget.usd_left(self._recorded)

    @property
    def refused(self) -> str:
        """That nothing fits the budget, by the cheapest run that was not admitted, in words; empty when none was refused."""
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
        """Whether a run, or what is missing of it, fits what is left by its forecast. What is unknown
        passes: the watch sees it.

        Args:
            recipe: The run.
            results: All Results.
            until: To how many epochs it is taken; None: to its end.
            least: It takes the seconds of this at least, whatever is forecast.
        """
        began = max((r.epochs for r in results if r.run_id == recipe.run_id and r.status == "complete"), default=0.0)
        end = float(recipe.epochs if until is None else until)
        # Hundreds of runs are asked about in one decision, and most differ in what no forecast depends on.
        asked = (self.forecaster.key(recipe), began, end, least and least.seconds)
        if asked not in self._asked:
            self._asked[asked] = self._fits(recipe, began, end, least)
        return self._asked[asked]

    def _fits(self, recipe: Recipe, began: float, end: float, least: CostForecast | None) -> bool:
        """Whether it fits; a refusal is kept."""
        forecast = self.forecaster.segment(recipe, began, end, cold=True)
        seconds, energy_j = forecast.spent_seconds, forecast.spent_energy_j
        if least and (seconds is None or least.seconds.value > seconds.value):
            seconds = least.seconds
        if seconds is None:  # its labels alone are known
            seconds = energy_j = Estimate.exact(0.0)
        labels = self._new_labels(recipe.to_json()["task"], forecast.labels)
        more = self.budget.forecast(seconds, energy_j, labels).spending
        refused = self.budget.overrun(self._recorded, more)
        if refused:
            self.refusals[more.usd or 0.0] = refused
        return not refused

    def overrun(self, result: Result, checkpoint: Checkpoint) -> str:
        """Which budget is spent, or would be passed by the run's next stretch, judged by its own speed so far; empty when none."""
        assert checkpoint.next_step is not None
        train, evaluate = result.usage["train"], result.usage["evaluate"]
        stretch = checkpoint.next_step / checkpoint.step - 1  # relative to all steps so far
        joules = (train.energy_j, evaluate.energy_j)
        energy_j = None if None in joules else stretch * (train.energy_j or 0.0) + (evaluate.energy_j or 0.0)
        labels = self._new_labels(result.recipe["task"], checkpoint.next_labels)
        more = self.budget.of_work(stretch * train.seconds + evaluate.seconds, energy_j, labels)
        return self.budget.exhausted(self._recorded) or self.budget.overrun(self._recorded, more)

    def _new_labels(self, task: object, labels: int) -> int:
        """How many of the labels a task uses are not bought yet."""
        assert isinstance(task, dict)
        return max(0, labels - self._bought.get(labelled_set(task), 0))
