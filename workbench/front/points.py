"""All points of a study at one view, worked out once: sentences, tables and figures of a front are made from them.

After a confirmation the score of a point is the mean over its new seeds (`workbench.front.confirmed`). Its Result stays
as it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from workbench.front.confirmed import Confirmed, confirmations, corrected_points
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.methods.base import FITTED
from workbench.result import Result, originals


@dataclass(frozen=True)
class Points:
    """The points of a study at one view.

    Attributes:
        view: Prices and objectives.
        found: All points whose score and costs are known, as they were measured, in the order of their trials.
        candidates: The points that may be chosen, with their confirmed scores. Until some are confirmed these are all.
        best: The candidates that no other dominates, cheapest first. Whatever is best or cheapest in an objective of
            the view is among them.
        members: The same points as `best`, as they were measured.
        confirmed: What new seeds say of a point, by its recipe id.
        unknown: Number of finished points whose cost is unknown at these prices.
        unmet: Points that would be candidates if they kept the bounds of the view.
        outdated: Finished Results of other inputs, which are no points any more.
    """

    view: View
    found: Sequence[Result]
    candidates: Sequence[Result]
    best: Sequence[Result]
    members: Sequence[Result]
    confirmed: Mapping[str, Confirmed]
    unknown: int
    unmet: Sequence[Result] = ()
    outdated: Sequence[Result] = ()

    @classmethod
    def of(cls, results: Sequence[Result], view: View) -> Points:
        """Work out the points from all Results of a study."""
        found = [r for r in results if view.coordinates(r) is not None]
        finished = sum(r.status == "complete" for r in originals(results))
        known, candidates = confirmations(results, view), found
        corrected = bool(known) or any(r.replicate_of is not None for r in results)
        if corrected:
            candidates = [r for r in corrected_points(results, view) if view.coordinates(r) is not None]
        if unmet := [r for r in candidates if view.unmet(r)]:
            candidates = [r for r in candidates if not view.unmet(r)]
        best = members = pareto_front(candidates, view)
        if corrected:  # its points are copies, with other scores
            as_found = {r.recipe_id: r for r in found}
            members = [as_found[r.recipe_id] for r in best]
        outdated = [r for r in results if r.outdated and r.status == "complete" and r.replicate_of is None]
        return cls(view, found, candidates, best, members, known, finished - len(found), unmet, outdated)

    def score(self, result: Result) -> float:
        """Return the score of a point: the mean over its new seeds where it has some."""
        known = self.confirmed.get(result.recipe_id)
        return result.scores[self.view.maximize] if known is None else known.score.mean

    def by_chance(self, result: Result) -> bool:
        """Return whether a point does no better than the commonest answer, by the mean over its new seeds where it has some."""
        return self.view.by_chance(replace(result, scores={**result.scores, self.view.maximize: self.score(result)}))

    def on_front(self, result: Result) -> bool:
        """Return whether a point of `found` is a member of the front."""
        # By identity: a Result holds mappings, and has no hash.
        return id(result) in self._members

    @cached_property
    def _members(self) -> frozenset[int]:
        return frozenset(map(id, self.members))


def marginal(points: Points) -> list[float | None]:
    """Return what one more point of score costs at each member of the front, coming from the next cheaper member.

    The values are in the unit of the view's first cost, in the order of `members`. The first member has none; and no
    member has one where the view minimises several costs, since a next cheaper member is not defined there.
    """
    if len(points.view.minimize) > 1:
        return [None] * len(points.members)
    found: list[float | None] = []
    costs = [points.view.cost(r, points.view.minimize[0]) for r in points.members]
    for i, r in enumerate(points.members):
        gained = points.score(r) - points.score(points.members[i - 1]) if i else 0.0
        before, now = costs[i - 1], costs[i]
        found.append(None if gained <= 0 or before is None or now is None else (now - before) / gained)
    return found


def baselines(points: Points) -> dict[str, Result]:
    """Return the points that tuned models are compared with: the best untuned model, and the best of full tuning.

    They have the keys `untuned` and `full tuning`, as far as there are such points.
    """
    score = points.view.maximize
    kinds = {
        # A head that is fitted at once has 0 epochs too, and is made from labels all the same.
        "untuned": [r for r in points.found if r.epochs == 0 and r.recipe["method"].get("kind") not in FITTED],
        "full tuning": [r for r in points.found if _is_full(r) and r.epochs > 0],
    }
    return {name: max(group, key=lambda r: r.scores[score]) for name, group in kinds.items() if group}


def _is_full(result: Result) -> bool:
    """Return whether all weights were trained, whatever the study calls the method."""
    method = result.recipe["method"]
    # With a setting, `full(trainable_layers=k)`, only a part of the weights learns.
    return bool(method.get("kind", result.method) == "full" and not method.get("settings"))


def stopped(points: Points) -> set[str]:
    """Return the ids of the runs that have fewer epochs than the longest run of the study."""
    furthest: dict[str, float] = {}
    for r in points.found:
        furthest[r.run_id] = max(r.epochs, furthest.get(r.run_id, 0.0))
    longest = max(furthest.values(), default=0.0)
    return {run for run, epochs in furthest.items() if epochs < longest}
