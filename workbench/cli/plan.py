"""`workbench plan`: what a study will try, what that will take, and whether it can."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from workbench import forecast
from workbench.cli import complete
from workbench.cli.forecasting import (
    CALIBRATION,
    Bought,
    band,
    basis_of,
    expectation,
    forecaster_of,
    keep_calibration,
    most_runs,
    results_of,
    warn_if_busy,
)
from workbench.cli.options import COUNT, POSITIVE, gathered, setting
from workbench.cli.printing import Table, messages, print_json, print_table, say_next, waiting
from workbench.cli.shared_options import json_option, price_options, storage_option
from workbench.cli.studies import offer_of
from workbench.errors import UsageError
from workbench.forecast import is_price_of, on_offer
from workbench.forecast.starts import methods_of, parents, recipes
from workbench.meter import OwnTime
from workbench.prices import Offer, Prices, label_usd_of
from workbench.quantities import dollars, duration, many, number
from workbench.report.caveats import few_examples
from workbench.report.text import short_settings
from workbench.result import by_run, labels_bought, originals
from workbench.settings import stated
from workbench.space import Choice, Value
from workbench.study import load
from workbench.sweep import check_data, graded_by

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.forecast import CostForecast, Forecast, Forecaster, Machine, Plan, Typical
    from workbench.result import Result
    from workbench.study import Recipe, Study

CALIBRATION_SECONDS = 10.0

SHORT_SECONDS = 120.0
"""A sweep that is forecast to take less is begun at once: timing a few steps first would take a good part of that."""

_COLUMNS = ("model", "method", "settings", "tuned", "memory", "shortest", "longest", "energy", "US$", "basis", "fits")
_RIGHT = ("tuned", "memory", "shortest", "longest", "energy", "US$")
_SPARE = {"energy": 3, "tuned": 2, "shortest": 1}
"""Columns that are left out where there is no room for all, the highest first: --json has them."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The arguments and options of `workbench plan`."""

    study: str
    calibrate: bool
    trials: int | None
    max_usd: float | None
    platform: str | None
    label_usd: float | None
    storage: str | None
    as_json: bool


@click.command()
@click.argument("study", shell_complete=complete.study_files)
@click.option("--calibrate", is_flag=True, help="Time a few steps of every model and method first: some 10 s each, kept for later.")
@setting("--trials", type=COUNT, help="Runs of the sweep that is forecast. [default: the study's]")
@setting(
    "--max-usd",
    type=POSITIVE,
    metavar="USD",
    help="A budget: how many runs fit? [default: the study's]",
)
@price_options
@storage_option
@json_option
@gathered(PlanOptions)
def plan(asked: PlanOptions) -> None:
    """Read the data of the file STUDY, build every model with every method on the meta device, and forecast what they take.

    Shows for each how many numbers it tunes, whether it fits, and the memory, seconds, energy and US$ of its shortest and longest
    recipe on this machine, with basis and band. Runs of the study that were made here sharpen it, --calibrate does too.
    At a --platform with another GPU, seconds, energy and US$ are those there: carried over by FLOPs or by stated ratios.
    """
    loaded = load(asked.study)
    offer = offer_of(asked.platform, loaded)
    with waiting("Looking for the models …"):
        forecast.find_models(loaded)
    with waiting("Reading the data …") as told:
        for line in check_data(loaded):
            messages.print(line, style="yellow", markup=False)
        pairs = []
        for pair in forecast.plan(loaded):
            pairs.append(pair)
            told(f"Building models without weights, {len(pairs)} done, {pair.method} on {pair.model} last …")
        for line in few_examples(graded_by(loaded)):  # behind what may refuse the study: that stands alone
            messages.print(line, style="yellow", markup=False)
        machine = forecast.Machine.here()
    if asked.calibrate:
        _calibrate(loaded, machine, busy=warn_if_busy())
    with waiting("Forecasting …"):
        results = results_of(loaded, asked.storage)
        forecaster = forecaster_of(loaded, asked.storage, results)
        rows = [_Row.of(each, forecaster, offer) for each in pairs]
        budget, label = stated("max_usd", asked.max_usd, loaded), label_usd_of(asked.label_usd, loaded)
        # A sweep with a pair that cannot be trained is
        # refused, so there is no typical run to forecast.
        run = forecast.typical(forecaster) if all(p.fits for p in pairs) else None
        bought = Bought.of(run, offer, budget, label, results) if budget else None
    if asked.as_json:
        more = {"budget_usd": budget, "spent_usd": None, "trials_within_budget": None} | (bought.record() if bought else {})
        print_json([row.record() | more for row in rows])
    else:
        print_table(_table(rows, loaded))
        for problem in forecast.problems(pairs):
            messages.print(problem, style="red", markup=False)
        _explain(rows, offer, machine)
        left, taken = _tell_sweep(asked, loaded, run, Prices(offer, label), results)
        if bought:
            messages.print(bought.text, markup=False)
        _say_next(asked, rows, left, taken)
    if not all(row.plan.fits for row in rows):
        sys.exit(UsageError.exit_code)


def _tell_sweep(
    asked: PlanOptions, study: Study, run: Typical | None, at: Prices, results: Sequence[Result]
) -> tuple[int, CostForecast | None]:
    """Say how many runs of a sweep have been made, and what those that are left take. Return both: how many are left, and that."""
    most, made = most_runs(study, stated("trials", asked.trials, study)), len(by_run(originals(results)))
    left = 1 if most is None else max(0, most - made)
    if made:
        messages.print(_made_text(made, most), markup=False)
    if run is None or not left:
        return left, None
    labels = max(labels_bought(results).values(), default=0)
    taken = forecast.of_runs(run, left, forecast.Terms(at), starts=1, labels_bought=labels)
    messages.print(expectation(taken, left, at.offer, more=made > 0), markup=False)
    return left, taken


def _say_next(asked: PlanOptions, rows: Sequence[_Row], left: int, taken: CostForecast | None) -> None:
    """Say what comes next: a sweep, where it is short or something was timed or run here already; else timing first."""
    if not all(row.plan.fits for row in rows):
        say_next("mend the study, or leave out what does not fit")
    elif not left:
        say_next(f"`workbench front {asked.study}`")
    else:
        # Where one pair was timed or run here, a calibration stands, and another would not time what it could not.
        begin = asked.calibrate or not all(map(_unsure, rows)) or (taken and taken.seconds.value < SHORT_SECONDS)
        where = f" --platform {asked.platform}" if asked.platform else ""
        say_next(f"`workbench {'sweep' if begin else 'plan --calibrate'} {asked.study}{where}`")


def _made_text(made: int, most: int | None) -> str:
    """Say how many of a sweep's runs have been made."""
    if most is None or made > most:
        return f"{many(made, 'run')} of this study {'has' if made == 1 else 'have'} been made."
    if made == most:
        return "The one run of this study has been made." if most == 1 else f"All {most:,} runs of this study have been made."
    return f"{made:,} of {most:,} runs of this study {'has' if made == 1 else 'have'} been made."


@dataclass(frozen=True)
class _Row:
    """One model and method: as it was built, its shortest and its longest recipe, and what those take at the offer."""

    plan: Plan
    shortest: Forecast | None = None
    longest: Forecast | None = None
    shortest_taken: CostForecast | None = None
    longest_taken: CostForecast | None = None

    @classmethod
    def of(cls, plan: Plan, forecaster: Forecaster, offer: Offer) -> _Row:
        if not plan.fits:
            return cls(plan)

        found = [forecaster.run(recipe) for recipe in _recipes(plan, forecaster.study)]
        # Without known seconds, FLOPs and then tokens give the order.
        ordered = sorted(found, key=lambda each: (each.seconds.value if each.seconds else 0.0, each.flops or 0.0, each.tokens))
        ends = ordered[0], ordered[-1]
        return cls(plan, *ends, *(on_offer(each, forecaster.machine, offer) for each in ends))

    @property
    def verdict(self) -> str:
        """Say whether it fits, judged by its state and by the band of its peak."""
        peak = self.longest.peak_memory_bytes if self.longest else None
        there = self.plan.memory_bytes
        if not self.plan.fits:
            return "no"
        if peak is None or there is None:
            return "yes?"
        # With a question mark: a forecast has a band, and only a run can tell.
        return "no?" if peak.value > there else "tight" if peak.high > there else "yes"

    def record(self) -> dict[str, Any]:
        """Return it as plain data. Keys are only ever added."""
        ends = {"shortest": (self.shortest, self.shortest_taken), "longest": (self.longest, self.longest_taken)}
        return (
            dataclasses.asdict(self.plan)
            | {"fits": self.plan.fits, "verdict": self.verdict}
            | {name: end and _end_record(end, taken) for name, (end, taken) in ends.items()}
        )


def _end_record(end: Forecast, taken: CostForecast | None) -> dict[str, Any]:
    """Return a forecast for this machine, and under `on_offer` what the table shows: seconds, energy and US$ at the offer."""
    there = None if taken is None else taken.to_json()
    return dataclasses.asdict(end) | {"usd": _plain(taken.usd) if taken else None, "on_offer": there}


def _recipes(plan: Plan, study: Study) -> list[Recipe]:
    """Return the recipes that a row is about."""
    if plan.before:
        return [
            recipe
            for made in parents(study)
            for recipe in made
            if (recipe.model_name, recipe.method.name) == (plan.model, plan.method)
        ]
    start, method = next(
        (start, m)
        for start, m in methods_of(study)
        if (start.name, m.name, _settings(m)) == (plan.model, plan.method, plan.settings)
    )
    return list(recipes(study, start, method))


def _settings(method: Any) -> dict[str, Any]:
    return {name: value for name, value in method.settings.items() if isinstance(value, Value)}


def _calibrate(study: Study, machine: Machine, *, busy: bool) -> None:
    with messages.status("Timing …") as status:
        made = forecast.calibrate(
            study,
            CALIBRATION_SECONDS,
            machine=machine,
            busy=busy,
            # What others take of the CPUs now says nothing of how fast this machine is.
            clock=OwnTime() if busy else time.perf_counter,
            observe=lambda text: _progress(status, f"Timing {text} …"),
        )
    keep_calibration(made)
    messages.print(f"Timed {len({(t.model, t.method) for t in made.timings})} pairs; kept in {CALIBRATION}.", style="dim")
    if busy:
        text = "The machine was busy meanwhile: what others took is left out by estimate, so the band is no narrower than"
        messages.print(f"{text} without a timing. Do it again when the machine is idle.", style="yellow")


def _progress(status: Any, text: str) -> None:
    if messages.moves:
        status.update(text)
    else:
        messages.print(text, markup=False)


def _table(rows: Sequence[_Row], study: Study) -> Table:
    table = Table(narrow=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _RIGHT else "left", spare=_SPARE.get(name, 0))
    for row in rows:
        table.add_row(row.plan.model, row.plan.method, _searched(row.plan, study), *_cells(row), row.verdict)
    return table


def _searched(plan: Plan, study: Study) -> str:
    """What the study searches of a row's method: of choices the one of this row, of ranges both ends.

    What is fixed would make every row as wide as its method.
    """
    own = {name: hole.space for name, hole in study.dimensions.items() if name.startswith(f"{plan.method}.")}
    ranges = {name: "…".join(map(number, space.ends)) for name, space in own.items() if not isinstance(space, Choice)}
    chosen = {name: plan.settings.get(name.split(".", 1)[1]) for name in own if name not in ranges}
    return short_settings({name: ranges.get(name, chosen.get(name)) for name in own})


def _cells(row: _Row) -> tuple[str, ...]:
    if row.shortest is None or row.longest is None:
        return ("",) * 7
    peak, shortest, longest = row.longest.peak_memory_bytes, row.shortest_taken, row.longest_taken
    return (
        _short(row.longest.trainable_parameters),
        f"{peak.value / 2**20:,.0f} MiB" if peak else "unknown",
        duration(shortest.seconds.value) if shortest else "unknown",
        duration(longest.seconds.value) if longest else "unknown",
        f"{longest.energy_j.value:,.0f} J" if longest and longest.energy_j else "unknown",
        dollars(longest.usd.value) if longest and longest.usd else "unknown",
        f"{basis_of(longest)} {band(longest.seconds)}" if longest else "unknown",
    )


def _short(count: int) -> str:
    """Write a count in three digits: `9.6 k`, `15.5 M`."""
    rounded = float(f"{count:.3g}")  # before the letter is chosen: 999,999 is 1 M
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:.3g} {letter}"
    return str(count)


def _explain(rows: Sequence[_Row], offer: Offer, machine: Machine) -> None:
    """Say on standard error what the words of the table mean."""
    known = [row for row in rows if row.longest]
    messages.print(
        f"{_place(known, offer, machine)} from nothing, with one evaluation: the time of the shortest recipe, and memory, time, "
        "energy and US$ of the longest. Nine in ten outcomes are meant to lie in the band. "
        f"US$ at {dollars(float(offer.usd_per_hour))} an hour ({offer.name}), without labels.",
        style="dim",
        markup=False,
    )
    for note in _notes(known[-1]) if known else ():
        messages.print(f"  {note}", style="dim", markup=False)
    if any(_unsure(row) for row in known):
        messages.print("--calibrate times a few steps here, and sharpens this.", style="dim", markup=False)


def _unsure(row: _Row) -> bool:
    """Return whether the seconds of a row rest on a formula alone."""
    return row.longest is not None and (row.longest.seconds is None or row.longest.seconds.basis == "formula")


def _place(known: Sequence[_Row], offer: Offer, machine: Machine) -> str:
    """Say which machine the forecast is for, and why."""
    here = f"On this machine ({machine.name})"
    if is_price_of(machine.name if machine.kind == "cuda" else None, offer):
        return f"{here},"
    there = offer.gpu or "a machine without a GPU"
    if not any(row.longest_taken for row in known):
        return (
            f"{offer.name} ({there}) is not this machine ({machine.name}), and what a recipe takes there is unknown: neither FLOPs "
            "nor figures of the two GPUs can carry it over. Memory, and whether it fits, are those of this machine. "
            "The table's columns,"
        )
    return (
        f"On {offer.name} ({there}), which is not this machine ({machine.name}), time, energy and US$ are carried over from it, "
        "`scaled`; memory, and whether it fits, are those of this machine. The table's columns,"
    )


def _notes(row: _Row) -> list[str]:
    """Return basis, band and source of every figure of a row's longest recipe, e.g. `memory: formula, ±30 %: weights …`."""
    taken, memory = row.longest_taken, row.longest.peak_memory_bytes if row.longest else None
    figures = (
        ("seconds", taken and taken.seconds),
        ("memory", memory),
        ("energy", taken and taken.energy_j),
        ("US$", taken and taken.usd),
    )
    return [
        ": ".join(part for part in (what, ", ".join(filter(None, (of.basis, band(of)))), of.note) if part)
        for what, of in figures
        if of
    ]


def _plain(of: Estimate | None) -> dict[str, Any] | None:
    return None if of is None else dataclasses.asdict(of)
