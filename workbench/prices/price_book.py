"""The price book: the shipped offers, and the user's that add to them or take their place."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from workbench import settings
from workbench.errors import DataError, UsageError, did_you_mean
from workbench.prices.offers import Offer
from workbench.settings import COMMITMENTS, UNITS, Settings

DEFAULT: str = settings.OF_STUDIES["platform"]
"""The platform that prices a study which names none: this desktop, by a stated assumption."""

HOURS_PER_YEAR = 8760


def load(path: Path | None = None) -> tuple[Offer, ...]:
    """Return the price book: the shipped one with the user's offers over it, or the CSV file at
    `path` alone.

    A CSV has the columns of the shipped one; `usd_per_hour` may stand for amount, currency and
    unit.

    Raises:
        DataError: A row or table without a platform, whose price is not a positive number or whose
            currency has no rate.
        UsageError: There is no such file, or it is no text.
    """
    chosen = settings.load()
    if path is not None:
        return _read(path, chosen)
    return _merged(chosen, None if chosen.price_book is None else _read(chosen.price_book, chosen))


def find(platform: str, book: Sequence[Offer] | None = None) -> Offer:
    """Return the cheapest offer whose name begins with `platform`, which may be an offer's id too.

    Spot prices are taken only where they are asked for by their full name or id. Machines with GPUs
    are compared by the price of one GPU.

    Args:
        platform: As in `aws`, `aws:p4d.24xlarge`, `vast:1x-H200-32-65536`.
        book: The offers; None: the price book.

    Raises:
        UsageError: No offer has that name.
    """
    book = load() if book is None else book
    wanted = platform.split(":")
    named = [o for o in book if o.name.split(":")[: len(wanted)] == wanted or o.id == platform]
    firm = [o for o in named if o.commitment != "spot" or platform in (o.name, o.id)]
    if not firm and named:
        raise UsageError(
            f"{platform!r} has spot prices only, which end at any time. Ask for one by its full name: {named[0].name!r}."
        )
    if not firm:
        platforms = did_you_mean(platform, {o.platform for o in book})
        names = {part for o in book for part in (o.platform, f"{o.platform}:{o.instance}", o.name)}
        raise UsageError(f"no offer is called {platform!r}.{did_you_mean(platform, names, otherwise=platforms)}")
    # By the GPU, as a machine of eight is not dearer for being larger; the name settles ties.
    return min(firm, key=lambda o: (o.usd_per_gpu_hour or o.usd_per_hour, o.name))


@lru_cache(maxsize=16)
def _merged(chosen: Settings, own: tuple[Offer, ...] | None) -> tuple[Offer, ...]:
    """Merge the shipped book, the user's CSV and the user's tables: each replaces offers of the
    same name before it.
    """
    book = {offer.name: offer for offer in _shipped()}
    for more in (own or (), _tables(chosen)):
        book |= {offer.name: offer for offer in more}
    return tuple(book.values())


@lru_cache
def _shipped() -> tuple[Offer, ...]:
    text = resources.files("workbench.prices").joinpath("offers.csv").read_text(encoding="utf-8")
    return _parse(text, "offers.csv", None)


def _read(path: Path, chosen: Settings) -> tuple[Offer, ...]:
    try:
        return _parse(path.read_text(encoding="utf-8-sig"), str(path), chosen)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the price book {path} cannot be read: {error}. Mend the file, or name another one.") from error


# Rows of another currency take the rate of the settings, so the settings are part of the key.
@lru_cache(maxsize=16)
def _parse(text: str, where: str, chosen: Settings | None) -> tuple[Offer, ...]:
    # newline="": a quoted field may hold line breaks, which must reach the reader as they are.
    reader = csv.DictReader(io.StringIO(text, newline=""))
    offers = []
    try:
        # Lines of the file, not rows: a quoted field may span several.
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(
            f"{where}, near line {reader.line_num}: this is no CSV: {error}. Look for a quote that is not closed."
        ) from error
    for line, row in rows:
        place = f"{where}, line {line}"
        try:
            offers.append(_rated(_of_row(row), chosen, place))
        except (KeyError, InvalidOperation, ValueError, TypeError) as error:
            raise DataError(
                f"{place}: an offer needs a platform, a usd_per_hour above 0 (or an amount with its currency and unit), "
                f"whole gpus (none where it names no gpu) and a commitment out of {', '.join(COMMITMENTS)}; got {row}."
            ) from error
    return _unique(offers, where)


_WORDS = ("platform", "instance", "gpu", "region", "commitment", "source", "date", "confidence", "note")
_SIZES = ("gpu_memory_gb", "vcpus", "memory_gib", "billing_seconds", "minimum_seconds")


def _of_row(row: Mapping[str, Any]) -> Offer:
    amount, gpus = Decimal(row.get("amount") or row["usd_per_hour"]), int(row.get("gpus") or 0)
    terms: dict[str, Any] = {name: row.get(name) or "" for name in _WORDS}
    terms |= {name: float(row[name]) for name in _SIZES if row.get(name)}
    terms |= {"currency": row.get("currency") or "USD", "unit": row.get("unit") or "hour"}
    if row.get("usd_per_kwh"):
        electricity = terms["usd_per_kwh"] = Decimal(row["usd_per_kwh"])
        if not (electricity.is_finite() and electricity >= 0) or terms["commitment"] != "owned":
            raise ValueError
    offer = Offer(gpus=gpus, amount=amount, **terms)
    sound = (
        offer.platform and amount.is_finite() and amount > 0 and gpus >= 0 and bool(gpus) == bool(offer.gpu) and offer.unit in UNITS
    )
    if not sound or offer.commitment not in COMMITMENTS or any(not 0 <= terms.get(size, 0) < math.inf for size in _SIZES):
        raise ValueError
    return offer


def _tables(chosen: Settings) -> tuple[Offer, ...]:
    """The offers of a settings file."""
    offers = []
    for i, table in enumerate(chosen.offers, 1):
        place = f"{chosen.path}, [[offers]] {i}"
        terms = _terms(table) | {"commitment": table.get("commitment", "on_demand")}
        terms |= {n: table[n] for n in ("currency", "unit") if n in table}
        electricity = Decimal(table["usd_per_kwh"]) if "usd_per_kwh" in table else None
        if electricity is not None and terms["commitment"] != "owned":
            raise DataError(f"{place}: usd_per_kwh is for a machine of one's own: commitment = 'owned', or leave it out.")
        offer = Offer(gpus=_gpus(table, place), amount=Decimal(table["amount"]), usd_per_kwh=electricity, **terms)
        offers.append(_rated(offer, chosen, place))
    offers += [_owned(table, f"{chosen.path}, [[owned]] {i}") for i, table in enumerate(chosen.owned, 1)]
    return _unique(offers, str(chosen.path))


def _owned(table: Mapping[str, Any], place: str) -> Offer:
    """Price a machine of one's own: its purchase is spread over the hours in which it works.

    amount = purchase_usd / (lifetime_years x 8760 h x utilisation), and power_w / 1000 x
    electricity on top where a draw is stated; otherwise the joules that a run is measured to take
    are paid for by the kWh.
    """
    years, share, price = (Decimal(table[n]) for n in ("lifetime_years", "utilisation", "electricity_usd_per_kwh"))
    amount = Decimal(table["purchase_usd"]) / (years * HOURS_PER_YEAR * share)
    source = f"{table['purchase_usd']} US$ over {years} years at {share} of all hours, electricity {price} US$/kWh"
    if "power_w" in table:
        amount += Decimal(table["power_w"]) / 1000 * price
        source += f", drawing {table['power_w']} W"
    terms = _terms(table) | {"commitment": "owned", "instance": table.get("instance") or table.get("gpu") or "cpu"}
    terms["source"] = f"{table['source']}: {source}" if "source" in table else source
    electricity = None if "power_w" in table else price
    # A quotient of Decimals has 28 digits, and all of them would stand in the offer's id.
    return Offer(gpus=_gpus(table, place), amount=round(amount, 8), usd_per_kwh=electricity, **terms)


def _terms(table: Mapping[str, Any]) -> dict[str, Any]:
    words: dict[str, Any] = {name: table.get(name, "") for name in _WORDS} | {"confidence": table.get("confidence", "stated")}
    return words | {name: float(table[name]) for name in _SIZES if name in table}


def _gpus(table: Mapping[str, Any], place: str) -> int:
    gpus = int(table.get("gpus", 1 if "gpu" in table else 0))
    if bool(gpus) != ("gpu" in table):
        raise DataError(f"{place}: a machine with gpus names its gpu, and one without has none; got gpus = {gpus}.")
    return gpus


def _rated(offer: Offer, chosen: Settings | None, place: str) -> Offer:
    """The offer with the exchange rate of its currency in it."""
    if offer.currency == "USD":
        return offer
    rate = {} if chosen is None else chosen.currencies.get(offer.currency, {})
    if not rate:
        raise DataError(
            f"{place}: {offer.amount} {offer.currency} has no rate. Write it into workbench.toml: "
            f'[currencies] {offer.currency} = {{ usd = …, source = "…", date = "…" }}.'
        )
    note = f"1 {offer.currency} = {rate['usd']} US$ ({rate['source']}, {rate['date']})"
    return dataclasses.replace(offer, exchange=Decimal(rate["usd"]), note="; ".join(n for n in (offer.note, note) if n))


def _unique(offers: Iterable[Offer], where: str) -> tuple[Offer, ...]:
    seen: dict[str, Offer] = {}
    for offer in offers:
        if offer.name in seen:
            raise DataError(f"{where}: two offers are called {offer.name!r}. Give them other instances, regions or commitments.")
        seen[offer.name] = offer
    return tuple(seen.values())
