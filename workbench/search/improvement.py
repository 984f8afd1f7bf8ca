"""How much a run that goes on is expected to grow the front's hypervolume, in score x natural logarithm of cost.

The front is a staircase F: F(c) is the best score at cost <= c. A run whose trajectory (the best of its checkpoints by cost c) is
T(c) grows the hypervolume by the integral of (T - F)+ over log c up to the reference cost.
"""

from __future__ import annotations

import numpy as np

from workbench.search.features import Floats


def steps_of(cost: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Costs and scores of the points that no other dominates, cheapest first, once each; `pareto.front` for many of them."""
    order = np.lexsort((-score, cost))
    cost, score = cost[order], score[order]
    rises = np.diff(np.maximum.accumulate(score), prepend=-np.inf) > 0
    return cost[rises], score[rises]


class Staircase:
    """The front of known points.

    Args:
        log_cost: Natural logarithms of the points' costs, shape (points,).
        score: Their scores.
        least: The score below which nothing counts.
        log_most: Logarithm of the cost beyond which nothing counts.
    """

    def __init__(self, log_cost: Floats, score: Floats, *, least: float, log_most: float) -> None:
        order = np.lexsort((-score, log_cost))
        cost, best = log_cost[order], np.maximum(np.maximum.accumulate(score[order]), least) if len(score) else score
        rises = np.diff(best, prepend=least) > 0 if len(score) else np.zeros(0, bool)
        rises &= cost < log_most
        self.steps = np.r_[-np.inf, cost[rises]]  # where each level begins
        self.levels = np.r_[least, best[rises]]
        self.ends = np.r_[self.steps[1:], log_most]
        self.least, self.log_most = least, log_most

    @property
    def hypervolume(self) -> float:
        """Volume above the least score and below the greatest cost; infinite log cost counts nothing."""
        return float(((self.ends - self.steps)[1:] * (self.levels - self.least)[1:]).sum())

    def above(self, score: Floats, log_cost: Floats) -> Floats:
        """Volume that a score held from a cost onwards adds: the sum over levels of width x (score - level)+.

        Args:
            score: Shape (samples, arms, milestones).
            log_cost: Shape (arms, milestones), the same for all samples.
        """
        grown = np.zeros(score.shape)
        for start, end, level in zip(self.steps, self.ends, self.levels, strict=True):
            width = np.maximum(end - np.maximum(start, log_cost), 0.0)
            grown += width * np.maximum(score - level, 0.0)
        return grown

    def of_trajectories(self, scores: Floats, log_costs: Floats) -> Floats:
        """Volume that trajectories add by each of their milestones, shape (samples, arms, milestones).

        Args:
            scores: Samples of the scores at the milestones, shape (samples, arms, milestones).
            log_costs: Logarithms of the costs of the milestones, ascending, shape (arms, milestones).
        """
        best = np.maximum.accumulate(scores, axis=-1)
        held = self.above(best, log_costs)  # held from its own cost to the end
        # A better later checkpoint takes over at its cost: what the one before would have added from there on goes.
        handed = self.above(best[..., :-1], log_costs[..., 1:])
        grown = held.copy()
        grown[..., 1:] += np.cumsum(held[..., :-1] - handed, axis=-1)
        return grown
