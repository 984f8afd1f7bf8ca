"""The search of the cost-quality front: one index over new and frozen runs.

Each decision compares, for every run that exists or could be started and each checkpoint it could be taken to, the growth of the
hypervolume that is to be expected with what it would cost: the run and the checkpoint with the most growth per unit of cost come
next. This replaces sampler and pruner: a run that is not worth its next checkpoint stays frozen until it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from workbench.search.arms import Arm, Decision
from workbench.search.features import Features, Floats
from workbench.search.improvement import Staircase, steps_of
from workbench.search.quality import Belief, ScoreForecasts, spread
from workbench.search.surrogate import Ints
from workbench.space import Dimension

ABLATIONS = ("dollars", "freeze", "loss", "cheap-start")
"""Parts that can be left out: division by cost, stopping before the end, the loss as a second view, cheap first runs."""

FIRST_RUNS = 6
"""Cold runs that are drawn by their cost alone before the model is asked."""

MOST_FIRST_RUNS = 16
"""How many of many workers make the first runs; the others wait for what these show."""

WORTH = 0.3
"""A worker waits when the best that is left promises, once what is under way is known, less than this share of the best of all."""

FIRST_RUNG = 1
"""The rung, by index, to which the first runs are taken."""

START_POWER = 1.5
"""The first runs are drawn with a chance in proportion to their cost to the power of minus this."""

MOST_NEW = 300
"""New arms that a decision looks at."""

HORIZONS = 6
"""Milestones of a run that a decision looks at, spread evenly in the logarithm of their number."""

SAMPLES = 8
"""Joint samples of what is under way, over which growth is averaged."""

_NODES = np.arange(-1.5, 5.01, 0.5)
_WEIGHTS = np.diff(special.ndtr(np.r_[_NODES - 0.25, np.inf]))
"""Where a normal distribution is evaluated, and with what weights: far into the upper tail, where growth of a front lies."""

Bools = NDArray[np.bool_]

Known = Callable[[Sequence[float], Floats], Staircase]
"""Makes the front of all known points together with some of these costs and scores."""


@dataclass(frozen=True)
class Reference:
    """The point from which the hypervolume of the front is measured.

    Attributes:
        score: A score below which nothing adds to it; None takes the 5 % quantile of the scores that were seen.
        cost: A cost beyond which nothing adds to it; None takes that of the dearest milestone of all arms.
    """

    score: float | None = None
    cost: float | None = None


class FrontSearch:
    """Chooses what a free worker does next. All it knows it learns from the arms it is shown.

    Args:
        dimensions: The space of the arms' settings.
        seed: Seed of all that is random here.
        reference: The point from which the hypervolume is measured; None leaves it to the search.
        ablate: Some of `ABLATIONS`, for comparisons.
        ends_only: Whether the front is of finished runs alone: a checkpoint on the way then informs, but is no point of it.
        refit_growth: See `Belief`: at 1 the same arms and seed give the same decision; above 1 it is faster over many decisions.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Dimension],
        *,
        seed: int = 0,
        reference: Reference | None = None,
        ablate: Collection[str] = (),
        ends_only: bool = False,
        refit_growth: float = 1.0,
    ) -> None:
        self._ends_only = ends_only
        self._reference, self._seed, self._ablate = reference or Reference(), seed, frozenset(ablate)
        self._belief = Belief(Features(dimensions), losses="loss" not in self._ablate, refit_growth=refit_growth)

    def decide(
        self, arms: Sequence[Arm], *, cold_start_cost: float = 0.0, start_worth: float = 0.0, may_wait: bool = True
    ) -> Decision:
        """What a free worker does next.

        Args:
            arms: All runs that exist, and those that could be started.
            cold_start_cost: What a start from cold costs beside the milestones' costs, in the same unit.
            start_worth: What one of the starts that are left is worth, in the same unit, where their number is bounded: a new run
                is weighed as if it cost so much more, or cheap ones would use them up. It is not spent.
            may_wait: Whether the worker may be told to wait for what others will find, though something is left that it could do:
                where that saves what it would have cost.
        """
        arms = _finite(arms)
        # An arm that is infeasible or pending has begun: else a space whose first runs all run out of memory
        # would stay in its first draws for ever.
        begun = sum(arm.done > 0 or arm.pending is not None or arm.infeasible for arm in arms)
        seen = sum(arm.done > 0 for arm in arms)
        # The generator depends on the history alone, so that a restarted sweep decides as it would have decided.
        rng = np.random.default_rng((self._seed, begun, sum(arm.done for arm in arms)))
        free = [arm for arm in arms if arm.pending is None and not arm.infeasible and arm.done < len(arm.milestones)]
        busy = any(arm.pending is not None for arm in arms)
        if not free:
            return Decision("wait" if busy else "stop", reason="nothing is left to run")
        # Before two scores are known the model has nothing to fit: the first runs are drawn, cheap ones more often.
        new = [arm for arm in free if not arm.done]
        if new and (begun < FIRST_RUNS or seen < 2):
            # Many workers at once would otherwise spend on draws what the first scores could have saved.
            if may_wait and busy and begun - seen >= MOST_FIRST_RUNS:
                return Decision("wait", reason="the first runs are under way")
            return self._start(new, rng, start_worth)
        try:
            return self._best(arms, free, rng, cold_start_cost, start_worth, may_wait)
        except linalg.LinAlgError:  # a sweep that was paid for does not end because its model cannot be made
            return self._start(free, rng, start_worth)

    def _start(self, free: Sequence[Arm], rng: np.random.Generator, worth: float) -> Decision:
        """An arm drawn with a chance that falls with its cost, taken to its second rung."""
        targets = [next(k for k in self._rungs(arm)[FIRST_RUNG:] or (len(arm.milestones) - 1,) if k >= arm.done) for arm in free]
        costs = np.array([arm.milestones[k].cost for arm, k in zip(free, targets, strict=True)])
        weight = ((costs + worth) / (costs + worth).min()) ** -(0.0 if "cheap-start" in self._ablate else START_POWER)
        # A method without settings stands here once, beside hundreds of another's learning rates: weighted by how often
        # it was drawn it comes as often as the space has it. Before, `zero_shot` came last of 150.
        weight *= [arm.fits * arm.drawn for arm in free]
        i = int(rng.choice(len(free), p=weight / weight.sum()))
        action = "continue" if free[i].done else "start"
        return Decision(action, free[i].key, targets[i], math.nan, float(costs[i]), reason="one of the first, drawn by its cost")

    def _best(
        self,
        arms: Sequence[Arm],
        free: Sequence[Arm],
        rng: np.random.Generator,
        cold_start_cost: float,
        worth: float,
        may_wait: bool,
    ) -> Decision:
        """The run and the checkpoint with the greatest index."""
        # The belief is of all arms, infeasible and pending ones too: what they showed before still counts.
        self._belief.learn(arms, rng)
        new = [arm for arm in free if not arm.done]
        if len(new) > MOST_NEW:
            new = [new[i] for i in rng.choice(len(new), MOST_NEW, replace=False)]
        pending = [arm for arm in arms if arm.pending is not None]
        open_ = [arm for arm in free if arm.done] + new
        candidates = open_ + [arm for arm in pending if arm.done < len(arm.milestones)]
        milestones = self._milestones(candidates)
        # A point of the front costs what its run costs from cold, whatever of it was paid before: fronts use the first, the
        # index below divides by what is still to be paid.
        costs = np.array([[arm.milestones[k].cost for k in ks] for arm, ks in zip(candidates, milestones, strict=True)])
        # What a cached state has paid for is not paid again; without it a run starts from nothing, which is why a frozen
        # run whose state was dropped competes with new ones at its full price.
        had = np.array([arm.milestones[arm.done - 1].cost if arm.done and arm.cached else 0.0 for arm in candidates])
        taking_up = np.where(had == 0, cold_start_cost, [arm.resume for arm in candidates])
        spend = costs - had[:, None] + taking_up[:, None]
        # A run that may turn out infeasible is worth its gain times the chance that it does not, at its full cost.
        works = self._works(candidates, arms)[:, None]
        weighed = spend + np.array([0.0 if arm.done else worth for arm in candidates])[:, None]
        # Scaled by a power of two, which rounds nothing: of the tiniest costs the index would overflow.
        weighed = np.ldexp(weighed, -np.frexp(weighed.max())[1])
        index = works / (np.ones_like(spend) if "dollars" in self._ablate else weighed)

        forecasts, front_of = self._belief.of(candidates, milestones), self._known(arms)
        counts = self._counts(candidates, milestones)
        grown = _growth(front_of([], np.zeros(0)), forecasts.at(_NODES), costs, counts)
        # Runs under way are candidates for the comparison alone: their growth is what a waiting worker waits for.
        if pending:
            going = float((grown * index).max())
            grown, index = self._growth_beside(front_of, forecasts, costs, counts, pending, rng)[: len(open_)], index[: len(open_)]
        i, j = divmod(int((grown * index).argmax()), milestones.shape[1])
        arm = candidates[i]
        # Only workers with a GPU each may wait: on a shared machine a waiting worker's neighbours were charged for its
        # time, and points made then were up to twice as dear.
        if may_wait and pending and float((grown * index).max()) < WORTH * going:
            return Decision("wait", reason="what is under way will tell more than what is left would bring")
        return Decision(
            "continue" if arm.done else "start",
            arm.key,
            int(milestones[i, j]),
            gain=float(works[i, 0] * grown[i, j]),
            spend=float(spend[i, j]),
            reason="most growth per unit of cost",
        )

    def _growth_beside(
        self,
        front_of: Known,
        forecasts: ScoreForecasts,
        costs: Floats,
        counts: Bools,
        pending: Sequence[Arm],
        rng: np.random.Generator,
    ) -> Floats:
        """Expected growth as by `_growth`, averaged over joint samples of what is under way."""
        targets = [arm.pending for arm in pending if arm.pending is not None]
        ahead = np.array(targets)[:, None]
        under_way = self._belief.of(pending, ahead)
        normals = rng.standard_normal((SAMPLES, len(pending)))
        made = [arm.milestones[k].cost for arm, k in zip(pending, targets, strict=True)]
        # A checkpoint that is no point of the front stands at minus infinity: it tells of its run, and adds nothing.
        outcomes = np.where(self._counts(pending, ahead)[:, 0], under_way.outcomes(normals), -np.inf)
        draws = zip(outcomes, forecasts.given(under_way, normals, _NODES), strict=True)
        grown = [_growth(front_of(made, outcome), scores, costs, counts) for outcome, scores in draws]
        return sum(grown, np.zeros(costs.shape)) / SAMPLES

    def _known(self, arms: Sequence[Arm]) -> Known:
        """What makes the front of all known points together with some of these costs and scores."""
        cost = np.log([s.cost for arm in arms for s in arm.milestones[: arm.done]])
        score = np.array([q for arm in arms for q in arm.scores])
        least = float(np.quantile(score, 0.05)) if self._reference.score is None else self._reference.score
        if self._ends_only:
            ends = np.array([k == len(arm.milestones) - 1 for arm in arms for k in range(arm.done)])
            cost, score = cost[ends], score[ends]
        most = max(arm.milestones[-1].cost for arm in arms) if self._reference.cost is None else self._reference.cost
        # Dominated points can never return to the front: without them a staircase of thousands of checkpoints is short.
        cost, score = steps_of(cost, score)

        def front(costs: Sequence[float], scores: Floats) -> Staircase:
            return Staircase(np.r_[cost, np.log(costs)], np.r_[score, scores], least=least, log_most=float(np.log(most)))

        return front

    def _counts(self, arms: Sequence[Arm], milestones: Ints) -> Bools:
        """Which of some milestones of arms, shape (arms, milestones), would be points of the front."""
        last = np.array([len(arm.milestones) - 1 for arm in arms])
        counts: Bools = (milestones == last[:, None]) | (not self._ends_only)
        return counts

    def _works(self, candidates: Sequence[Arm], arms: Sequence[Arm]) -> Floats:
        """Chance that a run does not turn out infeasible, shape (candidates,): by its forecast, and by how similar runs came out.

        It is a mean over the runs that were begun, weighted by similarity, with one feasible run far away as a prior.
        """
        fits = np.array([arm.fits for arm in candidates])
        failed = [arm for arm in arms if arm.infeasible]
        if not failed:
            return fits
        went = [arm for arm in arms if arm.done and not arm.infeasible]
        bad, good = self._belief.similarity(candidates, failed).sum(1), self._belief.similarity(candidates, went).sum(1)
        begun = np.array([arm.done > 0 for arm in candidates])
        return np.where(begun, 1.0, fits * (good + 1.0) / (good + bad + 1.0))

    def _milestones(self, candidates: Sequence[Arm]) -> Ints:
        """The milestones that each could be taken to, by index, shape (candidates, milestones).

        An arm with fewer repeats its last one, which adds nothing.
        """
        ahead = [[k for k in self._rungs(arm) if k >= arm.done] for arm in candidates]
        most = max(map(len, ahead))
        return np.array([ks + [ks[-1]] * (most - len(ks)) for ks in ahead])

    def _rungs(self, arm: Arm) -> tuple[int, ...]:
        """The milestones, by index, at which a run may be left."""
        return (len(arm.milestones) - 1,) if "freeze" in self._ablate else spread(len(arm.milestones), HORIZONS)


def _finite(arms: Sequence[Arm]) -> Sequence[Arm]:
    """The same arms, with the worst of all arms in the place of scores and losses that are no finite numbers.

    A single nan would spread through the model to every belief, and the decision would be the first arm there is.
    """
    if all(math.isfinite(value) for arm in arms for value in (*arm.scores, *arm.losses)):
        return arms
    least = min((score for arm in arms for score in arm.scores if math.isfinite(score)), default=0.0)
    most = max((loss for arm in arms for loss in arm.losses if math.isfinite(loss)), default=0.0)
    # The worst of all that was seen, and not nothing: a run that diverged must not look like one that was never tried.
    return [
        replace(
            arm,
            scores=[score if math.isfinite(score) else least for score in arm.scores],
            losses=[loss if math.isfinite(loss) else most for loss in arm.losses],
        )
        for arm in arms
    ]


def _growth(front: Staircase, draws: Floats, costs: Floats, counts: Bools) -> Floats:
    """Expected growth of the hypervolume, shape (candidates, milestones).

    Args:
        front: The front that grows.
        draws: Scores at `_NODES`, shape (nodes, candidates x milestones).
        costs: Costs of the milestones, shape (candidates, milestones).
        counts: Which of them would be points of the front, of the same shape.
    """
    scores = np.where(counts, draws.reshape(-1, *costs.shape), -np.inf)
    grown: Floats = np.tensordot(_WEIGHTS, front.of_trajectories(scores, np.log(costs)), 1)
    return grown
