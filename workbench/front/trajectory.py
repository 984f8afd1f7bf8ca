"""The trajectory of a sweep: the hypervolume of its front, and what was spent, after each Result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench import pareto
from workbench.front.hypervolume import hypervolume
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.result import Labels, Result, spent_usd


@dataclass(frozen=True)
class Stage:
    """The state of a sweep after one more Result was recorded.

    Attributes:
        result: That Result.
        usd: US$ spent until then on compute and labels. None from the first Result on whose spend is unknown.
        seconds: Seconds of work until then.
        hypervolume: Hypervolume of the front until then, in score x decades of cost.
    """

    result: Result
    usd: float | None
    seconds: float
    hypervolume: float


def trajectory(results: Sequence[Result], view: View) -> list[Stage]:
    """Return the stages of a sweep, in the order in which its Results were recorded.

    Confirmations add to the spend only. The hypervolume is computed again only where a Result joins the front.

    Raises:
        KeyError: The view's objectives have no reference point.
    """
    usd: float | None = 0.0
    seconds = volume = 0.0
    members: list[Result] = []
    bought = Labels()
    found = []
    for r in sorted((r for r in results if r.status != "running"), key=lambda r: (r.finished, r.number or 0)):
        # At a label price of 0: summed one by one, each Result would buy its labels again.
        compute = spent_usd([r], view.offer, 0.0)
        labels = _new_labels(r, bought)
        usd = None if usd is None or compute is None else usd + compute + labels * view.label_usd
        seconds += r.consumed.seconds
        point = view.coordinates(r)
        # Only a new member changes the volume, and the volume is what takes time.
        if point is not None and not any(pareto.dominates(view.coordinates(m) or (), point) for m in members):
            members = pareto_front([*members, r], view)
            volume = hypervolume(members, view)
        found.append(Stage(r, usd, seconds, volume))
    return found


def _new_labels(r: Result, bought: Labels) -> int:
    """Return how many labels a Result bought that were not bought before; 0 where an older form of the study paid for it."""
    before = sum(bought.bought.values())
    bought.add(r)
    return 0 if r.taken_over else sum(bought.bought.values()) - before
