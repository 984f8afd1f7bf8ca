"""The search of a study that requires something: a point counts with the chance that it keeps the bounds."""

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from test_next_run import ahead, result
from test_search import OFFER, study
from test_search_engine import DIMENSIONS, arms_of, begun, taken

from workbench import choice, search
from workbench.prices import Prices
from workbench.search.arms import finite
from workbench.search.bounds import Bounds, mean_over_kept
from workbench.search.engine import FrontSearch
from workbench.search.features import Features
from workbench.search.improvement import Staircase
from workbench.search.runs import known_runs
from workbench.search.warp import Warp
from workbench.space import draw
from workbench.testing import TinyTask


def slack(arm):
    """A bound that the lower half of all rates keeps, where the best score of all is not."""
    return -3.5 - math.log10(arm.settings["rate"])


def bound(arm, milestone):
    """The arm once it was trained to a milestone, with what is known of its bound."""
    return replace(taken(arm, milestone), slacks=[[slack(arm)] * (milestone + 1)])


def searched(told, seed, decisions=24):
    """The arms after so many decisions of a search that is told of the bound, or is not."""
    search, arms = FrontSearch(DIMENSIONS, seed=seed), arms_of(60, seed)
    for _ in range(decisions):
        found = search.decide(arms)
        arms[found.key] = (bound if told else taken)(arms[found.key], found.milestone)
    return arms


def volume(arms):
    """Hypervolume of what keeps the bound."""
    kept = [(math.log(s.cost), q) for arm in arms for s, q in zip(arm.milestones, arm.scores, strict=False) if slack(arm) >= 0]
    costs, scores = np.array(kept).reshape(-1, 2).T
    return Staircase(costs, scores, least=0.0, log_most=math.log(100.0)).hypervolume


def test_money_goes_to_what_keeps_the_bound():
    aware, unaware = ([searched(told, seed) for seed in range(4)] for told in (True, False))
    share = [np.mean([slack(arm) >= 0 for arms in of for arm in arms if arm.done]) for of in (aware, unaware)]
    assert share[0] > share[1] + 0.08
    assert sum(map(volume, aware)) > sum(map(volume, unaware))


def test_where_nothing_keeps_it_yet_something_is_still_chosen():
    arms = [replace(arm, slacks=[[-1.0] * arm.done]) if arm.done else arm for arm in begun(seen=10)]
    found = FrontSearch(DIMENSIONS).decide(arms)
    assert found.action in ("start", "continue")
    assert found.gain > 0
    unknown = [replace(arm, slacks=[[math.nan] * arm.done]) if arm.done else arm for arm in begun(seen=10)]
    assert {s for arm in finite(unknown) for of in arm.slacks for s in of} == {-1.0}
    assert FrontSearch(DIMENSIONS).decide(unknown) == found, "what is unknown keeps no bound"


def test_what_is_under_way_may_not_keep_it():
    arms = [bound(arm, arm.done - 1) if arm.done else arm for arm in begun(seen=10)]
    arms[20] = replace(arms[20], pending=4)
    assert FrontSearch(DIMENSIONS).decide(arms) == FrontSearch(DIMENSIONS).decide(arms)
    assert FrontSearch(DIMENSIONS).decide(arms).key != 20


def test_chances_are_near_certain_where_they_were_seen():
    bounds, arms = Bounds(Features(DIMENSIONS)), [bound(arm, arm.done - 1) if arm.done else arm for arm in begun(60, seen=40)]
    rng = np.random.default_rng(0)
    bounds.learn(begun(), rng)
    assert bounds.chance(arms, np.zeros((60, 1), int)) is None, "nothing was required"
    bounds.learn(arms, rng)
    seen = [arm for arm in arms if arm.done and abs(slack(arm)) > 0.5]
    chance = bounds.chance(seen, np.zeros((len(seen), 1), int))[:, 0]
    assert chance.shape == (len(seen),)
    keeps = np.array([slack(arm) >= 0 for arm in seen])
    assert chance[keeps].mean() > 0.9
    assert chance[~keeps].mean() < 0.1


def test_the_mean_over_what_is_kept_is_that_of_drawing():
    rng = np.random.default_rng(0)
    kept, scores = np.array([[0.9, 0.3, 0.6], [0.0, 1.0, 1.0]]), rng.uniform(0, 10, (2, 3))
    costs = np.log(np.array([[1.0, 2.0, 4.0], [1.0, 3.0, 9.0]]))
    front = Staircase(np.log([1.5]), np.array([3.0]), least=0.0, log_most=math.log(20.0))

    def growth(points):
        return front.of_trajectories(np.where(points, scores, -np.inf)[None], costs)[0]

    drawn = np.mean([growth(rng.random((2, 1)) < kept) for _ in range(20_000)], axis=0)
    assert mean_over_kept(growth, kept) == pytest.approx(drawn, rel=0.05, abs=0.02)
    every = np.ones((2, 3))
    assert mean_over_kept(growth, every) == pytest.approx(growth(every > 0))


def test_scores_below_all_others_have_their_place_too():
    warp = Warp(np.array([1.0, 2.0, 3.0, 400.0]), cut=False)
    for y in (-5.0, 0.0, 1.0, 2.5, 400.0, 500.0):
        assert float(warp.back(warp.to(np.array(y)))) == pytest.approx(y)


# A study


@dataclass(frozen=True)
class Graded(TinyTask):
    """A task with more scores."""

    metrics = ("accuracy", "macro_f1")
    lower_is_better = ("calibration_error",)


REQUIRED = {"macro_f1": 40, "calibration_error": 10, "accuracy": 30}


def test_slacks_are_those_of_the_bounds_of_other_scores():
    of = study(task=Graded(train=choice(32, 64))).restated(require=REQUIRED)
    chosen = draw(of.dimensions, random.Random(0))
    made = result(of, chosen, 1.0)
    made = replace(made, scores={**made.scores, "macro_f1": 45.0})
    costs = search.Costs(Prices(OFFER, 0.0), ahead)
    (run,) = known_runs(of, [made], costs, search.States())
    kept, unknown = run.arm.slacks
    assert kept == [5.0]
    assert math.isnan(unknown[0])
    assert run.arm.kept == [False]
    (plain,) = known_runs(of.restated(require={}), [made], costs, search.States())
    assert plain.arm.slacks == []
    assert plain.arm.kept == [True]


BEFORE = (
    *((14, 1), (9, 1), (27, 1), (4, 1), (32, 1), (3, 1), (3, 2), (10, 1)),
    *((3, 3), (3, 4), (24, 2), (37, 3), (7, 1), (1, 2), (12, 2), (7, 2)),
)
"""What was decided before there were bounds, and before every option was tried: the arm and the milestone of each decision."""


def test_without_bounds_decisions_are_those_of_before_there_were_any():
    search, arms, decisions = FrontSearch(DIMENSIONS, seed=3, ablate=["try-each"]), arms_of(40, 3), []
    arms[39] = replace(taken(arms[39], 1), pending=4)
    for _ in BEFORE:
        found = search.decide(arms, cold_start_cost=0.5)
        decisions.append((found.key, found.milestone))
        arms[found.key] = taken(arms[found.key], found.milestone)
    assert tuple(decisions) == BEFORE
