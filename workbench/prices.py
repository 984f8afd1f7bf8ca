"""Priced machines, and dollars as a view of usage: stored records hold no price, so any run can be priced again."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from importlib import resources
from pathlib import Path

from workbench.errors import DataError, UsageError, did_you_mean
from workbench.usage import Usage

DEFAULT = "local"


@dataclass(frozen=True)
class Offer:
    """A machine that someone rents out, or that one owns, at a price per hour.

    Attributes:
        platform: Who offers it (`aws`, `vast`, `local`, …).
        instance: The machine's name there.
        gpu: The GPU's model; empty for a machine without one.
        gpus: How many GPUs the price includes.
        region: Where, as the platform names it.
        commitment: `on_demand`, `spot`, `reserved` or `owned`.
        usd_per_hour: Price of the whole machine for an hour, in US$.
        source: Where the price was read.
        date: When it was read or published.
        confidence: `catalogue`, `secondary`, `assumed`, …
        note: What else a reader should know.
    """

    platform: str
    instance: str
    gpu: str
    gpus: int
    region: str
    commitment: str
    usd_per_hour: Decimal
    source: str
    date: str
    confidence: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        """Twelve hex digits that change when the offer's terms, price, source or date do."""
        terms = (
            self.platform,
            self.instance,
            self.gpu,
            self.gpus,
            self.region,
            self.commitment,
            self.usd_per_hour,
            self.source,
            self.date,
        )
        return hashlib.sha256("|".join(map(str, terms)).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """How it is asked for: `platform`, refined as far as needed by `:instance:region:commitment`."""
        return ":".join(part for part in (self.platform, self.instance, self.region, self.commitment) if part)


def usd(usage: Usage, offer: Offer) -> float:
    """Direct compute cost in US$: seconds held x the machine's rate, unrounded.

    The rate is per GPU where the machine has several and the usage says how many device-seconds were held; otherwise
    the whole machine's. Platform rounding, minimum times and whole instances are options of other views.
    """
    if offer.gpus > 1 and usage.gpu_seconds:
        return usage.gpu_seconds / 3600 * float(offer.usd_per_hour) / offer.gpus
    return usage.seconds / 3600 * float(offer.usd_per_hour)


def load(path: Path | None = None) -> tuple[Offer, ...]:
    """The shipped price book, or the one at `path`: CSV with the columns of the shipped one.

    Raises:
        DataError: A row without a platform, or whose price is not a positive number.
        UsageError: There is no such file, or it is no text.
    """
    if path is None:
        return _shipped()
    try:
        return _parse(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the price book {path} cannot be read: {error}.") from error


def find(platform: str, book: Sequence[Offer] | None = None) -> Offer:
    """The cheapest offer whose name begins with `platform`, as in `aws`, `aws:p4d.24xlarge`, `vast:1x-H200-32-65536`.

    Spot prices are taken only when asked for by their full name, or id. Cheapest is per GPU, of machines that have some.

    Raises:
        UsageError: No offer has that name.
    """
    book = _shipped() if book is None else book
    wanted = platform.split(":")
    named = [o for o in book if o.name.split(":")[: len(wanted)] == wanted or o.id == platform]
    firm = [o for o in named if o.commitment != "spot" or platform in (o.name, o.id)]
    if not firm and named:
        raise UsageError(
            f"{platform!r} has spot prices only, which end at any time. Ask for one by its full name: {named[0].name!r}."
        )
    if not firm:
        near = did_you_mean(platform, {part for o in book for part in (o.platform, f"{o.platform}:{o.instance}", o.name)})
        raise UsageError(
            f"no offer is called {platform!r}.{near if ' Did you' in near else did_you_mean(platform, {o.platform for o in book})}"
        )
    return min(firm, key=lambda o: (o.usd_per_hour / max(1, o.gpus), o.name))


@lru_cache
def _shipped() -> tuple[Offer, ...]:
    return _parse(resources.files("workbench").joinpath("prices.csv").read_text(encoding="utf-8"), "prices.csv")


def _parse(text: str, where: str) -> tuple[Offer, ...]:
    offers = []
    reader = csv.DictReader(io.StringIO(text, newline=""))
    words = ("platform", "instance", "gpu", "region", "commitment", "source", "date", "confidence", "note")
    for row in reader:
        try:
            price, gpus = Decimal(row["usd_per_hour"]), int(row.get("gpus") or 0)
            if not row["platform"] or not price.is_finite() or price <= 0 or gpus < 0:
                raise ValueError
        except (KeyError, InvalidOperation, ValueError, TypeError) as error:
            raise DataError(
                f"{where}, line {reader.line_num}: an offer needs a platform, a usd_per_hour above 0 and whole gpus; got {row}."
            ) from error
        offers.append(Offer(**{name: row.get(name) or "" for name in words}, gpus=gpus, usd_per_hour=price))
    return tuple(offers)
