"""`workbench sweep`: the main job."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import click

from workbench import forecast, search
from workbench.cli import complete
from workbench.cli import workers as several
from workbench.cli.common import (
    COUNT,
    POSITIVE,
    SHARE,
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
from workbench.cli.confirm import SEEDS, confirm_front
from workbench.cli.forecasting import UNBOUNDED_RUNS, budget_text, expectation, forecaster_of, most_runs
from workbench.cli.notebook import MLFLOW_PATIENCE_SECONDS, catch_up_first, end_notebook, open_notebook
from workbench.cli.options import placed, setting
from workbench.cli.progress import Progress
from workbench.cli.spending import ask, show_outcome
from workbench.front.bounds import bounds
from workbench.front.members import pareto_front
from workbench.front.view import View
from workbench.ledger import AWAY_SECONDS, Ledger, Patience
from workbench.meter import training_meter
from workbench.prices import Prices, label_usd_of
from workbench.quantities import dollars
from workbench.result import by_run, labels_bought, originals
from workbench.settings import stated
from workbench.sweep import Budget, Limits, Neighbours, Orders, Unwritten, check_data, check_offer, graded_by, provenance
from workbench.sweep import sweep as work

_LIMITS = "--trials, --max-hours, --max-usd, --max-energy-kwh, --max-labels"


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@setting("--trials", type=COUNT, help="Runs in all, those of earlier starts included. [default: the study's]")
@setting("--max-hours", type=POSITIVE, metavar="H", help="Hours of work in all.")
@setting(
    "--max-usd",
    type=POSITIVE,
    metavar="USD",
    help="US$ to spend in all, on compute and labels. [default: the study's]",
)
@setting("--max-energy-kwh", type=POSITIVE, metavar="KWH", help="Energy of processors and GPUs in all.")
@setting("--max-labels", type=COUNT, metavar="N", help="Distinct labels to buy in all.")
@setting(
    "--confirm-share",
    type=SHARE,
    metavar="SHARE",
    help="Keep this share of US$, hours and energy, and confirm the front with it at the end.",
)
@setting("--confirm-seeds", type=SEEDS, default=3, show_default=True, help="New seeds then.")
@setting(
    "--stop-below",
    type=POSITIVE,
    metavar="X",
    help="Stop when the next US$ is expected to add less than X to the hypervolume (score x decades of cost).",
)
@setting(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that work at once on this machine: each has one of its GPUs, or a share of its CPUs.",
)
@setting(
    "--log-samples",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Put N examples of the dev set on record with each checkpoint's predictions, in ledger and MLflow.",
)
@click.option("--as-worker", is_flag=True, hidden=True)
@click.option("--yes", is_flag=True, help="Do not ask before spending on a paid platform.")
@setting("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the search.")
@setting(
    "--sampler",
    default="front",
    show_default=True,
    metavar="NAME",
    shell_complete=complete.samplers,
    help="Who decides: front, or optuna:CLASS.",
)
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
    log_samples: int,
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
    Ctrl-C goes on to the next checkpoint and prints the front; a second one stops at once. Nothing finished is lost.
    """
    loaded = load_study(study)
    offer = offer_of(platform, loaded)
    label = label_usd_of(label_usd, loaded)
    with contextlib.nullcontext() if as_worker else waiting("Preparing data and models …"):

        def check() -> None:
            for line in check_data(loaded):  # first, as in `plan`
                messages.print(line, style="yellow", markup=False)
            forecast.check(loaded)

        with placed("sampler"):
            search.check_sampler(sampler, loaded)
        if stop_below is not None:
            search.check_stop_below(loaded, Prices(offer, label), sampler)
        meter = training_meter()
        holder = meter.hold(name=loaded.name)
        window = holder.window()
        check_offer(offer, meter)
        fresh = not as_worker and not Ledger.holds(loaded.name, ledger_url(storage))
        if fresh:  # what is refused leaves no empty study behind
            check()
        # A worker is begun in the middle of a sweep: as that it waits for a ledger that is away.
        patience = Patience(AWAY_SECONDS, lambda text: messages.print(text, style="yellow", markup=False)) if as_worker else None
        ledger = Ledger.open(loaded, ledger_url(storage), patience)
        if not as_worker:
            ledger.note_inputs()
        view = View.of(ledger.description, offer, label)
        limits = Limits(
            trials=stated("trials", trials, loaded),
            max_hours=max_hours,
            max_usd=stated("max_usd", max_usd, loaded),
            max_energy_kwh=max_energy_kwh,
            max_labels=max_labels,
            stop_below=stop_below,
        )
        whole = limits
        limits = limits if confirm_share is None else limits.keeping(confirm_share)
        budget = Budget(limits, offer, label, gpus=len(meter.devices))
        # A lease is another sweep at work, or a dead one that has to be put right: both are told of by the sweep itself.
        left = Unwritten(Path.cwd() / ".workbench" / loaded.name) or ledger.leases()
        reached = "" if as_worker or left else _reached(budget, ledger, sampler)
        if not reached:
            if not as_worker and not fresh:
                check()
            if not as_worker:
                ledger.note_grading(graded_by(loaded))
            forecaster = forecaster_of(loaded, storage, ledger.results())

    def go_on() -> None:
        if confirm_share is not None and pareto_front(ledger.results(), view):
            confirm_front(loaded, study, confirm_seeds, whole, offer, label, storage, tracking_uri, yes=yes, as_json=as_json)

    if reached:
        catch_up_first(loaded, ledger, offer, label, tracking_uri)
        messages.print(f"Nothing to do: {reached}. Raise the limit to go on ({_LIMITS}).")
        meter.close()
        go_on()
        show_outcome(loaded, ledger, ledger.results(), view, as_json=as_json)
        sys.exit(0 if pareto_front(ledger.results(), view) else 1)
    if as_worker:
        orders = Orders.read(sys.stdin)
        Neighbours(meter, sys.stdin)
        workers, sweep_id, before, apart = orders.workers, orders.sweep, orders.before, orders.apart
    else:
        _print_head(loaded.question, view, len(loaded.dimensions))
        warn_if_busy()
        made = len(by_run(originals(ledger.results())))
        to_come = (most_runs(loaded, limits.trials) or UNBOUNDED_RUNS) - made
        runs = max(1, to_come)  # where none may start, those begun may go on
        run = forecast.typical(forecaster)
        labels = max(labels_bought(ledger.results()).values(), default=0)
        taken = forecast.of_runs(run, runs, forecast.Terms(Prices(offer, label), same_machine=True), starts=1, labels_bought=labels)
        budgets = bounds(budget.spent(ledger.results()), dataclasses.asdict(limits))
        if to_come > 0:
            told = (expectation(taken, runs, offer, more=made > 0), budget_text(taken, runs, budgets))
            messages.print(" ".join(filter(None, told)), markup=False)
        sweep_id, before, apart = several.new_sweep(), window.close(), False
        ask(budget, taken.usd if taken else None, yes=yes, bounded=bool(limits.trials))
        window = holder.window()  # what a person takes to answer is not the sweep's
    notebook = open_notebook(loaded, ledger, offer, label, tracking_uri, sweep=sweep_id)
    code = 0
    try:
        with meter, (several.Reporting if as_worker else Progress)(view, budget) as progress:
            if workers > 1 and not as_worker:
                ledger.note_begin(dataclasses.asdict(limits))
                provenance.note_start(
                    notebook, loaded, provenance.of(loaded, meter), offer, label, limits, ledger.results(running=True),
                    sampler=sampler, seed=seed, workers=workers,
                )  # fmt: skip
                before = before + window.close()
                outcome, code = several.supervise(
                    workers, sweep_id, before, ledger=ledger, study=loaded, offer=offer, notebook=notebook, observer=progress
                )
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
                    apart=apart,
                    log_samples=log_samples,
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
        show_outcome(loaded, ledger, outcome.results, view, as_json=as_json, then="sweep" if outcome.interrupted else "")
    end_notebook(notebook, outcome, view)
    if confirming:
        go_on()
        show_outcome(loaded, ledger, outcome.results, view, as_json=as_json)
    sys.exit(code or (130 if outcome.interrupted else 0 if pareto_front(outcome.results, view) else 1))


def _reached(budget: Budget, ledger: Ledger, sampler: str) -> str:
    """Which limit has been reached, in words; empty when none.

    With the search's own sampler the last of the trials has only been started when their number is full: whether they are taken
    further is for the search to say, unless its last sweep ended by itself.
    """
    results, ended = ledger.results(), ledger.ended
    settled = sampler != search.DEFAULT or (ended is not None and not ended["interrupted"])
    return budget.reached(results) if settled else budget.exhausted(budget.spent(results))


def _print_head(question: str, view: View, dimensions: int) -> None:
    if question:
        messages.print(question, style="bold", markup=False)
    messages.print(
        f"Maximise {view.maximize}, minimise {' and '.join(view.minimize)}; "
        f"{dimensions} setting{'' if dimensions == 1 else 's'} to find. "
        f"Compute at {dollars(float(view.offer.usd_per_hour))} an hour ({view.offer.name}), "
        f"labels at {dollars(view.label_usd)} each."
    )
