"""Facts about a platform beside its prices: how it rounds, how much its cooling takes, what else speaks for
it, and what binds a team to it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from workbench import settings


@dataclass(frozen=True)
class Platform:
    """One platform. What is not known for certain is None, or an empty text.

    Attributes:
        name: As offers spell it.
        billing_seconds: The bill rounds a machine's time up to a multiple of this.
        minimum_seconds: The least time that is billed.
        billing_source: Where that was read.
        pue: Power usage effectiveness, >= 1: energy of the data centre over energy of its computers.
        pue_source: Where that was read; it begins with `assumed` where it is a general average.
        data: The document's first other advantage, as a stated fact: how data gets there and stays.
        technical_support: The second: whom one can ask.
        business_scenes: The third: what it is used for.
        source: Where these three come from.
        egress_usd_per_gb: What a gigabyte costs that leaves the platform, in US$: by the first paid step of its list.
        interface: What is rented: a plain machine, or something that only this platform runs.
        commitment: How long one is bound at least.
        binding_source: Where these three come from, with the year.
    """

    name: str
    billing_seconds: float | None = None
    minimum_seconds: float | None = None
    billing_source: str = ""
    pue: float | None = None
    pue_source: str = ""
    data: str = ""
    technical_support: str = ""
    business_scenes: str = ""
    source: str = ""
    egress_usd_per_gb: float | None = None
    interface: str = ""
    commitment: str = ""
    binding_source: str = ""


_NUMBERS = ("billing_seconds", "minimum_seconds", "pue", "egress_usd_per_gb")


def platform(name: str) -> Platform:
    """Return the facts about a platform: the user's `[platforms.NAME]` table over the shipped row.

    An unknown platform has its name and no facts.
    """
    known = _shipped().get(name, Platform(name))
    own = settings.load().platforms.get(name, {})
    return dataclasses.replace(known, **{n: float(v) if n in _NUMBERS else str(v) for n, v in own.items()})  # type: ignore[arg-type]


@lru_cache
def _shipped() -> dict[str, Platform]:
    text = resources.files("workbench.prices").joinpath("platforms.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    for row in rows:
        row["name"] = row.pop("platform")
    return {
        row["name"]: Platform(**{n: (float(v) if v else None) if n in _NUMBERS else v for n, v in row.items()})  # type: ignore[arg-type]
        for row in rows
    }
