"""What comes next: the decision of the search, or of an Optuna sampler, within what is left of the
budgets.

A planner is given to the runner, which does not know how it decides; that of a confirmation is in
`workbench.sweep.confirming`. Runs that a person wants tried again (`workbench retry`) are put
before all others by the search itself.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from workbench import search
from workbench.prices import Prices
from workbench.quantities import many
from workbench.result import Result, Room, originals, seen_from, too_large
from workbench.search import Step
from workbench.space import Value
from workbench.study import Recipe
from workbench.sweep import batch
from workbench.sweep.actions import Answer, Done, Proposal, Wait, done_for
from workbench.sweep.job import Context
from workbench.sweep.limits import broken_off, started
from workbench.sweep.other_machines import GONE_SECONDS, OtherMachines
from workbench.sweep.outlook import Outlook
from workbench.sweep.runs import LongestRun

_MOST_RECIPES = 4096
"""How many recipes are kept, of a kilobyte or two each."""


class Planner(Protocol):
    """Says what is done next."""

    @property
    def what(self) -> str:
        """What is planned, in a word: `sweep` or `confirmation`."""

    @property
    def how(self) -> Mapping[str, str | int]:
        """Who decides, as plain data: `sampler` and `seed`."""

    def over(self, results: Sequence[Result]) -> Done | None:
        """The end where a limit is reached; None where none is."""

    def next(self, results: Sequence[Result], current: str | None = None) -> Answer:
        """What to do next.

        Args:
            results: All Results, those that are being made included.
            current: The id of the run in memory; None without one.
        """

    def leave(self, run_id: str) -> None:
        """Note that a run was left because its next stretch, by its own speed, would pass a
        budget.
        """


def planner(context: Context, sampler: str, seed: int) -> Planner:
    """The planner of a sweep, by the name of its sampler; see `workbench.search.next_run`."""
    if sampler == search.DEFAULT:
        return FrontPlanner(context, seed)
    return OptunaPlanner(context, sampler, seed)


class FrontPlanner:
    """The workbench's own search, which takes runs further wherever that is expected to add most to
    the front.

    Args:
        context: What the worker works with.
        seed: Of the decisions.
    """

    what = "sweep"

    def __init__(self, context: Context, seed: int) -> None:
        self._search = _Search(context, search.DEFAULT, seed)
        self._context = context
        self.how: dict[str, str | int] = {"sampler": search.DEFAULT, "seed": seed}

    def over(self, results: Sequence[Result]) -> Done | None:
        """The end where a budget is spent. The search itself keeps the number of trials."""
        return done_for(self._context.account.exhausted())

    def next(self, results: Sequence[Result], current: str | None = None) -> Answer:
        """What adds most to the front."""
        limits = self._context.job.limits
        self._search.learn(results)
        starts_left = limits.starts_left(results)
        # Where no more runs may start, those broken off before a checkpoint have used their start,
        # and may go on.
        again = broken_off(results) if starts_left == 0 else set()
        among = again | search.begun(results) if again else None
        # With `among` the search may not propose a new run, but it takes up broken
        # ones as if they were starts: it must be told that there are some left.
        more = 0 if again or not self._search.alike else batch.ahead(results)
        step = self._search.handed_out(results, current, starts_left) if more else None
        if step is None:
            step = self._search.ask(results, current, starts_left=len(again) or starts_left, among=among, ahead=more)
            self._search.hand_out(step, results)
        if step.action == "stop" and step.end is search.End.EXHAUSTED and again and not self._context.account.refused:
            return Done(limits.all_begun(len(started(results))))
        return self._search.answer(step, results)

    def leave(self, run_id: str) -> None:
        """It is not taken further by this start."""
        self._search.too_dear.add(run_id)


class OptunaPlanner:
    """A sampler of Optuna's, which proposes whole runs; those that were interrupted are finished
    first.

    Args:
        context: What the worker works with.
        sampler: Its name, `optuna:CLASS`.
        seed: Of the decisions.
    """

    what = "sweep"

    def __init__(self, context: Context, sampler: str, seed: int) -> None:
        self._search = _Search(context, sampler, seed)
        self._context = context
        self.how: dict[str, str | int] = {"sampler": sampler, "seed": seed}

    def over(self, results: Sequence[Result]) -> Done | None:
        """The end where all trials are done, or a budget is spent."""
        # What ran out of memory on a smaller machine is still to be made
        # here; and what did so here may still be made on a larger one.
        done = self._context.job.limits.done(seen_from(results, self._search.room))
        return done_for(done, here_alone=bool(self._search.lost(results))) or done_for(self._context.account.exhausted())

    def next(self, results: Sequence[Result], current: str | None = None) -> Answer:
        """The next run, to be made whole."""
        if self._context.account.bounded:
            self._search.learn(results)
        starts_left = self._context.job.limits.starts_left(results)
        return self._search.answer(self._search.ask(results, current, starts_left=starts_left), results)

    def leave(self, run_id: str) -> None:
        """It is not taken further by this start."""
        self._search.too_dear.add(run_id)


class _Search:
    """How both planners ask `workbench.search`: with forecasts of what lies ahead, within the
    budgets.

    Attributes:
        room: What holds the models of its runs.
        too_dear: Runs that were left because their next stretch, by their own speed, would pass a
            budget.
    """

    def __init__(self, context: Context, sampler: str, seed: int) -> None:
        budget = context.budget
        self._context, self.room = context, Room.of(context.provenance)
        self._prices = Prices(budget.offer, budget.label_usd)
        self._strategy = search.Strategy(
            sampler=sampler,
            seed=seed,
            # The hypervolume that is maximised must be the one that is shown,
            # so both use the reference point that was stored with the study.
            reference=context.ledger.description.get("reference"),
            stop_below=budget.limits.stop_below,
        )
        self._outlook = Outlook(context.account.forecaster, budget.offer, budget.label_usd)
        self._others = OtherMachines(context, self._outlook.compute_usd)
        self._recipes: dict[tuple[tuple[str, Value], ...], Recipe] = {}
        self.too_dear: set[str] = set()

    def learn(self, results: Sequence[Result]) -> None:
        """Forecast by what the ledger holds now."""
        self._outlook.learn(results)
        self._others.look(results)

    @property
    def alike(self) -> bool:
        """Whether all machines at work are such as this one: what is decided for others may then be theirs."""
        return not self._others.at_work

    def ask(
        self,
        results: Sequence[Result],
        current: str | None,
        *,
        starts_left: int | None,
        among: Collection[str] | None = None,
        ahead: int = 0,
    ) -> Step:
        """Ask the search for its step, and for so many more for other workers. Where `among` is
        given, only these runs may be taken further.
        """
        context = self._context
        context.account.ask_anew()
        admits = functools.partial(self._admits, results=results, among=among)
        # Only a worker with a GPU to itself may wait. On a shared machine one that waits costs as much
        # as one that works, and points made meanwhile came out up to twice as dear.
        may_wait = context.job.joined and context.job.standing.apart
        return search.decide(
            context.study,
            results,
            search.Costs(self._prices, self._outlook.checkpoints),
            replace(self._strategy, ahead=ahead, may_wait=may_wait),
            search.Allowance(starts=starts_left, usd=context.account.usd_left(), admits=admits),
            search.States(cached=self._cached(), current=current, room=self.room),
        )

    def handed_out(self, results: Sequence[Result], current: str | None, starts_left: int | None) -> Step | None:
        """The next of the steps that another worker has decided for several; None where there is none."""
        self._context.account.ask_anew()
        return self._batch(results).take(results, current, starts_left)

    def hand_out(self, step: Step, results: Sequence[Result]) -> None:
        """Leave what was decided for others to them."""
        self._batch(results).keep(step, results)

    def _batch(self, results: Sequence[Result]) -> batch.Batch:
        def admits(step: Step) -> bool:
            return self._admits(step.settings or {}, step.until, results=results, among=None)

        return batch.Batch(self._context.ledger, self._recipe, admits)

    def answer(self, step: Step, results: Sequence[Result]) -> Answer:
        """The step as a planner says it."""
        if step.settings is not None:
            return Proposal(LongestRun(self._context.study.resolve(step.settings), step.settings), step.until)
        # They may be gone before they make it; once they have ended the sweep nobody is waited for.
        if step.action == "stop" and self._others.left and self._context.ledger.ended is None:
            return Wait(results, again_seconds=GONE_SECONDS / 2)
        if step.action != "stop":
            return Wait(results)
        lost = self.lost(results)
        return Done(self._why(step, results, len(lost)), here_alone=bool(lost))

    def lost(self, results: Sequence[Result]) -> Collection[str]:
        """Runs that do not fit into this machine's memory."""
        return {r.run_id for r in originals(results) if too_large(r, self.room)}

    def _why(self, step: Step, results: Sequence[Result], lost: int) -> str:
        """Why the sweep ends with this step, in words. `lost` is how many runs do not fit into this machine."""
        if step.end is search.End.NO_START:
            return self._context.job.limits.all_begun(len(search.begun(results)))
        if step.end is search.End.EXHAUSTED and self._context.account.refused:
            return self._context.account.refused
        return f"{step.reason}; {many(lost, 'run')} ran out of this machine's memory" if lost else step.reason

    def _cached(self) -> Collection[str]:
        """Runs whose state is on disk. A sampler that proposes whole runs has no use for them."""
        return self._context.checkpoints.kept() if self._strategy.sampler == search.DEFAULT else ()

    def _admits(
        self, settings: Mapping[str, Value], until: float | None, *, results: Sequence[Result], among: Collection[str] | None
    ) -> bool:
        """Whether a run, until so many epochs, fits what is left of the budgets, by its forecast,
        and is `among` these.
        """
        account = self._context.account
        if not account.bounded and among is None and self.alike:
            return True
        recipe = self._recipe(settings)
        if among is not None and recipe.run_id not in among:
            return False
        if self._others.cheaper(recipe):
            return False
        if not account.bounded:
            return True
        return recipe.run_id not in self.too_dear and account.admits(recipe, results, until)

    def _recipe(self, settings: Mapping[str, Value]) -> Recipe:
        """The recipe of these settings, kept for later: a decision asks about hundreds, and the
        next one about most of them again.
        """
        known = tuple(sorted(settings.items()))
        if known not in self._recipes:
            # Emptied whole: what is needed again is made again at the next decision.
            if len(self._recipes) >= _MOST_RECIPES:
                self._recipes.clear()
            self._recipes[known] = self._context.study.resolve(settings)
        return self._recipes[known]
