"""The search of the cost-quality front: one index over new and frozen runs.

Each decision compares, for every run that exists or could be started and each checkpoint it could be taken to, the growth of the
hypervolume that is to be expected with what it would cost: the run and the checkpoint with the most growth per unit of cost come
next. This replaces sampler and pruner: a run that is not worth its next checkpoint stays frozen until it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from workbench.search.arms import Arm, Decision
from workbench.search.features import Features, Floats
from workbench.search.improvement import Staircase, steps_of
from workbench.search.quality import Belief, Forecasts, spread
from workbench.search.surrogate import Ints
from workbench.space import Dimension

ABLATIONS = ("dollars", "freeze", "loss", "cheap-start")
"""Parts that can be left out: division by cost, stopping before the end, the loss as a second view, cheap first runs."""

STARTS = 6
"""Cold runs that are drawn by their cost alone before the model is asked."""

MOST_STARTS = 16
"""Of many workers so many make the first runs; the others wait for what they say."""

WORTH = 0.3
"""A worker waits when the best that is left promises, once what is under way is known, less than this share of the best of all."""

START_RUNG = 1
START_POWER = 1.5
MOST_NEW = 300
HORIZONS = 6
SAMPLES = 8

_NODES = np.arange(-1.5, 5.01, 0.5)
_WEIGHTS = np.diff(special.ndtr(np.r_[_NODES - 0.25, np.inf]))
"""Where a normal distribution is evaluated, and with what weights: far into the upper tail, where growth of a front lies."""

Bools = NDArray[np.bool_]

Known = Callable[[Sequence[float], Floats], Staircase]
"""Makes the front of all known points together with some of these costs and scores."""


class FrontSearch:
    """Chooses what a free worker does next. All it knows it learns from the arms it is shown.

    Args:
        dimensions: The space of the arms' settings.
        seed: Of all that is random here.
        least: Score of the reference point: what lies below it adds nothing; None takes the 5 % quantile of what was seen.
        most: Cost of the reference point: what lies beyond it adds nothing; None takes that of the dearest stop of all arms.
        ablate: Some of `ABLATIONS`, for comparisons.
        ends_only: Whether the front is of finished runs alone: a checkpoint on the way then tells, but is no point of it.
        refit_growth: See `Belief`: at 1 the same arms and seed give the same decision; above 1 it is faster over many decisions.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Dimension],
        *,
        seed: int = 0,
        least: float | None = None,
        most: float | None = None,
        ablate: Collection[str] = (),
        ends_only: bool = False,
        refit_growth: float = 1.0,
    ) -> None:
        self._ends_only = ends_only
        self._least, self._most, self._seed, self._ablate = least, most, seed, frozenset(ablate)
        self._belief = Belief(Features(dimensions), losses="loss" not in self._ablate, refit_growth=refit_growth)

    def decide(self, arms: Sequence[Arm], *, launch: float = 0.0, start_worth: float = 0.0, may_wait: bool = True) -> Decision:
        """What a free worker does next.

        Args:
            arms: All runs that exist, and those that could be started.
            launch: What a start from cold costs beside the stops' costs, in the same unit.
            start_worth: What one of the starts that are left is worth, in the same unit, where their number is bounded: a new run
                is weighed as if it cost so much more, or cheap ones would use them up. It is not spent.
            may_wait: Whether the worker may be told to wait for what others will find, though something is left that it could do:
                where that saves what it would have cost.
        """
        arms = _finite(arms)
        begun = sum(arm.done > 0 or arm.pending is not None or arm.infeasible for arm in arms)
        seen = sum(arm.done > 0 for arm in arms)
        rng = np.random.default_rng((self._seed, begun, sum(arm.done for arm in arms)))
        free = [arm for arm in arms if arm.pending is None and not arm.infeasible and arm.done < len(arm.stops)]
        busy = any(arm.pending is not None for arm in arms)
        if not free:
            return Decision("wait" if busy else "stop", reason="nothing is left to run")
        new = [arm for arm in free if not arm.done]
        if new and (begun < STARTS or seen < 2):
            if may_wait and busy and begun - seen >= MOST_STARTS:
                return Decision("wait", reason="the first runs are under way")
            return self._start(new, rng, start_worth)
        try:
            return self._best(arms, free, rng, launch, start_worth, may_wait)
        except linalg.LinAlgError:  # a search never ends for its model
            return self._start(free, rng, start_worth)

    def _start(self, free: Sequence[Arm], rng: np.random.Generator, worth: float) -> Decision:
        """One drawn with a chance that falls with its cost, to its second rung."""
        targets = [next(k for k in self._rungs(arm)[START_RUNG:] or (len(arm.stops) - 1,) if k >= arm.done) for arm in free]
        costs = np.array([arm.stops[k].cost for arm, k in zip(free, targets, strict=True)])
        weight = ((costs + worth) / (costs + worth).min()) ** -(0.0 if "cheap-start" in self._ablate else START_POWER)
        weight *= [arm.fits * arm.drawn for arm in free]
        i = int(rng.choice(len(free), p=weight / weight.sum()))
        action = "continue" if free[i].done else "start"
        return Decision(action, free[i].key, targets[i], math.nan, float(costs[i]), reason="one of the first, drawn by its cost")

    def _best(
        self, arms: Sequence[Arm], free: Sequence[Arm], rng: np.random.Generator, launch: float, start: float, may_wait: bool
    ) -> Decision:
        """The run and the checkpoint with the greatest index."""
        self._belief.learn(arms, rng)
        new = [arm for arm in free if not arm.done]
        if len(new) > MOST_NEW:
            new = [new[i] for i in rng.choice(len(new), MOST_NEW, replace=False)]
        pending = [arm for arm in arms if arm.pending is not None]
        open_ = [arm for arm in free if arm.done] + new
        candidates = open_ + [arm for arm in pending if arm.done < len(arm.stops)]
        stops = self._stops(candidates)
        costs = np.array([[arm.stops[k].cost for k in ks] for arm, ks in zip(candidates, stops, strict=True)])
        had = np.array([arm.stops[arm.done - 1].cost if arm.done and arm.cached else 0.0 for arm in candidates])
        taking_up = np.where(had == 0, launch, [arm.resume for arm in candidates])
        spend = costs - had[:, None] + taking_up[:, None]
        works = self._works(candidates, arms)[:, None]
        weighed = spend + np.array([0.0 if arm.done else start for arm in candidates])[:, None]
        weighed = np.ldexp(weighed, -np.frexp(weighed.max())[1])  # exactly: of the tiniest costs the index would overflow
        index = works / (np.ones_like(spend) if "dollars" in self._ablate else weighed)

        forecasts, known = self._belief.of(candidates, stops), self._known(arms)
        counts = self._counts(candidates, stops)
        grown = _growth(known([], np.zeros(0)), forecasts.at(_NODES), costs, counts)
        if pending:
            going = float((grown * index).max())
            grown, index = self._growth_beside(known, forecasts, costs, counts, pending, rng)[: len(open_)], index[: len(open_)]
        i, j = divmod(int((grown * index).argmax()), stops.shape[1])
        arm, stop = candidates[i], int(stops[i, j])
        if may_wait and pending and float((grown * index).max()) < WORTH * going:
            return Decision("wait", reason="what is under way will tell more than what is left would bring")
        return Decision(
            "continue" if arm.done else "start",
            arm.key,
            stop,
            gain=float(works[i, 0] * grown[i, j]),
            spend=float(spend[i, j]),
            reason="most growth per unit of cost",
        )

    def _growth_beside(
        self,
        known: Known,
        forecasts: Forecasts,
        costs: Floats,
        counts: Bools,
        pending: Sequence[Arm],
        rng: np.random.Generator,
    ) -> Floats:
        """As `_growth`, averaged over joint samples of what is under way."""
        targets = [arm.pending for arm in pending if arm.pending is not None]
        ahead = np.array(targets)[:, None]
        under_way = self._belief.of(pending, ahead)
        normals = rng.standard_normal((SAMPLES, len(pending)))
        made = [arm.stops[k].cost for arm, k in zip(pending, targets, strict=True)]
        outcomes = np.where(self._counts(pending, ahead)[:, 0], under_way.outcomes(normals), -np.inf)
        draws = zip(outcomes, forecasts.given(under_way, normals, _NODES), strict=True)
        return sum((_growth(known(made, outcome), each, costs, counts) for outcome, each in draws), np.zeros(costs.shape)) / SAMPLES

    def _known(self, arms: Sequence[Arm]) -> Known:
        """What makes the front of all known points together with some of these costs and scores."""
        cost = np.log([s.cost for arm in arms for s in arm.stops[: arm.done]])
        score = np.array([q for arm in arms for q in arm.scores])
        least = float(np.quantile(score, 0.05)) if self._least is None else self._least
        if self._ends_only:
            ends = np.array([k == len(arm.stops) - 1 for arm in arms for k in range(arm.done)])
            cost, score = cost[ends], score[ends]
        most = max(arm.stops[-1].cost for arm in arms) if self._most is None else self._most
        cost, score = steps_of(cost, score)  # the others can never be on it again

        def front(costs: Sequence[float], scores: Floats) -> Staircase:
            return Staircase(np.r_[cost, np.log(costs)], np.r_[score, scores], least=least, log_most=float(np.log(most)))

        return front

    def _counts(self, arms: Sequence[Arm], stops: Ints) -> Bools:
        """Which of some stops of arms, shape (arms, stops), would be points of the front."""
        last = np.array([len(arm.stops) - 1 for arm in arms])
        counts: Bools = (stops == last[:, None]) | (not self._ends_only)
        return counts

    def _works(self, candidates: Sequence[Arm], arms: Sequence[Arm]) -> Floats:
        """Chance that a run does not turn out infeasible, shape (candidates,): its forecast, and how like ones came out.

        A mean over the runs that were begun, weighted by likeness, with one feasible run far away as a prior.
        """
        fits = np.array([arm.fits for arm in candidates])
        failed = [arm for arm in arms if arm.infeasible]
        if not failed:
            return fits
        went = [arm for arm in arms if arm.done and not arm.infeasible]
        bad, good = self._belief.likeness(candidates, failed).sum(1), self._belief.likeness(candidates, went).sum(1)
        begun = np.array([arm.done > 0 for arm in candidates])
        return np.where(begun, 1.0, fits * (good + 1.0) / (good + bad + 1.0))

    def _stops(self, candidates: Sequence[Arm]) -> Ints:
        """Where each could be taken, shape (candidates, stops); one with fewer repeats its last, which adds nothing."""
        ahead = [[k for k in self._rungs(arm) if k >= arm.done] for arm in candidates]
        most = max(map(len, ahead))
        return np.array([ks + [ks[-1]] * (most - len(ks)) for ks in ahead])

    def _rungs(self, arm: Arm) -> tuple[int, ...]:
        """At which of its stops a run may be left."""
        return (len(arm.stops) - 1,) if "freeze" in self._ablate else spread(len(arm.stops), HORIZONS)


def _finite(arms: Sequence[Arm]) -> Sequence[Arm]:
    """The same arms; a score or a loss that is no finite number stands at the worst of all arms.

    One of them would make all that is believed no number, and the decision the first arm there is.
    """
    if all(math.isfinite(value) for arm in arms for value in (*arm.scores, *arm.losses)):
        return arms
    least = min((score for arm in arms for score in arm.scores if math.isfinite(score)), default=0.0)
    most = max((loss for arm in arms for loss in arm.losses if math.isfinite(loss)), default=0.0)
    return [
        replace(
            arm,
            scores=[score if math.isfinite(score) else least for score in arm.scores],
            losses=[loss if math.isfinite(loss) else most for loss in arm.losses],
        )
        for arm in arms
    ]


def _growth(front: Staircase, draws: Floats, costs: Floats, counts: Bools) -> Floats:
    """Expected growth of the hypervolume, shape (candidates, stops), from scores at `_NODES`, shape (nodes, candidates x stops)."""
    scores = np.where(counts, draws.reshape(-1, *costs.shape), -np.inf)
    grown: Floats = np.tensordot(_WEIGHTS, front.of_trajectories(scores, np.log(costs)), 1)
    return grown
