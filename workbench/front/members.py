"""The members of a front: the points that no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

from workbench import pareto
from workbench.front.view import View
from workbench.result import Result


def pareto_front(results: Sequence[Result], view: View) -> list[Result]:
    """The points that no other dominates, cheapest first.

    Runs that tie exactly are all members. Of the points of one run that do, the shortest is: the others are the same run, longer.
    """
    points = [(result, view.coordinates(result)) for result in results]
    known = [(result, point) for result, point in points if point is not None]
    kept = [known[i] for i in pareto.front([point for _, point in known])]
    once: dict[tuple[str, tuple[float, ...]], Result] = {}
    for result, point in sorted(kept, key=lambda pair: (pair[1][1:], pair[1][0], pair[0].epochs)):
        once.setdefault((result.run_id, point), result)
    return list(once.values())


def cheapest(results: Sequence[Result], view: View) -> Result | None:
    """The point of the front that costs least in US$; None without a point whose US$ are known."""
    known = [(usd, i, r) for i, r in enumerate(pareto_front(results, view)) if (usd := view.cost(r, "usd")) is not None]
    return min(known)[2] if known else None
