"""`workbench plan`: what a study will try, what that will take, and whether it can."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import (
    Table,
    console,
    json_option,
    label_usd_of,
    load_study,
    messages,
    offer_of,
    price_options,
    print_json,
    storage_option,
    waiting,
)
from workbench.cli.forecasting import CALIBRATION, expectation, forecaster_of, keep_calibration
from workbench.report import dollars, duration

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.forecast import Forecast, Forecaster, Machine, Plan
    from workbench.prices import Offer
    from workbench.study import Study

CALIBRATION_SECONDS = 10.0

_COLUMNS = ("model", "method", "settings", "tuned", "memory", "shortest", "longest", "energy", "US$", "basis", "fits")
_RIGHT = ("tuned", "memory", "shortest", "longest", "energy", "US$")


@click.command()
@click.argument("study")
@click.option("--calibrate", is_flag=True, help="Time a few steps of every model and method first: about 10 s, kept for later.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="A budget: how many runs fit? [default: the study's]",
)
@price_options
@storage_option
@json_option
def plan(
    study: str,
    calibrate: bool,
    max_usd: float | None,
    platform: str | None,
    label_usd: float | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Read the data of the file STUDY, build every model with every method on the meta device, and forecast what they take.

    Shows for each how many numbers it tunes, whether it fits, and the memory, seconds, energy and US$ of its shortest and longest
    recipe on this machine, with basis and band. Runs of the study that were made here sharpen it, --calibrate does too.
    """
    loaded = load_study(study)
    offer = offer_of(platform, loaded.platform)
    with waiting("Reading the data, building models without weights …"):
        from workbench import forecast
        from workbench.sweep import check_data

        check_data(loaded)
        pairs = list(forecast.plan(loaded))
        machine = forecast.Machine.here()
    if calibrate:
        _calibrate(loaded, machine)
    with waiting("Forecasting …"):
        forecaster = forecaster_of(loaded, storage)
        rows = [_Row.of(each, forecaster, offer) for each in pairs]
        budget, label = loaded.max_usd if max_usd is None else max_usd, label_usd_of(label_usd, loaded.label_usd)
        run = forecast.typical(forecaster) if all(p.fits for p in pairs) else None
        trials = forecast.trials_within(run, offer, budget, label) if run and budget else None
    if as_json:
        print_json([row.record() | {"budget_usd": budget, "trials_within_budget": _plain(trials)} for row in rows])
    else:
        console.print(_table(rows, loaded))
        _explain(rows, offer, machine)
        if run:
            messages.print(expectation(run, loaded.trials or 1, offer, label), markup=False)
        if budget:
            _print_budget(budget, label, trials)
    if not all(p.fits for p in pairs):
        sys.exit(3)


@dataclass(frozen=True)
class _Row:
    """One model and method: as it was built, its shortest and its longest recipe, and what those cost."""

    plan: Plan
    shortest: Forecast | None = None
    longest: Forecast | None = None
    shortest_usd: Estimate | None = None
    longest_usd: Estimate | None = None

    @classmethod
    def of(cls, plan: Plan, forecaster: Forecaster, offer: Offer) -> _Row:
        if not plan.fits:
            return cls(plan)
        from workbench.forecast.pairs import methods_of, recipes

        method = next(
            m
            for model, m in methods_of(forecaster.study)
            if (model, m.name, _settings(m)) == (plan.model, plan.method, plan.settings)
        )
        found = [forecaster.run(recipe) for recipe in recipes(forecaster.study, plan.model, method)]
        ordered = sorted(found, key=lambda each: (each.seconds.value if each.seconds else 0.0, each.flops or 0.0, each.tokens))
        ends = ordered[0], ordered[-1]
        return cls(plan, *ends, *(_usd(each.seconds, offer) for each in ends))

    @property
    def verdict(self) -> str:
        """Whether it fits, judged by state and by the band of the peak."""
        peak = self.longest.peak_memory_bytes if self.longest else None
        there = self.plan.memory_bytes
        if not self.plan.fits:
            return f"no: {self.plan.problem}"
        if peak is None or there is None:
            return "yes?"
        return "no?" if peak.value > there else "tight" if peak.high > there else "yes"

    def record(self) -> dict[str, Any]:
        """As JSON: keys are only ever added."""
        ends = {"shortest": (self.shortest, self.shortest_usd), "longest": (self.longest, self.longest_usd)}
        return (
            dataclasses.asdict(self.plan)
            | {"fits": self.plan.fits, "verdict": self.verdict}
            | {name: None if end is None else dataclasses.asdict(end) | {"usd": _plain(usd)} for name, (end, usd) in ends.items()}
        )


def _settings(method: Any) -> dict[str, Any]:
    from workbench.space import Value

    return {name: value for name, value in method.settings.items() if isinstance(value, Value)}


def _usd(seconds: Estimate | None, offer: Offer) -> Estimate | None:
    """What so many seconds of one GPU, or of the machine, cost at the offer; electricity that is paid by the kWh not in it."""
    per_second = float(offer.usd_per_hour) / max(1, offer.gpus) / 3600
    return seconds and seconds * per_second


def _calibrate(study: Study, machine: Machine) -> None:
    from workbench import forecast

    with messages.status("Timing …") as status:
        made = forecast.calibrate(
            study, CALIBRATION_SECONDS, machine=machine, observe=lambda text: _progress(status, f"Timing {text} …")
        )
    keep_calibration(made)
    messages.print(f"Timed {len({(t.model, t.method) for t in made.timings})} pairs; kept in {CALIBRATION}.", style="dim")


def _progress(status: Any, text: str) -> None:
    if messages.is_terminal:
        status.update(text)
    else:
        messages.print(text, markup=False)


def _table(rows: Sequence[_Row], study: Study) -> Table:
    table = Table(narrow=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _RIGHT else "left")
    searched = {name.rsplit(".", 1)[-1] for name, hole in study.dimensions.items() if hole.when}
    for row in rows:
        settings = ", ".join(f"{k}={v}" for k, v in row.plan.settings.items() if k in searched)
        head = (row.plan.model, row.plan.method, settings)
        table.add_row(*head, *_cells(row), row.verdict)
    return table


def _cells(row: _Row) -> tuple[str, ...]:
    if row.shortest is None or row.longest is None:
        return ("",) * 7
    seconds = row.longest.seconds
    peak, energy = row.longest.peak_memory_bytes, row.longest.energy_j
    return (
        _short(row.longest.trainable_parameters),
        f"{peak.value / 2**20:,.0f} MiB" if peak else "unknown",
        duration(row.shortest.seconds.value) if row.shortest.seconds else "unknown",
        duration(seconds.value) if seconds else "unknown",
        f"{energy.value:,.0f} J" if energy else "unknown",
        dollars(row.longest_usd.value) if row.longest_usd else "unknown",
        f"{seconds.basis} {band(seconds)}" if seconds else "unknown",
    )


def _short(count: int) -> str:
    """A count in three digits: `9.6 k`, `15.5 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def band(of: Estimate) -> str:
    """The band in short: `±8 %`, or `×/÷ 3` where it is wide."""
    if of.value <= 0:
        return ""
    factor = of.high / of.value
    return f"±{100 * of.error:.0f} %" if factor < 1.5 else f"×/÷ {factor:.2g}"


def _explain(rows: Sequence[_Row], offer: Offer, machine: Machine) -> None:
    """What the table's words mean, on standard error."""
    known = [row.longest for row in rows if row.longest]
    messages.print(
        f"On this machine ({machine.name}), from nothing, with one evaluation: the time of the shortest recipe, and memory, time, "
        "energy and US$ of the longest. Nine in ten outcomes are meant to lie in the band. "
        f"US$ at {dollars(float(offer.usd_per_hour))} an hour ({offer.name}), without labels.",
        style="dim",
        markup=False,
    )
    notes: Mapping[str, None] = dict.fromkeys(
        f"{what}: {of.note}"
        for each in known[-1:]
        for what, of in (("seconds", each.seconds), ("memory", each.peak_memory_bytes), ("energy", each.energy_j))
        if of and of.note
    )
    for note in notes:
        messages.print(f"  {note}", style="dim", markup=False)
    if any(each.seconds is None or each.seconds.basis == "formula" for each in known):
        messages.print("`workbench plan STUDY --calibrate` times a few steps here, and sharpens this.", style="dim", markup=False)


def _print_budget(budget: float, label_usd: float, trials: Estimate | None) -> None:
    if trials is None:
        messages.print(f"How many runs {dollars(budget)} buys is unknown: so is what some take.", markup=False)
        return
    with_labels = f", labels at {dollars(label_usd)} bought once" if label_usd else ""
    messages.print(
        f"{dollars(budget)} buys about {trials.value:,.0f} runs ({trials.low:,.0f} to {trials.high:,.0f}; {trials.basis}, "
        f"{trials.note}{with_labels}).",
        markup=False,
    )


def _plain(of: Estimate | None) -> dict[str, Any] | None:
    return None if of is None else dataclasses.asdict(of)
