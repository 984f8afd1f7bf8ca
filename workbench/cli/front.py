"""`workbench front`: the front, the answer, and what it would cost elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from workbench import figures
from workbench.cli import complete
from workbench.cli.forecasting import band, kept_calibration
from workbench.cli.front_serving import rival_of, show_serving
from workbench.cli.options import NUMBER, POSITIVE, Whole, gathered
from workbench.cli.printing import Table, messages, print_json, print_table, print_text, reading, say_next, writing
from workbench.cli.shared_options import json_option, price_options, storage_option
from workbench.cli.studies import (
    limit_flags,
    open_ledger,
    retry_command,
    study_path,
    tell_inputs,
    typed_name,
    view_of,
    within_flags,
)
from workbench.front.confirmed import worth_confirming
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.front.serving import Load
from workbench.ledger import Ledger
from workbench.quantities import dollars, number
from workbench.report import answers
from workbench.report.answers import (
    GUESS,
    answer,
    checkpoint_text,
    contended_text,
    cost_cells,
    cost_text,
    guesses_text,
    held_out_text,
    intervals_text,
    score_text,
    ties_text,
)
from workbench.report.caveats import doubts, redaction_text
from workbench.report.columns import COLUMNS, POINT, cells
from workbench.report.records import front_record
from workbench.report.text import plain_score
from workbench.result import COSTS, Result, by_run, carried, current, same_machine, spending


@dataclass(frozen=True, kw_only=True)
class FrontOptions:
    """The arguments and options of `workbench front`."""

    study: str | None
    budget_usd: float | None
    target: float | None
    everything: bool
    scores: bool
    billed: bool
    adopted: int | None
    load_per_second: float | None
    against: str | None
    html: Path | None
    platform: str | None
    label_usd: float | None
    storage: str | None
    as_json: bool


@click.command()
@click.argument("study", required=False, shell_complete=complete.studies)
@click.option("--budget-usd", type=POSITIVE, metavar="USD", help="Name the best point that costs at most this.")
@click.option("--target", type=NUMBER, metavar="SCORE", help="Name the cheapest point that reaches this score.")
@click.option("--all", "everything", is_flag=True, help="Show dominated points too.")
@click.option("--scores", is_flag=True, help="Show every score: of groups, of perturbed examples and of other tasks too.")
@click.option("--billed", is_flag=True, help="Dollars as the platform bills one rental: rounded up, the whole machine.")
@click.option(
    "--adopted",
    type=Whole(min=1),
    metavar="N",
    help="Add to every bill what the sweep has spent on compute, over N adopted models.",
)
@click.option(
    "--load",
    "load_per_second",
    type=POSITIVE,
    metavar="RATE",
    help="Price 1,000 predictions at RATE predictions a second, on whole machines. [default: a machine fully used]",
)
@click.option(
    "--against",
    metavar="TRIAL",
    shell_complete=complete.runs,
    help="The point that others are compared with in serving: trial or number. [default: the cheapest]",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the front into one HTML file.")
@price_options
@storage_option
@json_option
@gathered(FrontOptions)
def front(asked: FrontOptions) -> None:
    """Show the front of STUDY (a study file, or its name), and the answer to its question.

    Every checkpoint is a point: a model that could be deployed. Its cost is what making it alone would cost. With another
    --platform every run is priced again: as measured on the same device, carried over by stated ratios to another, with a band.
    """
    with reading():
        ledger = open_ledger(asked.study, asked.storage)
        results, forms = ledger.results(), ledger.forms
    view = replace(view_of(ledger.description, asked.platform, asked.label_usd), billed=asked.billed)
    view = view.amortized_over(asked.adopted, results) if asked.adopted else view
    points, rival = Points.of(results, view), rival_of(results, view, asked.against)
    # The figure has one axis of cost: a budget in US$ can be drawn only where that is its unit.
    budget = asked.budget_usd if view.minimize[0] == "usd" else None
    picks = answers.picks(points, budget=budget, target=asked.target)
    if asked.html:
        drawn = figures.front(points, title=ledger.description["question"])
        with writing(asked.html):
            figures.write_html(figures.mark(drawn, points, budget=budget, target=asked.target, picks=picks), asked.html)
        messages.print(f"The front is drawn in {asked.html}.", markup=False)
    if asked.as_json:
        print_json(
            front_record(
                ledger.name,
                results,
                view,
                budget_usd=asked.budget_usd,
                target=asked.target,
                load=Load(asked.load_per_second, rival),
                forms=forms,
                calibration=kept_calibration(),
            )
        )
    else:
        show_front(points, everything=asked.everything, scores=asked.scores)
        if rival is not None and (asked.load_per_second or asked.against):
            show_serving(results, view, Load(asked.load_per_second, rival), forms)
        print_text(answer(points, budget_usd=asked.budget_usd, target=asked.target))
        _explain(results, points)
        tell_doubts(results, view, ledger.description["grading"])
        if text := redaction_text(results):
            messages.print(text, style="dim", markup=False)
        tell_inputs(ledger, results)
        if ledger.ended:
            messages.print(f"The last {ledger.ended['what']} ended: {ledger.ended['reason']}.", style="dim", markup=False)
        # What was asked for does not exist yet: only more runs can help.
        wanting = (asked.target is not None or asked.budget_usd is not None) and not picks
        _say_next(ledger, results, points, typed_name(ledger, asked.study), wanting)
    if all(map(view.unmet, points.found)):  # nothing is on the front
        sys.exit(1)


def tell_doubts(results: Sequence[Result], view: View, grading: Mapping[str, Any]) -> None:
    """Say what is to be doubted of the points."""
    for line in doubts(results, view, grading):
        messages.print(line, style="yellow", markup=False)


def _say_next(ledger: Ledger, results: Sequence[Result], points: Points, name: str, wanting: bool) -> None:
    """Say what comes next: what was released to be tried again; a sweep where there is nothing yet, or nothing that was
    wanted; then confirming; then the runs.
    """
    members, path, limits = worth_confirming(points.found, points.view), study_path(ledger), ledger.description["limits"]
    released = [segments[-1] for segments in by_run(current(results)).values() if segments[-1].retry]
    if path and released:
        say_next(retry_command(path, released, limits))
    elif path and results and not current(results):
        say_next(f"`workbench sweep {path}{limit_flags(limits)}`")  # within the same limits: what is of other inputs is no trial
    elif path and (wanting or not members):
        flags = limit_flags(limits)
        say_next(f"`workbench sweep {path}`" + (f" with a higher limit than{flags}" if flags else ""))
    elif path and any(r.recipe_id not in points.confirmed for r in members):
        within = within_flags(limits, spending(results, points.view.offer, points.view.label_usd))
        say_next(f"`workbench confirm {path}{within}: new seeds show how much of this was luck")
    else:
        say_next(f"`workbench runs {name}`")


def _explain(results: Sequence[Result], points: Points) -> None:
    """Say what the dollars shown are, where they are not simply what was measured at this price."""
    view, made = points.view, len(points.found) + points.unknown
    explain_costs(results, view)
    # A front of fewer points than were made would otherwise look like the whole of it.
    if points.unknown:
        text = f"{points.unknown} of {made} points have no known cost on {view.offer.name}, and are left out."
        messages.print(text, style="yellow", markup=False)
    if view.adopted:
        share = None if view.sweep_usd is None else view.sweep_usd / view.adopted
        text = f"Each bill holds {dollars(share)} of the {dollars(view.sweep_usd)} that the sweep spent on compute."
        messages.print(text, style="dim", markup=False)


def show_front(points: Points, *, everything: bool = False, scores: bool = False) -> None:
    """Print the front as a table, cheapest first; with `everything` the dominated points too, with `scores` all that each scored.

    Scores that the study bounds are always shown.
    """
    view, of = points.view, points.confirmed
    shown = points.found if everything else points.members
    if not shown:
        return
    shown = sorted(shown, key=lambda r: (view.cost(r, view.minimize[0]) or 0.0, r.number or 0))
    known = dict.fromkeys(name for r in shown for name in r.scores)
    beside = [name for name in (known if scores else view.require) if name != view.maximize]

    def table(*, brief: bool) -> Table:
        return _table(points, shown, beside, everything=everything, brief=brief)

    print_table(table(brief=False), partial(table, brief=True))
    for text in filter(None, (guesses_text(points), intervals_text(points, shown), ties_text(points.best, view))):
        print_text(text)
    for r in pareto_front(points.found, view):
        # A member of the sweep's front that vanished after
        # a confirmation is named, or it would look lost.
        if not points.on_front(r):
            why = "no new seed could be trained"
            if r.recipe_id in of:
                now, before = of[r.recipe_id].score.mean, r.scores[view.maximize]
                why = f"with new seeds its {view.maximize} is {now:.1f} ({before:.1f} before), no better than a cheaper one's"
            print_text(f"No longer on the front: trial {r.trial} at {number(r.epochs)} epochs; {why}.")


def _table(points: Points, shown: Sequence[Result], beside: Sequence[str], *, everything: bool, brief: bool) -> Table:
    """Return points as a table, with their scores `beside` the study's own. A `brief` one has its bands and intervals in short."""
    view, of = points.view, points.confirmed
    costs = [*dict.fromkeys((*view.minimize, "seconds"))]
    table = Table(narrow=brief)
    for name in POINT:
        table.add_column(name, justify="right" if COLUMNS[name].counts else "left", spare=_SPARE.get(name, 0))
    for name in (view.maximize, *beside):
        table.add_column(name, justify="right")
    for name in costs:
        spare = _SPARE[name] if name == "seconds" and name not in view.minimize else 0
        table.add_column(COSTS[name].unit if name != "seconds" else "time", justify="right", spare=spare)
    if of:
        table.add_column("test split", justify="right")
        table.add_column("tied with", spare=_SPARE["tied with"])
    if everything:
        table.add_column("front")
    for r in shown:
        found = of.get(r.recipe_id)
        guess = GUESS if points.by_chance(r) else ""
        row = [*cells(r, view, *POINT), score_text(r.scores[view.maximize], found, brief=brief) + guess]
        row += [plain_score(r.scores[name]) if name in r.scores else "" for name in beside]
        row += [_short_cost(view, r, name) for name in costs] if brief else cost_cells(view, r, costs)
        row += _confirmation(r, points, brief=brief) if of else []
        table.add_row(*row, *([_standing(r, points)] if everything else []))
    return table


_SPARE = {"seconds": 4, "tied with": 3, "settings": 2, "labels": 1}
"""Columns that are left out where there is no room for all, the highest first: time goes with US$, and `workbench run ID` shows all
of a point.
"""


def _short_cost(view: View, r: Result, name: str) -> str:
    """Write a cost with its band in short: `$0.00041 ±8 %`."""
    found = view.estimate(r, name)
    exact = found is None or found.low == found.high
    return cost_text(view, r, name) + ("" if found is None or exact else f" {band(found)}")


def _standing(r: Result, points: Points) -> str:
    """Return whether a point is on the front: `*`; or which bound of the study it does not keep."""
    unmet = ", ".join(f"{name} {r.scores[name]:.1f}" if name in r.scores else f"no {name}" for name in points.view.unmet(r))
    return f"not met: {unmet}" if unmet else "*" if points.on_front(r) else ""


def _confirmation(r: Result, points: Points, *, brief: bool) -> list[str]:
    """Return what new seeds say of a point: its score on the test split, and the points that it is tied with."""
    known = points.confirmed.get(r.recipe_id)
    if known is None:
        return ["", "no better than chance" if points.view.by_chance(r) else "not confirmed"]
    tied = [points.confirmed[name].point for name in known.tied_with or ()]
    names = ", ".join(map(checkpoint_text, tied))
    return [held_out_text(known, brief=brief), names if known.tied_with is not None else "unknown"]


def explain_costs(results: Sequence[Result], view: View) -> None:
    """Say what dollars and seconds are where they are not as measured: carried over to the view's machine, or contended."""
    if text := contended_text(results):
        messages.print(text, style="dim", markup=False)
    elsewhere = ((part, offer) for r in results for part in r.parts if not same_machine(part, offer := view.offer_for(part)))
    found = [each for part, offer in elsewhere if (each := carried(part, offer)) is not None]
    for note in sorted({each.note for each in found if each.basis == "scaled"}):
        text = f"Scaled: no run was made on {view.offer.name}; US$ and time are carried over {note}."
        messages.print(text, style="dim", markup=False)
