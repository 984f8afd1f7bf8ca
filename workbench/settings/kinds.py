"""What each setting must be, in words and as a check: `OPTIONS` by name, and the keys of each table of a settings file."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a value must be: in words, and as a check."""

    words: str
    fits: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number as a settings file has them: `int` or `Decimal`."""
    # True is an int to Python; TOML knows inf and nan, and 1e400 is inf as a float: no amount is.
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return number and not Decimal(value).is_nan() and abs(value) <= sys.float_info.max


TEXT = Kind("a text", lambda v: isinstance(v, str) and bool(v.strip()))
_DATE = Kind("a date", lambda v: isinstance(v, datetime.date) or (isinstance(v, str) and bool(v.strip())))
_POSITIVE = Kind("a number above 0", lambda v: is_number(v) and v > 0)
_AMOUNT = Kind("a number, 0 or more", lambda v: is_number(v) and v >= 0)
_COUNT = Kind("a whole number, 0 or more", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0)
_WHOLE = Kind("a whole number above 0", lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0)
_PART = Kind("a share above 0, below 1", lambda v: is_number(v) and 0 < v < 1)
_SHARE = Kind("a share above 0, at most 1", lambda v: is_number(v) and 0 < v <= 1)
_RATIO = Kind("a number, 1 or more", lambda v: is_number(v) and v >= 1)


def _one_of(*words: str) -> Kind:
    return Kind(f"one of {', '.join(words)}", lambda v: v in words)


COMMITMENTS = ("on_demand", "spot", "reserved", "owned")
"""How a machine is held: by the hour, until somebody outbids, for a term, for good."""

UNITS = ("hour", "second", "day", "month", "gpu_hour")
"""What an amount is paid for: the whole machine for a time (a month is 730 hours), or each of its GPUs for an hour."""

MACHINE = {
    "platform": TEXT,
    "instance": TEXT,
    "gpu": TEXT,
    "gpus": _COUNT,
    "gpu_memory_gb": _POSITIVE,
    "vcpus": _POSITIVE,
    "memory_gib": _POSITIVE,
    "region": TEXT,
    "source": TEXT,
    "date": _DATE,
    "confidence": TEXT,
    "note": TEXT,
}
OFFER = MACHINE | {
    "commitment": _one_of(*COMMITMENTS),
    "amount": _POSITIVE,
    "currency": TEXT,
    "unit": _one_of(*UNITS),
    "billing_seconds": _POSITIVE,
    "minimum_seconds": _AMOUNT,
    "usd_per_kwh": _AMOUNT,
}
OWNED = MACHINE | {
    "purchase_usd": _AMOUNT,
    "lifetime_years": _POSITIVE,
    "utilisation": _SHARE,
    "electricity_usd_per_kwh": _AMOUNT,
    "power_w": _POSITIVE,
}
CURRENCY = {"usd": _POSITIVE, "source": TEXT, "date": _DATE}
CARBON = {
    "region": TEXT,
    "g_co2e_per_kwh": _AMOUNT,
    "pue": _RATIO,
    "embodied_kg_co2e": _AMOUNT,
    "lifetime_years": _POSITIVE,
    "source": TEXT,
    "date": _DATE,
}
PLATFORM = {
    "billing_seconds": _POSITIVE,
    "minimum_seconds": _AMOUNT,
    "pue": _RATIO,
    "egress_usd_per_gb": _AMOUNT,
    **dict.fromkeys(("billing_source", "pue_source", "data", "technical_support", "business_scenes", "source"), TEXT),
    **dict.fromkeys(("interface", "commitment", "binding_source"), TEXT),
}
AUTO = "auto"
"""The value of `workers` and `devices` that leaves their number to the workbench."""

NUMBER = Kind(f"{_WHOLE.words}, or {AUTO!r}", lambda v: v == AUTO or _WHOLE.fits(v))
OPTIONS = {
    "storage": TEXT,
    "tracking_uri": TEXT,
    "states": TEXT,
    "platform": TEXT,
    "label_usd": _AMOUNT,
    "trials": _WHOLE,
    "max_usd": _POSITIVE,
    "max_hours": _POSITIVE,
    "max_energy_kwh": _POSITIVE,
    "max_labels": _WHOLE,
    "confirm_share": _PART,
    "confirm_seeds": _WHOLE,
    "stop_below": _POSITIVE,
    "workers": NUMBER,
    "devices": NUMBER,
    "sampler": TEXT,
    "seed": _COUNT,
    "log_samples": _COUNT,
}
"""Options of the command line that a settings file may set, each by its own name, and what each must be."""
