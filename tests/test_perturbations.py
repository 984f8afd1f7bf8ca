"""Robustness: examples as somebody else might have written them, graded beside the clean ones."""

import csv
import difflib
import functools

import pytest

from workbench import Recipe, Study, choice, full, logistic
from workbench.errors import UsageError
from workbench.forecast.sample import sampled
from workbench.formulations import Labelled
from workbench.tasks import classification, question_answering, text_generation
from workbench.tasks.perturbations import KINDS, NEGATED, PERTURBED, perturbed
from workbench.tasks.rewording import negated, reworded
from workbench.testing import FakeMeter
from workbench.training import train

TEXT = "Where can I find the invoice for my last order of three blue chairs?"


# The rules


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {NEGATED}))
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


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("I do not know, it's Very late", "I don't know, it's Really late"),
        ("I\u2019m sad and i've THREE films", "I am unhappy and I have 3 movies"),
        ("Three of us can't come", "3 of us cannot come"),
        ("Where is my card?", "In other words: Where is my card?"),
        ("the big-time has-beens twofold", "In other words: the big-time has-beens twofold"),  # parts of words are no words
    ],
)
def test_a_paraphrase_says_the_same_in_other_words(text, other):
    assert reworded(text) == other


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("The picture is good.", "The picture is not good."),
        ("it can be used for an hour", "it cannot be used for an hour"),
        ("They have been kind to us!", "They have not been kind to us!"),
        *((same, same) for same in (
            "Is it good", "is it good?", "It is not good", "it isn't good", "I liked it", "it is good but dear",
            "It is good. Buy it",
            "the screen is fine, the sound is bad", "it is better than the last", "", "it is " + "very " * 30 + "good",
        )),
    ],
)  # fmt: skip
def test_what_is_turned_into_its_opposite_and_what_is_left(text, other):
    assert negated(text) == other


def test_a_negation_that_changes_nothing_stands_at_the_end():
    said = [perturbed({"text": text}, "negation", "text")["text"] for text in ("Where is my card?", "It works ", "")]
    assert said == ["Where is my card and false is not true?", "It works and false is not true", " and false is not true"]


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


def test_negated_examples_have_the_opposite_class_where_there_is_one(tmp_path):
    said = {"good": "it is nice {}", "bad": "it was ugly {}", "open": "thing {}"}
    with (tmp_path / "views.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", "label"))
        table.writerows((text.format(i), label) for i in range(30) for label, text in said.items())
        table.writerows((f"I liked number {i}", "good") for i in range(20))
    made = functools.partial(classification, str(tmp_path / "views.csv"), train=8, dev=30, test=10)
    task = made(perturb="negated", opposites={"good": "bad"})
    plain, turned = task.splits().dev, [e for e in task.graded() if PERTURBED in e]
    apply = [e for e in plain if e["labels"] != ["open"] and "liked" not in e["text"]]
    assert [(e["text"], e["labels"]) for e in turned] == [
        (e["text"].replace("is ", "is not ").replace("was ", "was not "), [{"good": "bad", "bad": "good"}[e["labels"][0]]])
        for e in apply
    ]
    assert 0 < len(turned) < len(plain)
    # Who does not read "not" is right on the clean ones and wrong on their opposites.
    deaf = [Labelled(("good" if "nice" in e["text"] or "liked" in e["text"] else "bad",), 1.0) for e in task.graded()]
    scores = task.grade(task.graded(), deaf)
    assert scores["accuracy"] > 50
    assert scores["negated_accuracy"] == 0
    assert task.all_metrics()[-1] == "negated_macro_f1"
    assert "opposites" not in Recipe(task=made(), model="m", method=full(learning_rate=1), epochs=1).to_json()["task"]
    with pytest.raises(UsageError, match="none of the 11 dev examples can be written so"):
        made(perturb="negated", opposites={"open": "fine"}, labels=["good", "bad", "open", "fine"]).graded()
    with pytest.raises(UsageError, match=r"opposites names 'god', which is no label .* Did you mean 'good'"):
        made(perturb="negated", opposites={"god": "bad"}).splits()
    with pytest.raises(UsageError, match="needs to know them"):
        made(perturb="negated")
    with pytest.raises(UsageError, match="give a label for a label"):
        made(opposites=["good", "bad"])


def test_other_tasks_have_them():
    asked = question_answering("pydocs", train=4, dev=4, perturb="injection")
    assert len(asked.graded()) == 8
    assert asked.graded()[4]["answers"] == asked.splits().dev[0]["answers"]
    assert asked.all_metrics() == ("exact_match", "f1", "injection_exact_match", "injection_f1")
    assert text_generation("x.csv", train=4, perturb=["typos"]).perturb == ("typos",)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("typo", r"'typo' is none of typos, capitals, .*, negated. Did you mean 'typos'"),
        (["typos", "typos"], "twice"),
    ],
)
def test_unknown_ways_are_refused(given, told):
    with pytest.raises(UsageError, match=told):
        classification("pytopics", train=4, perturb=given)
