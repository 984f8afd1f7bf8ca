"""`workbench platforms`: where a study would be tuned best, and what else speaks for a platform."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from workbench import prices
from workbench.cli import complete
from workbench.cli.forecasting import band, forecaster_of, most_runs
from workbench.cli.options import AMOUNT, COUNT, gathered, setting
from workbench.cli.printing import Table, fits, messages, print_json, print_table, say_next, waiting
from workbench.cli.shared_options import json_option, storage_option
from workbench.errors import UsageError, did_you_mean
from workbench.forecast import rank, typical
from workbench.prices import label_usd_of
from workbench.quantities import banded, dollars, duration, many, number
from workbench.settings import stated
from workbench.study import load

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.forecast import Ranked

SHOWN = 15


@dataclass(frozen=True, kw_only=True)
class PlatformsOptions:
    """The arguments and options of `workbench platforms`."""

    study: str | None
    trials: int | None
    spot: bool
    without: tuple[str, ...]
    everything: bool
    label_usd: float | None
    storage: str | None
    as_json: bool


@click.command()
@click.argument("study", required=False, shell_complete=complete.study_files)
@setting("--trials", type=COUNT, help="Runs of the sweep that is priced. [default: the study's, or 16]")
@click.option("--spot", is_flag=True, help="Rank spot offers too: they end at any time.")
@click.option("--without", multiple=True, metavar="NAME", help="Leave this platform out; may be given several times.")
@click.option("--all", "everything", is_flag=True, help=f"Show all offers, not the first {SHOWN}.")
@setting("--label-usd", type=AMOUNT, metavar="USD", help="Price of one labelled example. [default: the study's]")
@storage_option
@json_option
@gathered(PlatformsOptions)
def platforms(asked: PlatformsOptions) -> None:
    """Rank the offers of the price book for the file STUDY: memory, time, US$ and CO2e of a sweep, each with its band.

    US$ are those of the whole machine, which is how it is rented; a sweep trains on one GPU of it.
    The forecast is for this machine, carried over to each offer's device by FLOPs or by stated ratios; it gets sharper with
    `workbench plan STUDY --calibrate` and with results. Without STUDY the offers stand by US$ for 10^18 FLOPs at their peak.
    Facts about a platform are columns of a table that `workbench.toml` can change.
    """
    offers = [o for o in _others(prices.load(), asked.without) if asked.spot or o.commitment != "spot"]
    if asked.study is None:
        _show_peaks(offers, everything=asked.everything, as_json=asked.as_json)
        return
    loaded = load(asked.study)
    runs = most_runs(loaded, stated("trials", asked.trials, loaded)) or 16
    with waiting("Reading the data, building models without weights …"):
        run = typical(forecaster_of(loaded, asked.storage))
        ranked = rank(run, runs, offers, label_usd_of(asked.label_usd, loaded))
    if asked.as_json:
        print_json([_record(each) for each in ranked])
        return
    shown, title = ranked if asked.everything else ranked[:SHOWN], f"A sweep of {many(runs, 'run')} of {asked.study}"
    table = _table(shown, title, partial(banded, basis=False))
    # Offers are compared line by line, which folded lines would spoil.
    print_table(table if fits(table) else _table(shown, title, _with_factor))
    _show_more(len(ranked), everything=asked.everything)
    # Small models wait for the launch of kernels on any GPU: a
    # ranking by price alone must not look like one by speed.
    times = {round(each.taken.seconds.value) for each in ranked if each.offer.gpus and each.taken}
    if len(times) == 1:
        text = "Every GPU here takes the least time of a step (0.02 s, assumed): its price alone tells them apart."
        messages.print(text, style="dim", markup=False)
    _show_facts({each.offer.platform for each in ranked})
    best = next((each.offer.name for each in ranked if each.fits and each.taken), None)
    say_next(f"`workbench plan {asked.study} --platform {best}`" if best else f"`workbench plan {asked.study} --calibrate`")


def _table(ranked: Sequence[Ranked], title: str, with_band: Callable[[Estimate, Callable[[float], str]], str]) -> Table:
    """Return the offers as a table. `with_band` writes an estimate and its band."""
    table = Table(title=title)
    for name in ("offer", "GPU", "US$/h", "fits", "time", "US$", "g CO2e", "basis"):
        table.add_column(name, justify="right" if name in ("US$/h", "time", "US$", "g CO2e") else "left")
    for each in ranked:
        taken, o = each.taken, each.offer
        fitting = {True: "yes", False: "no", None: "unknown"}[each.fits]
        cells = ["unknown"] * 3 + [""]
        if taken is not None:
            views = ((taken.seconds, duration), (taken.usd, dollars), (taken.grams_co2e, number))
            cells = ["unknown" if value is None else with_band(value, write) for value, write in views] + [taken.seconds.basis]
        table.add_row(o.name, o.gpu or "-", f"{o.usd_per_hour:.2f}", fitting, *cells)
    return table


def _with_factor(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Write an estimate with its band as a factor: `1 min 09 s ×/÷ 7.6`."""
    return f"{write(estimate.value)} {band(estimate)}".rstrip()


def _show_peaks(offers: list[prices.Offer], *, everything: bool, as_json: bool) -> None:
    """Print the offers by the price of their peak FLOPs, which needs no study."""
    ranked: list[tuple[float, prices.Offer]] = []
    for o in offers:
        gpu = prices.gpu(o.gpu) if o.gpus else None
        if gpu is not None and gpu.tensor_tflops:
            ranked.append((float(o.usd_per_hour) / o.gpus / 3600 / gpu.tensor_tflops * 1e6, o))
    ranked.sort(key=lambda pair: (pair[0], pair[1].name))
    if as_json:
        print_json([o.to_json() | {"usd_per_1e18_flops_at_peak": usd} | _facts(o.platform) for usd, o in ranked])
        return
    table = Table(title="US$ for 10^18 FLOPs at the dense peak: an upper bound of what a machine can give")
    for name in ("offer", "GPU", "US$/h", "US$ for 10^18 FLOPs"):
        table.add_column(name, justify="right" if "US$" in name else "left")
    for usd, o in ranked if everything else ranked[:SHOWN]:
        table.add_row(o.name, f"{o.gpus} x {o.gpu}", f"{o.usd_per_hour:.2f}", dollars(usd))
    print_table(table)
    _show_more(len(ranked), everything=everything)
    _show_facts({o.platform for _, o in ranked})
    say_next("`workbench platforms STUDY` for what a sweep takes on each")


def _others(offers: Sequence[prices.Offer], without: Sequence[str]) -> list[prices.Offer]:
    """Return the offers of other platforms than these. Raises UsageError where one of them has no offer, or no other has."""
    known = sorted({o.platform for o in offers})
    for name in without:
        if name not in known:
            raise UsageError(f"--without {name!r} names no platform of the price book.{did_you_mean(name, known)}")
    kept = [o for o in offers if o.platform not in without]
    if not kept:
        raise UsageError("--without leaves no platform. Leave one in.")
    return kept


def _show_more(count: int, *, everything: bool) -> None:
    if not everything and count > SHOWN:
        messages.print(f"{count - SHOWN} more; --all shows them.", style="dim")


def _show_facts(names: set[str]) -> None:
    table = Table(fold=True, title="\nWhat else speaks for a platform, as far as it is known")
    for name in ("platform", "data", "technical support", "business scenes"):
        table.add_column(name)
    for name in sorted(names):
        known = prices.platform(name)
        table.add_row(name, known.data, known.technical_support, known.business_scenes)
    print_table(table)
    binds = Table(fold=True, title="\nWhat binds a team to a platform, as far as it is known")
    for name in ("platform", "US$ for a GB that leaves", "what is rented", "bound at least", "source"):
        binds.add_column(name, justify="right" if "US$" in name else "left")
    for name in sorted(names):
        known = prices.platform(name)
        egress = "unknown" if known.egress_usd_per_gb is None else f"{known.egress_usd_per_gb:.2f}"
        binds.add_row(name, egress, known.interface, known.commitment, known.binding_source)
    print_table(binds)
    messages.print("--without NAME shows what a study costs without one of them.", style="dim")


def _record(ranked: Ranked) -> dict[str, Any]:
    taken = ranked.taken
    figures = {name: getattr(taken, name) if taken else None for name in ("seconds", "usd", "grams_co2e", "energy_j")}
    known = {name: dataclasses.asdict(value) if value else None for name, value in figures.items()}
    return ranked.offer.to_json() | {"fits": ranked.fits} | known | _facts(ranked.offer.platform)


def _facts(platform: str) -> dict[str, Any]:
    known = prices.platform(platform)
    names = ("data", "technical_support", "business_scenes", "egress_usd_per_gb", "interface", "commitment", "binding_source")
    # An offer has a commitment of its own: on demand, or spot.
    return {"platform_commitment" if name == "commitment" else name: getattr(known, name) for name in names}
