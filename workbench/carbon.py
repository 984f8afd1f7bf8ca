"""CO2e as a view of energy: grid intensities with source and year, the overhead of a data centre, and what making a machine cost.

The terms are those of the Software Carbon Intensity specification (Green Software Foundation; ISO/IEC 21031:2024):
SCI = (E·I + M) per R. E is the energy of the software in kWh, here measured joules / 3.6e6 x PUE; I the location-based intensity
of the grid, g CO2e/kWh; M the embodied emissions of the hardware, shared by time; R the unit that it is given for: a run, a
training example, 1,000 predictions. `grams_per_joule` gives O = E·I; M is there only where a user states it for their own machine.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from workbench import settings
from workbench.errors import DataError, did_you_mean
from workbench.prices import JOULES_PER_KWH, Offer, platform
from workbench.usage import Usage

SECONDS_PER_YEAR = 8760 * 3600


@dataclass(frozen=True)
class Intensity:
    """Emissions of a grid.

    Attributes:
        g_co2e_per_kwh: Location-based average, grams.
        place: `aws/us-east-1`, `country/FRA`, `any/world`, or `stated`.
        year: Of the data, as its source gives it.
        source: Where it was read.
        basis: `region` of the platform, `country` it lies in, `stated` by the user, or `world_average`: nothing better is known.
    """

    g_co2e_per_kwh: float
    place: str
    year: str
    source: str
    basis: str

    @property
    def id(self) -> str:
        """Twelve hex digits that change when the figure, its place, year or source does."""
        terms = (self.place, self.g_co2e_per_kwh, self.year, self.source)
        return hashlib.sha256("|".join(map(str, terms)).encode()).hexdigest()[:12]


def intensity(offer: Offer) -> Intensity:
    """Return the intensity of the grid under an offer: of its region, else of its country.

    Where neither is known, it is the user's for an owned machine, else the world's average.

    Regions are looked up for AWS and Google Cloud, countries for marketplaces that name one. The
    user's is the `[carbon]` table of the settings: a figure, or a country's three letters, or
    `aws/us-east-1`.

    Raises:
        DataError: No intensity is known of the region in the settings.
    """
    facts = _facts()
    if (place := f"{offer.platform}/{offer.region}") in facts:
        return facts[place]
    # Marketplaces write the two letters of a country as the region; the facts use three. Any other
    # region is tried as it is.
    country = _COUNTRIES.get(place) or (_ISO3.get(offer.region, "") if len(offer.region) == 2 else offer.region)
    if (place := f"country/{country}") in facts:
        return facts[place]
    # The grid that a user states is the one at their desk: it says nothing of a rented machine.
    own = _stated() if offer.commitment == "owned" else None
    return own or facts["any/world"]


def pue(offer: Offer) -> float | None:
    """Return the power usage effectiveness under an offer, >= 1; None where it is unknown.

    It is that of the user's `[carbon]` table for an owned machine, else the platform's.
    """
    own = settings.load().carbon.get("pue") if offer.commitment == "owned" else None
    if own is not None:
        return float(own)
    known = platform(offer.platform).pue
    return 1.0 if known is None and offer.commitment == "owned" else known  # one's own machine: no data centre is known of


def grams_per_joule(offer: Offer) -> float | None:
    """Return operational grams of CO2e for each joule metered on an offer's machine, SCI's O = E·I:
    PUE x g/kWh / 3.6e6.

    Processors and GPU boards are metered. The emissions of making the machine are not included.

    Returns:
        Grams for a joule; None where the PUE is unknown.
    """
    overhead = pue(offer)
    return None if overhead is None else overhead * intensity(offer).g_co2e_per_kwh / JOULES_PER_KWH


def embodied_grams_co2e(usage: Usage, offer: Offer) -> float | None:
    """Return SCI's M for one's own machine: stated embodied kg x 1000 x held seconds /
    (lifetime_years x 8760 h).

    Args:
        usage: What was consumed; only its held seconds count.
        offer: The machine.

    Returns:
        Grams; None for a rented machine, and where `[carbon]` states no `embodied_kg_co2e`.
    """
    carbon = settings.load().carbon
    if offer.commitment != "owned" or "embodied_kg_co2e" not in carbon:
        return None
    # TS x RS of the specification at once: held seconds are the time, times our share of the host.
    share = usage.held_seconds / (float(carbon["lifetime_years"]) * SECONDS_PER_YEAR)
    return float(carbon["embodied_kg_co2e"]) * 1000 * share


def _stated() -> Intensity | None:
    chosen = settings.load()
    if "g_co2e_per_kwh" in chosen.carbon:
        figure, source = float(chosen.carbon["g_co2e_per_kwh"]), chosen.carbon["source"]
        return Intensity(figure, "stated", chosen.carbon.get("date", ""), source, "stated")
    if "region" not in chosen.carbon:
        return None
    region, facts = chosen.carbon["region"], _facts()
    for place in (region, f"country/{region}", f"country/{_ISO3.get(region, '')}"):
        if place in facts:
            return facts[place]
    known = {place.removeprefix("country/") for place in facts}
    raise DataError(f"{chosen.path}, [carbon]: no intensity is known of region {region!r}.{did_you_mean(region, known)}")


@lru_cache
def _facts() -> dict[str, Intensity]:
    """The shipped facts by place. Where the file has two rows of a place, the first one stands."""
    facts: dict[str, Intensity] = {}
    text = resources.files("workbench").joinpath("carbon.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(io.StringIO(text)):
        basis = {"country": "country", "any": "world_average"}.get(row["platform"], "region")
        place = f"{row['platform']}/{row['region']}"
        # The world has two averages; the file lists the later year first.
        facts.setdefault(place, Intensity(float(row["g_co2e_per_kwh"]), place, row["year"], row["source"], basis))
    return facts


_COUNTRIES = {
    "azure/eastus": "USA",
    "azure/westus2": "USA",
    "azure/southeastasia": "SGP",
    "nebius/eu-north1": "FIN",
    "nebius/us-central1": "USA",
}
"""Countries of regions in the price book that no intensity names, as the platforms call them; from general knowledge (2025)."""

_TWO_LETTERS = """
AE=ARE AU=AUS BR=BRA CA=CAN CH=CHE CN=CHN CZ=CZE DE=DEU ES=ESP FI=FIN FR=FRA GB=GBR HK=HKG IE=IRL IL=ISR IN=IND IS=ISL
IT=ITA JP=JPN KR=KOR NL=NLD NO=NOR PL=POL RO=ROU SE=SWE SG=SGP TW=TWN US=USA VN=VNM ZA=ZAF
"""
_ISO3 = dict(pair.split("=") for pair in _TWO_LETTERS.split())
"""ISO 3166-1: two letters, as marketplaces write them, to three, as the facts do."""
