"""How an amount is split among those who held the thing together, so that the parts are exactly the whole.

Amounts are integers (microjoules, nanoseconds, bytes): floating-point parts would not sum to their whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

METHODS = ("process_utilisation", "work", "equal")
"""Ways to split what was used, best first."""


def apportion(amount: int, weights: Sequence[float | Fraction]) -> list[int]:
    """Whole parts of `amount` by weight: they sum to it exactly, and each is within 1 of its quota.

    Largest remainder (Hamilton's method): every quota is rounded down, and what is left goes one by one to the
    largest fractions, ties to the earlier. Weights that are all 0 count as equal.

    Args:
        amount: What to split, >= 0.
        weights: At least one, each finite and >= 0.
    """
    if len(weights) == 1:
        return [amount]
    # Fractions: floating-point quotas round, and which part gets the last nanosecond would depend on how.
    exact = [Fraction(weight) for weight in weights]
    whole = sum(exact)
    if not whole:
        exact, whole = [Fraction(1)] * len(exact), Fraction(len(exact))
    quotas = [amount * weight / whole for weight in exact]
    parts = [quota.numerator // quota.denominator for quota in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - quotas[i])
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def split(amount: int, idle: int, weights: Sequence[float | Fraction]) -> list[int]:
    """Parts of `amount`, of which `idle` (at most all) is shared equally and the rest by weight; they sum to it exactly."""
    # The idle power is a minimum seen earlier: an interval may have drawn less than it says.
    idle = min(max(idle, 0), amount)
    equal = apportion(idle, [1] * len(weights))
    return [a + b for a, b in zip(equal, apportion(amount - idle, weights), strict=True)]


class Party(NamedTuple):
    """A tenant or a stranger on a GPU that several use.

    Attributes:
        group: Whom NVML sees: parties in one process cannot be told apart by it and have the same group.
        work: Work that it reported in the interval; None for a stranger, who reports none.
    """

    group: Hashable
    work: float | None = None


def weigh(parties: Sequence[Party], busy: Mapping[Any, float] | None) -> tuple[list[Fraction], tuple[str, ...]]:
    """Weights of the parties for what depends on use, and the ways they were got, out of `METHODS`.

    Between groups utilisation decides where it is known and not 0; within a group, and between groups that it
    does not tell apart, work reported; where nobody reported any, or a stranger is among them, all are equal.

    Args:
        parties: At least one.
        busy: Utilisation by group, any unit; None where it is unknown.
    """
    if len(parties) == 1:
        return [Fraction(1)], ()
    groups = {party.group for party in parties}
    if len(groups) > 1 and busy and any(busy.get(group, 0) > 0 for group in groups):
        weights, ways = [Fraction(0)] * len(parties), {"process_utilisation"}
        for group in groups:
            members = [i for i, party in enumerate(parties) if party.group == group]
            inner, within = _by_work([parties[i].work for i in members])
            for i, weight in zip(members, inner, strict=True):
                weights[i] = Fraction(busy.get(group, 0)) * weight
            ways |= set(within)
    else:
        weights, within = _by_work([party.work for party in parties])
        ways = set(within)
    return weights, tuple(method for method in METHODS if method in ways)


def _by_work(work: Sequence[float | None]) -> tuple[list[Fraction], tuple[str, ...]]:
    """Shares, which sum to 1, by work reported, else equal."""
    reported = [Fraction(amount) for amount in work if amount is not None]
    whole = sum(reported)
    if len(work) == 1:
        return [Fraction(1)], ()
    if len(reported) == len(work) and whole:
        return [amount / whole for amount in reported], ("work",)
    return [Fraction(1, len(work))] * len(work), ("equal",)
