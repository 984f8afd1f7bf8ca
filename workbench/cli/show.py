"""`workbench front`, `runs` and `run`: what the ledger holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
from rich.table import Table

from workbench import report
from workbench.cli.common import (
    console,
    json_option,
    messages,
    open_ledger,
    price_options,
    print_json,
    print_text,
    storage_option,
    view_of,
)
from workbench.errors import UsageError
from workbench.report import View, dollars, duration
from workbench.result import Result


@click.command()
@click.argument("study", required=False)
@click.option(
    "--budget-usd", type=click.FloatRange(min=0, min_open=True), metavar="USD", help="Name the best point that costs at most this."
)
@click.option("--target", type=float, metavar="SCORE", help="Name the cheapest point that reaches this score.")
@click.option("--all", "everything", is_flag=True, help="Show dominated points too.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the front into one HTML file.")
@price_options
@storage_option
@json_option
def front(
    study: str | None,
    budget_usd: float | None,
    target: float | None,
    everything: bool,
    html: Path | None,
    platform: str | None,
    label_usd: float | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Show the front of STUDY (a study file, or its name), and the answer to its question.

    Every checkpoint is a point: a model that could be deployed. Its cost is what making it alone would cost.
    """
    ledger = open_ledger(study, storage)
    view = view_of(ledger, platform, label_usd)
    results = ledger.results()
    if html:
        from workbench import figures

        figures.write_html(figures.front(results, view, title=ledger.description["question"]), html)
        messages.print(f"The front is drawn in {html}.", markup=False)
    if as_json:
        print_json(report.front_record(ledger.name, results, view, budget_usd=budget_usd, target=target))
    else:
        show_front(results, view, everything=everything)
        print_text(report.answer(results, view, budget_usd=budget_usd, target=target))
    if not report.front(results, view):
        sys.exit(1)


def show_front(results: Sequence[Result], view: View, *, everything: bool = False) -> None:
    """Print the front as a table, cheapest first; with `everything` the dominated points too."""
    members = report.front(results, view)
    shown = [r for r in results if view.coordinates(r) is not None] if everything else members
    if not shown:
        return
    shown = sorted(shown, key=lambda r: (view.cost(r, view.minimize[0]) or 0.0, r.number or 0))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", "model", "method", "settings", "labels", "epochs", view.maximize):
        table.add_column(name, justify="right" if name in ("trial", "labels", "epochs", view.maximize) else "left")
    for name in dict.fromkeys((*view.minimize, "seconds")):
        table.add_column(report.UNITS[name] if name != "seconds" else "time", justify="right")
    if everything:
        table.add_column("front")
    for r in shown:
        cells = [
            str(r.trial),
            r.model,
            r.method,
            report.settings_text(r),
            str(r.labels),
            f"{r.epochs:g}",
            f"{r.scores[view.maximize]:.1f}",
        ]
        cells += [report.cost_text(view, r, name) for name in dict.fromkeys((*view.minimize, "seconds"))]
        table.add_row(*cells, *(["*" if r in members else ""] if everything else []))
    console.print(table)


@click.command()
@click.argument("study", required=False)
@click.option("--status", type=click.Choice(["complete", "infeasible", "interrupted", "running"]), help="Only runs of this status.")
@price_options
@storage_option
@json_option
def runs(
    study: str | None, status: str | None, platform: str | None, label_usd: float | None, storage: str | None, as_json: bool
) -> None:
    """List the runs of STUDY (a study file, or its name), in the order in which they began.

    A run stands as its furthest checkpoint does; `workbench run ID` shows all of them.
    """
    ledger = open_ledger(study, storage)
    view = view_of(ledger, platform, label_usd)
    entries = report.runs_record(ledger.results(running=True), view, ledger.mlflow_runs)
    entries = [e for e in entries if status in (None, e["status"])]
    if as_json:
        print_json(entries)
        return
    if not entries:
        messages.print("No run yet." if status is None else f"No run is {status}.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", "status", "model", "method", "settings", "labels", "epochs", view.maximize, "US$", "spent", "time"):
        table.add_column(name, justify="left" if name in ("status", "model", "method", "settings") else "right")
    for e in entries:
        score = e["scores"].get(view.maximize)
        own = {n: v for n, v in e["settings"].items() if n.startswith(f"{e['method']}.")}
        table.add_row(
            str(e["trial"]),
            e["status"] + (f" ({e['reason'].split(':')[0]})" if e["status"] == "infeasible" else ""),
            e["model"],
            e["method"],
            report.short_settings(own),
            str(e["labels"]),
            f"{e['epochs']:g}",
            "" if score is None else f"{score:.1f}",
            dollars(e["usd"]),
            dollars(e["usd_spent"]),
            duration(e["seconds"]),
        )
    console.print(table)


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--study", metavar="STUDY", help="The run's study: its file or its name. [default: the newest]")
@price_options
@storage_option
@json_option
def run(run_id: str, study: str | None, platform: str | None, label_usd: float | None, storage: str | None, as_json: bool) -> None:
    """Show the run ID: a trial number, or the beginning of a run's or a recipe's id."""
    ledger = open_ledger(study, storage)
    view = view_of(ledger, platform, label_usd)
    results = ledger.results(running=True)
    segments = report.find_run(results, run_id)
    if not segments:
        raise UsageError(f"{ledger.name} has no run {run_id!r}. `workbench runs` lists them; --study names another study.")
    if as_json:
        print_json(
            {
                "run": report.runs_record(segments, view, ledger.mlflow_runs)[0],
                "results": [r.to_json() | {"number": r.number} for r in segments],
            }
        )
        return
    _show_run(segments, view, ledger.mlflow_runs.get(segments[0].run_id))


def _show_run(segments: list[Result], view: View, mlflow_run: str | None) -> None:
    last = segments[-1]
    console.print(f"[bold]Trial {last.trial}[/bold]  {report.describe(last)}")
    facts = {
        "run": last.run_id,
        "started": f"{datetime.fromtimestamp(segments[0].started):%Y-%m-%d %H:%M:%S}",
        "settings": report.short_settings(last.settings),
        "seed": str(last.seed),
        "tuned numbers": f"{last.trainable_parameters:,}" if last.trainable_parameters else "",
        "MLflow run": mlflow_run or "",
        "commit": str(last.provenance.get("git_commit") or ""),
        "versions": ", ".join(f"{n} {v}" for n, v in dict(last.provenance.get("versions", {})).items()),
        "priced at": f"{view.offer.name} ({dollars(float(view.offer.usd_per_hour))} an hour, {view.offer.date}), "
        f"{dollars(view.label_usd)} a label",
    }
    for name, text in facts.items():
        if text:
            console.print(f"{name:>14}  {text}")
    checkpoints = Table(box=None, pad_edge=False, header_style="bold", title="Checkpoints", title_justify="left")
    scores = list(dict.fromkeys(name for r in segments for name in r.scores))
    for name in ("number", "status", "epochs", "step", "labels", *scores, "US$", "time"):
        checkpoints.add_column(name, justify="left" if name == "status" else "right")
    for r in segments:
        state = r.status + (f": {r.reason}" if r.reason else "")
        numbers = [f"{r.scores[s]:.3g}" if s in r.scores else "" for s in scores]
        finished = r.status == "complete"
        price = dollars(view.cost(r, "usd")) if finished else ""
        checkpoints.add_row(
            str(r.number),
            state,
            f"{r.epochs:g}",
            str(r.step),
            str(r.labels),
            *numbers,
            price,
            duration(r.cold.seconds) if finished else "",
        )
    console.print(checkpoints)
    bill = Table(box=None, pad_edge=False, header_style="bold", title="The bill", title_justify="left")
    for name in ("phase", "from cold", "CPU time", "energy", "peak memory", "really spent"):
        bill.add_column(name, justify="left" if name == "phase" else "right")
    cold = next((r.usage for r in reversed(segments) if r.usage), {})
    spent = report.phases_spent(segments)
    for phase in dict.fromkeys((*cold, *spent)):
        bill.add_row(phase, *report.usage_cells(cold.get(phase)), duration(spent[phase].seconds) if phase in spent else "")
    console.print(bill)
    for field, source in sorted({f: s for u in cold.values() for f, s in u.sources.items()}.items()):
        console.print(f"[dim]{field}: {source}[/dim]")
