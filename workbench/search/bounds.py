"""The chance that a checkpoint keeps what the study requires: constrained expected improvement.

A point that does not keep a bound is no member of the front, whatever its score, so its improvement counts with the chance that it
keeps it: E[improvement] x P(kept), with a model of each bound's score beside that of the score, and all independent (Schonlau,
Welch & Jones 1998; Gardner et al. 2014, "Bayesian Optimization with Inequality Constraints", ICML; for the hypervolume Feliot,
Bect & Vazquez 2017, J. Global Optimization 67, equation 15). Where no point keeps the bounds yet the front is empty, and what is
looked for is what will probably keep them and is good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workbench.search.arms import Arm
from workbench.search.features import Features, Floats
from workbench.search.quality import Belief
from workbench.search.surrogate import Ints

LEAST_CHANCE = 1e-9
"""Where nothing will keep the bounds by all that is known, growth still tells the candidates apart."""


class Bounds:
    """What is believed of the slack of each bound: a Gaussian process of its own, like that of the score.

    Args:
        features: Turns settings into rows.
        refit_growth: See `Belief`.
    """

    def __init__(self, features: Features, *, refit_growth: float = 1.0) -> None:
        self._features, self._growth = features, refit_growth
        self._beliefs: list[Belief] = []

    def learn(self, arms: Sequence[Arm], rng: np.random.Generator) -> None:
        """Take in all that was observed; nothing where nothing is required. Raises as `Belief.learn`."""
        count = max(len(arm.slacks) for arm in arms)
        # Cut, slacks far below 0 might fall together with 0 itself, where a bound is kept.
        new = (Belief(self._features, refit_growth=self._growth, cut=False) for _ in range(count - len(self._beliefs)))
        self._beliefs += new
        for i, belief in enumerate(self._beliefs):
            belief.learn([replace(arm, scores=arm.slacks[i]) if arm.done else arm for arm in arms], rng)

    def chance(self, arms: Sequence[Arm], milestones: Ints) -> Floats | None:
        """Chance that some milestones of arms keep all bounds, shape (arms, milestones); None where nothing is required."""
        if not self._beliefs:
            return None
        chances = [belief.of(arms, milestones).chance(0.0) for belief in self._beliefs]
        chance: Floats = np.maximum(np.prod(chances, axis=0), LEAST_CHANCE).reshape(milestones.shape)
        return chance


def mean_over_kept(growth: Callable[[NDArray[np.bool_]], Floats], kept: Floats) -> Floats:
    """Expected growth of trajectories of which some checkpoints may not keep the bounds.

    The checkpoints of a run keep them together: those of a chance p do whenever one that is as likely or less does, as all rungs of
    a run are taken to lie equally far from their means. So which ones do is one of as many sets as there are rungs, and the mean
    over them is exact.

    Args:
        growth: Growth where those checkpoints alone count that it is given, shape (arms, rungs).
        kept: Chance of each, of the same shape.
    """
    levels = -np.sort(-kept, axis=1)
    # Of each set the chance that it is this one, from the likeliest checkpoint alone to all of them.
    chances = levels - np.append(levels[:, 1:], np.zeros((len(levels), 1)), axis=1)
    mean = np.zeros(kept.shape)
    for i in range(kept.shape[1]):
        mean += chances[:, i : i + 1] * growth(kept >= levels[:, i : i + 1])
    return mean
