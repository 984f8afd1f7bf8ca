"""`workbench confirm`: the front once more, with new seeds and on the held-out test split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from workbench.cli import complete
from workbench.cli.common import (
    POSITIVE,
    json_option,
    ledger_url,
    load_study,
    messages,
    offer_of,
    price_options,
    storage_option,
    tracking_option,
    waiting,
    warn_if_busy,
)
from workbench.cli.forecasting import forecaster_of
from workbench.cli.notebook import MLFLOW_PATIENCE_SECONDS, catch_up_first, end_notebook, open_notebook
from workbench.cli.options import setting
from workbench.cli.progress import Progress
from workbench.cli.spending import ask, show_outcome
from workbench.errors import UsageError
from workbench.estimate import Estimate
from workbench.front.members import pareto_front
from workbench.front.view import View
from workbench.ledger import Ledger
from workbench.meter import training_meter
from workbench.prices import label_usd_of
from workbench.quantities import dollars, duration
from workbench.result import Result
from workbench.result.outdated import outdated_text
from workbench.settings import stated
from workbench.sweep import Account, Budget, Limits, check_offer, expected, left, longest, nothing_fits, replicates
from workbench.sweep import confirm as work

if TYPE_CHECKING:
    from workbench.prices import Offer
    from workbench.study import Study
    from workbench.sweep import Replicate

SEEDS = click.IntRange(min=1, max=1000)


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@click.option("--seeds", type=SEEDS, default=3, show_default=True, help="New seeds of every member.")
@setting("--max-hours", type=POSITIVE, metavar="H", help="Hours of work in all, the sweep's included.")
@setting("--max-usd", type=POSITIVE, metavar="USD", help="US$ to spend in all, the sweep's share included. [default: the study's]")
@setting("--max-energy-kwh", type=POSITIVE, metavar="KWH", help="Energy in all, the sweep's included.")
@click.option("--yes", is_flag=True, help="Do not ask before spending on a paid platform.")
@price_options
@storage_option
@tracking_option
@json_option
def confirm(
    study: str,
    seeds: int,
    max_hours: float | None,
    max_usd: float | None,
    max_energy_kwh: float | None,
    yes: bool,
    platform: str | None,
    label_usd: float | None,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Train the members of the front of STUDY again with new seeds, and grade them on the held-out test split.

    The search kept the luckiest of many scores. New seeds show what a member's recipe is worth: the front then stands at their
    means, with 95 % intervals, and says which members they do not tell apart. Running again continues; more --seeds add to them.
    """
    loaded = load_study(study)
    limits = Limits(max_hours=max_hours, max_usd=stated("max_usd", max_usd, loaded), max_energy_kwh=max_energy_kwh)
    offer, label = offer_of(platform, loaded), label_usd_of(label_usd, loaded)
    confirm_front(loaded, study, seeds, limits, offer, label, storage, tracking_uri, yes=yes, as_json=as_json)


def confirm_front(
    study: Study,
    path: str,
    seeds: int,
    limits: Limits,
    offer: Offer,
    label_usd: float,
    storage: str | None,
    tracking_uri: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> NoReturn:
    """Confirm the front of a study that was swept, print it, and exit."""
    limits = replace(limits, trials=None)  # replicates are no trials
    with waiting("Preparing to confirm the front …"):
        ledger = Ledger.find(study.name, ledger_url(storage), path=path, study=study)
        view = View.of(ledger.description, offer, label_usd)
        results = ledger.results()
        if not pareto_front(results, view):
            outdated = outdated_text(results)
            told = f" {outdated}" if outdated else ""
            raise UsageError(f"{ledger.name} has no finished run to confirm.{told} Run `workbench sweep {path}` first.")
        meter = training_meter()
        holder = meter.hold(name=study.name)
        window = holder.window()
        check_offer(offer, meter)
        budget = Budget(limits, offer, label_usd, gpus=len(meter.devices))
        whole = replicates(study, results, view, seeds)
        plan = left(whole, results)
        reached = "" if ledger.leases() else budget.reached(results) if plan else "the front is confirmed"
        too_dear = ""
        if not reached:
            forecaster = forecaster_of(study, storage, results)
            too_dear = nothing_fits(plan, results, view, Account(budget, forecaster), window.read())
    if reached or too_dear:
        more = (
            "the limit"
            if too_dear
            else "the limit (--max-usd, --max-hours, --max-energy-kwh)"
            if plan
            else "--seeds for more seeds"
        )
        catch_up_first(study, ledger, offer, label_usd, tracking_uri)
        why = f"Nothing was begun: {too_dear}" if too_dear else f"Nothing to do: {reached}"
        messages.print(f"{why}. Raise {more} to go on; what the sweep has spent counts too.")
        show_outcome(study, ledger, results, view, as_json=as_json, then="front")
        sys.exit(0 if not whole or _made(whole, results) else 1)
    warn_if_busy()
    likely = _tell(plan, results, view)
    before = window.close()
    ask(budget, likely, yes=yes, bounded=True, what="confirmation")
    window = holder.window()
    notebook = open_notebook(study, ledger, offer, label_usd, tracking_uri)
    try:
        with meter, Progress(view, budget, lambda made: expected(left(whole, made), made, view)[1]) as progress:
            outcome = work(
                study,
                ledger=ledger,
                notebook=notebook,
                view=view,
                limits=limits,
                folder=Path.cwd() / ".workbench" / study.name,
                seeds=seeds,
                observer=progress,
                meter=meter,
                holder=holder,
                window=window,
                before=before,
                forecaster=forecaster,
            )
    except BaseException:
        notebook.close(MLFLOW_PATIENCE_SECONDS)
        raise
    made = _made(whole, outcome.results)
    messages.print(f"\nThe confirmation ended: {outcome.reason}. {made} of {len(whole)} checkpoints with new seeds are made.")
    show_outcome(study, ledger, outcome.results, view, as_json=as_json, then="confirm" if outcome.interrupted else "")
    end_notebook(notebook, outcome, view)
    sys.exit(130 if outcome.interrupted else 0 if made else 1)


def _made(whole: Sequence[Replicate], results: Sequence[Result]) -> int:
    """How many replicates are on record."""
    done = {r.recipe_id for r in results if r.status == "complete"}
    return sum(each.recipe.id in done for each in whole)


def _tell(plan: Sequence[Replicate], results: Sequence[Result], view: View) -> Estimate | None:
    """Say what is to be done, and what it is likely to take. Gives US$, None where unknown."""
    usd, seconds = expected(plan, results, view)
    members = len({each.member.recipe_id for each in plan})
    count = len(longest(plan))
    taken = "how long they take is unknown"
    if usd is not None and seconds is not None:
        taken = f"about {dollars(usd)} and {duration(seconds)}, by what the same runs took with the first seed"
    runs = f"{count} run{'' if count == 1 else 's'}"
    messages.print(f"{members} member{'' if members == 1 else 's'} of the front to confirm by {runs} with new seeds: {taken}.")
    return None if usd is None else Estimate.within(usd, 2.0, "measured")
