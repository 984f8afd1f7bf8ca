"""FrontSampler in a plain Optuna study: within the space, the same from the same seed, and told of costs."""

import math
import random
import subprocess
import sys

import optuna
import pytest
from hypothesis import given, settings, strategies
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from workbench.search import FrontSampler, sampler
from workbench.search.sampler import RANDOM_TRIALS, _conditions, _draw, predict_log_cost
from workbench.space import Choice, Dimension, Integers, Uniform

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    """A quality and a cost: width and steps buy quality, at a rate that a learning rate decides on."""
    method = trial.suggest_categorical("method", ["full", "lora"])
    steps = trial.suggest_int("steps", 1, 64, log=True)
    rate = trial.suggest_float("rate", 1e-5, 1e-2, log=True)
    rank = trial.suggest_int("rank", 2, 16, step=2) if method == "lora" else 16
    trial.suggest_float("nothing", 0.0, 0.0)
    if method == "full":
        trial.suggest_categorical("frozen", [True, False])
    quality = 100 * (1 - math.exp(-steps * rank / 200)) - 5 * abs(math.log10(rate) + 3)
    return -quality, 0.01 * steps * (2 if method == "full" else 1), quality


def optimise(trials, *, seed=0, directions=("maximize", "minimize"), **options):
    study = optuna.create_study(directions=list(directions), sampler=FrontSampler(seed=seed))
    swap = list(directions) == ["minimize", "maximize"]
    study.optimize(lambda trial: objective(trial)[1:] if swap else objective(trial)[:0:-1], n_trials=trials, **options)
    return study


@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("minimize", "maximize")])
def test_a_study_is_searched_within_its_space(directions):
    study = optimise(RANDOM_TRIALS + 12, directions=directions)
    for trial in study.trials:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert ("rank" in trial.params) == (trial.params["method"] == "lora")
        assert all(
            trial.distributions[name]._contains(d.to_internal_repr(trial.params[name])) for name, d in trial.distributions.items()
        )
        assert trial.params.get("rank", 2) % 2 == 0
    assert len({trial.params["rate"] for trial in study.trials}) == RANDOM_TRIALS + 12
    assert len(study.best_trials) >= 2


def test_the_same_seed_gives_the_same_trials():
    first, again, other = (optimise(RANDOM_TRIALS + 6, seed=seed) for seed in (1, 1, 2))
    assert [t.params for t in first.trials] == [t.params for t in again.trials]
    assert [t.params for t in first.trials] != [t.params for t in other.trials]
    assert len({t.params["rate"] for t in optimise(3, seed=None).trials + optimise(3, seed=None).trials}) == 6


def test_several_at_once_propose_different_trials():
    study = optimise(RANDOM_TRIALS + 8, n_jobs=4)
    assert len({t.params["rate"] for t in study.trials}) == RANDOM_TRIALS + 8
    assert all(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials)


@pytest.mark.slow
def test_the_search_proposes_each_trial_however_many_are_under_way(monkeypatch):
    study, decide, answers = optimise(RANDOM_TRIALS + 6), sampler.FrontSearch.decide, []

    def told(*arguments, **options):
        answers.append(decide(*arguments, **options))
        return answers[-1]

    monkeypatch.setattr(sampler.FrontSearch, "decide", told)
    for _ in range(24):
        objective(study.ask())
    assert [answer.action for answer in answers] == ["start"] * 24


@pytest.mark.parametrize(
    "directions", [["maximize"], ["minimize", "minimize"], ["maximize", "maximize"], ["maximize", "minimize", "minimize"]]
)
def test_other_objectives_are_refused_in_words(directions):
    study = optuna.create_study(directions=directions, sampler=FrontSampler(seed=0))
    with pytest.raises(ValueError, match="one objective to maximise, a quality, and one to minimise"):
        study.ask().suggest_float("x", 0.0, 1.0)


def test_a_cost_of_nothing_is_refused_in_words():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=FrontSampler(seed=0))
    with pytest.raises(ValueError, match=r"objective 1 is minimised, and the cost of a trial must be above 0"):
        study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0.0), n_trials=RANDOM_TRIALS + 1)


def test_the_search_is_told_of_trials_and_of_expected_costs(monkeypatch):
    seen = []

    class Told(sampler.FrontSearch):
        def decide(self, arms, **options):
            seen.append(list(arms))
            return super().decide(arms, **options)

    study = optimise(RANDOM_TRIALS + 10)
    monkeypatch.setattr(sampler, "FrontSearch", Told)
    for _ in range(2):  # the first is under way while the second is proposed
        study.ask().suggest_categorical("method", ["full", "lora"])
    arms = seen[-1]
    done = [arm for arm in arms if arm.done]
    assert [arm.pending for arm in arms if arm.pending is not None] == [0]
    assert sorted(arm.scores[0] for arm in done) == sorted(t.values[0] for t in study.trials[: RANDOM_TRIALS + 10])
    assert all("nothing" not in arm.settings for arm in arms)
    for arm in arms:
        if not arm.done and arm.pending is None:
            assert ("rank" in arm.settings) == (arm.settings["method"] == "lora") == ("frozen" not in arm.settings)
            true = 0.01 * arm.settings["steps"] * (2 if arm.settings["method"] == "full" else 1)
            assert arm.milestones[0].cost == pytest.approx(true, rel=0.7)


def test_what_no_option_explains_is_left_to_chance():
    space = {"method": CategoricalDistribution(["a", "b"]), "x": FloatDistribution(0, 1)}
    assert _conditions(space, [{"method": "a", "x": 0.5}, {"method": "a"}]) == {"x": None}
    assert _conditions(space, [{"method": "a", "x": 0.5}, {"method": "b"}]) == {"x": ("method", {"a"})}
    assert _conditions(space, [{"method": "a", "x": 0.5}]) == {}


@given(strategies.integers(0, 10**6))
def test_what_is_drawn_lies_in_its_distribution(seed):
    for distribution in (
        FloatDistribution(1e-5, 1e-2, log=True),
        FloatDistribution(-1.0, 0.8, step=0.3),
        FloatDistribution(2.0, 2.0),
        IntDistribution(1, 64, log=True),
        IntDistribution(2, 17, step=5),
        CategoricalDistribution([None, True, 3, "x"]),
    ):
        value = _draw(distribution, random.Random(seed))
        assert distribution._contains(distribution.to_internal_repr(value))


@settings(deadline=None)
@given(strategies.floats(-2, 2), strategies.floats(-2, 2), strategies.floats(-5, 5))
def test_costs_that_are_products_are_learnt(slope, jump, level):
    space = {"n": Integers(1, 1024, log=True), "m": Choice(("a", "b")), "x": Uniform(0.0, 1.0)}
    dimensions = {name: Dimension(name, each) for name, each in space.items()}
    rng = random.Random(0)
    drawn = [{name: each.sample(rng) for name, each in space.items()} for _ in range(200)]
    cost = lambda s: math.exp(level + slope * math.log(s["n"]) + jump * (s["m"] == "a"))  # noqa: E731
    known = [(s, cost(s)) for s in drawn[:150]]
    for guess, s in zip(predict_log_cost(dimensions, known, drawn[150:]), drawn[150:], strict=True):
        assert guess == pytest.approx(math.log(cost(s)), abs=0.1)
    assert predict_log_cost(dimensions, known, []) == []
    one = predict_log_cost(dimensions, known[:1], [{"m": "b"}])
    assert one == pytest.approx([math.log(known[0][1])])


@pytest.mark.slow
def test_importing_the_search_loads_no_optuna():
    code = "import sys, workbench.search as s; assert 'optuna' not in sys.modules; s.FrontSampler; assert 'optuna' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
