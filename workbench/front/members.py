"""The members of a front: the points that no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

from workbench import pareto
from workbench.front.objectives import View
from workbench.result import Result


def pareto_front(results: Sequence[Result], view: View) -> list[Result]:
    """Return the Results that no other dominates, cheapest first.

    Different runs that tie exactly are all members. Of the checkpoints of one run that tie, only the shortest is a
    member, because the others are the same run, trained for longer to no effect. What does not keep the bounds of the view
    is no member, and dominates nothing.
    """
    points = [(result, view.coordinates(result)) for result in results]
    known = [(result, point) for result, point in points if point is not None and not view.unmet(result)]
    kept = [known[i] for i in pareto.front([point for _, point in known])]
    once: dict[tuple[str, tuple[float, ...]], Result] = {}
    for result, point in sorted(kept, key=lambda pair: (pair[1][1:], pair[1][0], pair[0].epochs)):
        once.setdefault((result.run_id, point), result)
    return list(once.values())


def cheapest(results: Sequence[Result], view: View) -> Result | None:
    """Return the member of the front that costs least in US$; None if the US$ of no member are known."""
    known = [(usd, i, r) for i, r in enumerate(pareto_front(results, view)) if (usd := view.cost(r, "usd")) is not None]
    return min(known)[2] if known else None
