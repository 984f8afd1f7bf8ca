"""`workbench prices`: the price book."""

from __future__ import annotations

from collections.abc import Sequence

import click

from workbench import settings
from workbench.cli import complete
from workbench.cli.printing import Table, messages, print_json, print_table, say_next, waiting
from workbench.cli.shared_options import json_option
from workbench.errors import UsageError, did_you_mean
from workbench.prices import Offer, live, load
from workbench.prices import gpu as model_of
from workbench.quantities import many


@click.command()
@click.option(
    "--platform",
    metavar="NAME",
    shell_complete=complete.platforms,
    help="Only offers whose name begins so: platform, or platform:instance.",
)
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=complete.gpus,
    help="Only offers with this GPU: a model, or the beginning of its name, e.g. H100.",
)
@click.option("--spot", is_flag=True, help="Spot prices too: cheaper, and gone at any time.")
@click.option("--live", is_flag=True, help="Ask gpuhunt for today's prices, over the network, instead of the book.")
@json_option
def prices(platform: str | None, gpu: str | None, spot: bool, live: bool, as_json: bool) -> None:
    """Show the price book, cheapest GPU hour first: what ships, and what your workbench.toml adds to it or overrides."""
    offers = _chosen(_live() if live else load(), platform, gpu)
    hidden = 0 if spot else sum(o.commitment == "spot" for o in offers)
    offers = sorted((o for o in offers if spot or o.commitment != "spot"), key=_rank)
    if as_json:
        print_json([o.to_json() for o in offers])
        return
    print_table(_table(offers))
    chosen = settings.load()
    if chosen.path and not live:
        own = len(chosen.offers) + len(chosen.owned)
        book = f", and the price book {chosen.price_book}" if chosen.price_book else ""
        offers_of = f"{many(own, 'offer')} of {chosen.path}{book}"
        messages.print(f"Added to the shipped offers, or in their place: {offers_of}.", markup=False)
    if hidden:
        messages.print(f"{hidden} spot prices are not shown; --spot shows them.")
    say_next("`workbench platforms STUDY` ranks them for a study")


def _live() -> tuple[Offer, ...]:
    with waiting("Asking gpuhunt for today's prices …"):
        return live.offers()


def _chosen(book: Sequence[Offer], platform: str | None, gpu: str | None) -> list[Offer]:
    """Return the offers of a platform and a GPU. The error about an unknown one names a similar one."""
    wanted = [] if platform is None else platform.split(":")
    there = [o for o in book if o.name.split(":")[: len(wanted)] == wanted or o.id == platform]
    if not there:
        raise UsageError(f"no offer is called {platform!r}.{did_you_mean(str(platform), {o.platform for o in book})}")
    with_it = [o for o in there if gpu is None or _is_gpu(o, gpu)]
    if not with_it:
        known = {o.gpu for o in there if o.gpu}
        short = {name.partition("-")[0] for name in known}  # H100, too, of H100-SXM
        hint = did_you_mean(str(gpu), known | short, otherwise=did_you_mean(str(gpu), known))
        raise UsageError(f"no offer here has the GPU {gpu!r}.{hint}")
    return with_it


def _is_gpu(offer: Offer, asked: str) -> bool:
    model = model_of(asked)
    same = model is not None and model_of(offer.gpu) == model
    return bool(offer.gpu) and (same or offer.gpu.casefold().startswith(asked.casefold()))


def _rank(offer: Offer) -> tuple[bool, float, str]:
    """Return the key by which offers are sorted: US$ for an hour of one GPU; machines without one come last, by their hour."""
    return not offer.gpus, float(offer.usd_per_gpu_hour or offer.usd_per_hour), offer.name


_SPARE = {"confidence": 4, "source date": 3, "GB each": 2, "commitment": 1}
"""Columns that are left out where there is no room for all, the highest first: --json has them."""


def _table(offers: Sequence[Offer]) -> Table:
    table = Table()
    right = ("GPUs", "GB each", "US$/h", "US$/GPU h")
    for name in ("platform", "instance", "GPU", *right, "region", "commitment", "source date", "confidence"):
        table.add_column(name, justify="right" if name in right else "left", spare=_SPARE.get(name, 0))
    for o in offers:
        numbers = [str(o.gpus or ""), "" if o.gpu_memory_gb is None else f"{o.gpu_memory_gb:g}", f"{float(o.usd_per_hour):.4g}"]
        per_gpu = "" if o.usd_per_gpu_hour is None else f"{float(o.usd_per_gpu_hour):.4g}"
        cells = [o.platform, o.instance, o.gpu, *numbers, per_gpu]
        table.add_row(*cells, o.region, o.commitment, o.date.split(" (")[0], o.confidence)
    return table
