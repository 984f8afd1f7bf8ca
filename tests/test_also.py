"""Other tasks that grade every checkpoint: their scores, what these cost, and where they are shown."""

import csv
import json
import textwrap
from dataclasses import replace

import made
import pytest

from workbench import Recipe, Study, choice, full
from workbench.data import fingerprints
from workbench.errors import UsageError
from workbench.forecast import Forecaster, pairs
from workbench.study.also import name_of
from workbench.sweep import check_data
from workbench.sweep.forgetting import Wanted, held
from workbench.tasks import classification, continual, language_modelling
from workbench.testing import FakeMeter, TinyTask
from workbench.training import train

WORDS = {"red": "warm", "orange": "warm", "blue": "cool", "green": "cool"}


def write(path, words=WORDS, count=30):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", "label"))
        table.writerows((f"{word} number {i} please", label) for i in range(count) for word, label in words.items())
    return str(path)


@pytest.fixture
def tasks(tmp_path):
    """A task, and two others: one of the same classes, one of some of them with examples that are perturbed."""
    write(tmp_path / "own.csv")
    write(tmp_path / "next-year.csv", dict(reversed(WORDS.items())))
    write(tmp_path / "cool.csv", {"navy": "cool", "teal": "cool"})

    def task(name, **more):
        return classification(str(tmp_path / name), **{"train": 0, "dev": 10, "test": 10, "max_length": 16} | more)

    return task("own.csv", train=32), task("next-year.csv"), task("cool.csv", perturb="capitals", labels=["warm", "cool"])


def recipe(tiny, task, *also, **more):
    how = {"method": full(learning_rate=1e-3), "epochs": 2, "batch_size": 8} | more
    return Recipe(task=task, model=tiny, also=list(also), **how)


def last(made):
    *_, checkpoint = train(made, meter=FakeMeter())
    return checkpoint


# The scores


def test_their_scores_stand_beside_the_tasks_own(tiny, tasks):
    own, year, cool = tasks
    found, plain = last(recipe(tiny, own, year, cool)), last(recipe(tiny, own))
    assert {"next_year_accuracy", "next_year_calibration_error", "cool_macro_f1", "cool_capitals_accuracy"} <= found.scores.keys()
    assert {name: found.scores[name] for name in plain.scores} == plain.scores, "what is learned is the same"
    more = len(year.splits().dev) + 2 * len(cool.splits().dev)
    assert found.usage["evaluate"].work.examples == plain.usage["evaluate"].work.examples + more
    assert len(found.predictions) == 10
    assert {"next_year_accuracy", "cool_capitals_accuracy"} <= found.test().keys()
    direct = last(recipe(tiny, replace(year, train=32)))  # by the same head, asked about the same examples
    assert direct.scores.keys() == plain.scores.keys()


def test_the_same_examples_have_the_same_score(tiny, tasks):
    own = tasks[0]
    found = last(recipe(tiny, own, replace(own, train=0, name="again"))).scores
    assert found["again_accuracy"] == found["accuracy"]
    assert found["again_calibration_error"] == pytest.approx(found["calibration_error"])


def test_what_grading_them_takes_is_forecast(tiny, tasks):
    own, year, cool = tasks

    def evaluation(*also):
        study = Study(recipe(tiny, own, *also), maximize="accuracy")
        return Forecaster(study).run(study.recipe).phases["evaluate"].value

    assert evaluation() < evaluation(year) < evaluation(year, cool)


def test_a_study_maximises_and_bounds_them(tiny, tasks):
    own, year, cool = tasks
    study = Study(
        recipe(tiny, own, year, cool),
        maximize="next_year_macro_f1",
        require={"cool_accuracy": 60, "next_year_calibration_error": 20},
    )
    assert study.bounds == {"cool_accuracy": {"at_least": 60.0}, "next_year_calibration_error": {"at_most": 20.0}}
    with pytest.raises(UsageError, match="maximize='cool_calibration_error': lower is better"):
        Study(study.recipe, maximize="cool_calibration_error")
    with pytest.raises(UsageError, match="Did you mean 'next_year_accuracy'"):
        Study(study.recipe, maximize="nextyear_accuracy")
    two = recipe(tiny, choice(replace(own, name="a"), replace(own, name="b", train=16)), year)
    assert Study(two, maximize="next_year_accuracy").resolve({"task": "b"}).also == (year,)


def test_a_model_that_learned_before_is_the_same_for_all_that_start_from_it(tiny, tasks):
    own, year, _ = tasks
    chain = continual([own, replace(year, train=32)], epochs=1)
    assert recipe(tiny, chain, year).parent.id == recipe(tiny, chain).parent.id
    assert "next_year_accuracy" in last(recipe(tiny, chain, year)).scores


# Which recipe it is


def test_recipes_without_are_what_they_were_and_others_know_what_grades_them(tiny, tasks, tmp_path):
    own, year, cool = tasks
    plain, graded = recipe(tiny, own), recipe(tiny, own, year)
    assert "also" not in plain.to_json()
    assert "also" not in plain.inputs
    assert len({plain.id, graded.id, recipe(tiny, own, year, cool).id}) == 3
    write(tmp_path / "next-year.csv", count=31)
    fingerprints.look_again()
    again = recipe(tiny, own, year)
    assert again.inputs["also"] != graded.inputs["also"]
    assert again.inputs["data"] == graded.inputs["data"]


def test_they_are_called_by_their_names():
    assert [name_of(classification(data, train=0)) for data in ("a/b-c.csv", "pytopics", "owner/name")] == [
        "b_c", "pytopics", "owner_name"
    ]  # fmt: skip
    assert name_of(classification("a.csv", train=0, name="Next year")) == "next_year"
    assert name_of(TinyTask(data="tiny")) == "tiny"


@pytest.mark.parametrize(
    ("also", "told"),
    [
        (TinyTask(), "also must be a list of tasks"),
        (["wiki"], "also must be a list of tasks"),
        ([TinyTask(), TinyTask(seed=1)], "two tasks in also= are called 'tiny'"),
        ([TinyTask(dev=choice(8, 16))], r"has holes \(dev\)"),
    ],
)
def test_what_cannot_grade_is_refused(tiny, also, told):
    with pytest.raises(UsageError, match=told):
        recipe(tiny, TinyTask(), *also) if isinstance(also, list) else replace(recipe(tiny, TinyTask()), also=also)


def test_a_task_for_another_head_is_a_problem_of_the_plan(tiny, tasks, tmp_path):
    own = tasks[0]
    write(tmp_path / "sizes.csv", {"big": "large", "tiny": "small"})
    sizes = classification(str(tmp_path / "sizes.csv"), train=0, dev=10, max_length=16)
    study = Study(recipe(tiny, own, sizes), maximize="accuracy")
    (pair,) = pairs.plan(study)
    assert "'sizes' of also= is for another head" in pair.problem
    assert "of large, small, not" in pair.problem
    with pytest.raises(UsageError, match="Name tasks of the same kind, with no class that"):
        last(study.recipe)
    text = language_modelling("pydocs", train=0, dev=8)
    (pair,) = pairs.plan(Study(recipe(tiny, own, text), maximize="accuracy"))
    assert "AutoModelForMaskedLM, not AutoModelForSequenceClassification of cool, warm" in pair.problem


def test_their_data_are_checked_and_what_is_to_be_forgotten_is_found_in_them(tiny, tasks, tmp_path):
    own, _, cool = tasks
    study = Study(recipe(tiny, own, cool), maximize="accuracy")
    check_data(study)
    assert {*held(study, Wanted(text="navy number")).values()} == {"dev", "test"}
    assert not held(Study(recipe(tiny, own), maximize="accuracy"), Wanted(text="navy number"))
    (tmp_path / "cool.csv").unlink()
    fingerprints.look_again()
    with pytest.raises(UsageError, match=r"cool\.csv"):
        check_data(study)


# Where they are shown


def results():
    found = made.runs(4)
    return [replace(each, scores={**each.scores, "wiki_f1": each.scores["f1"] / 2, "typos_f1": 20.0}) for each in found]


def test_the_front_shows_them_where_it_is_asked_to_and_those_that_are_bound_always(command, tmp_path):
    made.write(tmp_path, results(), require={"wiki_f1": {"at_least": 1.0}})
    heads = {words: command("front", *words)[1] for words in ((), ("--scores",))}
    assert "wiki_f1" in heads[()]
    assert "typos_f1" not in heads[()]
    assert "typos_f1" in heads["--scores",]
    assert "20.0" in heads["--scores",]
    record = json.loads(command("front", "--json")[1])
    assert {"f1", "wiki_f1", "typos_f1"} <= record["points"][0]["scores"].keys()


@pytest.mark.slow
def test_a_sweep_is_graded_by_them(command, tmp_path, tiny):
    (tmp_path / "s.py").write_text(
        textwrap.dedent(f"""
        from workbench import Recipe, Study, choice, full
        from workbench.testing import TinyTask

        study = Study(
            Recipe(task=TinyTask(train=choice(16, 32), dev=8), model={tiny!r}, method=full(learning_rate=1e-3), epochs=1,
                   batch_size=8, also=[TinyTask(dev=16, seed=3, data="other")]),
            maximize="accuracy", require={{"other_accuracy": 1}}, trials=2,
        )
        """)
    )
    code, _, err = command("sweep", "s.py", "--no-progress")
    assert code == 0, err
    assert "other_accuracy" in command("front", "s.py")[1]
    assert "other_accuracy" in command("run", "0", "--study", "s.py")[1]
    (tmp_path / "s.py").write_text((tmp_path / "s.py").read_text().replace("seed=3", "seed=4"))
    code, _, err = command("sweep", "s.py", "--no-progress")
    assert code == 0, err
    assert "[2/2]" in err, "graded by another task it is another study, and takes nothing over"
