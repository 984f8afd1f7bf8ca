"""Bounds that a study requires: who does not keep them is no member of the front, and is shown so."""

import json
from dataclasses import replace
from pathlib import Path

import made
import pytest

from workbench import Recipe, Study, choice, full
from workbench.errors import UsageError
from workbench.front.hypervolume import hypervolume
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.report import answers
from workbench.sweep import check_data
from workbench.tasks import classification, language_modelling

LEAST = {"worst_group_f1": {"at_least": 50.0}}


def results():
    """Ten points: the worst group of every other one is served badly, and more so by the best."""
    found = [replace(run, number=i, trial=i) for i, run in enumerate(made.runs(7)) if run.epochs == 1.0]
    return [
        replace(
            run,
            scores={**run.scores, "worst_group_f1": run.scores["f1"] - (40.0 if i % 2 else 1.0), "gap_f1": 40.0 if i % 2 else 1.0},
        )
        for i, run in enumerate(found)
    ]


def view(require):
    return View.of(made.describe(require=require), made.OFFER, 0.0)


def study(task=None, **more):
    task = task or classification("d.jsonl", train=4)
    return Study(Recipe(task=task, model="minilm-l3", method=full(learning_rate=1e-3), epochs=1), maximize=task.metrics[0], **more)


def test_what_does_not_keep_a_bound_is_no_member_and_dominates_nothing():
    every, own = results(), view(LEAST)
    kept = [r for r in every if r.scores["worst_group_f1"] >= 50]
    assert 0 < len(kept) < len(every)
    members = pareto_front(every, own)
    assert members == pareto_front(kept, view({}))
    assert {id(r) for r in members} != {id(r) for r in pareto_front(every, view({}))}
    assert hypervolume(every, own) == hypervolume(kept, view({})) < hypervolume(every, view({}))
    points = Points.of(every, own)
    assert list(points.members) == list(points.best) == members
    assert len(points.found) == len(every), "all of them are shown"
    assert {id(r) for r in points.unmet} == {id(r) for r in every} - {id(r) for r in kept}


def test_of_a_gap_lower_is_better_and_an_unknown_score_keeps_no_bound():
    narrow = view({"gap_f1": {"at_most": 5.0}})
    assert [narrow.unmet(r) for r in results()[:2]] == [[], ["gap_f1"]]
    assert view({"worst_group_exact_match": {"at_least": 0.0}}).unmet(results()[0]) == ["worst_group_exact_match"]
    assert view({}).unmet(results()[1]) == []


def test_the_answer_says_how_many_are_left_off_and_how_near_none_came():
    every = results()
    assert "Only points with worst_group_f1 at least 50 count: " in answers.answer(Points.of(every, view(LEAST)))
    assert "Only points" not in answers.answer(Points.of(every, view({})))
    best = max(r.scores["worst_group_f1"] for r in every)
    said = answers.answer(Points.of(every, view({"worst_group_f1": {"at_least": 99.0}})))
    assert said == f"No point has worst_group_f1 at least 99, as the study requires. The best worst_group_f1 is {best:.1f}."
    assert "no point has a gap_em" in answers.answer(Points.of(every, view({"gap_em": {"at_most": 1.0}}))).lower()


def test_the_front_shows_which_points_do_not_keep_a_bound(command, tmp_path):
    made.write(tmp_path, results(), require=LEAST)
    code, out, _ = command("front", "--all")
    assert code == 0
    assert "not met: worst_group_f1" in out
    record = json.loads(command("front", "--json")[1])
    assert record["require"] == LEAST
    assert any(point["unmet"] == ["worst_group_f1"] for point in record["points"])
    assert not any(point["unmet"] and point["on_front"] for point in record["points"])
    assert "not met" not in command("front")[1]


def test_bounds_are_a_part_of_the_study_and_studies_without_keep_their_name():
    plain, bound = study(), study(require={"worst_group_accuracy": 70, "gap_accuracy": 5, "calibration_error": 10})
    assert bound.bounds == {
        "worst_group_accuracy": {"at_least": 70.0},
        "gap_accuracy": {"at_most": 5.0},
        "calibration_error": {"at_most": 10.0},
    }
    assert plain.name != bound.name
    assert plain.name == study(require={}).name
    assert bound.restated(trials=3).bounds == bound.bounds


@pytest.mark.parametrize("require", [{"worst_group_acuracy": 70}, {"accuracy": "high"}, {"accuracy": float("nan")}, ["accuracy"]])
def test_what_is_no_bound_is_refused(require):
    with pytest.raises(UsageError, match="require="):
        study(require=require)
    if isinstance(require, dict) and "worst_group_acuracy" in require:
        with pytest.raises(UsageError, match="Did you mean 'accuracy'"):
            study(require=require)


def test_bounds_on_groups_need_groups(tmp_path):
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) + "\n" for i in range(40)))
    task = classification(str(data), train=4)
    with pytest.raises(UsageError, match=r"'worst_group_accuracy' needs groups to compare"):
        check_data(study(task, require={"worst_group_accuracy": 70}))


def test_a_bound_is_of_a_score_that_all_tasks_of_a_choice_have():
    text = language_modelling("d.txt", train=4, name="a")
    recipe = Recipe(
        task=choice(text, classification("d.jsonl", train=4, name="b")), model="m", method=full(learning_rate=1e-3), epochs=1
    )
    with pytest.raises(UsageError, match="require="):
        Study(recipe, maximize="accuracy", require={"perplexity": 30})
    assert Study(recipe, maximize="accuracy", require={"accuracy": 30}).bounds
    assert Path(text.data).name == "d.txt"
