"""`workbench runs` and `run`: what was run, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import click
from rich.text import Text

from workbench import carbon
from workbench.cli import complete
from workbench.cli.forecasting import kept_calibration
from workbench.cli.front import explain_costs
from workbench.cli.printing import Table, console, messages, print_json, print_table, reading, say_next
from workbench.cli.shared_options import json_option, price_options, storage_option
from workbench.cli.studies import ledger_url, no_such_run, open_ledger, study_path, tell_inputs, typed_name, view_of
from workbench.errors import UsageError
from workbench.front.objectives import View
from workbench.front.serving import serving
from workbench.ledger import Ledger
from workbench.quantities import dollars, duration, number
from workbench.report.answers import cost_cells
from workbench.report.bill import PHASE_MEANINGS, peak_share, phases_spent
from workbench.report.columns import cells
from workbench.report.efficiency import efficiency_record, efficiency_text
from workbench.report.records import find_run, last_word, runs_record
from workbench.report.text import describe, plain_score, short_settings, usage_cells
from workbench.result import AGAIN, Result, by_run, furthest, mean_costs, spent_usd
from workbench.result.outdated import changes
from workbench.result.record import STATUSES

MOST_BESIDE = 8
"""At most so many other studies are searched for a run of the same name, the newest."""


@click.command()
@click.argument("study", required=False, shell_complete=complete.studies)
@click.option("--status", type=click.Choice(STATUSES), help="Only runs of this status.")
@price_options
@storage_option
@json_option
def runs(
    study: str | None, status: str | None, platform: str | None, label_usd: float | None, storage: str | None, as_json: bool
) -> None:
    """List the runs of STUDY (a study file, or its name), in the order in which they began.

    A run stands as its furthest checkpoint does; `workbench run ID` shows all of them.
    """
    with reading():
        ledger = open_ledger(study, storage)
        view = view_of(ledger.description, platform, label_usd)
        results = ledger.results(running=True)
    shown = [segments for segments in by_run(results).values() if status in (None, last_word(segments).status)]
    if as_json:
        print_json(runs_record([r for segments in shown for r in segments], view, ledger.mlflow_runs))
        return
    if not shown:
        messages.print("No run yet." if status is None else f"No run is {status}.")
        path = study_path(ledger)
        say_next(f"`workbench sweep {path}`" if path and not results else f"`workbench runs {typed_name(ledger, study)}`")
        return
    # A replicate names the recipe that it confirms; people know that by its trial.
    trials = {r.recipe_id: r.trial for r in results}
    print_table(_table(shown, view, trials), lambda: _table(shown, view, trials, narrow=True))
    explain_costs(results, view)
    tell_inputs(ledger, results)
    lasts = [last_word(segments) for segments in shown]
    told = next((last for last in lasts if last.status == "infeasible"), lasts[-1])
    command = f"`workbench run {told.trial}{f' --study {study}' if study else ''}`"
    say_next(f"{command}: all checkpoints of one; here each run stands at its last")


_WHICH, _REACHED = ("model", "method", "settings"), ("labels", "epochs", "score")


_SPARE = {"time": 4, "compute spent": 3, "settings": 2, "labels": 1}
"""Columns that are left out where there is no room for all, the highest first: `workbench run ID` shows all of a run."""


def _table(shown: Sequence[list[Result]], view: View, trials: Mapping[str, int | None], *, narrow: bool = False) -> Table:
    """A row for each run: how it ended, and its furthest checkpoint. `trials` are those of recipes, by their ids."""
    table = Table(narrow=narrow)
    for name in ("trial", "status", *_WHICH, *_REACHED, "US$", "time", "compute spent"):
        side = "left" if name in ("status", *_WHICH) else "right"
        table.add_column(view.maximize if name == "score" else name, justify=side, spare=_SPARE.get(name, 0))
    points = [(segments, last_word(segments), furthest(segments) or last_word(segments)) for segments in shown]
    # Of all of them the sentence below the table says it.
    alike = all(point.contended for _, _, point in points)
    for segments, last, point in points:
        costs = cells(point, view, "usd", "seconds") if view.maximize in point.scores else ["", ""]
        spent = dollars(spent_usd(segments, view.offer, 0.0))
        about = [*cells(last, view, *_WHICH), *cells(point, view, *_REACHED)]
        table.add_row(str(last.trial), _state(last, point, trials, mark=not alike), *about, *costs, spent)
    return table


def _state(last: Result, point: Result, trials: Mapping[str, int | None], *, mark: bool) -> str:
    """How a run ended, and what sets its checkpoint apart from others; that others made it longer, where that is to be marked."""
    text = last.status + (f" ({AGAIN if last.retry else last.cause.word})" if last.cause else "")
    text += ", contended" if mark and point.contended else ""
    text += f" (other {', '.join(last.outdated)})" if last.outdated else ""
    if not point.replicate_of:
        return text
    # A replicate is of a new seed, or has grades on the test split alone.
    what = "test split" if last.status == "complete" and not point.scores else f"seed {last.seed}"
    return f"{text} ({what} of trial {trials.get(point.replicate_of, '?')})"


@click.command(context_settings={"allow_extra_args": True})
@click.argument("run_id", metavar="ID", shell_complete=complete.runs)
@click.option(
    "--study", metavar="STUDY", shell_complete=complete.studies, help="The run's study: its file or its name. [default: the newest]"
)
@price_options
@storage_option
@json_option
def run(run_id: str, study: str | None, platform: str | None, label_usd: float | None, storage: str | None, as_json: bool) -> None:
    """Show the run ID: a trial number, or the beginning of a run's or a recipe's id."""
    if extra := click.get_current_context().args:  # other commands take the study so
        named, wanted = (extra[0], run_id) if extra[0].endswith(".py") else (run_id, extra[0])
        raise UsageError(
            f"`workbench run` takes one ID, and got {' '.join([run_id, *extra])!r}. A study is named by --study: "
            f"`workbench run {wanted} --study {named}`."
        )
    with reading():
        ledger = open_ledger(study, storage)
        view = view_of(ledger.description, platform, label_usd)
        results = ledger.results(running=True)
        segments = find_run(results, run_id)
        beside = [] if study else _beside(ledger, storage, run_id)
    named = f"`workbench run {run_id} --study {beside[-1]}`" if beside else ""
    if not segments:
        error = no_such_run(ledger.name, results, run_id)
        raise UsageError(f"{ledger.name} has no run {run_id!r}, and {' and '.join(beside)} has: {named}.") if beside else error
    if beside:
        text = f"This is run {run_id} of {ledger.name}. There is one in {' and '.join(beside)}, too: {named}."
        messages.print(text, style="yellow", markup=False, soft_wrap=True)
    if as_json:
        print_json(
            {
                "run": runs_record(segments, view, ledger.mlflow_runs)[0],
                "results": [r.to_json() | {"number": r.number, "outdated": list(r.outdated)} for r in segments],
                "efficiency": efficiency_record(segments, kept_calibration()),
            }
        )
        return
    _show_run(segments, view, ledger.mlflow_runs.get(segments[0].run_id))
    name = typed_name(ledger, study)
    ended = segments[-1].status in ("infeasible", "interrupted")
    say_next(f"`workbench retry {name} {segments[0].trial}`" if ended else f"`workbench front {name}`")


def _beside(ledger: Ledger, storage: str | None, wanted: str) -> list[str]:
    """Return which other studies here, of the newest few, have a run of that name."""
    # A run's number says nothing of its study, and the
    # newest study may not be the one that is meant.
    others = [Ledger.find(name, ledger_url(storage), read_only=True) for name in ledger.others[-MOST_BESIDE:]]
    return [other.name for other in others if find_run(other.results(running=True), wanted)]


def _machines_text(r: Result) -> str:
    """Write how long each machine worked on a point, from cold, where it was made on several."""
    parts = r.parts if r.elsewhere else ()
    return ", ".join(f"{part.offer.get('name', 'an unknown offer')} ({duration(part.cold.seconds)})" for part in parts)


def _work_text(r: Result) -> str:
    """Write the tokens and FLOPs of the training, and their rates."""
    train = r.usage.get("train")
    if train is None or not train.work.tokens:
        return ""
    work = train.work
    text = f"{work.examples:,} examples, {work.tokens:,} tokens ({work.padded_tokens:,} with padding)"
    if not work.flops or train.flops_per_second is None:
        return text
    share = peak_share(r)
    peak = "" if share is None else f", {share:.1%} of its peak"
    return f"{text}, {work.flops:.3g} FLOPs ({work.formula}) at {train.flops_per_second / 1e9:,.1f} GFLOP/s{peak}"


def _means_text(r: Result, view: View) -> str:
    """Write the mean cost of an example in tuning, and in pre-training where there was some."""
    mean = mean_costs(r, view.offer)
    parts = {"tuning": mean.tuning_example, "pre-training": mean.pretraining_example}
    return ", ".join(f"{dollars(usd)} a {name} example" for name, usd in parts.items() if usd is not None)


def _serving_text(r: Result, view: View) -> str:
    served = serving(r, view)
    if served is None:
        return ""
    latency = "" if served.latency_seconds is None else f", {served.latency_seconds * 1000:.1f} ms alone"
    speed, usd = served.predictions_per_second, served.usd_per_1000
    scaled = "" if speed.basis == "measured" else f" ({speed.basis})"
    return f"{speed.value:,.0f} a second in batches{latency}, {dollars(usd.value)} for 1,000{scaled}"


def _carbon_text(r: Result, view: View) -> str:
    grams, intensity = view.cost(r, "grams_co2e"), carbon.intensity(view.offer)
    if grams is None:
        return ""
    return f"{number(float(grams))} g from cold ({intensity.g_co2e_per_kwh:g} g/kWh: {intensity.place}, {intensity.year})"


def _compiling_text(r: Result) -> str:
    """Write whether the model's layers were compiled, and why."""
    found = r.provenance.get("compiling")
    if not found:
        return ""
    why = {
        "gains": "",
        "loses": "costs more than it gains: ",
        "differs": f"its numbers lie {found['apart'] or 0.0:.2g} apart: ",
        "fails": f"it failed ({found['detail']})",
        "short": f"too little for a trial: {found['steps']:,.0f} steps were expected",
    }[found["why"]]
    if found["compiled_seconds"] is None:
        return f"no: {why}"
    figures = f"{1000 * found['compiled_seconds']:.3g} ms a step, {1000 * found['plain_seconds']:.3g} ms without"
    figures += f"; compiling took {duration(found['cost_seconds'])}, and {found['steps']:,.0f} steps were expected"
    return f"{'yes' if found['taken'] else 'no'}: {why}{figures}"


def _show_run(segments: list[Result], view: View, mlflow_run: str | None) -> None:
    last = segments[-1]
    console.print(Text(f"Trial {last.trial}", style="bold").append(f"  {describe(last)}", style="not bold"))
    for name, text in _facts(segments, view, mlflow_run).items():
        if text:
            console.print(f"{name:>14}  {text}", markup=False)
    print_table(_checkpoints(segments, view))
    explain_costs(segments, view)
    _show_bill(segments)


def _facts(segments: list[Result], view: View, mlflow_run: str | None) -> dict[str, str]:
    """What is said of a run beside its checkpoints and its bill; empty where there is nothing to say."""
    last = segments[-1]
    return {
        "run": last.run_id,
        "started": f"{datetime.fromtimestamp(segments[0].started):%Y-%m-%d %H:%M:%S}",
        "settings": short_settings(last.settings),
        "seed": str(last.seed),
        "confirms": last.replicate_of or "",
        "left off": f"the front: of other inputs ({changes(last.outdated)})" if last.outdated else "",
        "test split": ", ".join(f"{name} {plain_score(score)}" for name, score in last.test_scores.get(last.recipe_id, {}).items()),
        "tuned numbers": f"{last.trainable_parameters:,}" if last.trainable_parameters else "",
        "made on": _machines_text(last),
        "work": _work_text(last),
        "efficiency": efficiency_text(segments, kept_calibration()),
        "compiled": _compiling_text(last),
        "means": _means_text(last, view),
        "predictions": _serving_text(last, view),
        "CO2e": _carbon_text(last, view),
        "MLflow run": mlflow_run or "",
        "commit": str(last.provenance.get("git_commit") or ""),
        "versions": ", ".join(f"{n} {v}" for n, v in dict(last.provenance.get("versions", {})).items()),
        "priced at": f"{view.offer.name} ({dollars(float(view.offer.usd_per_hour))} an hour, {view.offer.date}), "
        f"{dollars(view.label_usd)} a label",
    }


def _checkpoints(segments: list[Result], view: View) -> Table:
    checkpoints = Table(title="Checkpoints")
    scores = list(dict.fromkeys(name for r in segments for name in r.scores))
    for name in ("number", "status", "epochs", "step", "labels", *scores, "US$", "time"):
        checkpoints.add_column(name, justify="left" if name == "status" else "right")
    for r in segments:
        state = r.status + (f": {r.reason}" if r.reason else "")
        numbers = [plain_score(r.scores[s]) if s in r.scores else "" for s in scores]
        costs = cost_cells(view, r, ("usd", "seconds")) if r.status == "complete" else ["", ""]
        checkpoints.add_row(str(r.number), state, *cells(r, view, "epochs", "step", "labels"), *numbers, *costs)
    return checkpoints


def _show_bill(segments: list[Result]) -> None:
    bill = Table(title="The bill, as measured")
    for name in ("phase", "from cold", "CPU time", "energy", "peak memory", "really spent"):
        bill.add_column(name, justify="left" if name == "phase" else "right")
    bill.add_column("for", spare=1)
    # Usage is that of the whole run up to a checkpoint, so the last one has all of it.
    cold = next((r.usage for r in reversed(segments) if r.usage), {})
    spent = phases_spent(segments)
    for phase in dict.fromkeys((*cold, *spent)):
        took = duration(spent[phase].seconds) if phase in spent else ""
        bill.add_row(phase, *usage_cells(cold.get(phase)), took, PHASE_MEANINGS.get(phase, ""))
    print_table(bill)
    sources = sorted({f: s for u in cold.values() for f, s in u.sources.items()}.items())
    if sources:
        console.print("How the bill was measured", style="bold")
    for field, source in sources:
        console.print(f"{field}: {source}", style="dim", markup=False)
