"""What new seeds say of a front: means without the winner's curse, 95 % intervals, ties, and the front as it stands then.

A front holds the best of many noisy scores, so the scores of its members are too high on average: the winner's curse (Capen,
Clapp & Campbell 1971, J. Petroleum Technology 23:641; for choosing models, Cawley & Talbot 2010, JMLR 11:2079). So:

- A confirmed point's score is the mean over its **new seeds alone**. The seed it was picked by is left out: it is the lucky one.
- Its interval is Student's, of 95 %, over seeds. Three seeds alone give absurd ones (on two degrees of freedom t is 4.3), so the
  variance is **pooled** over all confirmed points: the within-groups mean square of a one-way analysis of variance. That takes
  the scatter to be alike for all; where a test tells that it is not, and from `OWN_VARIANCE_SEEDS` seeds on, a point's own
  variance is used. Where the score itself ends, at 0 and 100, its interval does.
- Checkpoints of one run share their seeds and are not independent: degrees of freedom are counted **once a run**, too few rather
  than too many.
- The interval covers how the score varies with the seed of training, on the same examples to train and grade by. It does not
  cover which examples happened to be in these sets. What no seed changes (a model that was only asked, a head that is fitted at
  once, any point with the same score, on the dev set and on the test split, by every new seed) has nothing of that kind, and none
  of the others' variance: its score on the test split has the interval of a share of so many examples instead.
- Members that do no better than the commonest answer given to everything are not confirmed where others do: new seeds of a guess
  tell nothing.
- Two points are **tied** when a t-test of their difference does not tell them apart at 5 %, corrected by Holm's step-down method
  (Holm 1979, Scand. J. Statistics 6:65) over the comparisons that are made: each point with the next dearer one, and with the
  best. A tie is no proof of being equal: more seeds may break it.

Who picks the highest of the confirmed means picks by luck again, though by far less. The scores on the test split were no part of
any choice until somebody makes one by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from workbench.front.intervals import Interval, estimates, share, ties
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.result import Result, current


@dataclass(frozen=True)
class Confirmed:
    """What new seeds, and the held-out test split, say of a point.

    Attributes:
        point: The point, as the sweep measured it.
        seeds: Number of new seeds that were trained to the point's end. It is 0 for a model that was only asked: no
            seed changes its score.
        failed: Number of new seeds that ran out of memory or diverged before the end. They are in no mean, so a mean
            flatters a point that has some.
        score: The study's score on the dev set: mean over the new seeds, with its interval.
        test: The same on the held-out test split; None where that was not graded. Where no seed changes it, its interval is over
            the examples.
        test_original: Score on the test split of the weights that the sweep kept; None where they were not graded.
        usd: Mean cost of making the replicates from cold, in US$ at the view's prices; None where it is unknown.
        tied_with: Recipe ids of the points that it is tied with; None where the variance over seeds is unknown.
        examples: Number of test examples that the interval of `test` is over; 0 where it is over seeds, or there is none.
        fixed: Whether no seed changes it: it was only asked, or has the same score by every new seed.
    """

    point: Result
    seeds: int
    failed: int
    score: Interval
    test: Interval | None
    test_original: float | None
    usd: float | None
    tied_with: tuple[str, ...] | None
    examples: int = 0
    fixed: bool = False


def worth_confirming(results: Sequence[Result], view: View) -> list[Result]:
    """Return the members of the front as the sweep found it, cheapest first, without those that do no better than the commonest
    answer given to everything. These too where there are no others.
    """
    members = pareto_front(results, view)
    return [r for r in members if not view.by_chance(r)] or members


def confirmations(results: Sequence[Result], view: View) -> dict[str, Confirmed]:
    """Return what new seeds say of the points that have some, by recipe id, cheapest first.

    A model that was only asked is confirmed by its grade on the test split.
    """
    if all(r.replicate_of is None for r in results):  # the common case, many times a second
        return {}
    points = {r.recipe_id: r for r in results if view.coordinates(r) is not None}
    groups: dict[str, dict[int, Result]] = {}
    for r in results:
        if r.replicate_of in points and r.status == "complete" and view.maximize in r.scores:
            groups.setdefault(str(r.replicate_of), {})[r.seed] = r
    # Cheapest first: ties are between neighbours in cost.
    order = sorted(groups, key=lambda name: ((view.coordinates(points[name]) or ())[1:], name))
    runs = [points[name].run_id for name in order]
    scores = [[r.scores[view.maximize] for r in groups[name].values()] for name in order]
    tests = [_tests(groups[name], view) for name in order]
    # Equal on one small set they may be by chance; hardly on two.
    fixed = [
        len(values) > 1 and len(set(values)) == 1 and len(set(tested)) < 2 for values, tested in zip(scores, tests, strict=True)
    ]
    intervals, test_intervals = (estimates(values, runs, fixed) for values in (scores, tests))
    tied = ties(scores, runs, fixed)
    held_out = int(view.grading.get("test_examples") or 0)
    graded = {
        name: by_score[view.maximize] for r in results for name, by_score in r.test_scores.items() if view.maximize in by_score
    }
    failures = _failures(results, points)
    found = {}
    for i, name in enumerate(order):
        score, test = intervals[i] or Interval(math.nan), test_intervals[i]
        over = held_out if fixed[i] and test is not None else 0
        usd = [view.cost(r, "usd") for r in groups[name].values()]
        found[name] = Confirmed(
            point=points[name],
            seeds=len(scores[i]),
            # A seed that ran out of memory later on may still have passed this checkpoint.
            failed=len(failures.get(runs[i], set()) - groups[name].keys()),
            score=score.within(view.score_range),
            test=share(test.mean, over) if over and test is not None else test and test.within(view.score_range),
            test_original=graded.get(name),
            usd=None if None in usd else fmean(u for u in usd if u is not None),
            tied_with=None if tied is None else tuple(order[k] for k in sorted(tied[i])),
            examples=over,
            fixed=fixed[i],
        )
    for name in graded.keys() - found.keys() & points.keys():
        # A model that is only asked has no seed: its score stands as measured.
        if points[name].epochs == 0:
            score = Interval(points[name].scores[view.maximize])
            test = share(graded[name], held_out) if held_out else Interval(graded[name])
            cost = view.cost(points[name], "usd")
            found[name] = Confirmed(points[name], 0, 0, score, test, graded[name], cost, (), held_out, fixed=True)
    return found


def corrected_points(results: Sequence[Result], view: View) -> list[Result]:
    """Return the points that a front may hold after a confirmation, each with the mean score of its new seeds.

    These are the confirmed points, and the members of the sweep's front that are not confirmed yet. Other points are
    left out, because next to corrected scores an uncorrected one would win by its luck. Points that no new seed could
    be trained to are left out too. Without a confirmation all Results are returned as they are, except those whose
    inputs have changed.
    """
    known, lost = confirmations(results, view), unrepeatable(results, view)
    if not known and not lost:
        return current(results)
    # An uncorrected point beside corrected scores would win by its luck.
    candidates = {r.recipe_id: r for r in pareto_front(results, view) if r.recipe_id not in lost}
    candidates |= {name: each.point for name, each in known.items()}
    scores = {name: {**r.scores, view.maximize: known[name].score.mean} for name, r in candidates.items() if name in known}
    return [replace(r, scores=scores.get(name, r.scores)) for name, r in candidates.items()]


def unrepeatable(results: Sequence[Result], view: View) -> set[str]:
    """Return the recipe ids of the points that could not be made again, because each new seed ran out of memory or diverged."""
    if all(r.replicate_of is None for r in results):
        return set()
    points = {r.recipe_id: r for r in results if view.coordinates(r) is not None}
    failed, known = _failures(results, points), confirmations(results, view)
    return {name for name, r in points.items() if r.run_id in failed and name not in known}


def confirmed_front(results: Sequence[Result], view: View) -> list[Result]:
    """Return the members of the front, cheapest first: by confirmed scores as soon as some points are confirmed.

    The Results are as they were measured; `confirmations` tells their confirmed scores.
    """
    if not confirmations(results, view) and not unrepeatable(results, view):
        return pareto_front(results, view)
    found = {r.recipe_id: r for r in results if view.coordinates(r) is not None}
    return [found[r.recipe_id] for r in pareto_front(corrected_points(results, view), view)]


def _tests(group: Mapping[int, Result], view: View) -> list[float]:
    """Return the scores of a point's replicates on the test split; none unless all were graded, as a mean over some differs."""
    found = [r.test_scores.get(r.recipe_id, {}).get(view.maximize) for r in group.values()]
    return [] if None in found else [score for score in found if score is not None]


def _failures(results: Sequence[Result], points: Mapping[str, Result]) -> dict[str, set[int]]:
    """Return the new seeds with which a run was infeasible, by the id of the run that the sweep made."""
    found: dict[str, set[int]] = {}
    for r in results:
        if r.replicate_of in points and r.status == "infeasible":
            found.setdefault(points[str(r.replicate_of)].run_id, set()).add(r.seed)
    return found
