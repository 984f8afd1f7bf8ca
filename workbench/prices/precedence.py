"""The prices that a view is at: the flag's, else the environment's, the study's, the settings file's, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench import settings
from workbench.errors import UsageError
from workbench.prices.offers import Offer
from workbench.prices.price_book import find
from workbench.settings import States


def offer_of(platform: str | None, study: States | Mapping[str, Any]) -> Offer:
    """The offer that prices compute.

    Args:
        platform: The name that was asked for, as `find` takes it; None where none was.
        study: The study, or what its ledger noted of it.

    Raises:
        UsageError: No offer has that name; where a variable or a file says it, the message says which.
    """
    name, said = settings.origin("platform", platform, study)
    try:
        return find(name)
    except UsageError as error:
        if where := settings.place("platform", said):
            raise UsageError(f"{where}{error}") from error
        raise


def label_usd_of(label_usd: float | None, study: States | Mapping[str, Any]) -> float:
    """The price of a labelled example in US$. Raises what `settings.origin` raises.

    Args:
        label_usd: The price that was asked for; None where none was.
        study: The study, or what its ledger noted of it.
    """
    return float(settings.stated("label_usd", label_usd, study))
