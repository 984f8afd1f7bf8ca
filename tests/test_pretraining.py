"""Further pre-training in a study: its holes and ids, its forecast, its budget, and what a sweep spends on it."""

import contextlib
import itertools
import json
from dataclasses import replace

import pytest
import started
from started import OFFER, child, fresh, swept

from workbench import Recipe, Study, causal_lm, choice, full, loguniform, masked_lm, prices, space
from workbench.data import fingerprints, load
from workbench.errors import UsageError
from workbench.forecast import Calibration, Forecaster, Machine, calibrate, on_offer, pairs, starts, typical
from workbench.ledger import Ledger, default_url
from workbench.report.bill import phases_spent
from workbench.report.text import describe
from workbench.result import Result, labels_bought, mean_costs, model_name, originals, spending
from workbench.sweep import Limits
from workbench.tasks.language_modelling import LanguageModelling
from workbench.testing import FakeMeter, TinyTask, tiny_decoder
from workbench.tracking.tags_and_metrics import run_name
from workbench.training import parent_store, train
from workbench.usage import Usage


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("pretraining")
    return started.masked_model(tiny, folder / "m"), started.corpus(folder / "corpus.txt")


@pytest.fixture
def place(shared, tmp_path, monkeypatch):
    """The model and a value of pre-training, with a cache of this test's own."""
    fresh(monkeypatch, tmp_path / "cache")
    model, corpus = shared
    return model, masked_lm(corpus, steps=8, batch_size=8, max_length=24)


def study(model, pretrain, **changes):
    recipe = child(model, pretrain=pretrain, method=full(learning_rate=loguniform(1e-3, 1e-2)), **changes)
    return Study(recipe, maximize="accuracy", minimize="usd")


# What it is


def test_a_recipe_without_it_is_what_it_was(place):
    model, how = place
    assert "pretrain" not in child(model).to_json()
    assert "parents" not in child(model).inputs
    ids = [child(model).id, child(model, pretrain=how).id, child(model, pretrain=replace(how, steps=9)).id, child(child(model)).id]
    assert len({*ids}) == 4


def test_the_record_holds_all_of_it(place):
    model, how = place
    record = json.loads(json.dumps(child(child(model, pretrain=how)).to_json()))
    assert record["model"]["pretrain"] | {"redact": None} == {"type": "Pretraining", **vars(how)}
    assert record["model"]["model"] == model
    assert model_name(record) == f"{model} + masked_lm + tiny"
    assert model_name({"model": "minilm-l3"}) == "minilm-l3"


def test_another_corpus_is_another_recipe(place, tmp_path):
    model, how = place
    file = tmp_path / "c.txt"
    started.corpus(file)
    recipe = child(model, pretrain=replace(how, corpus=str(file)))
    before = recipe.id
    assert recipe.inputs["parents"]
    started.corpus(file, texts=121)
    fingerprints.look_again()
    load.cache_clear()
    again = child(model, pretrain=replace(how, corpus=str(file)))
    assert (again.to_json(), again.inputs["model"]) == (recipe.to_json(), recipe.inputs["model"])
    assert again.inputs["parents"] != recipe.inputs["parents"]
    assert again.id != before


def test_the_steps_are_just_those_that_are_asked_for(place):
    model, how = place
    for steps in (1, 7, 8, 100):
        parent = child(model, pretrain=replace(how, steps=steps)).parent
        assert round(parent.epochs * parent.task.train / parent.batch_size) == steps
        assert parent.task.train <= steps * 8  # no text is read that nobody learns from
        assert len(parent.task.splits().train) == parent.task.train


def test_its_settings_are_holes_of_a_study(place):
    model, how = place
    of = study(model, choice(None, masked_lm(how.corpus, steps=choice(4, 8), batch_size=8, max_length=24)))
    assert {*of.dimensions} == {"pretrain", "masked_lm.steps", "full.learning_rate"}
    assert of.dimensions["masked_lm.steps"].when == (("pretrain", "masked_lm"),)
    some = {"pretrain": "masked_lm", "masked_lm.steps": 4, "full.learning_rate": 2e-3}
    recipe = of.resolve(some)
    assert recipe.parent is not None
    assert recipe.pretrain.steps == 4
    assert space.settings_of(of.recipe, recipe) == some
    assert of.resolve({"pretrain": None, "full.learning_rate": 2e-3}).parent is None
    names = [start.name for start in starts.starts(of)]
    assert names == [model, f"{model} + masked_lm"]


def test_a_choice_of_models_may_hold_a_recipe(place):
    model, _ = place
    taught = child(model, task=TinyTask(train=16, dev=8, data="other"), epochs=choice(1, 2))
    of = study(choice(model, taught), None)
    assert of.dimensions["model"].space.names == (model, f"{model} + other")
    settings = {"model": f"{model} + other", f"{model} + other.epochs": 2, "full.learning_rate": 2e-3}
    recipe = of.resolve(settings)
    assert recipe.parent.epochs == 2
    assert recipe.origin == model


def test_a_kind_of_model_learns_in_its_own_way(place, tmp_path):
    model, how = place
    decoder = tiny_decoder(tmp_path / "decoder")
    with pytest.raises(UsageError, match=r"causal_lm is for models of kind 'decoder', and .* is of kind 'encoder'. Take masked_lm"):
        [*pairs.plan(study(model, causal_lm(how.corpus, steps=8)))]
    with pytest.raises(UsageError, match=r"masked_lm is for models of kind 'encoder'.* Take causal_lm"):
        child(decoder, pretrain=how).parent  # noqa: B018
    parent = child(decoder, pretrain=causal_lm(how.corpus, steps=8, batch_size=8, max_length=24)).parent
    assert parent.formulation.auto_class == "AutoModelForCausalLM"


# What it will take


def test_its_forecast_is_that_of_the_parent_and_nothing_once_it_is_there(place):
    model, how = place
    recipe, alone = child(model, pretrain=how), child(model)
    forecaster = Forecaster(Study(recipe, maximize="accuracy"))
    found, plain, parent = (forecaster.run(each) for each in (recipe, alone, recipe.parent))
    parts = [parent.phases[name].value for name in ("load", "data", "train")]
    assert found.phases["pretrain"].value == pytest.approx(sum(parts))
    assert found.seconds.value == pytest.approx(plain.seconds.value + sum(parts))
    assert found.spent_seconds.value == pytest.approx(plain.spent_seconds.value + sum(parts))
    assert found.labels == plain.labels == 16
    assert "pretrain" not in plain.phases
    assert "pretrain" not in forecaster.segment(recipe, 0.5, 1.0).phases  # it goes on from its state
    assert forecaster.key(recipe) != forecaster.key(alone)
    [*train(recipe, meter=FakeMeter())]
    found = forecaster.segment(recipe, 0.0, 1.0)
    assert found.seconds.value == pytest.approx(plain.seconds.value + sum(parts))  # a point has it in full
    assert found.spent_seconds.value == pytest.approx(plain.spent_seconds.value)
    assert on_offer(found, forecaster.machine, OFFER, spent=True).usd.value < on_offer(found, forecaster.machine, OFFER).usd.value


def test_results_and_timings_sharpen_it(place):
    model, how = place
    recipe = child(model, pretrain=how)
    of = Study(recipe, maximize="accuracy")
    checkpoint = [*train(recipe, meter=FakeMeter())][-1]
    slow = {name: replace(usage, seconds=50.0 if name == "pretrain" else 1.0) for name, usage in checkpoint.usage.items()}
    here = Machine.here()
    device = {"cpu": here.name.split(" x ", 1)[1], "cpus_held": here.cpus, "gpus": []}
    result = Result(
        recipe_id=recipe.id, run_id=recipe.run_id, recipe=recipe.to_json(), settings={}, status="complete",
        scores=checkpoint.scores, usage=slow, step=checkpoint.step, tokens=checkpoint.tokens, provenance={"device": device},
    )  # fmt: skip
    learned = Forecaster(of, [result]).run(recipe)
    assert learned.phases["pretrain"].value == pytest.approx(50.0, rel=0.01)
    assert learned.phases["pretrain"].basis == "measured"
    ticks = itertools.count()
    made = calibrate(of, 1.0, machine=here, clock=lambda: 0.01 * next(ticks))
    assert {(t.phase, t.model, t.method) for t in made.timings} >= {("pretrain", model, "masked_lm"), ("train", model, "full")}
    assert Forecaster(of, calibration=Calibration.from_json(made.to_json())).run(recipe).phases["pretrain"].basis == "calibrated"


def test_a_plan_lists_it_and_a_sweep_shares_it(place):
    model, how = place
    of = study(model, choice(None, how))
    assert [(p.model, p.method, p.before) for p in pairs.plan(of)] == [
        (model, "masked_lm", True), (model, "full", False), (f"{model} + masked_lm", "full", False)
    ]  # fmt: skip
    alone = typical(Forecaster(study(model, None))).seconds.value
    always = typical(Forecaster(study(model, how))).seconds.value
    whole = Forecaster(of).run(child(model, pretrain=how)).phases["pretrain"].value
    assert always - alone == pytest.approx(whole / 16)  # sixteen runs make it once


# What it takes


def test_a_sweep_pays_for_it_once_and_every_point_in_full(place, tmp_path):
    model, how = place
    results, _ = swept(tmp_path, study(model, how), Limits(trials=2))
    points = [r for r in results if r.status == "complete"]
    assert len({r.run_id for r in points}) == 2
    assert len({r.usage["pretrain"].seconds for r in points}) == 1
    paid = [r for r in results if r.spent.get("pretrain", Usage()).seconds > 2]
    assert len(paid) == 1
    assert paid[0].spent["pretrain"].work.steps == 8
    spent = spending(results, OFFER, 0.0)
    assert spent.seconds == pytest.approx(sum(u.seconds for r in results for u in r.spent.values()))
    means = mean_costs(points[0], OFFER)
    assert means.pretraining_example == pytest.approx(prices.usd(points[0].usage["pretrain"], OFFER) / 64)
    assert points[0].model == f"{model} + masked_lm"
    assert f"on {model} + masked_lm, 16 labels" in describe(points[-1])
    assert "masked_lm" not in run_name(points[0])  # it was not searched
    assert "pretrain" in phases_spent(results)
    assert {r.outdated for r in originals(results)} == {()}
    assert labels_bought(results) == {"tiny/0": 16}


def test_a_budget_that_does_not_admit_it_is_kept_before_it_begins(place, tmp_path):
    model, how = place
    long = replace(how, steps=20_000_000)
    results, done = swept(tmp_path, study(model, long), Limits(trials=2, max_usd=0.01))
    assert results == []
    assert "no run that is left fits the budget" in done.reason
    assert not parent_store.is_at_hand(child(model, pretrain=long).parent)


def test_labels_of_parents_are_bought_once_and_forecast(place, tmp_path):
    model, _ = place
    taught = child(model, task=TinyTask(train=24, dev=8, data="other"))
    of = study(taught, None)
    assert Forecaster(of).run(of.resolve({next(iter(of.dimensions)): 1e-3})).labels == 40
    results, done = swept(tmp_path, of, Limits(trials=2, max_labels=39))
    assert results == []
    assert "40 more labels, of 39 left" in done.reason
    results, _ = swept(tmp_path, of, Limits(trials=2, max_labels=40))
    points = [r for r in results if r.status == "complete"]
    assert {r.labels_by_order["other/0"] for r in points} == {24}
    assert max(r.labels for r in points) == 40
    assert labels_bought(results) == {"other/0": 24, "tiny/0": 16}
    again = Result.from_json(points[0].to_json())
    assert again.labels_by_order == points[0].labels_by_order


def test_one_that_is_interrupted_is_charged_to_the_run_that_made_it(place, tmp_path, monkeypatch):
    model, how = place
    monkeypatch.setattr(LanguageModelling, "score", lambda *_: 1 / 0)
    with contextlib.suppress(ZeroDivisionError):
        swept(tmp_path, study(model, how), Limits(trials=2))
    results = Ledger.find(None, default_url(tmp_path)).results()
    assert [r.status for r in results] == ["interrupted"]
    assert results[0].spent["pretrain"].seconds > 0
    assert results[0].spent["pretrain"].work.steps > 0
    assert results[0].labels == 0


def test_recipes_of_a_chain_are_told_by_short_names(place):
    _, how = place
    chain = child(child("minilm-l3", pretrain=how), task=TinyTask(data="/a/b/tickets.csv"), method=full(learning_rate=1e-3))
    assert child(chain).model_name == "minilm-l3 + masked_lm + tiny + tickets"
    assert isinstance(chain, Recipe)
