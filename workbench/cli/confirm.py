"""`workbench confirm`: the front once more, with new seeds and on the held-out test split."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import click

from workbench.cli.forecasting import budget_text, forecaster_of, warn_if_busy
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
from workbench.cli.studies import BUDGETS, dropped_limits
from workbench.errors import UsageError, WorkbenchError
from workbench.front.budgets import budget_uses
from workbench.front.confirmed import worth_confirming
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import Ledger
from workbench.quantities import banded, dollars, duration, many
from workbench.result import Result, Room, last_start, seen_from
from workbench.result.outdated import outdated_text
from workbench.sweep import Account, expected, graded_by, left, longest, nothing_fits, replicates
from workbench.sweep import asked as ungraded
from workbench.sweep import confirm as work

if TYPE_CHECKING:
    from workbench.estimate import Estimate
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
    apart. What no seed changes is graded once, with an interval over the test examples; what is no
    better than the commonest answer is left out. How long it takes and what it costs is forecast
    first. Running again continues; more --seeds add to them.
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
        show_outcome(setup.study, setup.ledger, plan.results, setup.view, setup.limits, as_json=asked.as_json, then="front")
        sys.exit(_code(plan.whole, plan.results, setup.view))
    budgets = {name: getattr(setup.limits, name) for name in BUDGETS}
    if gone := dropped_limits(setup.ledger.description["limits_had"], budgets):
        messages.print(gone, style="yellow", markup=False)
    warn_if_busy()
    likely = _tell(plan, setup)
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
    show_outcome(setup.study, setup.ledger, outcome.results, setup.view, setup.limits, as_json=asked.as_json, then=then)
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
    if "score_range" not in ledger.description["grading"]:  # noted by a version that did not look at all of this
        with contextlib.suppress(WorkbenchError):  # what is wrong with the data is said where a member is to be made again
            ledger.note_grading(graded_by(asked.loaded))
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


def _tell(planned: _Plan, setup: Setup) -> Estimate | None:
    """Say what is to be done, what it is likely to take beside what the study has spent, and where a budget ends it before. Return
    the US$; None where unknown.
    """
    plan, results, view = planned.left, planned.results, setup.view
    for line in _apart(planned, view):
        messages.print(line, markup=False)
    if not plan:
        return None
    started, before = setup.measured.window.read(), last_start(results)
    # More is to come until the first run begins: what the last start took says it, unless this one has taken more.
    likely = expected(plan, results, view, start=before if before.seconds > started.seconds else started)
    members, runs = many(len({each.member.recipe_id for each in plan}), "member"), len(longest(plan))
    to_do = f"{members} of the front to confirm by {many(runs, 'run')} with new seeds"
    if likely is None or (usd := likely.cost("usd_compute")) is None:
        messages.print(f"{to_do}: how long they take is unknown.")
        return None
    spent = setup.budget.spent(results)
    taken = f"{banded(likely.seconds, duration, basis=False)} and {banded(usd, dollars, basis=False)} with the start"
    messages.print(
        f"{to_do}: forecast to take {taken}, by what the same runs took with the first seed. "
        f"The study has spent {duration(spent.seconds)} and {dollars(spent.usd)} so far."
    )
    if ends := budget_text(likely, runs, budget_uses(spent, asdict(setup.limits)), leaves=False):
        messages.print(ends, style="yellow", markup=False)
    return usd


def _apart(planned: _Plan, view: View) -> list[str]:
    """What becomes of the members that are not made again: those that are no better than chance, and those that no seed changes."""
    told, chance = [], len(pareto_front(planned.results, view)) - len(worth_confirming(planned.results, view))
    if chance:
        does, is_ = ("does", "is") if chance == 1 else ("do", "are")
        told.append(
            f"{many(chance, 'member')} of the front that {does} no better than the commonest answer given to everything "
            f"({view.maximize} {view.grading['constant_score']:.1f}) {is_} left out: new seeds of a guess tell nothing."
        )
    if seedless := len(planned.ungraded):
        is_, examples = "is" if seedless == 1 else "are", view.grading.get("test_examples")
        over = f", with an interval over its {many(examples, 'example')}" if examples else ""
        told.append(f"{many(seedless, 'member')} of the front that no seed changes {is_} graded once on the test split{over}.")
    return told
