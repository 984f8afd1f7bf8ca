"""What the worker of a sweep does next: the search's decision within what is left of the budgets, one worker at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from workbench import search
from workbench.process import exclusive
from workbench.result import Result
from workbench.search import Step
from workbench.space import Value
from workbench.study import Study
from workbench.sweep.account import Account
from workbench.sweep.outlook import Outlook
from workbench.sweep.shelf import Shelf


class Turn:
    """What one worker at a time does in a folder: to choose and to take the lease of what was chosen. May be entered in itself."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._depth = folder, 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, and hold it."""
        with contextlib.ExitStack() as stack:
            if not self._depth:
                with contextlib.suppress(
                    OSError
                ):  # a folder that cannot be made: then the ledger's leases alone keep workers apart
                    self._folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(exclusive(self._folder))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1


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
        self.too_dear: set[str] = set()  # runs that were left because their next stretch, by their own speed, would pass a budget

    def over(self, results: Sequence[Result]) -> str:
        """Which limit is reached, in words; empty when none is. Of its own search's trials the search decides itself."""
        done = "" if self.sampler == search.DEFAULT else self.account.budget.limits.done(results)
        return done or self.account.exhausted()

    def step(self, results: Sequence[Result], current: str | None = None) -> Step:
        """What to do next, `results` being all Results, those that are being made included; `current` is the run in memory."""
        budget, own = self.account.budget, self.sampler == search.DEFAULT
        self.account.refusals.clear()
        if own or self.account.bounded:
            self.outlook.learn(results)
        return search.decide(
            self.study,
            results,
            offer=budget.offer,
            label_usd=budget.label_usd,
            checkpoints=self.outlook.checkpoints,
            sampler=self.sampler,
            seed=self.seed,
            admits=lambda settings, until: self._admits(settings, until, results),
            cached=self.shelf.kept() if own else (),
            current=current,
            starts_left=budget.limits.starts_left(results) if own else None,
            usd_left=self.account.usd_left(),
            stop_below=budget.limits.stop_below,
            reference=self.reference,
            may_wait=self.may_wait,
        )

    def why(self, step: Step, results: Sequence[Result]) -> str:
        """Why the sweep ends with this step, in words."""
        if step.reason == search.NO_START:
            return self.account.budget.limits.all_begun(len(search.begun(results)))
        if step.reason == search.EXHAUSTED and self.account.refused:
            return self.account.refused
        return step.reason

    def _admits(self, settings: Mapping[str, Value], until: float | None, results: Sequence[Result]) -> bool:
        """Whether a run, until so many epochs, fits what is left of the budgets, by its forecast."""
        if not self.account.bounded:
            return True
        recipe = self.study.resolve(settings)
        return recipe.run_id not in self.too_dear and self.account.admits(recipe, results, until)
