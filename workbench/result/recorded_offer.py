"""An offer as a Result keeps it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from workbench.prices import Offer


def offer_record(offer: Offer) -> dict[str, Any]:
    """What a Result keeps of the offer at which it was paid, as plain data."""
    return {
        "id": offer.id,
        "name": offer.name,
        "platform": offer.platform,
        "instance": offer.instance,
        "gpus": offer.gpus,
        # As text: a float would lose digits of the price, and the bill would change with them.
        "usd_per_hour": str(offer.usd_per_hour),
        "usd_per_kwh": None if offer.usd_per_kwh is None else str(offer.usd_per_kwh),
        "date": offer.date,
    }


def recorded_offer(record: Mapping[str, Any]) -> Offer | None:
    """The offer of an `offer_record`, as far as its price goes; None where no price was recorded.

    What a bill does not depend on (GPU, region, term) is not kept, and empty here.
    """
    if "usd_per_hour" not in record:
        return None
    per_kwh = record.get("usd_per_kwh")
    return Offer(
        platform=str(record.get("platform", "")),
        instance=str(record.get("instance", "")),
        gpu="",
        gpus=int(record.get("gpus", 0)),
        region="",
        # Only who owns a machine pays its electricity apart.
        commitment="owned" if per_kwh is not None else "on_demand",
        amount=Decimal(str(record["usd_per_hour"])),
        source="recorded",
        date=str(record.get("date", "")),
        usd_per_kwh=None if per_kwh is None else Decimal(str(per_kwh)),
    )
