"""The budgets of a sweep: what is spent of each, at what rate, and how long that can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workbench import prices
from workbench.quantities import dollars, duration, number
from workbench.result import Spending


@dataclass(frozen=True)
class BudgetUse:
    """One budget of a sweep, and what is spent of it.

    Attributes:
        name: The field of `Spending` that is bounded: `usd`, `seconds`, `energy_j` or `labels`. It names the unit too.
        spent: What is spent, in that unit; None where it is unknown.
        most: What may be spent, in that unit, > 0.
    """

    name: str
    spent: float | None
    most: float

    @property
    def share(self) -> float | None:
        """The share of the budget that is spent, from 0 to a little above 1; None where it is unknown."""
        return None if self.spent is None else self.spent / self.most

    def words(self, amount: float) -> str:
        """Write an amount in the unit of this budget: `$0.0021`, `5 min 00 s`."""
        write: Mapping[str, Callable[[float], str]] = {"usd": dollars, "seconds": duration, "energy_j": kwh}
        return write[self.name](amount) if self.name in write else f"{amount:,.0f}"

    def __str__(self) -> str:
        spent = "unknown" if self.spent is None else self.words(self.spent)
        return f"{spent} of {self.words(self.most)}{' labels' if self.name == 'labels' else ''}"


def kwh(joules: float) -> str:
    """Write joules as kilowatt-hours: `0.0012 kWh`."""
    return f"{number(joules / prices.JOULES_PER_KWH)} kWh"


def budget_uses(spent: Spending, limits: Mapping[str, float | None]) -> list[BudgetUse]:
    """Return the budgets among the limits of a sweep, with what is spent of each.

    Args:
        spent: All that the sweep has spent.
        limits: The limits by the names of the fields of `workbench.sweep.Limits`; None for no limit.
    """
    known = (
        ("max_usd", "usd", 1.0),
        ("max_hours", "seconds", 3600.0),
        ("max_energy_kwh", "energy_j", prices.JOULES_PER_KWH),
        ("max_labels", "labels", 1.0),
    )
    return [
        BudgetUse(name, getattr(spent, name), most * unit) for limit, name, unit in known if (most := limits.get(limit)) is not None
    ]


def usd_per_hour(spent: Spending, workers: int = 1) -> float | None:
    """Return the US$ that so many workers spend in an hour, at the mean rate until now; None where it is unknown."""
    return spent.usd / spent.seconds * 3600 * workers if spent.usd is not None and spent.seconds > 0 else None


def _seconds_to_bound(spent: Spending, limits: Mapping[str, float | None]) -> float | None:
    """Return the seconds of work until the first budget is spent, at the mean rate until now; None where nothing bounds it.

    A budget of labels does not count, since labels are bought at the start of a run and not as time passes.
    """
    shares = [bound.share for bound in budget_uses(spent, limits) if bound.share and bound.name != "labels"]
    fullest = max((share for share in shares if share is not None), default=0.0)
    # The bound that is fullest is met first, all of them filling at their mean rates.
    return max(0.0, spent.seconds / fullest - spent.seconds) if fullest and spent.seconds else None


def seconds_left(spent: Spending, limits: Mapping[str, float | None], done: int) -> float | None:
    """Return the seconds of work until all trials are done or a budget is spent, whichever is first; None without a bound.

    A trial to come is taken to last as long as the mean of the `done` ones.
    """
    left, trials = _seconds_to_bound(spent, limits), limits.get("trials")
    if trials and done:
        whole = max(0.0, trials - done) * spent.seconds / done
        left = whole if left is None else min(left, whole)
    return left
