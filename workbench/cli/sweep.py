"""`workbench sweep`: the main job, and the lines it prints while it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.text import Text

from workbench import report
from workbench.cli.common import json_option, ledger_url, load_study, messages, offer_of, price_options, print_json, storage_option, tracking_option
from workbench.cli.show import show_front
from workbench.report import View, dollars, duration

if TYPE_CHECKING:
    from workbench.ledger import Lease
    from workbench.result import Result

MLFLOW_PATIENCE_SECONDS = 20.0
"""How long the end of a sweep waits for MLflow; what is missing then is written at the next start."""


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="Runs in all, those of earlier starts included. [default: the study's]")
@click.option("--max-hours", type=click.FloatRange(min=0, min_open=True), metavar="H", help="Hours of work in all.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), metavar="USD", help="US$ to spend in all, on compute and labels. [default: the study's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the proposals.")
@click.option("--sampler", default="optuna:TPESampler", show_default=True, metavar="NAME", help="Who proposes: optuna:CLASS.")
@price_options
@storage_option
@tracking_option
@json_option
def sweep(
    study: str,
    trials: int | None,
    max_hours: float | None,
    max_usd: float | None,
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
    Ctrl-C finishes the run at hand and prints the front; a second one stops at once. Nothing that was finished is lost.
    """
    loaded = load_study(study)
    offer = offer_of(platform, loaded.platform)
    label = loaded.label_usd if label_usd is None else label_usd
    with messages.status("Preparing data and models …"):
        from workbench import forecast, search
        from workbench.ledger import Ledger
        from workbench.meter import Meter
        from workbench.sweep import Limits, check_offer
        from workbench.sweep import sweep as work
        from workbench.tracking import Notebook, default_uri

        search.check_sampler(sampler)
        meter = Meter()
        check_offer(offer, meter)
        ledger = Ledger.open(loaded, ledger_url(storage))
        view = View.of(ledger.description, offer, label)
        limits = Limits(loaded.trials if trials is None else trials, max_hours, loaded.max_usd if max_usd is None else max_usd)
        reached = limits.reached(ledger.results(running=True), offer, label)
        if not reached:
            forecast.check(loaded)
    if reached:
        messages.print(f"Nothing to do: {reached}. Raise the limit to go on (--trials, --max-hours, --max-usd).")
        _finish(ledger.name, ledger.results(), view, as_json=as_json)
        return
    _print_head(loaded.question, limits, view, len(loaded.dimensions))
    notebook = Notebook(
        loaded,
        tracking_uri or default_uri(Path.cwd()),
        offer,
        label_usd=label,
        on_problem=lambda text: messages.print(text, style="yellow"),
        on_run=ledger.note_mlflow_run,
    )
    with _Progress(view, limits.trials) as progress:
        folder = Path.cwd() / ".workbench" / loaded.name
        outcome = work(
            loaded,
            ledger=ledger,
            notebook=notebook,
            offer=offer,
            label_usd=label,
            limits=limits,
            folder=folder,
            sampler=sampler,
            seed=seed,
            observer=progress,
            meter=meter,
        )
    meter.close()
    summary = {
        "spent/usd": report.spent_usd(outcome.results, offer, label),
        "front/size": float(len(report.front(outcome.results, view))),
        "front/hypervolume": report.hypervolume(outcome.results, view),
        **{f"best/{view.maximize}": r.scores[view.maximize] for r in report.front(outcome.results, view)[-1:]},
    }
    notebook.end(summary, report.front_markdown(outcome.results, view), "KILLED" if outcome.interrupted else "FINISHED")
    with messages.status("Bringing MLflow up to date …"):
        behind = notebook.close(MLFLOW_PATIENCE_SECONDS)
    if behind:
        messages.print(f"MLflow is {behind} records behind; the next `workbench sweep` writes them. Nothing is missing in the ledger.", style="yellow")
    messages.print(f"\nThe sweep ended: {outcome.reason}.")
    _finish(ledger.name, outcome.results, view, as_json=as_json)
    if outcome.interrupted:
        sys.exit(130)


def _finish(name: str, results: Sequence[Result], view: View, *, as_json: bool) -> None:
    """Print what the sweep was for: the bill on standard error, the front and the answer on standard output."""
    spent = report.spent_usd(list(results), view.offer, view.label_usd)
    seconds = report.total(r.consumed for r in results).seconds
    messages.print(f"Spent in all: {dollars(spent)} and {duration(seconds)} for {len(report.by_run(results))} runs.\n")
    if as_json:
        print_json(report.front_record(name, results, view))
    else:
        show_front(results, view)
        click.echo()
        click.echo(report.answer(results, view))
        messages.print("\nNext: `workbench front --budget-usd …` or `--target …`, `workbench runs`, `workbench mlflow`.", style="dim")
    if not report.front(results, view):
        sys.exit(1)


def _print_head(question: str, limits: object, view: View, dimensions: int) -> None:
    if question:
        messages.print(question, style="bold")
    messages.print(
        f"Maximise {view.maximize}, minimise {' and '.join(view.minimize)}; {dimensions} settings to find. "
        f"Compute at {dollars(float(view.offer.usd_per_hour))} an hour ({view.offer.name}), labels at {dollars(view.label_usd)} each."
    )


class _Progress:
    """A live line on a terminal, a plain line per result elsewhere. An observer of the sweep."""

    def __init__(self, view: View, trials: int | None) -> None:
        self._view, self._trials = view, trials
        self._live = Live(console=messages, auto_refresh=False, transient=True) if messages.is_terminal else None
        self._head = ""
        self._tail = ""
        self._results: Sequence[Result] = ()
        self._begun = time.time()
        self._target = 0.0

    def __enter__(self) -> _Progress:
        if self._live:
            self._live.start()
            self._show("Preparing …")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print a message above the live line."""
        messages.print(text, style="yellow")

    def started(self, lease: Lease, run: int, target: float) -> None:
        """A run begins."""
        result = lease.result
        of = f"/{self._trials}" if self._trials else ""
        settings = report.settings_text(result)
        train = result.recipe["task"].get("train")
        labels = f", {train} labels" if train else ""
        self._head = f"[{run}{of}] trial {result.trial}  {result.method}{f' ({settings})' if settings else ''} on {result.model}{labels}, {target:g} epochs"
        self._target = target
        if self._live:
            self._show(self._head)
        else:
            messages.print(self._head)

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """A result is in the ledger."""
        self._results = results
        spent = dollars(report.spent_usd(list(results), self._view.offer, self._view.label_usd))
        self._tail = f"{spent} spent, {self._left()}"
        if result.status == "complete":
            score = f"{self._view.maximize} {result.scores[self._view.maximize]:5.1f}"
            mark = "  on the front" if result in report.front(results, self._view) else ""
            price = " ".join(report.cost_text(self._view, result, name) for name in self._view.minimize)
            line = f"{score} at {result.epochs:g} of {self._target:g} epochs for {price}{mark}"
        else:
            line = f"{result.status}: {result.reason}"
        if self._live:
            messages.print(Text(f"{self._head}: {line}"))
            self._show(f"{self._head}  {self._tail}")
        else:
            messages.print(f"    {line}; {self._tail}")

    def beat(self, result: Result, seconds: float) -> None:
        """Refresh the live line."""
        if self._live:
            self._show(f"{self._head}  {duration(seconds)} since the last checkpoint  {self._tail}")

    def _left(self) -> str:
        """Time left for the runs to come, judged by the mean of those that are done."""
        if self._trials is None:
            return "no end set"
        done = [rs for rs in report.by_run(self._results) if any(r.status in ("complete", "infeasible") for r in rs)]
        worked = report.total(r.consumed for r in self._results).seconds
        left = max(0.0, self._trials - len(done)) * worked / max(1, len(done))
        return f"about {duration(left)} left"

    def _show(self, text: str) -> None:
        if self._live:
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis", style="cyan"), refresh=True)
