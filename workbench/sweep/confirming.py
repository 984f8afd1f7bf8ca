"""Confirmation: the front's members are trained once more with new seeds, and graded on the held-out test split.

A front picks the best of many noisy scores, so its members were partly lucky: the winner's curse. Their scores with seeds
that nobody picked have no luck in them, and the test split was read by no search. What comes of both, `report.confirmed` says.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from workbench import training
from workbench.errors import Refused, UsageError
from workbench.forecast import Forecaster
from workbench.front.members import pareto_front
from workbench.front.view import View
from workbench.ledger import AWAY_SECONDS, Ledger, Patience
from workbench.meter import Meter, Tenant, Window
from workbench.result import Result, by_run
from workbench.search import MAX_INTERRUPTIONS, Step
from workbench.space import Space, Value
from workbench.study import Recipe, Study
from workbench.sweep.account import Account
from workbench.sweep.accumulator import UsageAccumulator
from workbench.sweep.budget import Budget, watch
from workbench.sweep.chooser import Chooser
from workbench.sweep.disturbance import lookout
from workbench.sweep.file_lock import FileLock
from workbench.sweep.heart import heart
from workbench.sweep.interruptions import Interruptions
from workbench.sweep.limits import Limits
from workbench.sweep.observer import Observer, Outcome
from workbench.sweep.shelf import Shelf
from workbench.sweep.unwritten import Unwritten
from workbench.sweep.work import Chosen, Sweeping
from workbench.tracking import MlflowTracker
from workbench.usage import Usage

if TYPE_CHECKING:
    from workbench.training import Checkpoint

SEEDS = 3
"""New seeds unless told otherwise: with fewer than two nothing is known of the scatter."""


@dataclass(frozen=True)
class Replicate:
    """A member of the front with a new seed: the member's Result, and the recipe to be trained."""

    member: Result
    recipe: Recipe


def replicates(study: Study, results: Sequence[Result], view: View, seeds: int) -> list[Replicate]:
    """All replicates that confirm the front as the sweep found it, seed by seed, so that a short budget treats members alike.

    Members that were only asked have none: no seed takes part in what they answer; they are graded on the test split beside the
    first run (`asked`). The new seeds are the whole numbers above all
    that the study may use: the same for every member and every start.

    Raises:
        Refused: A member, or all that there is, cannot be made again, as the study's data are not what they were.
    """
    hole = study.recipe.seed
    first = 1 + int(max(hole.ends) if isinstance(hole, Space) else hole)
    members = [(member, _recipe(study, member)) for member in pareto_front(results, view)]
    if not members and (gone := next((r for r in results if r.outdated and r.status == "complete"), None)):
        raise _not_again(gone)
    trained = [(member, recipe) for member, recipe in members if recipe.method.trains]
    return [Replicate(m, replace(recipe, seed=seed)) for seed in range(first, first + seeds) for m, recipe in trained]


def asked(results: Sequence[Result], view: View) -> list[Result]:
    """Members of the front that were not trained, and whose scores on the test split are not known."""
    scored = {name for r in results for name in r.test_scores}
    return [member for member in pareto_front(results, view) if member.epochs == 0 and member.recipe_id not in scored]


def left(plan: Iterable[Replicate], results: Sequence[Result]) -> list[Replicate]:
    """Those that are still to be made: not recorded, and their run neither infeasible nor the death of worker after worker."""
    done = {r.recipe_id for r in results if r.status == "complete"}
    given_up = {r.run_id for r in results if r.status == "infeasible"}
    for segments in by_run(r for r in results if r.replicate_of is not None).values():
        deaths = sum(r.died for r in segments)
        given_up |= {segments[0].run_id} if deaths >= MAX_INTERRUPTIONS else set()
    return [each for each in plan if each.recipe.id not in done and each.recipe.run_id not in given_up]


def nothing_fits(plan: Sequence[Replicate], results: Sequence[Result], view: View, account: Account, started: Usage) -> str:
    """Why none of the runs of a plan fits what is left of the budget, in words; empty where one does.

    Args:
        plan: What is still to be made.
        results: All Results.
        view: The prices.
        account: Of the budget; its forecaster knows these Results.
        started: What was consumed since the command began.
    """
    if not plan or not account.bounded:
        return ""
    account.note(results, started)
    return "" if any(_admitted(each, plan, results, view, account) for each in longest(plan)) else account.refused


def _admitted(run: Replicate, plan: Sequence[Replicate], results: Sequence[Result], view: View, account: Account) -> bool:
    """Whether a run fits what is left of the budget: by its forecast, and by what it took with the first seed."""
    if not account.bounded:
        return True
    _, seconds = expected([each for each in plan if each.recipe.run_id == run.recipe.run_id], results, view)
    done = any(r.run_id == run.recipe.run_id for r in results)  # what is missing of it takes less than the whole
    return account.admits(run.recipe, results, least_seconds=0.0 if done or seconds is None else seconds)


def expected(plan: Sequence[Replicate], results: Sequence[Result], view: View) -> tuple[float | None, float | None]:
    """US$ of compute and seconds that replicates are likely to take: what the same runs took, and grading on the test split.

    None where what they took is not known. `results` are all that there are.
    """
    runs = longest(plan)
    usd = [view.cost(each.member, "usd_compute") for each in runs]
    seconds = [view.cost(each.member, "seconds") for each in runs]
    if None in usd or None in seconds:
        return None, None
    scored = {name for result in results for name in result.test_scores}
    kept = {each.member.recipe_id: each for each in plan if each.member.recipe_id not in scored}  # the sweep's own weights
    training, trained = sum(filter(None, usd)), sum(filter(None, seconds))
    graded = [(each.member, each.recipe) for each in (*plan, *kept.values())]
    graded += [(member, plan[0].recipe) for member in asked(results, view) if plan]
    whole = trained + sum(_grading_seconds(member, recipe) for member, recipe in graded)
    return training * whole / trained if trained else training, whole


def _grading_seconds(member: Result, recipe: Recipe) -> float:
    """Of one grading on the test split, by how long the member's evaluation on the dev set took."""
    splits, evaluation = recipe.task.splits(), member.usage.get("evaluate")
    return evaluation.seconds * len(splits.test) / len(splits.dev) if evaluation and splits.dev else 0.0


def longest(plan: Iterable[Replicate]) -> list[Replicate]:
    """Of each run of a plan its longest replicate, in the order in which the runs come."""
    found: dict[str, Replicate] = {}
    for each in plan:
        known = found.setdefault(each.recipe.run_id, each)
        found[each.recipe.run_id] = max(known, each, key=lambda e: e.recipe.epochs)
    return list(found.values())


def confirm(
    study: Study,
    *,
    ledger: Ledger,
    notebook: MlflowTracker,
    view: View,
    limits: Limits,
    folder: Path,
    seeds: int = SEEDS,
    observer: Observer | None = None,
    meter: Meter | None = None,
    holder: Tenant | None = None,
    window: Window | None = None,
    before: Usage | None = None,
    forecaster: Forecaster | None = None,
) -> Outcome:
    """Train the front's members with new seeds, and grade them, and the weights that the sweep kept, on the test split.

    Members that are checkpoints of one run are made by one run again. Each becomes a Result with `replicate_of` and
    `test_scores`, written once; running again goes on where the last start stopped. The other arguments, and errors, are those of
    `workbench.sweep.sweep`.

    Args:
        study: The study.
        ledger: Where its Results are and go.
        notebook: Mirrors them.
        view: The prices at which the front is meant.
        limits: Budgets; as a sweep's they count all that the study has spent, the sweep's part included. Trials do not count.
        folder: Where states and weights are kept.
        seeds: How many new seeds.
        observer: Is told what happens.
        meter: Measures.
        holder: The meter's, whose windows are the bill.
        window: One of the holder's, opened when the work began.
        before: What was consumed before that window.
        forecaster: Says what a run will take.

    Raises:
        Refused: A member cannot be made again, as the study's data are not what they were.
    """
    observer = observer or Observer()
    with contextlib.ExitStack() as stack:
        meter = meter or stack.enter_context(Meter())
        interruptions = stack.enter_context(Interruptions(observer.stopping))
        holder = holder or stack.enter_context(meter.hold(name=study.name))
        budget = Budget(dataclasses.replace(limits, trials=None), view.offer, view.label_usd, gpus=len(meter.devices))
        account = Account(budget, forecaster or Forecaster(study))
        shelf = Shelf(folder, observer.note)
        ledger = ledger.patient(Patience(AWAY_SECONDS, observer.note, shelf.make_room, interruptions.check))
        chooser = _Planned(study, account, shelf, view, seeds)
        work = _Confirming(
            study, ledger, notebook, account, shelf, chooser, FileLock(folder, observer.note), observer, meter, holder,
            interruptions, UsageAccumulator(holder, window, before), Unwritten(folder),
        )  # fmt: skip
        stack.enter_context(heart(ledger, work.pulse))
        stack.enter_context(watch(budget, work.spent_now, interruptions.explain))
        stack.enter_context(lookout(holder, observer.note))
        return work.work()


class _Planned(Chooser):
    """Chooses among what is planned, whatever any search would say.

    Attributes:
        plan: All replicates.
        chosen: The longest of the run that was chosen last.
        wanted: Of that run: members by the replicate's id.
    """

    def __init__(self, study: Study, account: Account, shelf: Shelf, view: View, seeds: int) -> None:
        super().__init__(study, account, shelf, "confirm", 0)
        self.view, self.seeds = view, seeds
        self.plan: Sequence[Replicate] = ()
        self.wanted: Mapping[str, Result] = {}

    def step(self, results: Sequence[Result], current: str | None = None) -> Step:
        self.account.ask_anew()
        busy = {r.run_id for r in results if r.status == "running"}
        if self.account.bounded:
            self.account.forecaster.learn(results)
        self.plan = replicates(self.study, results, self.view, self.seeds)
        open_ = [each for each in left(self.plan, results) if each.recipe.run_id not in busy]
        chosen = next((e for e in longest(open_) if _admitted(e, open_, results, self.view, self.account)), None)
        if chosen is None:
            return Step("stop")
        self.chosen = chosen
        self.wanted = {each.recipe.id: each.member for each in open_ if each.recipe.run_id == chosen.recipe.run_id}
        return Step("start", _settings(chosen.member))

    def why(self, step: Step, results: Sequence[Result]) -> str:
        missing = {each.recipe.id for each in self.plan} - {r.recipe_id for r in results if r.status == "complete"}
        if self.account.refused:
            return self.account.refused
        if left(self.plan, results):
            return "another worker is making what is left"
        many = f"{self.seeds} new seed{'' if self.seeds == 1 else 's'}"
        failed = f", but for {len(missing)} that could not be trained" if missing else ""
        return f"every member of the front has been run with {many}{failed}"


@dataclass
class _Confirming(Sweeping):
    """A sweep whose runs are not proposed but planned."""

    chooser: _Planned
    what: ClassVar[str] = "confirmation"

    def _leased(self, step: Step, results: Sequence[Result]) -> Chosen | None:
        assert step.settings is not None
        recipe = self.chooser.chosen.recipe  # its seed is none of the study's: settings do not make it
        stub = replace(self._stub(recipe, step.settings, results), replicate_of=self.chooser.chosen.member.recipe_id)
        return self._lease(step, recipe, stub, results)

    def _train(self, chosen: Chosen) -> Chosen | None:
        if chosen.recipe.seed == self.chooser.plan[0].recipe.seed:  # the first alone, or two workers would grade the same
            self._grade(chosen.results)
        return super()._train(chosen)

    def _grade(self, results: Sequence[Result]) -> None:
        """Score on the test split the weights that the sweep kept of the members at hand, and what was only asked."""
        assert self.lease is not None
        scored = {name for r in results for name in r.test_scores}
        for member in (*self.chooser.wanted.values(), *asked(results, self.chooser.view)):
            if member.recipe_id in scored:
                continue
            recipe, path = _recipe(self.study, member), self.shelf.weights(member.recipe_id)
            if path is None and recipe.method.labelled:
                where = f"trial {member.trial} at {member.epochs:g} epochs"
                self.observer.note(f"The weights of {where} are not here: its new seeds alone are graded on the test split.")
                continue
            self.observer.doing("Grading on the test split")
            with self.bill.phase("test"), self.interruptions.breakable():
                training.warm_up(recipe)
                scores = training.test(recipe, path)
            # In the lease at once: its next beat, and whatever becomes of the run, puts it on record.
            known = {**self.lease.result.test_scores, member.recipe_id: scores}
            self.lease.result = replace(self.lease.result, test_scores=known if scores else self.lease.result.test_scores)

    def _checkpoint(self, chosen: Chosen, checkpoint: Checkpoint) -> Chosen | None:
        if checkpoint.recipe.id in self.chooser.wanted:
            return super()._checkpoint(chosen, checkpoint)
        self.bill.add(checkpoint.spent)  # no member of the front: nobody asks for another seed of it
        with self.bill.phase("checkpoint"):
            self.shelf.save_state(checkpoint.prefix())
        return chosen

    def _result(self, stub: Result, checkpoint: Checkpoint) -> Result:
        result = super()._result(stub, checkpoint)
        self.observer.doing("Grading on the test split")
        with self.bill.phase("test"), self.interruptions.breakable():
            scores = checkpoint.test()
        self.observer.doing("Training")
        graded = {**result.test_scores, result.recipe_id: scores} if scores else result.test_scores
        return replace(result, replicate_of=self.chooser.wanted[result.recipe_id].recipe_id, test_scores=graded)


def _recipe(study: Study, member: Result) -> Recipe:
    """The recipe that made a member."""
    with contextlib.suppress(UsageError):
        recipe = study.resolve(member.settings).with_epochs(member.epochs)
        if recipe.id == member.recipe_id:
            return recipe
    raise _not_again(member)


def _not_again(member: Result) -> Refused:
    return Refused(
        f"trial {member.trial} cannot be made again: the study's data, or what it is read with, are not what they were. "
        "Bring them back, or sweep the study as it is now first."
    )


def _settings(member: Result) -> dict[str, Value]:
    """A member's settings, of which another seed is none."""
    return {name: value for name, value in member.settings.items() if name != "seed"}
