"""What the worker of a sweep does next: the search's decision within what is left of the budgets, one worker at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from workbench import search
from workbench.prices import Prices
from workbench.result import Result
from workbench.search import Step
from workbench.space import Value
from workbench.study import Recipe, Study
from workbench.sweep.account import Account
from workbench.sweep.limits import broken_off, started
from workbench.sweep.outlook import Outlook
from workbench.sweep.shelf import Shelf

_MOST_RECIPES = 4096
"""So many are kept, of a kilobyte or two each."""


class Chooser:
    """Asks the search.

    Args:
        study: The study.
        account: What may still be spent, and the forecaster.
        shelf: Where states of runs are.
        sampler: Who decides; see `workbench.search.decide`.
        seed: Of the decisions.
        reference: The study's, of each objective; see `workbench.search.decide`.
        may_wait: Whether to wait for others costs nothing; see there.
    """

    def __init__(
        self,
        study: Study,
        account: Account,
        shelf: Shelf,
        sampler: str,
        seed: int,
        reference: Mapping[str, float] | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        self.reference, self.may_wait = reference, may_wait
        self.study, self.account, self.shelf, self.sampler, self.seed = study, account, shelf, sampler, seed
        budget = account.budget
        self.outlook = Outlook(account.forecaster, budget.offer, budget.label_usd)
        self._recipes: dict[tuple[tuple[str, Value], ...], Recipe] = {}
        self._resuming = False  # no run may start any more, and one that has begun is to be taken up again
        self.too_dear: set[str] = set()  # runs that were left because their next stretch, by their own speed, would pass a budget

    def over(self, results: Sequence[Result]) -> str:
        """Which limit is reached, in words; empty when none is. Of its own search's trials the search decides itself."""
        done = "" if self.sampler == search.DEFAULT else self.account.budget.limits.done(results)
        return done or self.account.exhausted()

    def step(self, results: Sequence[Result], current: str | None = None) -> Step:
        """What to do next, `results` being all Results, those that are being made included; `current` is the run in memory."""
        budget, own = self.account.budget, self.sampler == search.DEFAULT
        self.account.ask_anew()
        if own or self.account.bounded:
            self.outlook.learn(results)
        starts_left = budget.limits.starts_left(results)
        again = broken_off(results) if starts_left == 0 and own else set()  # they have used their start, and may go on
        known = again | search.begun(results)
        self._resuming = bool(again)
        return search.decide(
            self.study,
            results,
            search.Costs(Prices(budget.offer, budget.label_usd), self.outlook.checkpoints),
            search.Strategy(
                sampler=self.sampler,
                seed=self.seed,
                reference=self.reference,
                stop_below=budget.limits.stop_below,
                may_wait=self.may_wait,
            ),
            search.Allowance(
                starts=len(again) or starts_left,
                usd=self.account.usd_left(),
                admits=lambda settings, until: self._admits(settings, until, results, known if again else None),
            ),
            search.States(cached=self.shelf.kept() if own else (), current=current),
        )

    def why(self, step: Step, results: Sequence[Result]) -> str:
        """Why the sweep ends with this step, in words."""
        if step.reason == search.NO_START:
            return self.account.budget.limits.all_begun(len(search.begun(results)))
        if step.reason == search.EXHAUSTED and self.account.refused:
            return self.account.refused
        if step.reason == search.EXHAUSTED and self._resuming:
            return self.account.budget.limits.all_begun(len(started(results)))
        return step.reason

    def _admits(
        self, settings: Mapping[str, Value], until: float | None, results: Sequence[Result], among: Collection[str] | None
    ) -> bool:
        """Whether a run, until so many epochs, fits what is left of the budgets, by its forecast, and is `among` these."""
        if not self.account.bounded and among is None:
            return True
        recipe = self._recipe(settings)
        if among is not None and recipe.run_id not in among:
            return False
        if not self.account.bounded:
            return True
        return recipe.run_id not in self.too_dear and self.account.admits(recipe, results, until)

    def _recipe(self, settings: Mapping[str, Value]) -> Recipe:
        """The recipe of these settings, made once: a decision asks about hundreds, and the next one about most of them again."""
        known = tuple(sorted(settings.items()))
        if known not in self._recipes:
            if len(self._recipes) >= _MOST_RECIPES:
                self._recipes.clear()
            self._recipes[known] = self.study.resolve(settings)
        return self._recipes[known]
