"""Proposals: the same from the same history, new each time, and told of everything that was learnt."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from workbench import Recipe, Study, bitfit, choice, full, integers, loguniform, peft, prices, search
from workbench.errors import UsageError
from workbench.prices import Prices
from workbench.result import Result
from workbench.search import optuna_study, spread
from workbench.testing import TinyTask
from workbench.usage import Usage

HERE = Path(__file__).parent
OFFER = prices.find(prices.DEFAULT)
SAMPLERS = ["TPESampler", "RandomSampler", "NSGAIISampler", "NSGAIIISampler", "GPSampler", "QMCSampler"]


def study(**changes):
    recipe = {
        "task": TinyTask(train=choice(32, 64)),
        "model": choice("a", "b"),
        "method": choice(
            full(learning_rate=loguniform(1e-4, 1e-2)),
            peft("lora", learning_rate=loguniform(1e-4, 1e-2), r=choice(2, 4)),
            bitfit(learning_rate=loguniform(1e-4, 1e-2)),
        ),
        "epochs": integers(1, 4, log=True),
    }
    return Study(Recipe(**recipe | changes), maximize="accuracy", minimize="usd")


def bound(**require):
    return Study(study().recipe, maximize="accuracy", minimize="usd", require=require)


FINITE = {"method": choice(full(learning_rate=1e-3), bitfit(learning_rate=1e-3)), "epochs": choice(1, 2)}


def result(of, settings, status="complete", accuracy=50.0, seconds=1.0):
    recipe = of.resolve(settings)
    scores = {"accuracy": accuracy} if status == "complete" else {}
    usage = {"train": Usage(seconds=seconds)} if status in ("complete", "infeasible") else {}
    known = {"recipe_id": recipe.id, "run_id": recipe.run_id, "recipe": recipe.to_json(), "settings": settings}
    return Result(**known, status=status, scores=scores, usage=usage, labels=32)


def propose(of, results=(), sampler="optuna:TPESampler", seed=0, offer=OFFER, label_usd=0.0):
    return search.propose(of, list(results), Prices(offer, label_usd), sampler=sampler, seed=seed)


def history(of, runs, **options):
    """Results of runs that the search proposed itself."""
    rng, results = random.Random(0), []
    for _ in range(runs):
        results.append(result(of, propose(of, results, **options), accuracy=rng.uniform(40, 90), seconds=rng.uniform(1, 9)))
    return results


def told(of, results, offer=OFFER, label_usd=0.0):
    return optuna_study.rebuild(of, of.dimensions, optuna_study.last_words(results), Prices(offer, label_usd)).trials


# The same history and seed give the same proposal


@pytest.mark.parametrize(
    "runs, sampler",
    [
        pytest.param(runs, sampler, marks=[pytest.mark.slow] if (runs, sampler) == (14, "GPSampler") else [])
        for runs in (0, 4, 14)
        for sampler in SAMPLERS
    ],
)
def test_proposals_are_deterministic_and_in_the_space(sampler, runs):
    of, name = study(), f"optuna:{sampler}"
    results = history(of, runs)
    proposals = [propose(of, results, sampler=name, seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert proposals[0] == proposals[1]
    assert any(proposal != proposals[0] for proposal in proposals[2:])
    for settings in proposals:
        of.resolve(settings)  # settings of the chosen method, and of no other


@pytest.mark.slow
def test_another_process_proposes_the_same():
    code = (
        "import json, test_search as t; of = t.study(); results = t.history(of, 12); "
        "print(json.dumps([dict(r.settings) for r in results] + [t.propose(of, results, seed=5)]))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=HERE,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    ]
    assert json.loads(runs[0]) == json.loads(runs[1])


# Spread at first, never twice


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_first_runs_see_every_method_and_model(seed):
    of = study()
    results = history(of, search.SPREAD_RUNS, seed=seed)
    for name, dimension in (("method", 3), ("model", 2), ("task.train", 2)):
        assert len({r.settings[name] for r in results}) == dimension
    counts = [sum(r.settings["method"] == m for r in results) for m in ("full", "lora", "bitfit")]
    assert min(counts) >= 2
    assert len({r.settings["method"] for r in results[:3]}) == 3


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "BruteForceSampler"])
def test_a_finite_space_is_exhausted_and_nothing_is_covered(sampler):
    of = study(**FINITE)
    results = []
    while (settings := propose(of, results, sampler=f"optuna:{sampler}")) is not None:
        assert not spread.covered(settings, [r.settings for r in results])
        results.append(result(of, settings))
    assert {r.run_id for r in results if r.epochs == 2} == {r.run_id for r in results}
    assert len({r.run_id for r in results}) == 8  # 2 label counts, 2 models, 2 methods


@pytest.mark.slow
def test_the_last_configuration_of_a_large_finite_space_is_found():
    of = study(method=full(learning_rate=1e-3), epochs=1, seed=choice(*range(60)))
    every = [{"task.train": t, "model": m, "seed": s} for t in (32, 64) for m in "ab" for s in range(60)]
    last = every.pop(77)
    assert propose(of, [result(of, settings) for settings in every]) == last
    assert propose(of, [result(of, settings) for settings in [*every, last]]) is None


@pytest.mark.parametrize("status", ["running", "infeasible", "interrupted", "complete"])
def test_what_was_begun_is_not_proposed_again(status):
    of = study(**FINITE)
    settings = propose(of)
    begun = [result(of, settings | {"epochs": 2}, status)]
    for seed in range(20):
        other = propose(of, begun, seed=seed)
        assert of.resolve(other).run_id != begun[0].run_id


def test_a_longer_run_is_something_new():
    settings = {"method": "full", "epochs": 2}
    assert spread.covered(settings, [{"method": "full", "epochs": 2}])
    assert spread.covered(settings, [{"method": "full", "epochs": 4}])
    assert not spread.covered(settings, [{"method": "full", "epochs": 1}])
    assert not spread.covered(settings | {"lora.r": None}, [{"method": "full", "epochs": 2}])


# What samplers are told


SETTINGS = {"task.train": 32, "model": "a", "method": "full", "full.learning_rate": 1e-3, "epochs": 2}


def test_infeasible_runs_are_told_as_complete_with_the_worst_values_and_a_constraint():
    of = study()
    unfit = {name: value for name, value in SETTINGS.items() if name != "full.learning_rate"}
    results = [
        result(of, SETTINGS, accuracy=80.0, seconds=10.0),
        result(of, SETTINGS | {"model": "b"}, accuracy=60.0, seconds=5.0),
        result(of, unfit | {"method": "bitfit", "bitfit.learning_rate": 1e-3}, "infeasible"),
    ]
    good, cheap, bad = told(of, results)
    assert {t.state for t in (good, cheap, bad)} == {TrialState.COMPLETE}
    assert bad.values == [cheap.values[0], good.values[1]]
    assert bad.system_attrs["constraints"][0] > 0 >= good.system_attrs["constraints"][0]


def test_the_sampler_turns_away_from_what_is_infeasible():
    """In a toy where one method never fits: told as FAIL, most of the budget would go there (design, section 6)."""
    of, results = study(), []
    for i in range(30):
        settings = propose(of, results)
        status = "infeasible" if settings["method"] == "full" else "complete"
        results.append(result(of, settings, status, accuracy=50.0 + i % 7, seconds=1.0 + i % 3))
    assert sum(r.method == "full" for r in results[search.SPREAD_RUNS :]) <= 5


def test_infeasible_before_anything_is_complete_is_told_too():
    of = study()
    (trial,) = told(of, [result(of, SETTINGS, "infeasible")])
    assert trial.state == TrialState.COMPLETE
    assert trial.system_attrs["constraints"][0] > 0


def test_what_is_required_is_told_as_by_how_much_it_is_missed():
    of = bound(accuracy=70.0)
    unfit = SETTINGS | {"task.train": 64}
    results = [
        result(of, SETTINGS, accuracy=80.0),
        result(of, SETTINGS | {"model": "b"}, accuracy=40.0),
        result(of, unfit, "infeasible"),
    ]
    assert [t.system_attrs["constraints"] for t in told(of, results)] == [[-1.0, -10.0], [-1.0, 30.0], [1.0, 30.0]]
    assert [len(t.system_attrs["constraints"]) for t in told(study(), results)] == [1, 1, 1]


def test_the_sampler_turns_to_what_keeps_a_bound():
    """In a toy where the better half of all methods is not let through."""
    free, held = study(), bound(gap_accuracy=5.0)
    share = []
    for of in (free, held):
        results = []
        for i in range(30):
            settings = propose(of, results)
            full_ = settings["method"] == "full"
            made = result(of, settings, accuracy=(80.0 if full_ else 50.0) + i % 7, seconds=1.0 + i % 3)
            results.append(replace(made, scores=made.scores | {"gap_accuracy": 30.0 if full_ else 1.0}))
        share.append(sum(r.method == "full" for r in results[10:]))
    assert share[1] < share[0]


def test_prices_are_those_of_now():
    of = study()
    results = [result(of, SETTINGS, seconds=3600.0)]
    assert told(of, results)[0].values[1] == pytest.approx(float(OFFER.usd_per_hour))
    assert told(of, results, replace(OFFER, amount=OFFER.amount * 10))[0].values[1] == pytest.approx(10 * float(OFFER.usd_per_hour))
    assert told(of, results, label_usd=1.0)[0].values[1] == pytest.approx(32 + float(OFFER.usd_per_hour))


def test_a_new_price_can_change_the_proposal():
    of = study()
    results = history(of, 16)
    assert any(propose(of, results, seed=s) != propose(of, results, seed=s, label_usd=10.0) for s in range(5))


def test_a_run_is_told_once_as_its_furthest_checkpoint():
    of = study()
    results = [result(of, SETTINGS | {"epochs": e}, accuracy=50.0 + e) for e in (1, 2, 4)]
    (trial,) = told(of, results)
    assert trial.values[0] == 54.0
    assert trial.params == SETTINGS | {"epochs": 4}
    running = result(of, SETTINGS | {"epochs": 4}, "running")
    assert [t.state for t in told(of, [*results[:2], running])] == [TrialState.RUNNING]


def test_a_checkpoint_between_the_options_of_epochs_is_told_without_them():
    of = study()
    whole = result(of, SETTINGS)
    half = replace(whole, recipe={**whole.recipe, "epochs": 0.5}, settings={**SETTINGS, "epochs": 0.5})
    (trial,) = told(of, [half])
    assert "epochs" not in trial.params
    assert propose(of, [half], sampler="optuna:RandomSampler") is not None


def test_an_unknown_cost_is_not_told_as_a_guess():
    of = replace(study(), minimize=("energy_j",))
    known = result(of, SETTINGS)
    unknown = replace(known, usage={"train": Usage(seconds=1.0, cpu_energy_j=None)})
    assert told(of, [unknown]) == []


# Samplers


@pytest.mark.parametrize(
    "sampler, said",
    [
        ("optuna:CmaEsSampler", "cannot search this study: .*multi-objective"),
        ("optuna:BruteForceSampler", "cannot search this study: .*infinite"),
        ("optuna:TPESample", "Did you mean 'optuna:TPESampler'"),
        ("optuna:GridSampler", "there is no sampler"),
        ("optuna:BaseGASampler", "there is no sampler"),
        ("TPESampler", "Did you mean 'optuna:TPESampler'"),
        ("", "there is no sampler"),
    ],
)
def test_samplers_that_cannot_be_used(sampler, said):
    with pytest.raises(UsageError, match=said):
        search.check_sampler(sampler, study())


@pytest.mark.parametrize("sampler", [*SAMPLERS, "BruteForceSampler"])
def test_samplers_that_can(sampler):
    search.check_sampler(f"optuna:{sampler}", study(**FINITE) if sampler == "BruteForceSampler" else study())
