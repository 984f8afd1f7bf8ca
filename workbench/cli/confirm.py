"""`workbench confirm`: the front once more, with new seeds and on the held-out test split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import click

from workbench.cli.forecasting import forecaster_of, warn_if_busy
from workbench.cli.notebook import end_notebook
from workbench.cli.options import Whole, gathered
from workbench.cli.printing import messages, waiting
from workbench.cli.progress import Progress
from workbench.cli.setup import (
    Measured,
    Setup,
    TrainingOptions,
    budget_options,
    place_options,
    prices_of,
    study_argument,
    url_of,
    yes_option,
)
from workbench.cli.spending import ask, show_outcome
from workbench.errors import UsageError
from workbench.estimate import Estimate
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Ledger
from workbench.quantities import dollars, duration, many
from workbench.result import Result, Room, seen_from
from workbench.result.outdated import outdated_text
from workbench.sweep import Account, expected, left, longest, nothing_fits, replicates
from workbench.sweep import asked as ungraded
from workbench.sweep import confirm as work

if TYPE_CHECKING:
    from workbench.sweep import Limits, Replicate

SEEDS = Whole(min=1, max=1000)


@dataclass(frozen=True, kw_only=True)
class ConfirmOptions(TrainingOptions):
    """The options of `confirm`, by the names that click gives them.

    Attributes:
        seeds: New seeds of every member.
    """

    seeds: int


@click.command()
@study_argument
@click.option("--seeds", type=SEEDS, default=3, show_default=True, help="New seeds of every member.")
@budget_options(", the sweep's included", "the sweep's share included.")
@yes_option
@place_options
@gathered(ConfirmOptions)
def confirm(asked: ConfirmOptions) -> None:
    """Train the members of the front of STUDY again with new seeds, and grade them on the held-out
    test split.

    The search kept the luckiest of many scores. New seeds show what a member's recipe is worth: the
    front then stands at their means, with 95 % intervals, and says which members they do not tell
    apart. Running again continues; more --seeds add to them.
    """
    confirm_front(asked, asked.seeds, asked.limits())


@dataclass(frozen=True)
class _Plan:
    """What a confirmation has to do.

    Attributes:
        whole: All replicates of the front.
        left: The replicates that are still to be made.
        ungraded: Members that no seed changes, still to be graded on the test split.
        results: All Results.
        reached: Why there is nothing to do, in words; empty where there is something.
        too_dear: Why no replicate fits the budget, in words; empty where one does.
    """

    whole: Sequence[Replicate]
    left: Sequence[Replicate]
    ungraded: Sequence[Result]
    results: Sequence[Result]
    reached: str
    too_dear: str

    @property
    def to_raise(self) -> str:
        """What would have to be raised for anything to be done."""
        if self.too_dear:
            return "the limit"
        return "the limit (--max-usd, --max-hours, --max-energy-kwh)" if self.left or self.ungraded else "--seeds for more seeds"


def confirm_front(asked: TrainingOptions, seeds: int, limits: Limits) -> NoReturn:
    """Confirm the front of a study that was swept, print it, and exit.

    Args:
        asked: The options of the command that confirms.
        seeds: How many new seeds.
        limits: Budgets; trials do not count.
    """
    with waiting("Preparing to confirm the front …"):
        setup = _opened(asked, replace(limits, trials=None))  # replicates are no trials
        plan = _planned(setup, seeds)
    if plan.reached or plan.too_dear:
        setup.catch_up()
        why = f"Nothing was begun: {plan.too_dear}" if plan.too_dear else f"Nothing to do: {plan.reached}"
        messages.print(f"{why}. Raise {plan.to_raise} to go on; what the sweep has spent counts too.")
        show_outcome(setup.study, setup.ledger, plan.results, setup.view, as_json=asked.as_json, then="front")
        sys.exit(_code(plan.whole, plan.results, setup.view))
    warn_if_busy()
    likely = _tell(plan, setup.view)
    # How long a person takes to answer is not work.
    with setup.measured.unbilled():
        ask(setup.budget, likely, yes=asked.yes, bounded=True, what="confirmation")

    def ahead(made: Sequence[Result]) -> float | None:
        likely = expected(_left(setup, plan.whole, made), made, setup.view)
        return None if likely is None else likely.seconds.value

    with setup.notebook() as notebook, setup.measured.meter, Progress(setup.view, setup.budget, ahead) as progress:
        job = setup.job(notebook, progress, devices=_devices(plan.results, setup.view))
        outcome = work(job, setup.view, seeds)
    made = _made(plan.whole, outcome.results)
    count = f" {made} of {len(plan.whole)} checkpoints with new seeds are made." if plan.whole else ""
    messages.print(f"\nThe confirmation ended: {outcome.reason}.{count}")
    then = "confirm" if outcome.interrupted else ""
    show_outcome(setup.study, setup.ledger, outcome.results, setup.view, as_json=asked.as_json, then=then)
    end_notebook(notebook, outcome, setup.view)
    sys.exit(130 if outcome.interrupted else _code(plan.whole, outcome.results, setup.view))


def _opened(asked: TrainingOptions, limits: Limits) -> Setup:
    """Open the study's ledger and the meter. Raises UsageError where there is no front to
    confirm.
    """
    offer, label_usd = prices_of(asked)
    ledger = Ledger.find(asked.loaded.name, url_of(asked), path=asked.study, study=asked.loaded)
    results = ledger.results()
    # Before the meter is opened: a study without a front is told so at once.
    view = View.of(ledger.description, offer, label_usd)
    if not pareto_front(results, view):
        outdated = outdated_text(results)
        told = f" {outdated}" if outdated else ""
        raise UsageError(f"{ledger.name} has no finished run to confirm.{told} Run `workbench sweep {asked.study}` first.")
    measured = Measured.of(asked.loaded, offer, _devices(results, view))
    return Setup(asked, offer, label_usd, measured, ledger, limits)


def _devices(results: Sequence[Result], view: View) -> int:
    """How many GPUs hold a run together: as many as held the member of the front that was held by most."""
    return max((r.devices for r in pareto_front(results, view)), default=1)


def _left(setup: Setup, whole: Sequence[Replicate], results: Sequence[Result]) -> list[Replicate]:
    """What of a plan is to be made on this machine."""
    here = Room.of({"device": setup.measured.meter.description, "devices": _devices(results, setup.view)})
    return left(whole, seen_from(results, here))


def _planned(setup: Setup, seeds: int) -> _Plan:
    """Work out what is to be done and whether any of it fits the budget. Where there is something
    to do, the set-up is given a forecaster.
    """
    results = setup.ledger.results()
    whole = replicates(setup.study, results, setup.view, seeds)
    plan = _left(setup, whole, results)
    open_ = ungraded(results, setup.view)
    reached = setup.budget.reached(results) if plan or open_ else "the front is confirmed"
    # A lease is that of another worker or of a dead one. Either way
    # it is the confirmation that waits for it or puts it right.
    reached = "" if setup.ledger.leases() else reached
    too_dear = ""
    if not reached:
        setup.forecaster = forecaster_of(setup.study, setup.options.storage, results)
        account = Account(setup.budget, setup.forecaster)
        too_dear = nothing_fits(plan, results, setup.view, account, setup.measured.window.read())
    too_dear = "" if open_ else too_dear  # they are graded, whatever else does not fit
    return _Plan(whole, plan, open_, results, reached, too_dear)


def _code(whole: Sequence[Replicate], results: Sequence[Result], view: View) -> int:
    """The exit status: 1 where nothing of what was planned is on record."""
    return 0 if _made(whole, results) or (not whole and not ungraded(results, view)) else 1


def _made(whole: Sequence[Replicate], results: Sequence[Result]) -> int:
    """How many replicates are on record."""
    done = {r.recipe_id for r in results if r.status == "complete"}
    return sum(each.recipe.id in done for each in whole)


def _tell(planned: _Plan, view: View) -> Estimate | None:
    """Say what is to be done and what it is likely to take. Return the US$; None where unknown."""
    plan, results = planned.left, planned.results
    if planned.ungraded and not plan:
        members = many(len(planned.ungraded), "member")
        messages.print(f"{members} of the front that no seed changes to grade on the test split.")
        return None
    likely = expected(plan, results, view)
    usd = None if likely is None else likely.cost("usd_compute")
    members = many(len({each.member.recipe_id for each in plan}), "member")
    runs = many(len(longest(plan)), "run")
    taken = "how long they take is unknown"
    if usd is not None and likely is not None:
        taken = f"about {dollars(usd.value)} and {duration(likely.seconds.value)}, by what the same runs took with the first seed"
    messages.print(f"{members} of the front to confirm by {runs} with new seeds: {taken}.")
    # The same recipe takes about the same with another
    # seed; a factor of 2 leaves room for a busier machine.
    return None if usd is None else Estimate.within(usd.value, 2.0, "measured")
