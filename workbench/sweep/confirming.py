"""Confirmation: the front's members are trained once more with new seeds, and graded on the
held-out test split.

A front picks the best of many noisy scores, so its members were partly lucky: the winner's curse.
Seeds that nobody picked have no such luck in their scores, and no search has read the test split.
`workbench.front.confirmed` works out what follows from both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench import prices, training
from workbench.errors import Refused, UsageError
from workbench.estimate import Estimate
from workbench.forecast import Compute, CostForecast
from workbench.front.confirmed import worth_confirming
from workbench.front.objectives import View
from workbench.prices import Prices
from workbench.result import Result, Room, by_run, seen_from
from workbench.search import MAX_INTERRUPTIONS
from workbench.space import Space, Value
from workbench.study import Recipe, Study
from workbench.sweep.account import Account
from workbench.sweep.actions import Answer, Claim, Done, Proposal, done_for
from workbench.sweep.current_work import CurrentWork
from workbench.sweep.grading import Grading
from workbench.sweep.job import Context, Job
from workbench.sweep.observer import Outcome
from workbench.sweep.runner import run
from workbench.sweep.runs import LongestRun
from workbench.usage import Usage

if TYPE_CHECKING:
    from workbench.training import Checkpoint

BAND = 2.0
"""The same recipe takes about the same with another seed: a factor that leaves room for a busier machine."""

SEEDS = 3
"""New seeds by default. With fewer than two nothing is known of the scatter."""


@dataclass(frozen=True)
class Replicate:
    """A member of the front with a new seed: the member's Result, and the recipe to be trained."""

    member: Result
    recipe: Recipe


def replicates(study: Study, results: Sequence[Result], view: View, seeds: int) -> list[Replicate]:
    """All replicates that confirm the front as the sweep found it, seed by seed.

    Members that were only asked have none, since no seed takes part in what they answer. They are
    graded on the test split beside the first run, or by themselves where there is none (`asked`).
    Those that are no better than chance are left out (`front.confirmed.worth_confirming`).
    The new seeds are the whole numbers above all that the study may use, the same for every member
    and every start.

    Args:
        study: The study.
        results: All Results.
        view: The prices at which the front is meant.
        seeds: The number of new seeds.

    Raises:
        Refused: A member cannot be made again, since the study's data are not what they were, or
            no point can for that reason.
    """
    # Seeds are the outer loop: when the budget ends early every
    # member has about as many new scores, and none is favoured.
    first = first_new_seed(study)
    members = [(member, recipe_of(study, member)) for member in worth_confirming(results, view)]
    if not members and (gone := next((r for r in results if r.outdated and r.status == "complete"), None)):
        raise _not_again(gone)
    trained = [(member, recipe) for member, recipe in members if recipe.method.trains]
    return [Replicate(m, replace(recipe, seed=seed)) for seed in range(first, first + seeds) for m, recipe in trained]


def first_new_seed(study: Study) -> int:
    """The whole number above all seeds that the study may use."""
    hole = study.recipe.seed
    return 1 + int(max(hole.ends) if isinstance(hole, Space) else hole)


def asked(results: Sequence[Result], view: View) -> list[Result]:
    """The members of the front that were not trained and have no score on the test split yet."""
    scored = _scored(results)
    return [member for member in worth_confirming(results, view) if member.epochs == 0 and member.recipe_id not in scored]


def _scored(results: Iterable[Result]) -> set[str]:
    """Recipe ids of all that has been graded on the test split."""
    return {name for r in results for name in r.test_scores}


def left(plan: Iterable[Replicate], results: Sequence[Result]) -> list[Replicate]:
    """The replicates that are still to be made: those that are not recorded, and whose run is
    neither infeasible nor has killed `MAX_INTERRUPTIONS` workers.

    Args:
        plan: All replicates.
        results: All Results, as the machine sees them that is to make what is left (`result.seen_from`).
    """
    done = {r.recipe_id for r in results if r.status == "complete"}
    given_up = {r.run_id for r in results if r.status == "infeasible"}
    for segments in by_run(r for r in results if r.replicate_of is not None).values():
        # As in the search: a run that kills its worker each time would be taken up again for ever.
        deaths = sum(r.died for r in segments)
        given_up |= {segments[0].run_id} if deaths >= MAX_INTERRUPTIONS else set()
    return [each for each in plan if each.recipe.id not in done and each.recipe.run_id not in given_up]


def nothing_fits(plan: Sequence[Replicate], results: Sequence[Result], view: View, account: Account, started: Usage) -> str:
    """Why none of the runs of a plan fits what is left of the budget, in words; empty where one
    does.

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
    """Whether a run fits what is left of the budget, by its forecast and by what the same run took
    with its first seed.
    """
    if not account.bounded:
        return True
    first = expected([each for each in plan if each.recipe.run_id == run.recipe.run_id], results, view)
    done = any(r.run_id == run.recipe.run_id for r in results)  # what is missing of it takes less than the whole
    return account.admits(run.recipe, results, least=None if done else first)


def expected(
    plan: Sequence[Replicate], results: Sequence[Result], view: View, *, start: Usage | None = None
) -> CostForecast | None:
    """What replicates are likely to cost: what the same runs took, the grading on the test split, and a start.

    No labels are bought for them, and joules are not forecast.

    Args:
        plan: The replicates.
        results: All Results.
        view: The prices.
        start: What it takes until the first run begins; nothing where it is over.

    Returns:
        The forecast; None where it is unknown what some run took.
    """
    runs = longest(plan)
    usd = [view.cost(each.member, "usd_compute") for each in runs]
    seconds = [view.cost(each.member, "seconds") for each in runs]
    if None in usd or None in seconds:
        return None
    scored = _scored(results)
    kept = {each.member.recipe_id: each for each in plan if each.member.recipe_id not in scored}  # the sweep's own weights
    training, trained = sum(filter(None, usd)), sum(filter(None, seconds))
    graded = [(each.member, each.recipe) for each in (*plan, *kept.values())]
    graded += [(member, plan[0].recipe) for member in asked(results, view) if plan]
    whole = trained + sum(_grading_seconds(member, recipe) for member, recipe in graded)
    # Grading is priced at the rate of the training that was measured, since it has no bill yet.
    usd_compute = Estimate.within(training * whole / trained if trained else training, BAND, "measured")
    time = Estimate.within(whole, BAND, "measured")
    if start is not None:
        usd_start = prices.usd(start, view.offer)
        if usd_start is None:
            return None
        time, usd_compute = time + Estimate.exact(start.seconds), usd_compute + Estimate.exact(usd_start)
    compute = Compute(time, usd_compute, energy_j=None, gpu_seconds=None)
    return CostForecast(compute, 0, Prices(view.offer, view.label_usd))


def _grading_seconds(member: Result, recipe: Recipe) -> float:
    """Seconds of grading a member on the test split, scaled by size from its evaluation on the dev
    set. 0 where that was not measured.
    """
    splits, evaluation = recipe.task.splits(), member.usage.get("evaluate")
    return evaluation.seconds * len(splits.test) / len(splits.dev) if evaluation and splits.dev else 0.0


def longest(plan: Iterable[Replicate]) -> list[Replicate]:
    """The longest replicate of each run of a plan, in the order of the runs."""
    found: dict[str, Replicate] = {}
    for each in plan:
        known = found.setdefault(each.recipe.run_id, each)
        found[each.recipe.run_id] = max(known, each, key=lambda e: e.recipe.epochs)
    return list(found.values())


def confirm(job: Job, view: View, seeds: int = SEEDS) -> Outcome:
    """Train the front's members with new seeds, and grade them, and the weights that the sweep
    kept, on the test split.

    Members that are checkpoints of one run are made by one run again. Each becomes a Result with
    `replicate_of` and `test_scores`, written once; running again goes on where the last start
    stopped. Errors are those of `workbench.sweep.sweep`.

    Args:
        job: What it works with. Its limits are budgets alone: as a sweep's they count all that the
            study has spent, the sweep's part included.
        view: The prices at which the front is meant; they take the place of the job's.
        seeds: How many new seeds.

    Raises:
        Refused: A member cannot be made again, as the study's data are not what they were.
    """
    limits = replace(job.limits, trials=None)  # replicates are no trials
    job = replace(job, offer=view.offer, label_usd=view.label_usd, limits=limits)
    return run(
        job,
        lambda context: ConfirmationPlanner(context, view, seeds),
        lambda context, work: HeldOutGrading(context, work, view),
    )


class ConfirmationPlanner:
    """Proposes what is planned, whatever any search would say: the front's runs, seed by seed.

    Args:
        context: What the worker works with.
        view: The prices at which the front is meant.
        seeds: How many new seeds.
    """

    what = "confirmation"

    def __init__(self, context: Context, view: View, seeds: int) -> None:
        self._context, self._view, self._seeds = context, view, seeds
        self.how: dict[str, str | int] = {"sampler": "confirm", "seed": 0}
        self._room = Room.of(context.provenance)
        self._tried: set[str] = set()  # graded, or not to be graded here: each is proposed once

    def over(self, results: Sequence[Result]) -> Done | None:
        """The end where a budget is spent."""
        return done_for(self._context.account.exhausted())

    def next(self, results: Sequence[Result], current: str | None = None) -> Answer:
        """The first run of the plan that is missing, is not being made, and fits the budget."""
        account = self._context.account
        account.ask_anew()
        # Members of one run are made by one worker; two would train the same steps twice.
        busy = {r.run_id for r in results if r.status == "running"}
        if account.bounded:
            account.forecaster.learn(results)
        plan = replicates(self._context.study, results, self._view, self._seeds)
        open_ = [each for each in left(plan, seen_from(results, self._room)) if each.recipe.run_id not in busy]
        chosen = next((e for e in longest(open_) if _admitted(e, open_, results, self._view, account)), None)
        if chosen is None:
            return self._to_grade(results) or Done(self._why(plan, results))
        same = [each for each in open_ if each.recipe.run_id == chosen.recipe.run_id]
        wanted = {each.recipe.id: each.member.recipe_id for each in same}
        return Proposal(LongestRun(chosen.recipe, _settings(chosen.member), wanted))

    def _to_grade(self, results: Sequence[Result]) -> Proposal | None:
        """Members that no seed changes and that no run was there to be graded beside, unless
        another worker grades them now.
        """
        first = first_new_seed(self._context.study)
        runs = [(m, _graded_alone(m, recipe_of(self._context.study, m))) for m in asked(results, self._view)]
        busy = [r for r in results if r.status == "running" and r.replicate_of is not None]
        if any(r.seed == first or any(r.run_id == run.run_id for _, run in runs) for r in busy):
            return None
        open_ = [(member, run) for member, run in runs if member.recipe_id not in self._tried]
        self._tried |= {member.recipe_id for member, _ in open_}
        return Proposal(open_[0][1]) if open_ else None

    def leave(self, run_id: str) -> None:
        """Nothing is noted: whether the rest of a run fits is asked anew each time, since there is
        nothing else to do.
        """

    def _why(self, plan: Sequence[Replicate], results: Sequence[Result]) -> str:
        """Why nothing of the plan is proposed, in words."""
        missing = {each.recipe.id for each in plan} - {r.recipe_id for r in results if r.status == "complete"}
        if self._context.account.refused:
            return self._context.account.refused
        if left(plan, seen_from(results, self._room)):
            return "another worker is making what is left"
        many = f"{self._seeds} new seed{'' if self._seeds == 1 else 's'}"
        failed = f", but for {len(missing)} that could not be trained" if missing else ""
        missed = len(asked(results, self._view))
        seedless = sum(member.epochs == 0 for member in worth_confirming(results, self._view))
        known = seedless - missed
        models, were, them = ("model", "was", "it") if known == 1 else ("models", "were", "them")
        graded = f"{known} {models} that no seed changes {were} graded once on the test split"
        lost = f"; {missed} could not be graded on that split" if missed else ""
        if not plan:
            return f"{graded}; new seeds have no effect on {them}{lost}"
        which = " that learns" if seedless else ""
        return f"every member of the front{which} has been run with {many}{failed}" + (f"; {graded}{lost}" if seedless else "")


class HeldOutGrading(Grading):
    """Grades on the held-out test split: each replicate, and once the weights that the sweep kept
    and the models that were only asked.

    Args:
        context: What the worker works with.
        work: What it is making.
        view: The prices at which the front is meant.
    """

    def __init__(self, context: Context, work: CurrentWork, view: View) -> None:
        self._context, self._work, self._view = context, work, view

    def before(self, claim: Claim) -> None:
        """With the first new seed, score the weights that the sweep kept of the run's members, and
        what was only asked.
        """
        first = claim.run.recipe.seed == first_new_seed(self._context.study)
        if not first and not claim.run.graded_only:  # or two workers would grade the same
            return
        made = {r.recipe_id: r for r in claim.results if r.status == "complete"}
        members = [made[name] for name in (claim.run.replicates or {}).values()]
        scored = _scored(claim.results)
        wanted = {member.recipe_id: member for member in (*members, *asked(claim.results, self._view))}
        for name, member in wanted.items():
            if name not in scored:
                self._grade(member)

    def of(self, checkpoint: Checkpoint) -> Mapping[str, float]:
        """Grade a replicate on the test split, and return its scores."""
        context = self._context
        context.observer.doing("Grading on the test split")
        with context.bill.phase("test"), context.interruptions.breakable():
            scores = checkpoint.test()
        context.observer.doing("Training")
        return scores

    def _grade(self, member: Result) -> None:
        """Score one member's own weights, if they are here."""
        context, lease = self._context, self._work.lease
        assert lease is not None
        recipe, path = recipe_of(context.study, member), context.checkpoints.weights(member.recipe_id)
        # A model that no label was used for is made again by loading it, and needs no file.
        if path is None and recipe.method.labelled:
            where = f"trial {member.trial} at {member.epochs:g} epochs"
            context.observer.note(f"The weights of {where} are not here: its new seeds alone are graded on the test split.")
            return
        context.observer.doing("Grading on the test split")
        with context.bill.phase("test"), context.interruptions.breakable():
            training.warm_up(recipe)
            scores = (training.test if context.shards is None else context.shards.test)(recipe, path)
        if scores:
            # In the lease at once: its next beat, and whatever becomes of the run, puts it on
            # record.
            known = {**lease.result.test_scores, member.recipe_id: scores}
            lease.result = replace(lease.result, test_scores=known)


def _graded_alone(member: Result, recipe: Recipe) -> LongestRun:
    """What grades a member that no seed changes, and trains nothing."""
    return LongestRun(recipe, _settings(member), {recipe.id: member.recipe_id}, graded_only=True)


def recipe_of(study: Study, member: Result) -> Recipe:
    """The recipe that made a member.

    Raises:
        Refused: The study's data, or what it is read with, are not what they were.
    """
    with contextlib.suppress(UsageError):
        recipe = study.resolve(member.settings).with_epochs(member.epochs)
        # The id covers the content of data and model files too. With another id the same
        # settings would train something else, and its scores would not confirm this member.
        if recipe.id == member.recipe_id:
            return recipe
    raise _not_again(member)


def _not_again(member: Result) -> Refused:
    return Refused(
        f"trial {member.trial} cannot be made again: the study's data, or what it is read with, are not what they were. "
        "Bring them back, or sweep the study as it is now first."
    )


def _settings(member: Result) -> dict[str, Value]:
    """A member's settings without its seed, which a replicate has of its own."""
    return {name: value for name, value in member.settings.items() if name != "seed"}
