"""The search's engine on plain arms: model, growth of the front, and what it decides."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from workbench import pareto
from workbench.search import quality
from workbench.search.arms import Arm, Milestone
from workbench.search.engine import ABLATIONS, FrontSearch, Reference
from workbench.search.features import Features
from workbench.search.improvement import Staircase, steps_of
from workbench.search.quality import log_spaced
from workbench.search.surrogate import Likelihood, Observations, Surrogate
from workbench.search.warp import Warp
from workbench.space import Choice, Dimension, Integers, Uniform

DIMENSIONS = {
    "rate": Dimension("rate", Uniform(1e-5, 1e-2, log=True)),
    "model": Dimension("model", Choice(("small", "large"))),
    "method": Dimension("method", Choice(("full", "lora"))),
    "lora.r": Dimension("lora.r", Integers(2, 64, log=True), (("method", "lora"),)),
}
COSTS = {"small": 1.0, "large": 5.0}


def arms_of(count, seed=0, checkpoints=5):
    """Arms of the space, none begun."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        method = str(rng.choice(["full", "lora"]))
        of = {"rate": float(10 ** rng.uniform(-5, -2)), "model": str(rng.choice(["small", "large"])), "method": method}
        if method == "lora":
            of["lora.r"] = int(rng.integers(2, 65))
        milestones = [Milestone(2.0**k, 1.0, COSTS[of["model"]] * 2.0**k) for k in range(checkpoints)]
        found.append(Arm(i, of, milestones))
    return found


def score(arm, k):
    """A smooth truth: best at a rate of 1e-3, better with size and length."""
    off = (np.log10(arm.settings["rate"]) + 3) ** 2
    return float(80 - 15 * off + 5 * (arm.settings["model"] == "large") - 30 * 0.6**k)


def taken(arm, milestone, **changes):
    """The arm once it was trained to a milestone."""
    scores = [score(arm, k) for k in range(milestone + 1)]  # of the score only what is above 40 shows, of the loss all
    return replace(arm, scores=[max(0.0, s - 40) for s in scores], losses=[np.exp(-s / 40) for s in scores], **changes)


def begun(count=40, seen=10, seed=0):
    arms = arms_of(count, seed)
    return [taken(arm, i % 5) if i < seen else arm for i, arm in enumerate(arms)]


def spend(search, arms, decisions):
    """What a search of so many decisions leaves, and what it cost."""
    arms, spent = list(arms), 0.0
    for _ in range(decisions):
        found = search.decide(arms)
        arm = arms[found.key]
        spent += arm.milestones[found.milestone].cost - (arm.milestones[arm.done - 1].cost if arm.done else 0.0)
        arms[found.key] = taken(arm, found.milestone)
    return arms, spent


# The model


@given(st.integers(0, 10_000), st.integers(1, 2))
@settings(max_examples=20, deadline=None)
def test_the_gradient_of_the_fit_is_that_of_finite_differences(seed, views):
    rng = np.random.default_rng(seed)
    rows = rng.random((6, 4))
    rows[:, 1] = rng.integers(0, 3, 6)
    rows[rng.random(6) < 0.4, 3] = np.nan
    points = Observations(rng.integers(0, 6, 20), rng.random(20), rng.normal(size=20))
    surrogate, y = Surrogate(np.array([False, True, False, False]), views=views), rng.normal(size=(views, 20))
    theta = surrogate.theta + rng.normal(size=len(surrogate.theta)) * 0.3
    likelihood = Likelihood(surrogate, rows, points, y)
    _, gradient = likelihood(theta)
    for i, slope in enumerate(gradient):
        step = np.zeros_like(theta)
        step[i] = 1e-5
        ends = [likelihood(theta + sign * step)[0] for sign in (1, -1)]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-3)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_the_kernel_is_positive_definite_with_settings_that_only_some_runs_have(seed):
    rng = np.random.default_rng(seed)
    rows = rng.random((12, 5))
    rows[:, 0] = rng.integers(0, 4, 12)
    rows[:, 1:][rng.random((12, 4)) < 0.5] = np.nan
    points = Observations(rng.integers(0, 12, 30), rng.random(30), rng.normal(size=30))
    surrogate = Surrogate(np.array([True, False, False, False, False]))
    surrogate.theta = surrogate.theta + rng.normal(size=len(surrogate.theta))
    k = surrogate.kernel(rows, rows, points, points)
    assert np.linalg.eigvalsh(k).min() > -1e-8 * np.abs(k).max()


def test_what_was_observed_is_predicted_and_what_is_far_is_uncertain():
    rows = np.array([[0.0], [0.5], [1.0]])
    surrogate = Surrogate(np.array([False]))
    surrogate.theta[0] = np.log(0.1)
    posterior = surrogate.condition(rows, Observations(np.array([0, 1]), np.zeros(2), np.zeros(2)), np.array([[-1.0, 1.0]]))
    points = Observations(np.arange(3), np.zeros(3), np.zeros(3))
    mean, variance, v = posterior.predict(rows, points)
    assert mean[:2] == pytest.approx([-1, 1], abs=0.1)
    assert variance[2] > 2 * variance[0]
    assert np.diag(posterior.covariance(rows, points, v, rows, points, v)) == pytest.approx(variance)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_scores_and_losses_are_one_process_of_twice_the_size(seed):
    """The combinations of the views say what the kernel of all observations says, written out."""
    rng = np.random.default_rng(seed)
    rows = rng.random((8, 2))
    seen, new = (Observations(rng.integers(0, 8, n), rng.random(n), rng.normal(size=n)) for n in (12, 5))
    surrogate, y = Surrogate(np.array([False, False]), views=2), rng.normal(size=(2, 12))
    surrogate.theta = surrogate.theta + rng.normal(size=len(surrogate.theta)) * 0.3
    alike = 1 / (1 + np.exp(-surrogate.theta[-1] - 1))
    k = np.kron([[1, alike], [alike, 1]], surrogate.kernel(rows, rows, seen, seen))
    k += surrogate.noise() * np.eye(24)
    cross = np.kron([[1, alike]], surrogate.kernel(rows, rows, new, seen))
    own = surrogate.kernel(rows, rows, new, new) - cross @ np.linalg.solve(k, cross.T)

    posterior = surrogate.condition(rows, seen, y)
    mean, variance, v = posterior.predict(rows, new)
    assert mean == pytest.approx(cross @ np.linalg.solve(k, y.ravel()))
    assert variance == pytest.approx(np.diag(own))
    assert posterior.covariance(rows, new, v, rows, new, v) == pytest.approx(own)
    expected = 0.5 * (y.ravel() @ np.linalg.solve(k, y.ravel()) + np.linalg.slogdet(k)[1])
    assert Likelihood(surrogate, rows, seen, y)(surrogate.theta)[0] == pytest.approx(expected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@settings(deadline=None)
def test_scores_come_back_from_their_normal_scores_in_order(values):
    warp = Warp(np.array(values))
    inside = np.maximum(values, warp.low)
    assert warp.back(warp.to(np.array(values))) == pytest.approx(inside, rel=1e-6, abs=1e-6)
    z = np.linspace(-6, 6, 50)
    assert (np.diff(warp.back(z)) >= 0).all()


def test_a_diverged_run_does_not_flatten_the_others():
    fine = np.array([1.0, 2.0, 3.0, 4.0])
    with_one = Warp(np.r_[fine, -1e9]).to(fine)
    assert np.diff(with_one).min() > 0.2


def test_features_scale_numbers_order_choices_of_numbers_and_leave_out_what_cannot_vary():
    of = {**DIMENSIONS, "train": Dimension("train", Choice((256, 1024, 512))), "one": Dimension("one", Choice(("only",)))}
    features = Features(of)
    assert [d.name for d in features.columns] == ["rate", "model", "method", "lora.r", "train"]
    assert features.categorical.tolist() == [False, True, True, False, False]
    (row,) = features.rows([{"rate": 1e-2, "model": "large", "method": "full", "train": 512, "one": "only"}])
    assert row[[0, 1, 2, 4]] == pytest.approx([1, 1, 0, 0.5])
    assert np.isnan(row[3])


# Growth of the front

points_ = st.lists(st.tuples(st.floats(0.1, 50), st.floats(-5, 20)), min_size=0, max_size=8)


def volume(points, least, most):
    inside = [(-s, float(np.log(c))) for c, s in points]
    floor = float(np.log(0.01))
    # the engine's front begins at its cheapest point, as a hypervolume does
    assert floor < np.log(0.1)
    return pareto.hypervolume(inside, (-least, float(np.log(most))))


@given(points_, st.lists(st.tuples(st.floats(0.1, 50), st.floats(-5, 20)), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_trajectory_grows_the_front_by_what_it_adds_to_the_hypervolume(known, run):
    run = sorted(run)
    cost, of = (np.array([p[i] for p in known], float) for i in (0, 1))
    front = Staircase(np.log(cost), of, least=0.0, log_most=float(np.log(60)))
    assert front.hypervolume == pytest.approx(volume(known, 0.0, 60), abs=1e-9)
    costs = np.log(np.array([[c for c, _ in run]]))
    grown = front.of_trajectories(np.array([[[s for _, s in run]]]), costs)[0, 0]
    for k in range(len(run)):
        expected = volume([*known, *run[: k + 1]], 0.0, 60) - volume(known, 0.0, 60)
        assert grown[k] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_steps_of_a_front_are_the_different_points_of_it(found):
    cost, of = (np.array([p[i] for p in found], float) for i in (0, 1))
    expected = sorted({found[i] for i in pareto.front([(c, -s) for c, s in found])})
    assert list(zip(*(each.tolist() for each in steps_of(cost, of)), strict=True)) == expected


# Decisions


def test_the_same_arms_and_seed_give_the_same_decision_whatever_was_asked_before():
    arms = begun()
    other = FrontSearch(DIMENSIONS, seed=3)
    other.decide(begun(seen=25))
    other.decide(begun(seen=15))
    assert other.decide(arms) == FrontSearch(DIMENSIONS, seed=3).decide(arms)


def test_it_starts_cheap_and_goes_on_with_what_pays():
    arms, spent = spend(FrontSearch(DIMENSIONS, reference=Reference(score=0.0)), arms_of(60), 25)
    first, cost = spend(FrontSearch(DIMENSIONS, reference=Reference(score=0.0)), arms_of(60), 6)
    assert all(arm.done <= 2 for arm in first)
    assert cost < 60
    best = max(score(arm, k) for arm in arms_of(60) for k in range(5))
    assert (
        max(s for arm in arms for s in arm.scores) > best - 48
    )  # 40 do not show, and a large model's five points more cost five times as much
    assert spent < 0.25 * sum(arm.milestones[-1].cost for arm in arms)


GRID = {
    "method": Dimension("method", Choice(("a", "b", "c", "d"))),
    "model": Dimension("model", Choice(("small", "middle", "large"))),
    "train": Dimension("train", Choice((64, 128, 256, 512, 1024))),
    "a.kind": Dimension("a.kind", Choice(("x", "y", "z")), (("method", "a"),)),
    "many": Dimension("many", Choice(tuple(map(str, range(40))))),
}


COSTLY = 5.0**2 * 4
"""More than the dearest method but one costs, and less than the dearest."""


def of_grid(count=600, seed=0):
    """Arms of that space, each method five times as dear as the one before it, of one checkpoint."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        of = {name: GRID[name].space.options[rng.integers(len(GRID[name].space.options))] for name in GRID}
        if of["method"] != "a":
            del of["a.kind"]
        cost = 5.0 ** "abcd".index(of["method"]) * (1 + ("small", "middle", "large").index(of["model"])) * (1 + of["train"] / 1e4)
        found.append(Arm(i, of, [Milestone(1.0, 1.0, cost)]))
    return found


def first_runs(count, seed=0, **told):
    """The settings of the first so many runs, each with a score."""
    search, arms, found = FrontSearch(GRID, seed=seed), of_grid(), []
    for i in range(count):
        key = search.decide(arms, **told).key
        arms[key] = replace(arms[key], scores=[float(i)])
        found.append(arms[key].settings)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_every_method_and_every_model_is_tried_once_the_cheapest_first(seed):
    found = first_runs(4, seed, start_penalty=1e6)
    assert [of["method"] for of in found] == ["a", "b", "c", "d"]
    assert {of["model"] for of in found} == {"small", "middle", "large"}
    assert found[0]["model"] == "small"


def test_where_starts_are_free_each_option_is_tried_by_the_cheapest_run():
    found = first_runs(6)
    assert [of["method"] for of in found] == ["a", "a", "a", "b", "c", "d"]
    assert {of["model"] for of in found[:3]} == {"small", "middle", "large"}


def test_what_is_dear_is_not_tried_for_its_own_sake():
    def fourth(**told):
        return [first_runs(4, seed, start_penalty=1e6, **told)[3]["method"] for seed in range(12)]

    assert [of["method"] for of in first_runs(3, start_penalty=1e6, try_within=COSTLY)] == ["a", "b", "c"]
    assert fourth(try_within=10 * COSTLY) == ["d"] * 12
    # Then it comes as often as it is drawn; what a start costs beside counts too.
    assert fourth(try_within=COSTLY).count("d") < 9
    assert fourth(try_within=10 * COSTLY, cold_start_cost=10 * COSTLY).count("d") < 9


def test_a_start_that_is_worth_much_is_not_used_up_for_a_cheap_run():
    dear = Arm("dear", {"rate": 1e-3, "model": "large", "method": "full"}, [Milestone(2.0**k, 1.0, 50 * 2.0**k) for k in range(5)])
    cheap = [replace(arm, milestones=[Milestone(2.0**k, 1.0, 2.0**k) for k in range(5)]) for arm in arms_of(20, seed=3)]
    keys = {
        worth: [
            FrontSearch(DIMENSIONS, seed=s, ablate=["try-each"]).decide([*cheap, dear], start_penalty=worth).key for s in range(200)
        ]
        for worth in (0, 1e4)
    }
    assert keys[0].count("dear") == 0
    assert 2 <= keys[1e4].count("dear") <= 25  # one of 21
    known = begun(30, 10)
    free = [FrontSearch(DIMENSIONS).decide(known, start_penalty=worth) for worth in (0.0, 1e4)]
    spent = [d.spend for d in free]
    assert spent[1] >= spent[0]
    assert free[1].action == "continue"  # what is begun needs no start
    assert free[1].spend == next(
        a.milestones[free[1].milestone].cost - a.milestones[a.done - 1].cost for a in known if a.key == free[1].key
    )


@pytest.mark.parametrize("part", ABLATIONS)
def test_each_part_can_be_left_out(part):
    left = FrontSearch(DIMENSIONS, reference=Reference(score=0.0), ablate=[part])
    arms, _ = spend(left, arms_of(30), 14)
    if part == "freeze":
        assert {arm.done for arm in arms} <= {0, 5}
    elif part == "cheap-start":
        # Of the runs that are drawn from all, not of those that try each model.
        drawn = [
            [FrontSearch(DIMENSIONS, seed=s, ablate=["try-each", *parts]).decide(arms_of(60)).key for s in range(60)]
            for parts in ([part], [])
        ]
        large = [sum(arms_of(60)[k].settings["model"] == "large" for k in keys) for keys in drawn]
        assert large[0] > 2 * large[1]
    else:
        whole, _ = spend(FrontSearch(DIMENSIONS, reference=Reference(score=0.0)), arms_of(30), 14)
        assert arms != whole


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_it_never_takes_up_what_is_finished_failed_or_in_other_hands(seed):
    rng = np.random.default_rng(seed)
    arms = []
    for arm in arms_of(20, seed):
        kind = rng.integers(0, 5)
        if kind == 1:
            arm = taken(arm, 4)
        elif kind == 2:
            arm = replace(arm, infeasible=True)
        elif kind == 3:
            arm = replace(arm, pending=int(rng.integers(0, 5)))
        elif kind == 4:
            arm = taken(arm, 2, cached=bool(rng.integers(0, 2)))
        arms.append(arm)
    found = FrontSearch(DIMENSIONS, seed=seed).decide(arms, cold_start_cost=0.5)
    if found.action in ("start", "continue"):
        arm = arms[found.key]
        assert arm.pending is None
        assert not arm.infeasible
        assert arm.done <= found.milestone < len(arm.milestones)
        assert (found.action == "continue") == (arm.done > 0)


def test_it_waits_where_all_is_in_other_hands_and_stops_where_nothing_is_left():
    arms = [replace(arm, pending=0) for arm in arms_of(3)]
    assert FrontSearch(DIMENSIONS).decide(arms).action == "wait"
    assert FrontSearch(DIMENSIONS).decide([taken(arm, 4) for arm in arms_of(3)]).action == "stop"
    assert FrontSearch(DIMENSIONS).decide([]).action == "stop"


def test_many_workers_do_not_all_start_before_anything_is_known():
    search, arms, started = FrontSearch(DIMENSIONS), arms_of(100), 0
    while (found := search.decide(arms)).action == "start":
        arms[found.key] = replace(arms[found.key], pending=found.milestone)
        started += 1
    assert found.action == "wait"
    assert 6 <= started < 64
    assert search.decide(arms, may_wait=False).action == "start"


def test_a_worker_waits_for_what_promises_much_only_where_waiting_saves_something():
    *others, best = sorted(arms_of(12), key=lambda arm: score(arm, 4))
    arms = [*(taken(arm, 4) for arm in others[:8]), taken(others[0], 3), replace(taken(best, 1), pending=4)]
    search = FrontSearch(DIMENSIONS, reference=Reference(score=0.0))
    assert search.decide(arms).action == "wait"
    found = search.decide(arms, may_wait=False)
    assert (found.action, arms[found.key].pending) == ("continue", None)


def test_what_is_under_way_is_not_bought_again():
    arms = begun()
    best = FrontSearch(DIMENSIONS, reference=Reference(score=0.0)).decide(arms)
    twin = replace(arms[best.key], key="twin", milestones=arms[best.key].milestones[: best.milestone + 1])
    alone = FrontSearch(DIMENSIONS, reference=Reference(score=0.0)).decide([*arms, twin])
    assert alone.key in (best.key, "twin")
    busy = [replace(arm, pending=best.milestone) if arm.key == best.key else arm for arm in arms]
    beside = FrontSearch(DIMENSIONS, reference=Reference(score=0.0)).decide([*busy, twin])
    assert beside.key != "twin"


def test_of_two_runs_alike_the_one_that_is_dearer_to_take_up_stays_where_it_is():
    *others, best = sorted(arms_of(12), key=lambda arm: score(arm, 4))
    arms, frozen = [taken(arm, 4) for arm in others[:8]], taken(best, 1)
    here, there = replace(frozen, key="here"), replace(frozen, key="there", resume=0.5)
    for order in ([here, there], [there, here]):
        assert FrontSearch(DIMENSIONS, reference=Reference(score=-1.0)).decide([*arms, *order]).key == "here"
    dropped = replace(frozen, key="dropped", cached=False)
    assert FrontSearch(DIMENSIONS, reference=Reference(score=-1.0)).decide([*arms, dropped, there]).key == "there"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of", ["scores", "losses"])
def test_what_is_no_number_counts_as_the_worst_and_spoils_nothing(of, bad):
    arms = begun()
    values = [v for arm in arms for v in getattr(arm, of)]
    worst = min(values) if of == "scores" else max(values)
    told = [
        [replace(arm, **{of: [value, *getattr(arm, of)[1:]]}) if i == 2 else arm for i, arm in enumerate(arms)]
        for value in (bad, worst)
    ]
    with_it, without = (FrontSearch(DIMENSIONS).decide(each) for each in told)
    assert np.isfinite(with_it.gain)
    assert with_it == without


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_it_decides_on_whatever_it_is_shown(data):
    """No setting, one or hundreds; scores all alike, losses that are no numbers, costs of any size, runs that all failed."""
    count = data.draw(st.sampled_from([0, 1, 3, 200]))
    dimensions = {f"s{j}": Dimension(f"s{j}", Uniform(0.0, 1.0) if j % 2 else Choice(("a", "b"))) for j in range(count)}
    scale = data.draw(st.sampled_from([1e-300, 1e-9, 1.0, 1e9, 1e300]))
    value = st.sampled_from([0.0, 0.5, 0.5, 1.0, -1e9, 1e9] if data.draw(st.booleans()) else [0.5])
    loss = st.sampled_from([0.0, 1.0, 1e300, np.nan, np.inf]) if data.draw(st.booleans()) else st.just(1.0)
    failing = data.draw(st.sampled_from([0, 1, 2]))  # none, some, all
    rng, arms = np.random.default_rng(data.draw(st.integers(0, 99))), []
    for i in range(data.draw(st.sampled_from([1, 2, 12]))):
        of = {name: float(rng.random()) if j % 2 else str(rng.choice(["a", "b"])) for j, name in enumerate(dimensions)}
        of = {name: v for name, v in of.items() if rng.random() < 0.8}
        length = data.draw(st.sampled_from([1, 3, 60]))
        done = data.draw(st.integers(0, min(length, 4)))
        milestones = [Milestone(float(k + 1), 1.0, scale * (k + 1)) for k in range(length)]
        scores, losses = ([data.draw(each) for _ in range(done)] for each in (value, loss))
        bad = failing == 2 or (failing == 1 and i % 2 == 0)
        pending = length - 1 if data.draw(st.integers(0, 5)) == 0 and done < length else None
        arms.append(Arm(i, of, milestones, scores, losses, infeasible=bad, pending=None if bad else pending))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = FrontSearch(dimensions).decide(arms, cold_start_cost=0.1 * scale)
    if found.action in ("start", "continue"):
        assert arms[found.key].done <= found.milestone < len(arms[found.key].milestones)
        assert arms[found.key].pending is None
        assert not arms[found.key].infeasible
        assert found.spend > 0
        assert np.isfinite(found.gain) or "first" in found.reason  # never the first of what is not known
    else:
        free = [arm for arm in arms if arm.pending is None and not arm.infeasible and arm.done < len(arm.milestones)]
        assert found.action == "wait" or not free


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**900])
def test_the_unit_of_cost_changes_no_decision(scale):
    def in_units(arm):
        return replace(arm, milestones=[replace(m, cost=m.cost * scale) for m in arm.milestones])

    arms = [replace(arm, scores=[1e9 * s for s in arm.scores]) for arm in begun()]
    plain, scaled = FrontSearch(DIMENSIONS).decide(arms), FrontSearch(DIMENSIONS).decide([in_units(arm) for arm in arms])
    assert (scaled.action, scaled.key, scaled.milestone) == (plain.action, plain.key, plain.milestone)
    assert np.isfinite(scaled.gain)


def test_growth_counts_up_to_the_reference_cost():
    arms = begun()
    near, far = (FrontSearch(DIMENSIONS, reference=Reference(score=0.0, cost=most)).decide(arms) for most in (1.5, 100.0))
    assert far.gain > near.gain


def test_runs_like_those_that_failed_are_left_alone():
    arms = begun(count=60)
    failing = [
        replace(arm, scores=(), losses=(), infeasible=True) if arm.settings["method"] == "lora" else arm for arm in arms[:25]
    ]
    chosen = [FrontSearch(DIMENSIONS, seed=s, reference=Reference(score=0.0)).decide([*failing, *arms[25:]]) for s in range(5)]
    started = [arms[found.key] for found in chosen if found.action == "start"]
    assert all(arm.settings["method"] == "full" for arm in started)
    doubtful = [replace(arm, fits=1e-6) if not arm.done and arm.settings["method"] == "full" else arm for arm in arms]
    found = FrontSearch(DIMENSIONS, reference=Reference(score=0.0)).decide(doubtful)
    assert found.action == "continue" or doubtful[found.key].fits == 1.0


def test_a_model_that_cannot_be_made_never_ends_a_search(monkeypatch):
    def fail(*_, **__):
        raise linalg.LinAlgError("singular")

    monkeypatch.setattr(quality.Surrogate, "condition", fail)
    found = FrontSearch(DIMENSIONS).decide(begun())
    assert found.action in ("start", "continue")


def test_equal_scores_and_one_setting_are_no_trouble():
    arms = [replace(arm, scores=[1.0, 1.0]) for arm in arms_of(8)]
    assert FrontSearch(DIMENSIONS).decide([*arms, *arms_of(12, 1)[8:]]).action in ("start", "continue")
    alone = [Arm(i, {}, [Milestone(1.0, 1.0, 1.0), Milestone(2.0, 1.0, 2.0)], [float(i)] if i < 8 else ()) for i in range(9)]
    assert FrontSearch({}).decide(alone).action in ("start", "continue")


def test_a_loss_that_falls_tells_of_scores_that_are_still_zero():
    """Two models whose scores are zero so far, of which nothing else is known; the one whose loss is falling is continued."""
    of = {"model": Dimension("model", Choice(("a", "b", "c", "d")))}
    milestones = [Milestone(2.0**k, 1.0, 2.0**k) for k in range(5)]
    good, poor = ([3.0, 2.0, 1.2, 0.7, 0.5], [0, 0, 20, 50, 70]), ([3.0, 3.0, 3.0, 2.9, 2.9], [0, 0, 0, 1, 2])
    known = [
        Arm(i, {"model": name}, milestones, scores, losses) for i, (name, (losses, scores)) in enumerate([("a", good), ("b", poor)])
    ]
    falling = Arm("falling", {"model": "c"}, milestones, [0, 0], [3.0, 2.0])
    stuck = Arm("stuck", {"model": "d"}, milestones, [0, 0], [3.0, 3.0])
    others = [replace(arm, key=("again", arm.key)) for arm in known]
    for order in ([falling, stuck], [stuck, falling]):
        found = FrontSearch(of, reference=Reference(score=-1.0)).decide([*known, *others, *order])
        assert found.key == "falling"


@given(st.integers(1, 200), st.integers(1, 8))
def test_checkpoints_are_spread_with_both_ends(count, most):
    found = log_spaced(count, most)
    assert found[0] == 0
    assert found[-1] == count - 1 or most == 1
    assert len(found) <= most


def test_where_only_finished_runs_count_the_search_looks_for_those():
    arms = begun(seen=10)  # two of which were taken to their end
    found = FrontSearch(DIMENSIONS, ends_only=True).decide(arms)
    assert found.milestone == len(arms[found.key].milestones) - 1
    assert found.gain > 0
    unfinished = [arm for arm in arms if arm.done < len(arm.milestones)]  # nothing counts yet: the first end adds all that it has
    assert FrontSearch(DIMENSIONS, ends_only=True).decide(unfinished).gain > found.gain
    assert any(FrontSearch(DIMENSIONS, seed=seed).decide(arms).milestone < 4 for seed in range(5))


def test_what_is_under_way_to_a_checkpoint_is_no_end():
    arms = [replace(arm, pending=2) if i == 1 else arm for i, arm in enumerate(begun(seen=10))]
    found = FrontSearch(DIMENSIONS, ends_only=True).decide(arms)
    assert found.action == "wait" or found.milestone == len(arms[found.key].milestones) - 1


def test_losses_stay_a_view_beside_arms_that_have_none():
    """What trains nothing has a score and no loss, and takes the others' losses from nobody."""
    arms, views, said = begun(seen=20), [], []
    asked = [replace(arm, losses=()) if arm.done == 1 else arm for arm in arms]
    later = [arm for arm in arms if not arm.done]
    for of in (arms, asked, [replace(arm, losses=()) for arm in arms]):
        belief = quality.Belief(Features(DIMENSIONS))
        belief.learn(of, np.random.default_rng(0))
        views.append(belief._surrogate.views)
        said.append(belief.of(later, np.full((len(later), 1), 4)).at(np.zeros(1)))
    assert views == [2, 2, 1]
    assert np.isfinite(said).all()
    assert not np.allclose(said[1], said[2])
