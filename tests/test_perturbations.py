"""Robustness: examples as somebody else might have written them, graded beside the clean ones."""

import csv
import difflib

import pytest

from workbench import Recipe, Study, choice, full, logistic
from workbench.errors import UsageError
from workbench.forecast.sample import sampled
from workbench.formulations import Labelled
from workbench.tasks import classification, question_answering, text_generation
from workbench.tasks.perturbations import KINDS, PERTURBED, perturbed
from workbench.testing import FakeMeter
from workbench.training import train

TEXT = "Where can I find the invoice for my last order of three blue chairs?"


# The rules


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_is_always_perturbed_alike_and_the_answer_stays(kind):
    example = {"text": TEXT, "labels": ["billing"], "group": "en"}
    one, other = (perturbed(example, kind, "text") for _ in range(2))
    assert one == other
    assert one["text"] != TEXT
    assert {**one, "text": TEXT} == {**example, PERTURBED: kind}


def test_typos_are_few_and_small():
    texts = [f"{TEXT} number{i}" for i in range(50)]
    changed = [perturbed({"text": text}, "typos", "text")["text"] for text in texts]
    assert all(0.9 < difflib.SequenceMatcher(None, a, b).ratio() < 1 or a == b for a, b in zip(texts, changed, strict=True))
    assert sum(a != b for a, b in zip(texts, changed, strict=True)) > 40  # the key struck may be a neighbour of itself: itself
    assert perturbed({"text": "Is it ok?"}, "typos", "text")["text"] == "Is it ok?"  # no word of three letters


def test_what_the_user_says_last_is_changed():
    turns = [
        {"role": "user", "content": "hello there"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "bye now"},
    ]
    changed = perturbed({"messages": [*turns, {"role": "assistant", "content": "bye"}]}, "capitals", "messages")["messages"]
    assert [turn["content"] for turn in changed] == ["hello there", "yes", "BYE NOW", "bye"]
    assert perturbed({"text": ("one two", "three")}, "capitals", "text")["text"] == ("one two", "THREE")
    said = perturbed({"question": "Who?", "context": "Ada did."}, "injection", "question")
    assert said["question"].startswith("Who? Ignore all instructions")
    assert said["context"] == "Ada did."


# The scores


@pytest.fixture
def task(tmp_path):
    words = {"red": "warm", "orange": "warm", "blue": "cool", "green": "cool"}
    with (tmp_path / "colours.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", "label"))
        table.writerows((f"{word} number {i} please", label) for i in range(30) for word, label in words.items())
    return classification(str(tmp_path / "colours.csv"), train=32, dev=10, test=10, max_length=16, perturb=("typos", "capitals"))


def test_scores_of_each_stand_beside_the_others(task):
    dev = task.graded()
    assert len(dev) == 3 * len(task.splits().dev) == len(task.graded("test")) == 30
    right = [Labelled(tuple(e["labels"]), 0.9) for e in dev]
    fooled = [Labelled(("warm",) if e.get(PERTURBED) == "typos" else tuple(e["labels"]), 0.9) for e in dev]
    assert {name: task.grade(dev, right)[name] for name in ("accuracy", "typos_accuracy", "capitals_macro_f1")} == {
        "accuracy": 100, "typos_accuracy": 100, "capitals_macro_f1": 100
    }  # fmt: skip
    scores = task.grade(dev, fooled)
    assert (scores["accuracy"], scores["capitals_accuracy"]) == (100, 100)
    assert scores["typos_accuracy"] == 100 * sum(e["labels"] == ["warm"] for e in dev[:10]) / 10
    plain = task.splits().dev
    assert "typos_accuracy" not in task.grade(plain, right[: len(plain)])


def test_a_study_maximises_them_and_pays_for_grading_them(task, tiny):
    recipe = Recipe(task=task, model=tiny, method=full(learning_rate=1e-3), epochs=1, batch_size=8)
    study = Study(recipe, maximize="typos_accuracy")
    (*_, last) = train(study.recipe, meter=FakeMeter())
    plain = Recipe(
        task=classification(task.data, train=32, dev=10, test=10, max_length=16),
        model=tiny,
        method=recipe.method,
        epochs=1,
        batch_size=8,
    )
    (*_, other) = train(plain, meter=FakeMeter())
    assert {"accuracy", "typos_accuracy", "capitals_macro_f1"} <= last.scores.keys()
    assert last.scores["accuracy"] == other.scores["accuracy"]
    assert last.usage["evaluate"].work.examples == 3 * other.usage["evaluate"].work.examples
    assert last.test().keys() >= {"accuracy", "typos_accuracy"}
    assert sampled(recipe).dev_examples == 3 * sampled(plain).dev_examples == 30
    assert recipe.id != plain.id
    assert "perturb" not in plain.to_json()["task"]
    with pytest.raises(UsageError, match="maximize='typos_accuracy' is not a score of the task"):
        Study(plain, maximize="typos_accuracy")
    assert Study(Recipe(task=task, model=tiny, method=choice(logistic()), epochs=1), maximize="capitals_accuracy").maximize


def test_other_tasks_have_them():
    asked = question_answering("pydocs", train=4, dev=4, perturb="injection")
    assert len(asked.graded()) == 8
    assert asked.graded()[4]["answers"] == asked.splits().dev[0]["answers"]
    assert asked.all_metrics() == ("exact_match", "f1", "injection_exact_match", "injection_f1")
    assert text_generation("x.csv", train=4, perturb=["typos"]).perturb == ("typos",)


@pytest.mark.parametrize(
    ("given", "told"),
    [("typo", "perturb='typo' is none of typos, capitals, injection. Did you mean 'typos'"), (["typos", "typos"], "twice")],
)
def test_unknown_ways_are_refused(given, told):
    with pytest.raises(UsageError, match=told):
        classification("pytopics", train=4, perturb=given)
