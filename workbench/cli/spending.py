"""Before and after the commands that spend: what they ask, and how they report what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from workbench import process
from workbench.cli.forecasting import kept_calibration
from workbench.cli.front import show_front, tell_doubts
from workbench.cli.printing import messages, print_json, print_text, say_next
from workbench.cli.studies import limit_flags, within_flags
from workbench.errors import Refused
from workbench.front.confirmed import worth_confirming
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.quantities import banded, dollars, duration, many
from workbench.report.answers import answer
from workbench.report.bill import PHASE_MEANINGS
from workbench.report.efficiency import efficiency_text
from workbench.report.records import front_record
from workbench.result import Result, Spending, by_run, last_start, spending
from workbench.result.outdated import earlier_bill_text, outdated_text
from workbench.result.sharing import sharing_text
from workbench.sweep import SEEDS, expected, left, longest, replicates

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.ledger import Ledger
    from workbench.study import Study
    from workbench.sweep import Budget, Limits

_MUCH = 0.25
"""Of what was spent in all the share from which it is said that it went into starting."""

ASK_ABOVE_USD = 10.0
"""On a platform that is paid for, a sweep that may spend more than this is asked about first."""


def ask(budget: Budget, likely: Estimate | None, *, yes: bool, bounded: bool, what: str = "sweep") -> None:
    """Ask before much is spent on a paid platform. Where nobody can be asked, `--yes` must say so.

    Nothing is asked where little is likely to be spent, and `bounded`.

    Raises:
        Refused: The answer is no, or nobody can be asked.
    """
    offer, limits = budget.offer, budget.limits
    if yes or offer.commitment == "owned":
        return
    bounds = [] if limits.max_usd is None else [limits.max_usd]
    # Hours bound what compute costs, but not what labels cost.
    if limits.max_hours is not None and not budget.label_usd:
        bounds.append(limits.max_hours * float(offer.usd_per_hour))
    most = min(bounds, default=None)
    if (most is not None and most <= ASK_ABOVE_USD) or (likely is not None and likely.high <= ASK_ABOVE_USD and bounded):
        return
    spend = "an unknown sum" if likely is None else banded(likely, dollars, basis=False)
    if most is not None:
        spend = f"up to {dollars(most)}"
    text = f"This {what} may spend {spend} on {offer.name}"
    # A question that nobody sees would hang a job for ever.
    if not messages.is_terminal or not sys.stdin.isatty():
        raise Refused(f"{text}. Say --yes to go on, or set --max-usd.")
    if not click.confirm(f"{text}. Go on?", err=True):
        raise Refused("nothing was started.")


def show_outcome(
    study: Study, ledger: Ledger, results: Sequence[Result], view: View, limits: Limits, *, as_json: bool, then: str = ""
) -> None:
    """Print what the sweep was for: the bill on standard error, the front and the answer on standard output.

    `limits` are those of this start. `then` is the command that comes next, where it is another than the one that the results ask
    for.
    """
    spent = spending(results, view.offer, view.label_usd)
    first = [r for r in results if r.replicate_of is None]  # those of other inputs too: this is the bill
    runs = len(by_run(r for r in first if not r.taken_over))
    # What was only graded has one id for both, and no new seed.
    again = len(by_run(r for r in results if r.replicate_of is not None and r.recipe_id != r.run_id))
    text = many(runs, "run") + (f" and {again} with new seeds" if again else "")
    bill = f"{dollars(spent.usd)} and {duration(spent.seconds)} for {text}{earlier_bill_text(first)}{_start_text(results, spent)}"
    messages.print(f"Spent in all: {bill}.\n")
    if outdated := outdated_text(results):
        messages.print(outdated, style="yellow", markup=False)
    timed = kept_calibration()
    if as_json:
        print_json(front_record(ledger.name, results, view, calibration=timed))
    else:
        points, description = Points.of(results, view), ledger.description
        show_front(points)
        print_text(f"\n{answer(points)}")
        tell_doubts(results, view, description["grading"])
        if efficient := efficiency_text(results, timed):
            messages.print(f"Efficiency: {efficient}", style="dim", markup=False)
        for record in description["sharing"]:
            messages.print(sharing_text(record), style="dim", markup=False)
        following = _following(study, results, view, limits, then or ("front" if again else ""))
        click.get_current_context().call_on_close(lambda: say_next(following))  # MLflow is yet to be told


def _start_text(results: Sequence[Result], spent: Spending) -> str:
    """Say what of the bill went into starting, where that is much of it; else nothing."""
    started = sum(r.spent["provision"].seconds for r in results if "provision" in r.spent)
    return f", {duration(started)} of it to start: {PHASE_MEANINGS['provision']}" if started > _MUCH * spent.seconds else ""


def _following(study: Study, results: Sequence[Result], view: View, limits: Limits, verb: str) -> str:
    """Return what comes next: `verb` where it is given, else what the results ask for."""
    context = click.get_current_context()
    path = context.params["study"]
    if verb and verb == context.command.name:
        return f"`{process.command_line()}` goes on"  # its limits included: else it would go on without them
    if not results:  # not even one run could be begun
        flags = limit_flags({**asdict(limits), "trials": None, "stop_below": None})
        return f"`workbench sweep {path}` with a higher limit than{flags}" if flags else f"`workbench plan {path}`"
    if not verb and all(r.status == "interrupted" for r in results):
        return f"`workbench plan {path} --calibrate` says what a run takes here: what may be spent was spent before any checkpoint"
    # What was not trained comes out the same with every seed.
    verb = verb or ("confirm" if any(r.epochs for r in worth_confirming(results, view)) else "runs")
    return f"`workbench {verb} {path}{_confirming(study, results, view, limits) if verb == 'confirm' else '`'}"


def _confirming(study: Study, results: Sequence[Result], view: View, limits: Limits) -> str:
    """Say within which limits new seeds of the front's runs can be made, and what they are likely to cost with the start, by what
    the same runs took with the first seed.
    """
    spent = spending(results, view.offer, view.label_usd)
    try:
        plan = left(replicates(study, results, view, SEEDS), results)
    except Refused:  # its data have changed meanwhile: confirming will say it
        return "`"
    likely = expected(plan, results, view, start=last_start(results))
    flags = within_flags(asdict(limits), spent, likely)
    if likely is None or (usd := likely.cost("usd_compute")) is None or spent.usd is None:
        return flags
    runs, whole = many(len(longest(plan)), "run"), dollars(spent.usd + usd.value)
    return f"{flags}: {runs} with new seeds, {banded(usd, dollars, basis=False)} more ({whole} in all)"
