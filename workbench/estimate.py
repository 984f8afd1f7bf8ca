"""A number with its band and its basis: what a forecast or a re-priced cost says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BASES = ("measured", "contended", "calibrated", "scaled", "formula")
"""From the surest to the least sure: measured as it stands; measured beside other programs, less what those caused by estimate;
from a short timing on this machine; a measurement carried over to another device by stated ratios; from a formula and assumed
constants alone."""


def least_sure(*bases: str) -> str:
    """The last of some of `BASES`: a figure is no surer than what it rests on."""
    return max(bases, key=BASES.index)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that may be off.

    Attributes:
        value: The best guess.
        low: Lower end of the band, <= value: about nine in ten outcomes are meant to lie inside.
        high: Upper end, >= value.
        basis: One of `BASES`: where it comes from.
        note: What a reader should know, e.g. from how many runs.
    """

    value: float
    low: float
    high: float
    basis: str
    note: str = ""

    @classmethod
    def exact(cls, value: float, basis: str = "measured") -> Estimate:
        """Make an estimate whose band has no width: low = value = high."""
        return cls(value, value, value, basis)

    @classmethod
    def within(cls, value: float, factor: float, basis: str, note: str = "") -> Estimate:
        """Make a band from `value / factor` to `value x factor`, with factor >= 1: errors of a
        product of guesses are ratios.
        """
        return cls(value, value / factor, value * factor, basis, note)

    @classmethod
    def of_ends(cls, ends: Iterable[float | None], basis: str, note: str = "") -> Estimate | None:
        """Make an estimate of its value, low and high, in this order; None where one of them is unknown."""
        value, low, high = ends
        return None if value is None or low is None or high is None else cls(value, low, high, basis, note)

    def __mul__(self, number: float) -> Estimate:
        """Scaled by a known number >= 0."""
        return Estimate(self.value * number, self.low * number, self.high * number, self.basis, self.note)

    __rmul__ = __mul__

    def __add__(self, other: Estimate) -> Estimate:
        """Sum; bands add (errors of one machine go the same way), the basis is the less sure one."""
        worse = least_sure(self.basis, other.basis)
        note = "; ".join(dict.fromkeys(n for n in (self.note, other.note) if n))
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high, worse, note)

    @property
    def error(self) -> float:
        """Half the band relative to the value, e.g. 0.4 for ±40 %; 0 for an exact number."""
        return (self.high - self.low) / 2 / self.value if self.value else 0.0


def total(parts: Iterable[Estimate | None]) -> Estimate | None:
    """Add estimates up. The sum is unknown (None) as soon as one of them is, and where there are
    none.
    """
    result: Estimate | None = None
    for i, part in enumerate(parts):
        if part is None:
            return None
        result = part if i == 0 or result is None else result + part
    return result
