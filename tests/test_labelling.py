"""Which examples are labelled, what it costs to choose them, and which labels are paid for."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import (
    Recipe,
    Study,
    badge,
    choice,
    diversity,
    full,
    logistic,
    pseudo_labels,
    uncertainty,
    uniform,
    zero_shot,
)
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.forecast.forecaster import Forecaster
from workbench.labelling import Chooser, choosing, surest
from workbench.report.text import settings_text
from workbench.result import Result, labels_bought, labels_by_order
from workbench.testing import FakeMeter, TinyTask, TinyText, tiny_decoder
from workbench.training import choosing as lots
from workbench.training import encoding, train
from workbench.usage import Usage

torch = pytest.importorskip("torch")
CPU = torch.device("cpu")
STRATEGIES = [uncertainty(first=8, batch=8), diversity(), badge(first=8, batch=8)]


class Opened:
    usage = Usage(seconds=1.0)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    lots.forget()


def points(count: int = 120, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 in as many clouds as classes, the last of them rare."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=[0.32, 0.32, 0.31, 0.05])
    found = np.eye(8)[labels] + 0.1 * rng.normal(size=(count, 8))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


def chooser(strategy: Any, seed: int = 0) -> Chooser:
    vectors, labels = points()

    def told(known: Sequence[int]) -> np.ndarray:
        return lots.probabilities(vectors, vectors[list(known)], torch.tensor(labels[list(known)]), 4, strategy.C)

    return Chooser(strategy, vectors, seed, told)


# The order


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.name)
def test_an_order_has_each_example_once_and_is_always_the_same(strategy: Any) -> None:
    one, other = chooser(strategy), chooser(strategy)
    while len(one.order) < 120:
        one.next_round()
    assert sorted(one.order) == [*range(120)]
    other.next_round()
    other.next_round()
    assert one.order[: len(other.order)] == other.order
    if strategy.kind != "uncertainty":
        assert chooser(strategy, seed=1).next_round() != one.rounds[0] or strategy.kind == "badge"


def test_the_first_labels_are_those_of_the_tasks_own_order() -> None:
    for strategy in (uncertainty(first=5), badge(first=5)):
        assert chooser(strategy).next_round() == [0, 1, 2, 3, 4]


def test_the_smallest_margin_comes_first_and_the_earlier_of_equal_ones() -> None:
    told = np.array([[0.5, 0.3, 0.2], [0.45, 0.44, 0.11], [0.9, 0.05, 0.05], [0.5, 0.3, 0.2]])
    assert choosing.least_margin(told, told, 3, np.random.default_rng(0)).tolist() == [1, 0, 3]


def test_gradients_are_compared_as_if_they_were_written_out() -> None:
    """The distances of k-means++ are those between outer products of errors and embeddings."""
    vectors, _ = points(30)
    told = np.random.default_rng(3).dirichlet(np.ones(4), 30)
    errors = told - np.eye(4)[told.argmax(1)]
    gradients = np.einsum("nk,nd->nkd", errors, vectors).reshape(30, -1)
    rng = np.random.default_rng(7)
    expected = [int((gradients**2).sum(1).argmax())]
    while len(expected) < 10:
        nearest = ((gradients[:, None] - gradients[expected][None]) ** 2).sum(-1).min(1)
        sums = np.cumsum(nearest)
        expected.append(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")))
    assert choosing.varied_gradients(vectors, told, 10, np.random.default_rng(7)).tolist() == expected


def test_diversity_reaches_a_rare_class_sooner_than_chance() -> None:
    vectors, labels = points(400)
    rare = []
    for seed in range(20):
        of = Chooser(diversity(), vectors, seed, lambda known: pytest.fail("no class is asked for"))
        rare.append((labels[of.next_round()] == 3).sum())
    assert np.mean(rare) > 1.3 * 32 * (labels == 3).mean()


def test_texts_that_are_all_alike_are_taken_in_their_order() -> None:
    vectors = np.ones((6, 4), np.float32) / 2
    found = Chooser(diversity(), vectors, 0, lambda known: np.zeros((6, 2))).next_round()
    assert sorted(found) == [*range(6)]


def test_the_surest_are_those_above_the_threshold() -> None:
    told = np.array([[0.95, 0.05], [0.6, 0.4], [0.01, 0.99], [0.9, 0.1]])
    assert surest(told, 0.9, 10).tolist() == [2, 0, 3]
    assert surest(told, 0.9, 1).tolist() == [2]
    assert surest(told, 1.0, 10).tolist() == []


# Through the loop


def recipe(model: str, **more: Any) -> Recipe:
    given: dict[str, Any] = {"task": TinyTask(train=32), "method": logistic(C=10.0), "epochs": 1, "batch_size": 8}
    return Recipe(model=model, **given | more)


def window() -> Any:
    return contextlib.nullcontext(Opened())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.name)
def test_a_smaller_set_is_a_prefix_of_a_larger_one(tiny: str, strategy: Any) -> None:
    small, large = (lots.lot(recipe(tiny, task=TinyTask(train=count), acquire=strategy), CPU, window) for count in (20, 40))
    assert large.places[:20] == small.places
    assert [e["id"] for e in large.examples[:20]] == [e["id"] for e in small.examples]
    assert len({*large.places}) == 40
    lots.forget()
    again = lots.lot(recipe(tiny, task=TinyTask(train=20), acquire=strategy), CPU, window)
    assert again.places == small.places


@pytest.mark.parametrize("method", [logistic(C=10.0), full(learning_rate=1e-3)], ids=lambda each: each.name)
def test_labels_are_those_that_were_bought_and_choosing_is_billed(tiny: str, method: Any) -> None:
    made = recipe(tiny, method=method, acquire=uncertainty(first=8, batch=8))
    *_, first = train(made)
    *_, again = train(made)
    assert (first.labels, len(first.bought)) == (32, 32)
    assert again.bought == first.bought
    assert dict(again.scores) == dict(first.scores)
    # 256 examples of the pool passed the model, for this run as for the one that found them at hand.
    assert first.usage["data"].work.examples == again.usage["data"].work.examples == 256
    assert first.usage["data"].work.flops == again.usage["data"].work.flops > 0
    *_, plain = train(recipe(tiny, method=method))
    assert (plain.labels, plain.bought) == (32, ())
    assert plain.usage["data"].seconds < first.usage["data"].seconds


def test_what_was_known_before_the_first_step_is_paid_for_at_every_checkpoint(tiny: str) -> None:
    made = recipe(tiny, method=full(learning_rate=1e-3), acquire=uncertainty(first=8, batch=8), task=TinyTask(train=64, dev=8))
    checkpoints = list(train(made))
    assert [c.labels for c in checkpoints][-1] == 64
    assert checkpoints[0].labels < 56
    assert len(checkpoints[0].bought) == 56  # the last round alone was not needed to choose others
    free = [len(c.bought) == c.labels for c in train(replace(made, acquire=diversity()))]
    assert all(free)


def test_pseudo_labels_join_the_training_and_count_no_label(tiny: str) -> None:
    made = recipe(tiny, pseudo=pseudo_labels(threshold=0.5, most=150))
    lot = lots.lot(made, CPU, window)
    assert (lot.bought, len(lot.examples), lot.places) == (32, 182, ())
    pool = {each["id"]: each["label"] for each in made.task.pool() or ()}
    assert Counter(each["id"] for each in lot.examples).most_common(1)[0][1] == 1
    assert [e["label"] for e in lot.examples[:32]] == [pool[e["id"]] for e in lot.examples[:32]]
    assert any(e["label"] != pool[e["id"]] for e in lot.examples[32:])  # nobody looked them up
    *_, last = train(made)
    assert last.labels == 32
    assert last.usage["train"].work.tokens > 0
    assert lot.labels(1) == 32  # they rest on all
    none = lots.lot(recipe(tiny, pseudo=pseudo_labels(threshold=1.0)), CPU, window)
    assert len(none.examples) == 32


def test_a_step_by_step_run_passes_over_both_and_goes_on_bit_for_bit(tiny: str) -> None:
    made = recipe(
        tiny,
        method=full(learning_rate=1e-3),
        epochs=2,
        acquire=badge(first=8, batch=8),
        pseudo=pseudo_labels(threshold=0.5, most=16),
    )
    state, last = None, None
    for checkpoint in train(made):
        assert checkpoint.labels == 32
        state = checkpoint.resume_state() if checkpoint.recipe.epochs == 1 else state
        last = dict(checkpoint.scores), checkpoint.step, checkpoint.weights()
    lots.forget()
    assert last is not None
    assert last[1] == 2 * (32 + 16) // 8
    *_, rest = train(made, state)
    assert dict(rest.scores) == last[0]
    assert all(torch.equal(value, last[2][name]) for name, value in rest.weights().items())


def test_a_language_model_and_a_task_without_classes_can_be_diverse(tmp_path: Any) -> None:
    decoder = tiny_decoder(tmp_path)
    made = recipe(decoder, task=TinyText(train=8), method=full(learning_rate=1e-3), acquire=diversity())
    lot = lots.lot(made, CPU, window)
    assert len({*lot.places}) == 8
    assert sorted(lot.places) != [*range(8)]


# Studies


def test_ways_are_searched_and_the_ids_of_other_recipes_stay() -> None:
    study = Study(
        Recipe(
            task=TinyTask(train=choice(32, 64)),
            model="minilm-l3",
            method=choice(logistic(C=1.0), zero_shot()),
            epochs=1,
            acquire=choice(None, uncertainty(batch=choice(8, 32)), diversity()),
            pseudo=choice(None, pseudo_labels(threshold=uniform(0.5, 1.0))),
        ),
        maximize="accuracy",
    )
    assert {*study.dimensions} >= {"acquire", "uncertainty.batch", "pseudo", "pseudo_labels.threshold"}
    settings = {"task.train": 32, "method": "logistic", "acquire": "uncertainty", "uncertainty.batch": 8, "pseudo": None}
    made = study.resolve(settings)
    assert made.acquire == uncertainty(batch=8)
    plain = study.resolve({"task.train": 32, "method": "logistic", "acquire": None, "pseudo": None})
    assert plain.to_json().keys().isdisjoint({"acquire", "pseudo"})
    assert plain.id != made.id
    assert study.resolve({"method": "zero_shot"}).acquire is None
    asked = Recipe(task=TinyTask(train=4), model="m", method=zero_shot(), epochs=0, acquire=diversity(), pseudo=pseudo_labels())
    assert (asked.acquire, asked.pseudo) == (None, None)


@dataclass(frozen=True)
class Poolless(TinyTask):
    def pool(self) -> None:  # type: ignore[override]
        return None


@dataclass(frozen=True)
class Classless(TinyTask):
    def class_names(self) -> Sequence[str]:
        return ()


@pytest.mark.parametrize(
    ("task", "settings", "told"),
    [
        (Poolless(), {"acquire": diversity()}, "Poolless tells of none. Give it a method pool()"),
        (Poolless(), {"pseudo": pseudo_labels()}, "pseudo= chooses from a pool"),
        (Classless(), {"acquire": choice(None, badge())}, r"'badge' asks which class .* Take diversity\(\) or None"),
        (Classless(), {"pseudo": pseudo_labels()}, "'pseudo_labels' asks which class .* Take None"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_the_plan(tiny: str, task: Any, settings: Any, told: str) -> None:
    study = Study(recipe(tiny, task=task, **settings), maximize="accuracy")
    with pytest.raises(UsageError, match=told):
        pairs.check(study)
    assert pairs.check(Study(recipe(tiny, task=Classless(), acquire=choice(None, diversity())), maximize="accuracy"))
    assert pairs.check(Study(recipe(tiny, task=task, method=zero_shot(), **settings), maximize="accuracy"))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: uncertainty(first=0), "first must be a whole number, at least 1; got 0"),
        (lambda: badge(batch=1.5), "batch must be a whole number"),  # type: ignore[arg-type]
        (lambda: badge(C=0), "C must be a number above 0"),
        (lambda: pseudo_labels(threshold=90), "threshold must be a probability, from 0 to 1; got 90"),
        (lambda: pseudo_labels(most=0), "most must be a whole number"),
        (lambda: recipe("m", acquire="badge"), r"acquire must be None, uncertainty\(\)"),
        (lambda: recipe("m", pseudo=0.9), "pseudo must be None, pseudo_labels"),
    ],
)
def test_mistyped_settings_are_refused(make: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make()


def test_the_forecast_has_the_choosing_in_the_phase_data(tiny: str) -> None:
    plain, made = recipe(tiny), recipe(tiny, acquire=uncertainty(first=8, batch=8))
    forecaster = Forecaster(Study(plain, maximize="accuracy"))
    amounts = forecaster.amounts(made)["data"]
    assert amounts["fitted"] == (8 + 16 + 24) * 32 * 2
    assert amounts["compared"] == 32 * 256 * (32 + 2)
    *_, last = train(made)
    assert amounts["flops"] == pytest.approx(last.usage["data"].work.flops, rel=0.2)
    assert forecaster.run(made).phases["data"].value > forecaster.run(plain).phases["data"].value  # type: ignore[union-attr]
    assert forecaster.run(made).labels == 32
    assert forecaster.key(made) != forecaster.key(plain)
    joined = forecaster.run(recipe(tiny, method=full(learning_rate=1e-3), pseudo=pseudo_labels(most=64)))
    assert (joined.labels, joined.steps) == (32, (32 + 64) // 8)


# What is paid


def a_result(labels: int, acquire: Any = None, bought: Sequence[int] = (), **more: Any) -> Result:
    record = {"task": {"data": "d", "seed": 0}, "model": "m", "method": {"name": "full"}, "epochs": 1}
    chosen = {} if acquire is None else {"acquire": {"type": "Strategy", "name": acquire.name, "kind": acquire.kind}}
    fields: dict[str, Any] = {"recipe_id": "r", "run_id": "r", "settings": {}, "status": "complete"}
    return Result(recipe=record | chosen, labels=labels, bought=[*bought], **fields | more)


def test_tables_say_how_labels_were_chosen() -> None:
    settings = {"task.train": 8, "acquire": "badge", "badge.batch": 4, "diversity.x": 1, "pseudo": None}
    assert settings_text(a_result(8, settings=settings)) == "acquire=badge, batch=4"
    assert settings_text(a_result(8, settings={"acquire": None, "pseudo": "pseudo_labels"})) == "pseudo=pseudo_labels"


def test_each_label_is_paid_for_once_whoever_chose_it() -> None:
    results = [
        a_result(10),
        a_result(4, badge(), [0, 1, 50, 51]),
        a_result(6, badge(), [0, 1, 50, 51, 3, 70]),
        a_result(3, diversity(), [50, 99, 5]),
    ]
    assert labels_bought(results) == {"d/0": 10 + len({50, 51, 70, 99})}
    # Of one that was broken off only the number is known: it has its strategy's first labels.
    cut = a_result(5, badge(), status="interrupted")
    assert labels_bought([*results, cut]) == labels_bought(results)
    assert labels_bought([cut, *results]) == labels_bought(results)
    assert labels_bought([*results, a_result(9, badge(), status="interrupted")]) == {"d/0": 14 + 3}
    orders = labels_by_order(results)
    assert sorted(orders.values()) == [3, 6, 10]
    assert Result.from_json(results[1].to_json()).bought == [0, 1, 50, 51]


def test_a_record_from_before_has_no_places() -> None:
    record = a_result(10).to_json()
    del record["bought"]
    assert Result.from_json(record).bought == []


def test_the_readme_has_the_figures_that_were_measured() -> None:
    root = Path(__file__).parents[1]
    record = json.loads((root / "tests/benchmarks/results/labelling.json").read_text(encoding="utf-8"))
    text = (root / "studies/README.md").read_text(encoding="utf-8")
    ways = ("random", "uncertainty", "diversity", "badge", "random, threshold=0.9")
    for data, learners in record["summary"].items():
        for count in ("128", "256"):
            entries = [learners["logistic"][count][way] for way in ways]
            assert all(entry["seeds"] >= 5 for entry in entries)
            cells = " | ".join("{:.1f} ± {:.1f}".format(*entry["accuracy"]) for entry in entries)
            assert f"| {data} | {count} | {cells} |" in text
    above = [each for each in record["verdicts"]["uncertainty"]["above"] if ", logistic, " in each]
    assert {each for each in above if each.endswith(" 256")} == {f"{data}, logistic, 256" for data in record["summary"]}
    assert {each for each in above if each.endswith(" 128")} == {"banking77, logistic, 128", "restaurant8k, logistic, 128"}
    assert not [each for each in above if each.endswith((" 32", " 64"))]


def test_rows_of_chosen_examples_are_those_of_the_models_own_start(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another start chooses others: the rows that its sibling's run has left behind are none of its own."""
    recipe = Recipe(task=TinyTask(train=8), model=tiny, method=full(learning_rate=1e-3), epochs=1, acquire=diversity())
    pool = recipe.task.pool()
    assert pool is not None

    def rows(start: str, first: int) -> list[list[int]]:
        monkeypatch.setattr(encoding.parent_store, "place", lambda recipe: start)
        train_rows, _, _ = encoding.encode(recipe, pool[first : first + 8], FakeMeter().window)
        return [ids.tolist() for ids in train_rows.columns["input_ids"]]

    monkeypatch.setattr(encoding, "_encoded", {})
    assert rows("plain", 0) == rows("plain", 20) != rows("after masked_lm", 20)
