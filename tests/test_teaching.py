"""Distillation: what a teacher answers, who learns from it, and what that costs."""

from dataclasses import replace

import pytest
from started import child, fresh, swept

from workbench import Recipe, Study, bitfit, choice, distil, few_shot, full, knn, uncertainty, zero_shot
from workbench.errors import UsageError
from workbench.forecast import pairs
from workbench.forecast.forecaster import Forecaster
from workbench.formulations import Labelled
from workbench.result import inputs, originals
from workbench.sweep import Limits
from workbench.tasks import classification, language_modelling, question_answering, text_generation
from workbench.testing import FakeMeter, TinyTask, TinyText, tiny_decoder
from workbench.training import choosing as lots
from workbench.training import parents, teaching, train
from workbench.training.grading import questions
from workbench.training.passes import Passes

torch = pytest.importorskip("torch")
CPU = torch.device("cpu")
FEW, MANY = TinyText(train=8, dev=8), TinyText(train=48, dev=8)


@pytest.fixture(autouse=True)
def _nothing_at_hand(tmp_path, monkeypatch):
    fresh(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(parents, "_failed", {})
    teaching.forget()
    lots.forget()


def checkpoints(recipe):
    return list(train(recipe, meter=FakeMeter()))


def lot(recipe):
    return lots.lot(recipe, CPU, FakeMeter().window)


# What is learned


def test_the_teachers_answers_join_behind_what_was_bought(tiny):
    teacher = child(tiny, task=MANY, epochs=2)
    student = child(tiny, task=FEW, method=bitfit(learning_rate=1e-2), pseudo=distil(teacher, most=20))
    *_, last = checkpoints(student)
    found = lot(student)
    assert (found.bought, len(found.examples)) == (8, 28)
    assert found.examples[:8] == FEW.pool()[:8]
    asked = FEW.pool()[8:28]
    model = Passes(student.teacher, CPU)
    said = model.predict(questions(model.formulation, asked, model.processor, loss=False))
    assert [FEW.told(example, each) for example, each in zip(asked, said, strict=True)] == found.examples[8:]
    assert last.examples == 28 + 28 % 8 or last.step == 4  # a pass over all of them
    assert last.labels == 48  # the teacher's, of which the student's are the first


def test_a_teacher_that_is_sure_of_nothing_teaches_nothing(tiny):
    teacher = child(tiny, task=MANY)
    checkpoints(child(tiny, task=FEW, pseudo=distil(teacher, most=20)))
    sure = [len(lot(child(tiny, task=FEW, pseudo=distil(teacher, most=20, threshold=t))).examples) for t in (0.0, 0.55, 1.0)]
    assert sure[0] == 28 >= sure[1] >= sure[2] == 8


def test_a_language_model_that_is_only_asked_teaches_an_encoder(tiny, tmp_path):
    teacher = Recipe(task=MANY, model=tiny_decoder(tmp_path / "d"), method=few_shot(shots=2), epochs=0)
    student = child(tiny, task=FEW, pseudo=distil(teacher, most=20))
    assert student.parents == ()
    *_, last = checkpoints(student)
    assert "pretrain" not in last.usage
    assert last.labels == 8  # of which the two in front of its questions are the first
    assert len(lot(student).examples) <= 28  # what is no class is left out
    # Examples that are chosen for each question have all been bought.
    nearest = replace(teacher, task=MANY, method=few_shot(shots=2, choose="nearest"))
    assert checkpoints(replace(student, pseudo=distil(nearest, most=20)))[-1].labels == 48


def test_what_is_chosen_to_be_labelled_is_not_asked_about(tiny):
    teacher = child(tiny, task=MANY)
    student = child(tiny, task=FEW, acquire=uncertainty(first=4, batch=4), pseudo=distil(teacher, most=500))
    checkpoints(student)
    found = lot(student)
    words = [tuple(example["words"]) for example in found.examples]
    assert len({*words}) == len(words) == len(FEW.pool())


# What it costs


def test_the_teacher_is_made_once_and_stands_in_full_in_each_cost(tiny):
    teacher = child(tiny, task=MANY)
    first, second = (
        checkpoints(child(tiny, task=FEW, method=full(learning_rate=rate), pseudo=distil(teacher, most=20)))
        for rate in (1e-3, 2e-3)
    )
    assert first[-1].usage["pretrain"].seconds == second[-1].usage["pretrain"].seconds > 2
    assert first[-1].usage["pretrain"].work.examples == 48
    assert first[0].spent["pretrain"].work.steps > second[0].spent["pretrain"].work.steps == 0
    alone = checkpoints(child(tiny, task=FEW))[-1]
    assert first[-1].usage["data"].work.flops > 0  # asking it
    assert first[-1].usage["data"].seconds == second[-1].usage["data"].seconds > alone.usage["data"].seconds


def test_it_is_forecast(tiny):
    teacher = child(tiny, task=MANY, epochs=2)
    plain = child(tiny, task=FEW)
    student = replace(plain, pseudo=distil(teacher, most=20))
    forecaster = Forecaster(Study(plain, maximize="accuracy"))
    alone, taught = forecaster.run(plain), forecaster.run(student)
    assert "pretrain" not in alone.phases
    assert taught.phases["pretrain"].value > 0
    assert taught.phases["data"].value > alone.phases["data"].value
    assert taught.phases["train"].value > alone.phases["train"].value
    assert (alone.labels, taught.labels) == (8, 48)
    checkpoints(student)
    assert forecaster.run(student).spent_seconds.value < taught.spent_seconds.value  # it is at hand
    study = Study(replace(plain, pseudo=choice(None, distil(teacher))), maximize="accuracy")
    assert [plan.before for plan in pairs.plan(study)] == [True, False]


def test_it_is_a_part_of_what_a_recipe_is(tiny):
    plain = child(tiny, task=FEW)
    taught = [
        replace(plain, pseudo=distil(child(tiny, task=MANY, seed=seed), most=most)) for seed, most in ((0, 4), (1, 4), (0, 5))
    ]
    assert len({each.id for each in (plain, *taught)}) == 4
    assert "parents" in taught[0].inputs
    assert "parents" not in plain.inputs
    assert taught[0].to_json()["pseudo"]["teacher"] == child(tiny, task=MANY).to_json()
    assert replace(taught[0], method=zero_shot(), epochs=0).pseudo is None  # what is only asked learns from nobody


# What is refused


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ("minilm-l6", r"the teacher of 'distil' must be a Recipe\(…\), got 'minilm-l6'"),
        ({"epochs": choice(1, 2)}, r"has holes \(epochs\)\. Give it one value for each"),
        ({"method": knn()}, r"has a head that is fitted at once \('knn'\).*Take pseudo_labels\(\)"),
    ],
)
def test_no_teacher(tiny, teacher, told):
    given = teacher if isinstance(teacher, str) else child(tiny, task=MANY, **teacher)
    with pytest.raises(UsageError, match=told):
        child(tiny, task=FEW, pseudo=distil(given))


def test_what_cannot_be_taught_is_said_by_the_plan(tiny):
    *_, plan = pairs.plan(Study(child(tiny, task=FEW, pseudo=distil(child(tiny, task=TinyTask()))), maximize="accuracy"))
    assert (
        plan.problem == "'distil': the teacher's task is another one. Give it the same task and data; only its train= may differ."
    )
    assert not language_modelling("x.txt", train=1).teachable
    with pytest.raises(UsageError, match="most must be a whole number, at least 1"):
        distil(child(tiny), most=0)
    with pytest.raises(UsageError, match="threshold must be a probability"):
        distil(child(tiny), threshold=2)


def test_answers_become_labels():
    classes = classification("pytopics", train=1)
    assert classes.told({"text": "t", "labels": ["a"]}, Labelled(("b",), 0.9)) == {"text": "t", "labels": ["b"]}
    assert classes.told({"text": "t", "labels": ["a"]}, Labelled((), None)) is None
    several = classification("x.csv", train=1, several=True)
    assert several.told({"text": "t", "labels": ["a"]}, Labelled((), None)) == {"text": "t", "labels": []}
    questions_of = question_answering("pydocs", train=1)
    example = {"question": "Who?", "context": "Ada did.", "answers": {"text": ["did"], "answer_start": [4]}}
    assert questions_of.told(example, "Ada")["answers"] == {"text": ["Ada"], "answer_start": [0]}
    assert questions_of.told(example, "Babbage") is None
    turns = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
    said = text_generation("x.csv", train=1).told(turns, "four")["messages"]
    assert [each["content"] for each in said] == ["2+2?", "four"]
    assert text_generation("x.csv", train=1).told(turns, " ") is None


def test_what_stands_behind_a_teacher_is_held_against_nobody_else(tiny):
    """Kept under one key, it outdated the runs that have no teacher: a sweep went on from them for ever."""
    plain = child(tiny, task=FEW)
    taught = [replace(plain, pseudo=distil(child(tiny, task=MANY, seed=seed))) for seed in (0, 1)]
    assert len({inputs.key("parents", each.to_json()) for each in (plain, *taught)}) == 3
    assert inputs.key("parents", replace(taught[0], pseudo=distil(child(tiny, task=MANY), most=3)).to_json()) == inputs.key(
        "parents", taught[0].to_json()
    )


def test_a_sweep_with_and_without_a_teacher_ends_and_leaves_nothing_out(tiny, tmp_path):
    teacher = child(tiny, task=MANY)
    study = Study(child(tiny, task=FEW, epochs=2, pseudo=choice(None, distil(teacher, most=20))), maximize="accuracy")
    results, done = swept(tmp_path, study, Limits(trials=4), sampler="front")
    assert done.reason == "every configuration of the space has been run"
    assert {r.settings["pseudo"] for r in results} == {None, "distil"}
    assert all(r.outdated == () for r in originals(results))
    assert len({r.recipe_id for r in results}) == len(results)
