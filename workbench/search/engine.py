"""The search of the cost-quality front: freeze-thaw, cost-aware expected hypervolume improvement.

A free worker takes the run, and takes it to the checkpoint, with the greatest index:

    argmax  P(feasible) x E[HVI] / (cost ahead + start penalty)      over runs x rungs

    P(feasible)    chance that the run neither runs out of memory nor diverges
    E[HVI]         expected growth of the front's hypervolume, in score x natural logarithm of cost,
                   once the run has passed that checkpoint (expected hypervolume improvement);
                   averaged over joint samples of what other workers have under way. What does not
                   keep a required bound adds nothing: each checkpoint counts with the chance that it
                   does (`bounds`)
    cost ahead     what is still to be paid to get there: taking the run up included, what a cached
                   state has paid for left out
    start penalty  added for new runs where the number of starts is bounded; 0 where it is not

Improvement per unit of cost is what makes it cost-aware. It is freeze-thaw in that runs which were
left (frozen) are weighed beside those that could be started, by one index: this replaces sampler and
pruner, and a run that is not worth its next checkpoint stays frozen until it is.

Three words for places on a run's way:

    checkpoint  a model on the way that is evaluated, and could be deployed
    milestone   a checkpoint in the search's plain numbers: progress, labels, cost; passed or ahead
    rung        a milestone at which a decision may have the run left: at most `MOST_RUNGS` of a run,
                denser towards its beginning

Until `FIRST_RUNS` are begun and two scores are known there is too little to fit: those runs are
drawn, cheap ones more often. Before anything else every method and every model is tried once, the
cheapest first, where that costs little (`first_runs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from workbench.search.arms import Arm, Decision, finite
from workbench.search.bounds import Bounds, mean_over_kept
from workbench.search.features import Features, Floats
from workbench.search.first_runs import START_POWER, Options, draw
from workbench.search.improvement import Staircase, steps_of
from workbench.search.quality import Belief, ScoreForecasts, log_spaced
from workbench.search.surrogate import Ints
from workbench.space import Dimension

ABLATIONS = ("dollars", "freeze", "loss", "cheap-start", "try-each")
"""Parts that can be left out: division by cost, stopping before the end, the loss as a second view, cheap first runs, a first run
of every option."""

FIRST_RUNS = 6
"""Cold runs that are drawn by their cost alone before the model is asked."""

MOST_FIRST_RUNS = 16
"""How many of many workers make the first runs; the others wait for what these show."""

WAIT_BELOW = 0.3
"""A worker waits when the best index of what it could do, once what is under way is known, is less
than this share of the best of all, what is under way included.
"""

FIRST_RUNG = 1
"""The rung to which the first runs are taken, by its index among the rungs: the second."""

MOST_NEW = 300
"""New arms that a decision looks at."""

MOST_RUNGS = 6
"""Most rungs of a run: so many of its milestones, spread evenly in the logarithm of their number."""

SAMPLES = 8
"""Joint samples of what is under way, over which growth is averaged."""

_NODES = np.arange(-1.5, 5.01, 0.5)
"""Quadrature nodes of a normal distribution, in standard deviations from its mean: they reach far
into the upper tail, where growth of a front lies.
"""

_WEIGHTS = np.diff(special.ndtr(np.r_[_NODES - 0.25, np.inf]))
"""The probability that each node stands for: from 0.25 below it to 0.25 above it, for the last one
all that lies above. The 4 % below -1.75 are dropped, as if nothing grew there: the weights sum to
0.96.
"""

Bools = NDArray[np.bool_]

FrontWith = Callable[[Sequence[float], Floats], Staircase]
"""Makes the front of all known points together with some more, of these costs and scores."""


@dataclass(frozen=True)
class Reference:
    """The point from which the hypervolume of the front is measured.

    Attributes:
        score: A score below which nothing adds to it; None takes the 5 % quantile of the scores that were seen.
        cost: A cost beyond which nothing adds to it; None takes that of the dearest milestone of all arms.
    """

    score: float | None = None
    cost: float | None = None


class _Candidates(NamedTuple):
    """The runs that one decision compares, with the rungs ahead of each.

    Attributes:
        arms: The runs: first those that a worker may take, then those that others are taking.
        free: How many of them, from the first, a worker may take.
        rungs: Milestones that each could be taken to, by index, shape (arms, rungs).
        costs: What these cost from cold, of the same shape.
    """

    arms: Sequence[Arm]
    free: int
    rungs: Ints
    costs: Floats


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
        self._learnt = False
        self._options = Options({} if "try-each" in self._ablate else dimensions)
        self._bounds = Bounds(Features(dimensions), refit_growth=refit_growth)
        self._belief = Belief(Features(dimensions), losses="loss" not in self._ablate, refit_growth=refit_growth)

    def decide(
        self,
        arms: Sequence[Arm],
        *,
        cold_start_cost: float = 0.0,
        start_penalty: float = 0.0,
        try_within: float = math.inf,
        may_wait: bool = True,
        known: bool = False,
    ) -> Decision:
        """What a free worker does next.

        Args:
            arms: All runs that exist, and those that could be started.
            cold_start_cost: What a start from cold costs beside the milestones' costs, in the same unit.
            start_penalty: What is added to the cost of a new run in its index, in the same unit,
                where the number of starts that are left is bounded, or cheap runs would use them
                up. It is not spent, and in no `Decision.spend`.
            try_within: What a run may cost at most that is begun only because it has an option that
                no run had, in the same unit.
            may_wait: Whether the worker may be told to wait for what others will find, though something is left that it could do:
                where that saves what it would have cost.
            known: Whether nothing was measured since the last decision, only more is under way: then the model is as it was.
        """
        self._learnt = known and self._learnt
        arms = finite(arms)
        # An arm that is infeasible or pending has begun: else a space whose first runs all run out of memory
        # would stay in its first draws for ever.
        cold = [arm for arm in arms if arm.done > 0 or arm.pending is not None or arm.infeasible]
        begun = len(cold)
        seen = sum(arm.done > 0 for arm in arms)
        # The generator depends on the history alone, so that a restarted sweep decides as it would have decided.
        rng = np.random.default_rng((self._seed, begun, sum(arm.done for arm in arms)))
        free = [arm for arm in arms if arm.pending is None and not arm.infeasible and arm.done < len(arm.milestones)]
        busy = any(arm.pending is not None for arm in arms)
        if not free:
            return Decision("wait" if busy else "stop", reason="nothing is left to run")
        # Before two scores are known the model has nothing to fit: the first runs are drawn, cheap ones more often.
        new = [arm for arm in free if not arm.done]
        costs = [arm.milestones[self._first_target(arm)].cost + cold_start_cost for arm in new]
        untried = self._options.next(cold, new, costs, try_within, start_penalty)
        if new and (untried or begun < FIRST_RUNS or seen < 2):
            # Many workers at once would otherwise spend on draws what the first scores could have saved.
            if may_wait and busy and begun - seen >= MOST_FIRST_RUNS:
                return Decision("wait", reason="the first runs are under way")
            return self._start(untried or new, rng, start_penalty)
        try:
            return self._best(arms, free, rng, cold_start_cost, start_penalty, may_wait)
        except linalg.LinAlgError:  # a sweep that was paid for does not end because its model cannot be made
            return self._start(free, rng, start_penalty)

    def _start(self, free: Sequence[Arm], rng: np.random.Generator, start_penalty: float) -> Decision:
        """An arm drawn with a chance that falls with its cost, taken to its second rung."""
        power = 0.0 if "cheap-start" in self._ablate else START_POWER
        return draw(free, [self._first_target(arm) for arm in free], rng, start_penalty, power)

    def _first_target(self, arm: Arm) -> int:
        """The milestone to which an arm is taken without the model: its second rung, or the next after it."""
        return next(k for k in self._rungs(arm)[FIRST_RUNG:] or (len(arm.milestones) - 1,) if k >= arm.done)

    def _best(
        self,
        arms: Sequence[Arm],
        free: Sequence[Arm],
        rng: np.random.Generator,
        cold_start_cost: float,
        start_penalty: float,
        may_wait: bool,
    ) -> Decision:
        """The run and the rung with the greatest index, or to wait."""
        # The belief is of all arms, infeasible and pending ones too: what they showed before still counts.
        if not self._learnt:
            self._belief.learn(arms, rng)
            self._bounds.learn(arms, rng)
            self._learnt = True
        pending = [arm for arm in arms if arm.pending is not None]
        candidates = self._candidates(free, pending, rng)
        ahead = _cost_ahead(candidates, cold_start_cost)
        feasible = self._feasible(candidates.arms, arms)
        per_cost = self._per_cost(candidates, feasible, ahead, start_penalty)

        forecasts = self._belief.of(candidates.arms, candidates.rungs)
        eligible = self._eligible(candidates.arms, candidates.rungs)
        kept = self._bounds.chance(candidates.arms, candidates.rungs)
        front_with = self._front_with(arms)
        growth = _growth(front_with([], np.zeros(0)), forecasts.at(_NODES), candidates.costs, eligible, kept)
        index = growth * per_cost
        # Runs under way are in this comparison alone: what they promise is what a waiting worker waits for.
        best_of_all = float(index.max())
        if pending:
            growth = self._growth_beside(front_with, forecasts, candidates, eligible, kept, pending, rng)
            index = (growth * per_cost)[: candidates.free]
        i, j = divmod(int(index.argmax()), index.shape[1])
        # Only workers with a GPU each may wait: on a shared machine a waiting worker's neighbours were charged for its
        # time, and points made then were up to twice as dear.
        if may_wait and pending and float(index.max()) < WAIT_BELOW * best_of_all:
            return Decision("wait", reason="what is under way will tell more than what is left would bring")
        arm = candidates.arms[i]
        return Decision(
            "continue" if arm.done else "start",
            arm.key,
            int(candidates.rungs[i, j]),
            gain=float(feasible[i] * growth[i, j]),
            spend=float(ahead[i, j]),
            reason="most growth per unit of cost",
        )

    def _candidates(self, free: Sequence[Arm], pending: Sequence[Arm], rng: np.random.Generator) -> _Candidates:
        """What is compared: frozen runs, at most `MOST_NEW` new ones, and those under way."""
        new = [arm for arm in free if not arm.done]
        if len(new) > MOST_NEW:
            new = [new[i] for i in rng.choice(len(new), MOST_NEW, replace=False)]
        open_ = [arm for arm in free if arm.done] + new
        arms = open_ + [arm for arm in pending if arm.done < len(arm.milestones)]
        rungs = self._rungs_ahead(arms)
        # A point of the front costs what its run costs from cold, whatever of it was paid before:
        # fronts are of these costs, the index divides by what is still to be paid (`_cost_ahead`).
        costs = np.array([[arm.milestones[k].cost for k in ks] for arm, ks in zip(arms, rungs, strict=True)])
        return _Candidates(arms, len(open_), rungs, costs)

    def _per_cost(self, candidates: _Candidates, feasible: Floats, ahead: Floats, start_penalty: float) -> Floats:
        """P(feasible) / (cost ahead + start penalty), which times growth is the index; shape
        (candidates, rungs).

        A run that may turn out infeasible is worth its growth times the chance that it does not, at
        its full cost.
        """
        weighed = ahead + np.array([0.0 if arm.done else start_penalty for arm in candidates.arms])[:, None]
        # Scaled by a power of two, which rounds nothing: of the tiniest costs the index would overflow.
        weighed = np.ldexp(weighed, -np.frexp(weighed.max())[1])
        per_cost: Floats = feasible[:, None] / (np.ones_like(ahead) if "dollars" in self._ablate else weighed)
        return per_cost

    def _growth_beside(
        self,
        front_with: FrontWith,
        forecasts: ScoreForecasts,
        candidates: _Candidates,
        eligible: Bools,
        kept: Floats | None,
        pending: Sequence[Arm],
        rng: np.random.Generator,
    ) -> Floats:
        """Expected growth as by `_growth`, averaged over joint samples of what is under way."""
        targets = [arm.pending for arm in pending if arm.pending is not None]
        milestones = np.array(targets)[:, None]
        under_way = self._belief.of(pending, milestones)
        normals = rng.standard_normal((SAMPLES, len(pending)))
        at_cost = [arm.milestones[k].cost for arm, k in zip(pending, targets, strict=True)]
        # A checkpoint that is no point of the front stands at minus infinity: it tells of its run, and adds nothing.
        outcomes = np.where(self._eligible(pending, milestones)[:, 0], under_way.outcomes(normals), -np.inf)
        keeping = self._bounds.chance(pending, milestones)
        if keeping is not None:
            outcomes = np.where(rng.random(outcomes.shape) < keeping[:, 0], outcomes, -np.inf)
        draws = zip(outcomes, forecasts.given(under_way, normals, _NODES), strict=True)
        costs = candidates.costs
        growths = [_growth(front_with(at_cost, outcome), scores, costs, eligible, kept) for outcome, scores in draws]
        return sum(growths, np.zeros(costs.shape)) / SAMPLES

    def _front_with(self, arms: Sequence[Arm]) -> FrontWith:
        """What makes the front of all known points together with some more."""
        cost = np.log([s.cost for arm in arms for s in arm.milestones[: arm.done]])
        score = np.array([q for arm in arms for q in arm.scores])
        least = float(np.quantile(score, 0.05)) if self._reference.score is None else self._reference.score
        points = np.array([kept for arm in arms for kept in arm.kept], bool)
        if not points.all():
            cost, score = cost[points], score[points]
        if self._ends_only:
            ends = np.array([k == len(arm.milestones) - 1 for arm in arms for k in range(arm.done)])[points]
            cost, score = cost[ends], score[ends]
        most = max(arm.milestones[-1].cost for arm in arms) if self._reference.cost is None else self._reference.cost
        # Dominated points can never return to the front: without them a staircase of thousands of checkpoints is short.
        cost, score = steps_of(cost, score)

        def front(costs: Sequence[float], scores: Floats) -> Staircase:
            return Staircase(np.r_[cost, np.log(costs)], np.r_[score, scores], least=least, log_most=float(np.log(most)))

        return front

    def _eligible(self, arms: Sequence[Arm], milestones: Ints) -> Bools:
        """Which of some milestones of arms, shape (arms, milestones), would be points of the front."""
        last = np.array([len(arm.milestones) - 1 for arm in arms])
        eligible: Bools = (milestones == last[:, None]) | (not self._ends_only)
        return eligible

    def _feasible(self, candidates: Sequence[Arm], arms: Sequence[Arm]) -> Floats:
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

    def _rungs_ahead(self, candidates: Sequence[Arm]) -> Ints:
        """The rungs that each could be taken to, as indices of milestones, shape (candidates, rungs).

        An arm with fewer repeats its last one, which adds nothing.
        """
        ahead = [[k for k in self._rungs(arm) if k >= arm.done] for arm in candidates]
        most = max(map(len, ahead))
        return np.array([ks + [ks[-1]] * (most - len(ks)) for ks in ahead])

    def _rungs(self, arm: Arm) -> tuple[int, ...]:
        """The rungs of a run, as indices of its milestones."""
        return (len(arm.milestones) - 1,) if "freeze" in self._ablate else log_spaced(len(arm.milestones), MOST_RUNGS)


def _cost_ahead(candidates: _Candidates, cold_start_cost: float) -> Floats:
    """What is still to be paid to take each run to each of its rungs, shape (candidates, rungs).

    What a cached state has paid for is not paid again; without it a run starts from nothing, which
    is why a frozen run whose state was dropped competes with new ones at its full price.
    """
    paid = np.array([arm.milestones[arm.done - 1].cost if arm.done and arm.cached else 0.0 for arm in candidates.arms])
    taking_up = np.where(paid == 0, cold_start_cost, [arm.resume for arm in candidates.arms])
    ahead: Floats = candidates.costs - paid[:, None] + taking_up[:, None]
    return ahead


def _growth(front: Staircase, draws: Floats, costs: Floats, eligible: Bools, kept: Floats | None) -> Floats:
    """Expected growth of the hypervolume by the time that each rung is passed, shape (candidates, rungs).

    All rungs of a run are taken to lie equally far from their means, in standard deviations: each
    node gives one trajectory of the run.

    Args:
        front: The front that grows.
        draws: Scores at `_NODES`, shape (nodes, candidates x rungs).
        costs: Costs of the rungs from cold, shape (candidates, rungs).
        eligible: Which of them would be points of the front, of the same shape.
        kept: Chance that each keeps what is required, of the same shape; None where nothing is.
    """
    draws, log_costs = draws.reshape(-1, *costs.shape), np.log(costs)

    def of(points: Bools) -> Floats:
        growth: Floats = np.tensordot(_WEIGHTS, front.of_trajectories(np.where(points, draws, -np.inf), log_costs), 1)
        return growth

    return of(eligible) if kept is None else mean_over_kept(lambda points: of(eligible & points), kept)
