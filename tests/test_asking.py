"""Models that are only asked: recipes without training, settings that then say nothing, and methods for some models alone."""

import dataclasses
import random
from typing import Any

import pytest

from workbench import Recipe, Study, choice, few_shot, full, integers, loguniform, peft, uniform, zero_shot
from workbench.data import models
from workbench.errors import UsageError
from workbench.forecast import Forecaster, pairs, starts
from workbench.methods.shots import nearest, shots
from workbench.space import allowed, draw
from workbench.testing import TinyTask, TinyText, tiny_decoder, tiny_model
from workbench.training import train


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def recipe(**changes: Any) -> Recipe:
    return Recipe(**({"task": TinyTask(train=32, dev=16), "model": "m", "method": zero_shot(), "epochs": 2} | changes))


def a_study(model: Any = "m", **changes: Any) -> Study:
    asked = choice(zero_shot(), full(learning_rate=loguniform(1e-3, 1e-2)))
    made = {"task": TinyTask(train=choice(32, 64), dev=16), "model": model, "method": asked, "epochs": integers(1, 2)}
    return Study(Recipe(**(made | changes)), maximize="accuracy")


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 5},
        {"batch_size": 2},
        {"warmup_steps": 1},
        {"weight_decay": 0.5},
        {"max_grad_norm": 9.0},
        {"averaging": None},
        {"seed": 7},
        {"task": TinyTask(train=1, dev=16)},
    ],
)
def test_what_only_training_reads_is_no_part_of_a_recipe_that_trains_nothing(change: dict[str, Any]) -> None:
    assert recipe(**change) == recipe()
    assert recipe(**change).id == recipe().id
    tuned = {"method": full(learning_rate=1e-3)}
    assert recipe(**tuned, **change).id != recipe(**tuned).id


def test_what_asking_reads_makes_another_recipe() -> None:
    several = [
        recipe(),
        recipe(model="n"),
        recipe(method=few_shot(shots=2)),
        recipe(method=few_shot(shots=4)),
        recipe(precision="float32"),
    ]
    several += [recipe(task=TinyTask(train=32, dev=8))]
    assert len({each.id for each in several}) == len(several)
    assert [each.task.train for each in several[:4]] == [0, 0, 2, 4]  # type: ignore[attr-defined]


def test_a_model_is_graded_as_it_is(tiny: str) -> None:
    (only,) = train(recipe(model=tiny))
    assert (only.recipe.epochs, only.step, only.labels, only.trainable_parameters) == (0, 0, 0, 0)
    assert set(only.scores) == {"accuracy", "dev_loss"}
    (untuned,) = train(recipe(model=tiny, method=full(learning_rate=1e-3), epochs=0))
    assert untuned.scores == only.scores
    assert (untuned.step, untuned.labels) == (0, 0)


def test_settings_of_training_exist_where_something_is_trained() -> None:
    study = a_study()
    assert list(study.dimensions) == ["method", "full.learning_rate", "task.train", "epochs"]
    rng = random.Random(0)
    drawn = [draw(study.dimensions, rng) for _ in range(20)]
    assert {tuple(each) for each in drawn} == {("method",), ("method", "full.learning_rate", "task.train", "epochs")}
    assert study.resolve({"method": "zero_shot"}) == dataclasses.replace(study.recipe, method=zero_shot())
    with pytest.raises(UsageError, match="there is no setting 'epochs' here"):
        study.resolve({"method": "zero_shot", "epochs": 2})
    with pytest.raises(UsageError, match=r"'task\.train' is missing"):
        study.resolve({"method": "full", "full.learning_rate": 2e-3, "epochs": 1})


def test_a_recipe_that_trains_needs_an_example() -> None:
    with pytest.raises(UsageError, match="train must be at least 1 where something is trained; got 0"):
        recipe(task=TinyTask(train=0), method=full(learning_rate=1e-3))


@pytest.mark.parametrize("shots", [0, -1, 1.5, True, "2", uniform(1, 4)])
def test_shots_are_a_whole_number(shots: Any) -> None:
    with pytest.raises(UsageError, match="shots must be a whole number, at least 1; got"):
        few_shot(shots=shots)


# Methods for some models


def some(**changes: Any) -> Study:
    methods = choice(zero_shot(), full(learning_rate=1e-3, models=("a", "b")), peft("lora", learning_rate=1e-3, models=["c"]))
    return a_study(model=choice("a", "b", "c"), **({"method": methods} | changes))


def test_a_method_for_some_models_is_drawn_with_no_other() -> None:
    study, rng = some(), random.Random(0)
    drawn = [draw(study.dimensions, rng) for _ in range(200)]
    pairs_ = {(each["model"], each["method"]) for each in drawn}
    assert pairs_ == {("a", "zero_shot"), ("b", "zero_shot"), ("c", "zero_shot"), ("a", "full"), ("b", "full"), ("c", "lora")}
    assert all(allowed(study.dimensions, each) for each in drawn)
    assert not allowed(study.dimensions, {"model": "c", "method": "full"})
    assert {(start.name, method.name) for start, method in starts.methods_of(study)} == pairs_


def test_for_which_models_a_method_is_says_nothing_of_a_recipe() -> None:
    plain, named = full(learning_rate=1e-3), full(learning_rate=1e-3, models=("m",))
    assert recipe(method=plain).id == recipe(method=named).id
    assert recipe(method=plain).to_json() == recipe(method=named).to_json()
    assert some().name != some(method=choice(zero_shot(), full(learning_rate=1e-3), peft("lora", learning_rate=1e-3))).name


def test_a_model_without_a_method_and_a_method_without_a_model_are_refused() -> None:
    with pytest.raises(UsageError, match="no method is for the model 'c'"):
        some(method=choice(zero_shot(models=("a",)), full(learning_rate=1e-3, models=("b",))))
    with pytest.raises(UsageError, match="'full' is for the model 'd', which the study does not have"):
        some(method=choice(zero_shot(), full(learning_rate=1e-3, models=("d",))))
    with pytest.raises(UsageError, match="models must be a tuple of models' names, got 'a'"):
        full(learning_rate=1e-3, models="a")


def test_examples_before_a_question_are_for_models_that_read_them(tiny: str) -> None:
    (pair,) = pairs.plan(a_study(model=tiny, method=few_shot(shots=2)))
    assert "'few_shot' puts examples before questions, which" in pair.problem


# The examples before a question


def text_recipe(model: str, **more: Any) -> Recipe:
    return recipe(**({"task": TinyText(train=24, dev=6), "model": model, "method": few_shot(shots=2, choose="nearest")} | more))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_decoder(tmp_path_factory.mktemp("decoder"))


def test_the_nearest_examples_are_those_of_like_words_and_the_likest_stands_last() -> None:
    texts = ["cancel my order", "the weather in Rome", "cancel an order of mine", "Rome in winter", "play a song"]
    known = [{"text": text} for text in texts]
    choose = nearest(known, lambda example: str(example["text"]), 2)
    assert [each["text"] for each in choose({"text": "please cancel the order"})] == [texts[2], texts[0]]
    assert [each["text"] for each in choose({"text": "weather of Rome"})] == [texts[3], texts[1]]
    assert choose({"text": "zzz"}) == choose({"text": "@@@"}) == [known[1], known[0]]  # like none: the first, as always
    assert [*nearest([{"text": ""}] * 3, lambda example: str(example["text"]), 2)({"text": "a"})] == [{"text": ""}] * 2


def test_each_question_stands_behind_its_own_examples_and_all_labels_are_bought(decoder: str) -> None:
    made = text_recipe(decoder)
    (only,) = train(made)
    assert (only.labels, only.step, only.recipe.epochs) == (24, 0, 0)
    splits, formulation = made.task.splits(), made.task.formulation("decoder")
    assert len(splits.train) == 24
    found = shots(made.method, formulation, splits.train)
    assert callable(found)
    rows = formulation.encode(splits.dev, models.processor(decoder), answers=False, shots=found)
    seen = set()
    for example, ids in zip(splits.dev, rows.columns["input_ids"], strict=True):
        text = models.processor(decoder).decode(ids.tolist())
        own = [" ".join(f"w{word}" for word in each["words"]) for each in found(example)]
        places = [text.index(each) for each in own]
        assert places == sorted(places)
        assert text.index(" ".join(f"w{word}" for word in example["words"])) > places[-1]
        seen.add(tuple(own))
    assert len(seen) > 1


def test_the_first_examples_are_the_recipe_that_they_were(decoder: str) -> None:
    assert few_shot(shots=2).settings == few_shot(shots=2, choose="first").settings == {"shots": 2}
    first = text_recipe(decoder, method=few_shot(shots=2))
    assert first.task.train == 2  # type: ignore[attr-defined]
    assert len({first.id, text_recipe(decoder).id, text_recipe(decoder, task=TinyText(train=12, dev=6)).id}) == 3
    assert text_recipe(decoder, seed=5, epochs=9).id == text_recipe(decoder).id


def test_what_is_bought_for_the_nearest_is_searched() -> None:
    near = few_shot(shots=2, choose="nearest", name="near")
    study = a_study(method=choice(near, zero_shot(), full(learning_rate=1e-3)))
    assert {tuple(draw(study.dimensions, random.Random(i))) for i in range(40)} == {
        *(("method",), ("method", "task.train"), ("method", "epochs", "task.train")),
    }
    assert study.resolve({"method": "near", "task.train": 64}).task.train == 64  # type: ignore[attr-defined]


def test_the_forecast_knows_what_the_nearest_cost(decoder: str) -> None:
    made = text_recipe(decoder)
    forecast = Forecaster(Study(made, maximize="accuracy")).run(made)
    assert forecast.labels == 24
    (bare,) = [Forecaster(Study(each, maximize="accuracy")).run(each) for each in [text_recipe(decoder, method=zero_shot())]]
    assert forecast.work["evaluate"].flops > 2 * bare.work["evaluate"].flops


def test_what_trains_nothing_takes_no_pass_for_its_loss(decoder: str) -> None:
    asked = text_recipe(decoder, method=zero_shot())
    tuned = text_recipe(decoder, method=full(learning_rate=1e-9), epochs=1)
    (only,), (*_, last) = train(asked), train(tuned)
    assert last.scores.keys() - only.scores.keys() == {"dev_loss"}
    done = (each.usage["evaluate"].work for each in (only, last))
    assert next(done).flops < next(done).flops
    untuned, learned = (Forecaster(Study(each, maximize="accuracy")).run(each).work["evaluate"].flops for each in (asked, tuned))
    assert untuned < learned


def test_ways_to_choose_examples_that_there_are_not() -> None:
    for wrong in ("last", None, choice("first", "nearest")):
        with pytest.raises(UsageError, match="choose must be 'first' or 'nearest'; got"):
            few_shot(shots=2, choose=wrong)
    with pytest.raises(UsageError, match=r"'few_shot' chooses 8 examples of train=4\. Buy more labels, or ask with fewer"):
        recipe(task=TinyText(train=choice(4, 64)), method=few_shot(shots=choice(2, 8), choose="nearest"))


@pytest.mark.parametrize(
    ("train", "method", "of"),
    [
        (64, few_shot(shots=100), 64),
        (64, few_shot(shots=choice(4, 100)), 64),
        (choice(16, 64), few_shot(shots=65), 64),
        (64, choice(zero_shot(), few_shot(shots=100)), 64),
        (choice(16, 64), choice(zero_shot(), few_shot(shots=32, choose="nearest")), 16),
    ],
)
def test_more_shots_than_labels_are_refused(train: Any, method: Any, of: int) -> None:
    with pytest.raises(UsageError, match=rf"'few_shot' chooses \d+ examples of train={of}\. Buy more labels, or ask with fewer"):
        Study(recipe(task=TinyText(train=train), method=method), maximize="accuracy")


def test_the_first_ones_are_bought_for_a_method_alone() -> None:
    study = Study(recipe(task=TinyText(train=choice(16, 64)), method=few_shot(shots=choice(4, 64))), maximize="accuracy")
    assert study.resolve({"few_shot.shots": 4}).task.train == 4  # type: ignore[attr-defined]
