"""A priced machine, and dollars as a view of usage: stored records hold no price, so any run can be priced again."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
from typing import Any

from workbench.errors import DataError
from workbench.usage import Usage

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Offer:
    """A machine that someone rents out, or that one owns, at a price.

    Attributes:
        platform: Who offers it (`aws`, `vast`, `local`, …).
        instance: The machine's name there.
        gpu: The GPU's model; empty for a machine without one.
        gpus: How many GPUs the machine has.
        region: Where, as the platform names it.
        commitment: `on_demand`, `spot`, `reserved` or `owned`.
        amount: The price of a `unit`, in `currency`.
        source: Where the price was read.
        date: When it was read or published.
        confidence: `catalogue`, `secondary`, `assumed`, `stated` (by the user), `live`, …
        note: What else a reader should know.
        currency: Three letters.
        unit: `hour`, `second`, `day` or `month` (730 hours) of the whole machine, or `gpu_hour`: an hour of each GPU.
        exchange: US$ for one unit of another currency; None for US$, or where it is unknown.
        gpu_memory_gb: Memory of one GPU as sold, 10^9 bytes; None where unknown.
        vcpus: Virtual CPUs.
        memory_gib: Memory of the machine, 2^30 bytes.
        billing_seconds: Time is rounded up to a multiple of it in the bill; None: the platform's (`prices.platform`).
        minimum_seconds: The least time that is billed; None: the platform's.
        usd_per_kwh: What electricity costs the owner of the machine, US$; None where it is part of the amount, and for rent.
    """

    platform: str
    instance: str
    gpu: str
    gpus: int
    region: str
    commitment: str
    amount: Decimal
    source: str
    date: str
    confidence: str = ""
    note: str = ""
    currency: str = "USD"
    unit: str = "hour"
    exchange: Decimal | None = None
    gpu_memory_gb: float | None = None
    vcpus: float | None = None
    memory_gib: float | None = None
    billing_seconds: float | None = None
    minimum_seconds: float | None = None
    usd_per_kwh: Decimal | None = None

    @cached_property  # asked for every point of every front
    def id(self) -> str:
        """Twelve hex digits that change when the offer's terms, price, source or date do."""
        terms = [self.platform, self.instance, self.gpu, self.gpus, self.region, self.commitment]
        terms += [self.amount, self.source, self.date]
        # Terms that a plain price lacks are added by name, so that ids noted before there were such terms still hold.
        defaults = {"currency": "USD", "unit": "hour"}
        for name in ("currency", "unit", "exchange", "billing_seconds", "minimum_seconds", "usd_per_kwh"):
            if (value := getattr(self, name)) != defaults.get(name):
                terms.append(f"{name}={value}")
        return hashlib.sha256("|".join(map(str, terms)).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The name by which it is asked for: `platform`, refined as far as needed by
        `:instance:region:commitment`.
        """
        return ":".join(part for part in (self.platform, self.instance, self.region, self.commitment) if part)

    @cached_property
    def usd_per_hour(self) -> Decimal:
        """Price of the whole machine for an hour, in US$, electricity that is paid by the kWh not in it.

        Raises:
            DataError: The currency has no exchange rate.
        """
        rate = Decimal(1) if self.currency == "USD" else self.exchange
        if rate is None:
            raise DataError(
                f"{self.name!r} is priced in {self.currency}, whose rate is unknown. Write it into workbench.toml: "
                f'[currencies] {self.currency} = {{ usd = …, source = "…", date = "…" }}.'
            )
        hours = {"day": 24, "month": 730}
        if self.unit in hours:
            # Divided at the end: 1/730 has no end as a Decimal.
            return _divided(self.amount * rate, hours[self.unit])
        return self.amount * rate * {"hour": 1, "second": 3600, "gpu_hour": max(1, self.gpus)}[self.unit]

    @property
    def usd_per_gpu_hour(self) -> Decimal | None:
        """Price of one of its GPUs for an hour, in US$; None for a machine without one."""
        return _divided(self.usd_per_hour, self.gpus) if self.gpus else None

    def to_json(self) -> dict[str, Any]:
        """Every field, money as text so that no digit is lost; and what follows from them, for the reader."""
        record = {name: str(v) if isinstance(v, Decimal) else v for name, v in dataclasses.asdict(self).items()}
        per_gpu = None if self.usd_per_gpu_hour is None else str(self.usd_per_gpu_hour)
        views = {"id": self.id, "name": self.name, "usd_per_hour": str(self.usd_per_hour), "usd_per_gpu_hour": per_gpu}
        return views | record


@dataclass(frozen=True)
class Prices:
    """What compute and labels cost.

    Attributes:
        offer: Price of compute.
        label_usd: US$ of one labelled example.
    """

    offer: Offer
    label_usd: float = 0.0


def usd(usage: Usage, offer: Offer) -> float | None:
    """Return the direct compute cost in US$, unrounded: C = held seconds x the machine's rate, plus
    an owner's electricity.

    Held seconds are device-seconds over the number of GPUs, where the machine has some and they
    were counted; otherwise our share of its wall-clock time. Joules become dollars only on an owned
    machine whose electricity is paid by the kWh: energy_j / 3.6e6 x usd_per_kwh. Platform rounding,
    minimum times and whole instances are other views.

    Returns:
        US$; None where electricity is paid by the kWh and the energy is unknown, or where it is
        unknown how many of several GPUs were held.
    """
    if offer.gpus > 1 and usage.gpu_seconds is None:  # how many of them were held is unknown
        return None
    # A run that held no GPU of a machine with some pays for its share of the host.
    held = usage.gpu_seconds / offer.gpus if offer.gpus and usage.gpu_seconds else usage.held_seconds
    cost = held / 3600 * float(offer.usd_per_hour)
    electricity = electricity_usd(usage.energy_j, offer)
    return None if electricity is None else cost + electricity


def electricity_usd(energy_j: float | None, offer: Offer) -> float | None:
    """Return what joules cost the owner of a machine, in US$: 0 where the price includes them, None
    where they are unknown.
    """
    if offer.commitment != "owned" or offer.usd_per_kwh is None:
        return 0.0
    return None if energy_j is None else energy_j / JOULES_PER_KWH * float(offer.usd_per_kwh)


def _divided(money: Decimal, parts: int) -> Decimal:
    """The quotient to twelve digits: prices are printed, and a third of one has 28 as a Decimal."""
    with localcontext() as context:
        context.prec = 12
        return money / parts
