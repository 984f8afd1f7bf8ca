"""`workbench sweep`: the main job."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import report
from workbench.cli.common import (
    POSITIVE,
    json_option,
    label_usd_of,
    ledger_url,
    load_study,
    messages,
    offer_of,
    price_options,
    print_json,
    print_text,
    storage_option,
    tracking_option,
    waiting,
    warn_if_busy,
)
from workbench.cli.confirm import SEEDS, confirm_front
from workbench.cli.forecasting import banded, expectation, forecaster_of
from workbench.cli.front import show_front
from workbench.errors import Refused
from workbench.report import View, dollars, duration
from workbench.result import originals, spending, spent_usd

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.ledger import Ledger
    from workbench.result import Result
    from workbench.sweep import Budget, Outcome
    from workbench.tracking import Notebook

_LIMITS = "--trials, --max-hours, --max-usd, --max-energy-kwh, --max-labels"

ASK_ABOVE_USD = 10.0
"""On a platform that is paid for, a sweep that may spend more than this is asked about first."""

UNBOUNDED_RUNS = 100
"""So many runs are forecast of a sweep without a bound."""

MLFLOW_PATIENCE_SECONDS = 20.0
"""How long the end of a sweep waits for MLflow; what is missing then is written at the next start."""


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="Runs in all, those of earlier starts included. [default: the study's]")
@click.option("--max-hours", type=POSITIVE, metavar="H", help="Hours of work in all.")
@click.option(
    "--max-usd",
    type=POSITIVE,
    metavar="USD",
    help="US$ to spend in all, on compute and labels. [default: the study's]",
)
@click.option("--max-energy-kwh", type=POSITIVE, metavar="KWH", help="Energy of processors and GPUs in all.")
@click.option("--max-labels", type=click.IntRange(min=1), metavar="N", help="Distinct labels to buy in all.")
@click.option(
    "--confirm-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Keep this share of US$, hours and energy, and confirm the front with it at the end.",
)
@click.option("--confirm-seeds", type=SEEDS, default=3, show_default=True, help="New seeds then.")
@click.option(
    "--stop-below",
    type=POSITIVE,
    metavar="X",
    help="Stop when the next US$ is expected to add less than X to the hypervolume (score x decades of cost).",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that work at once on this machine: each has one of its GPUs, or a share of its CPUs.",
)
@click.option("--as-worker", is_flag=True, hidden=True)
@click.option("--yes", is_flag=True, help="Do not ask before spending on a paid platform.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the search.")
@click.option("--sampler", default="front", show_default=True, metavar="NAME", help="Who decides: front, or optuna:CLASS.")
@price_options
@storage_option
@tracking_option
@json_option
def sweep(
    study: str,
    trials: int | None,
    max_hours: float | None,
    max_usd: float | None,
    max_energy_kwh: float | None,
    max_labels: int | None,
    confirm_share: float | None,
    confirm_seeds: int,
    stop_below: float | None,
    workers: int,
    as_worker: bool,
    yes: bool,
    seed: int,
    sampler: str,
    platform: str | None,
    label_usd: float | None,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Search the space of the file STUDY for the front of cost and quality.

    Limits count all starts together: running the same command again continues, and does nothing once a limit is reached.
    A run that is forecast not to fit a budget is not started; one that would pass it is stopped. Runs are left at checkpoints
    and taken up again, wherever the next US$ is expected to add most to the front; --trials counts those started.
    Ctrl-C goes on to the checkpoint that is due and prints the front; a second one stops at once. Nothing finished is lost.
    """
    loaded = load_study(study)
    offer = offer_of(platform, loaded.platform)
    label = label_usd_of(label_usd, loaded.label_usd)
    with contextlib.nullcontext() if as_worker else waiting("Preparing data and models …"):
        from workbench import forecast, search
        from workbench.cli import workers as several
        from workbench.cli.progress import Progress
        from workbench.ledger import Ledger
        from workbench.meter import training_meter
        from workbench.sweep import Budget, Limits, Neighbours, Orders, check_data, check_offer, provenance
        from workbench.sweep import sweep as work
        from workbench.tracking import Notebook, default_uri

        search.check_sampler(sampler, loaded)
        if stop_below is not None:
            search.check_stop_below(loaded, offer, label, sampler)
        meter = training_meter()
        holder = meter.hold(name=loaded.name)
        window = holder.window()
        check_offer(offer, meter)
        ledger = Ledger.open(loaded, ledger_url(storage))
        view = View.of(ledger.description, offer, label)
        limits = Limits(
            trials=loaded.trials if trials is None else trials,
            max_hours=max_hours,
            max_usd=loaded.max_usd if max_usd is None else max_usd,
            max_energy_kwh=max_energy_kwh,
            max_labels=max_labels,
            stop_below=stop_below,
        )
        whole = limits
        limits = limits if confirm_share is None else limits.keeping(confirm_share)
        budget = Budget(limits, offer, label, gpus=len(meter.devices))
        # A lease is another sweep at work, or a dead one that has to be put right: both are told of by the sweep itself.
        reached = "" if as_worker or ledger.leases() else _reached(budget, ledger, sampler)
        if not reached:
            if not as_worker:
                forecast.check(loaded)
                check_data(loaded)
            forecaster = forecaster_of(loaded, storage, ledger.results())

    def go_on() -> None:
        if confirm_share is not None and report.front(ledger.results(), view):
            confirm_front(loaded, study, confirm_seeds, whole, offer, label, storage, tracking_uri, yes=yes, as_json=as_json)

    if reached:
        messages.print(f"Nothing to do: {reached}. Raise the limit to go on ({_LIMITS}).")
        meter.close()
        go_on()
        show_outcome(ledger.name, ledger.results(), view, as_json=as_json)
        sys.exit(0 if report.front(ledger.results(), view) else 1)
    if as_worker:
        orders = Orders.read(sys.stdin)
        Neighbours(meter, sys.stdin)
        workers, sweep_id, before = orders.workers, orders.sweep, orders.before
    else:
        _print_head(loaded.question, view, len(loaded.dimensions))
        warn_if_busy()
        runs = max(1, (limits.trials or UNBOUNDED_RUNS) - len(report.by_run(originals(ledger.results()))))
        run = forecast.typical(forecaster)
        taken = forecast.of_runs(run, runs, offer, label, same_machine=True, starts=1)
        messages.print(expectation(taken, runs, offer), markup=False)
        sweep_id, before = several.new_sweep(), window.close()
        ask(budget, taken.usd if taken else None, yes=yes, bounded=bool(limits.trials))
        window = holder.window()  # what a person takes to answer is not the sweep's
    notebook = Notebook(
        loaded,
        tracking_uri or default_uri(Path.cwd()),
        offer,
        label_usd=label,
        on_problem=lambda text: messages.print(text, style="yellow", markup=False),
        on_run=ledger.note_mlflow_run,
        sweep=sweep_id,
    )
    code = 0
    try:
        with meter, (several.Reporting if as_worker else Progress)(view, budget) as progress:
            if workers > 1 and not as_worker:
                ledger.note_begin(dataclasses.asdict(limits))
                about = provenance.of_sweep(loaded, provenance.of(loaded, meter), offer, dataclasses.asdict(limits))
                notebook.start(about | {"sampler": sampler, "seed": seed, "workers": workers}, ledger.results(running=True))
                before = before + window.close()
                outcome, code = several.supervise(
                    workers, sweep_id, before, ledger=ledger, study=loaded, offer=offer, observer=progress
                )
                for last in {r.run_id: r for r in outcome.results}.values():
                    if last.status == "interrupted":  # a worker that was killed could not tell MLflow of it
                        notebook.record(last)
            else:
                outcome = work(
                    loaded,
                    ledger=ledger,
                    notebook=notebook,
                    offer=offer,
                    label_usd=label,
                    limits=limits,
                    folder=Path.cwd() / ".workbench" / loaded.name,
                    sampler=sampler,
                    seed=seed,
                    observer=progress,
                    meter=meter,
                    holder=holder,
                    window=window,
                    before=before,
                    forecaster=forecaster,
                    workers=workers,
                    joined=as_worker,
                )
    except BaseException:
        notebook.close(MLFLOW_PATIENCE_SECONDS)  # how the run ended is on its way; the next start ends the sweep's own entry
        raise
    if as_worker:
        several.tell(ended=outcome.reason, interrupted=outcome.interrupted)
        notebook.close(MLFLOW_PATIENCE_SECONDS)
        sys.exit(130 if outcome.interrupted else 0)
    messages.print(f"\nThe sweep ended: {outcome.reason}.")
    confirming = confirm_share is not None and not outcome.interrupted and not code
    if not confirming:
        show_outcome(ledger.name, outcome.results, view, as_json=as_json)
    end_notebook(notebook, outcome, view)
    if confirming:
        go_on()
        show_outcome(ledger.name, outcome.results, view, as_json=as_json)
    sys.exit(code or (130 if outcome.interrupted else 0 if report.front(outcome.results, view) else 1))


def end_notebook(notebook: Notebook, outcome: Outcome, view: View) -> None:
    """Write down in MLflow how it ended, and say what is missing there."""
    points = report.corrected(outcome.results, view)
    members = report.front(points, view)
    summary = {
        "spent/usd": spent_usd(outcome.results, view.offer, view.label_usd),
        "front/size": float(len(members)),
        "front/hypervolume": report.hypervolume(points, view),
        f"best/{view.maximize}": max((r.scores[view.maximize] for r in members), default=None),
    }
    notebook.end(
        summary,
        report.front_markdown(outcome.results, view),
        "KILLED" if outcome.interrupted else "FINISHED",
        reason=outcome.reason,
    )
    with waiting("Bringing MLflow up to date …"):
        behind = notebook.close(MLFLOW_PATIENCE_SECONDS)
    if behind:
        messages.print(
            f"MLflow is {behind} record{'' if behind == 1 else 's'} behind; the next `workbench sweep` writes what is missing. "
            "Nothing is missing in the ledger.",
            style="yellow",
        )


def _reached(budget: Budget, ledger: Ledger, sampler: str) -> str:
    """Which limit has been reached, in words; empty when none.

    With the search's own sampler the last of the trials has only been started when their number is full: whether they are taken
    further is for the search to say, unless its last sweep ended by itself.
    """
    from workbench import search

    results, ended = ledger.results(), ledger.ended
    settled = sampler != search.DEFAULT or (ended is not None and not ended["interrupted"])
    return budget.reached(results) if settled else budget.exhausted(budget.spent(results))


def ask(budget: Budget, likely: Estimate | None, *, yes: bool, bounded: bool, what: str = "sweep") -> None:
    """Ask before much is spent on a paid platform; where nobody can be asked, --yes must say so.

    Nothing is asked where what is likely is little, and `bounded`. Raises Refused.
    """
    offer, limits = budget.offer, budget.limits
    if yes or offer.commitment == "owned":
        return
    bounds = [] if limits.max_usd is None else [limits.max_usd]
    if limits.max_hours is not None and not budget.label_usd:
        bounds.append(limits.max_hours * float(offer.usd_per_hour))
    most = min(bounds, default=None)
    if (most is not None and most <= ASK_ABOVE_USD) or (likely is not None and likely.high <= ASK_ABOVE_USD and bounded):
        return
    spend = f"up to {dollars(most)}" if most is not None else "an unknown sum" if likely is None else banded(likely, dollars)
    text = f"This {what} may spend {spend} on {offer.name}"
    if not messages.is_terminal or not sys.stdin.isatty():
        raise Refused(f"{text}. Say --yes to go on, or set --max-usd.")
    if not click.confirm(f"{text}. Go on?", err=True):
        raise Refused("nothing was started.")


def show_outcome(name: str, results: Sequence[Result], view: View, *, as_json: bool) -> None:
    """Print what the sweep was for: the bill on standard error, the front and the answer on standard output."""
    spent = spending(results, view.offer, view.label_usd)
    runs = len(report.by_run(originals(results)))
    again = len(report.by_run(results)) - runs
    text = f"{runs} run{'' if runs == 1 else 's'}" + (f" and {again} with new seeds" if again else "")
    messages.print(f"Spent in all: {dollars(spent.usd)} and {duration(spent.seconds)} for {text}.\n")
    if as_json:
        print_json(report.front_record(name, results, view))
    else:
        show_front(results, view)
        print_text(f"\n{report.answer(results, view)}")
        after = "" if again else "`workbench confirm STUDY`, "
        messages.print(
            f"\nNext: {after}`workbench front --budget-usd …`, `workbench runs`, `workbench mlflow`.",
            style="dim",
        )


def _print_head(question: str, view: View, dimensions: int) -> None:
    if question:
        messages.print(question, style="bold", markup=False)
    messages.print(
        f"Maximise {view.maximize}, minimise {' and '.join(view.minimize)}; "
        f"{dimensions} setting{'' if dimensions == 1 else 's'} to find. "
        f"Compute at {dollars(float(view.offer.usd_per_hour))} an hour ({view.offer.name}), "
        f"labels at {dollars(view.label_usd)} each."
    )
