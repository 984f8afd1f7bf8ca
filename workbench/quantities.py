"""Numbers and amounts as people write them, for every message that holds one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from workbench.estimate import Estimate


def dollars(value: float | None) -> str:
    """Write US$ to the cent, below a dollar to three significant digits: `$12.30`, `$0.00042`; `unknown` for None."""
    if value is None:
        return "unknown"
    if not 0 < abs(value) < 1:
        return f"${value:,.2f}"
    # At least two decimals stay: $0.10, not $0.1.
    cents, digits = f"{value:.{2 - math.floor(math.log10(abs(value)))}f}".split(".")
    return f"${cents}.{digits.rstrip('0'):0<2}"


def duration(seconds: float) -> str:
    """Write a duration: `1.2 s`, `42 s`, `3 min 20 s`, `2 h 05 min`, `1,672 h`."""
    # From 9.95 on one decimal would read `10.0 s`.
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    # Beyond a hundred hours minutes tell nothing.
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 6000 else f"{seconds / 3600:,.0f} h"


def number(value: Any) -> str:
    """Write a setting as people do: `2e-4` rather than 0.00020134, `128` rather than 128.0."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def count(value: float) -> str:
    """Write a number of things: `1,024`, `22,713,216`. What is counted is never rounded, and a part of one stays: `0.5`."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.10g}"


def many(value: float, noun: str) -> str:
    """Write a number of things with their noun: `1 label`, `1,024 labels`, `0.5 epochs`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def banded(estimate: Estimate, write: Callable[[float], str], *, basis: bool = True) -> str:
    """Write a figure with its band, where it has one, and with the basis of that unless `basis` is False.

    `$0.0021 ($0.001 to $0.0044, scaled)`; a band too narrow to be read is left out: compute of a cent beside labels of two dollars.
    """
    value, low, high = write(estimate.value), write(estimate.low), write(estimate.high)
    if estimate.low == estimate.high:
        return value
    told = [*([] if low == value == high else [f"{low} to {high}"]), *([estimate.basis] if basis else [])]
    return f"{value} ({', '.join(told)})" if told else value
