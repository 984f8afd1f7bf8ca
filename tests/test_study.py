"""Recipes, studies and study files: what they refuse, how they are known, what their errors say."""

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench import (
    Method,
    Recipe,
    Study,
    bitfit,
    choice,
    distil,
    full,
    integers,
    knn,
    logistic,
    loguniform,
    peft,
    uniform,
    zero_shot,
)
from workbench.errors import StudyError, UsageError
from workbench.study import load
from workbench.testing import TinyTask

ROOT = Path(__file__).parents[1]


def a_recipe(**changes: Any) -> Recipe:
    fields = {"task": TinyTask(), "model": "m", "method": full(learning_rate=1e-3), "epochs": 2} | changes
    return Recipe(**fields)


def a_study(**changes: Any) -> Study:
    method = choice(full(learning_rate=loguniform(1e-4, 1e-3)), peft("lora", learning_rate=1e-3, r=choice(4, 8), lora_alpha=16))
    recipe = a_recipe(task=TinyTask(train=choice(32, 64)), method=method, epochs=integers(1, 4))
    return Study(**({"recipe": recipe, "maximize": "accuracy"} | changes))


def test_epochs_may_be_left_out_where_nothing_learns_step_by_step() -> None:
    task = TinyTask()
    for method in (zero_shot(), logistic(), choice(knn(), logistic(C=1))):
        recipe = Recipe(task=task, model="m", method=method)
        assert recipe == Recipe(task=task, model="m", method=method, epochs=0)
    assert a_recipe(pseudo=distil(Recipe(task=task, model="m", method=zero_shot()))).pseudo is not None
    for method in (full(learning_rate=1e-3), choice(logistic(), full(learning_rate=1e-3))):
        with pytest.raises(UsageError, match=r"Recipe\(\) needs epochs, e\.g\. epochs=integers"):
            Recipe(task=task, model="m", method=method)


# What is refused


@pytest.mark.parametrize(
    "field, value, wanted",
    [
        ("task", "pydocs", "a task, such as question_answering"),
        ("model", "", "a model's name"),
        ("model", choice("a", ""), "a model's name"),
        ("method", "lora", "a method, such as full"),
        ("method", choice(full(learning_rate=1e-3), "lora"), "a method.*got 'lora'"),
        ("epochs", -1, "a number, at least 0; got -1"),
        ("epochs", float("nan"), "a number, at least 0"),
        ("epochs", float("inf"), "a number, at least 0"),
        ("epochs", True, "a number, at least 0"),
        ("epochs", "2", "a number, at least 0"),
        ("epochs", integers(-2, 4), "a number, at least 0; got -2"),
        ("epochs", uniform(-1, 4), "a number, at least 0; got -1.0"),
        ("batch_size", 0, "a whole number, at least 1"),
        ("batch_size", 8.0, "a whole number"),
        ("batch_size", uniform(8, 16), "a whole number, at least 1; got 8.0"),
        ("warmup_steps", -1, "a whole number, at least 0"),
        ("weight_decay", -0.1, "a number, at least 0"),
        ("weight_decay", float("inf"), "a number, at least 0"),
        ("max_grad_norm", 0, "a number above 0"),
        ("averaging", -1, "None or a number, at least 0"),
        ("averaging", choice(None, -1), "None or a number, at least 0; got -1"),
        ("precision", "float16", "'auto', 'float32' or 'bfloat16'; got 'float16'"),
        ("precision", choice("auto", "fp16"), ".*got 'fp16'"),
        ("seed", -1, "a whole number, at least 0"),
        ("seed", 1.0, "a whole number, at least 0"),
    ],
)
def test_a_recipe_refuses(field: str, value: Any, wanted: str) -> None:
    with pytest.raises(UsageError, match=f"{field} must be {wanted}"):
        a_recipe(**{field: value})


@pytest.mark.parametrize(
    "field, value", [("averaging", choice(None, 4.0)), ("epochs", 0.25), ("epochs", uniform(0.5, 2)), ("warmup_steps", 0)]
)
def test_a_recipe_takes(field: str, value: Any) -> None:
    assert getattr(a_recipe(**{field: value}), field) == value


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"recipe": "r"}, "recipe must be a Recipe"),
        ({"maximize": "acuracy"}, "maximize='acuracy' is not a score of the task. Did you mean 'accuracy'"),
        ({"minimize": "uds"}, "minimize='uds' is not a cost. Did you mean 'usd'"),
        ({"minimize": ("usd", "lables")}, "minimize='lables' is not a cost. Did you mean 'labels'"),
        ({"minimize": ()}, "minimize is empty"),
        ({"minimize": ("usd", "usd")}, "names a cost twice"),
        ({"label_usd": -1}, "label_usd must be a price"),
        ({"label_usd": choice(0.1, 0.2)}, "label_usd is not part of the recipe: it cannot be searched"),
        ({"maximize": choice("accuracy", "f1")}, "maximize is not part of the recipe"),
        ({"trials": 0}, "trials must be a whole number of runs"),
        ({"max_usd": 0}, "max_usd must be US\\$ above 0"),
        ({"devices": 0}, "devices must be a whole number of GPUs, at least 1, or .auto."),
        ({"devices": "all"}, "devices must be"),
        ({"platform": "awz"}, "no offer is called 'awz'.*Did you mean 'aws'"),
    ],
)
def test_a_study_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        a_study(**changes)


def test_a_setting_without_a_record_is_refused_where_the_study_is_made() -> None:
    with pytest.raises(UsageError, match=r"object at 0x.* cannot stand in a recipe"):
        Study(a_recipe(method=peft("lora", learning_rate=1e-3, target_modules=object())), maximize="accuracy")


@dataclasses.dataclass(frozen=True)
class NamedTask(TinyTask):
    """A task that may stand in a choice."""

    name: str = "a"


@dataclasses.dataclass(frozen=True)
class OtherTask(NamedTask):
    """A task with one more score."""

    metrics = ("accuracy", "other")


def test_of_a_choice_of_tasks_only_scores_that_all_have_can_be_maximised() -> None:
    tasks = choice(OtherTask(name="a", train=choice(8, 16)), NamedTask(name="b"))
    study = Study(a_recipe(task=tasks), maximize="accuracy")
    assert list(study.dimensions) == ["task", "a.train"]
    assert study.resolve({"task": "a", "a.train": 16}).task == OtherTask(name="a", train=16)
    with pytest.raises(UsageError, match="maximize='other' is not a score"):
        Study(a_recipe(task=tasks), maximize="other")


# Identity


def test_the_id_does_not_know_the_order_of_settings_or_the_kind_of_a_number() -> None:
    one = a_recipe(method=peft("lora", learning_rate=1e-3, r=4, lora_alpha=8))
    other = a_recipe(method=peft("lora", learning_rate=1e-3, lora_alpha=8.0, r=4), epochs=2.0)
    assert one.id == other.id
    assert len(one.id) == len(one.run_id) == 16


def test_the_id_knows_every_field_and_the_data() -> None:
    base = a_recipe(method=peft("lora", learning_rate=1e-3, r=4))
    others = [
        a_recipe(),
        a_recipe(method=peft("lora", learning_rate=1e-3, r=8)),
        a_recipe(method=peft("lora", learning_rate=1e-3, r=4, name="big")),
        a_recipe(method=peft("lora", learning_rate=1e-3, r=4, target_modules=["query"])),
        *[
            dataclasses.replace(base, **{name: value})
            for name, value in {"model": "n", "epochs": 3, "batch_size": 8, "warmup_steps": 9, "weight_decay": 0.1}.items()
        ],
        dataclasses.replace(base, max_grad_norm=2.0, averaging=None),
        dataclasses.replace(base, precision="float32"),
        dataclasses.replace(base, seed=1),
        dataclasses.replace(base, task=TinyTask(train=65)),
        dataclasses.replace(base, task=TinyTask(seed=1)),
        dataclasses.replace(base, averaging=None),
    ]
    assert len({r.id for r in [base, *others]}) == len(others) + 1


def test_the_same_recipe_on_other_data_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = a_recipe().id, a_recipe().run_id
    monkeypatch.setattr(TinyTask, "digest", lambda self: "other")
    assert a_recipe().id != before[0]
    assert a_recipe().run_id != before[1]


@pytest.mark.parametrize("hash_seed", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_id_is_the_same_in_another_process(hash_seed: str) -> None:
    code = textwrap.dedent("""
        from workbench import Recipe, peft
        from workbench.testing import TinyTask
        method = peft("lora", learning_rate=1e-3, r=4, target_modules={"query", "key", "value", "dense"})
        print(Recipe(task=TinyTask(), model="m", method=method, epochs=2).id)
    """)
    method = peft("lora", learning_rate=1e-3, r=4, target_modules={"value", "dense", "query", "key"})
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed}
    )
    assert done.stdout.strip() == a_recipe(method=method).id


def test_a_run_is_what_differs_in_epochs_only() -> None:
    recipe = a_recipe()
    assert recipe.with_epochs(1).run_id == recipe.run_id
    assert recipe.with_epochs(1).id != recipe.id
    assert dataclasses.replace(recipe, seed=1).run_id != recipe.run_id
    assert dataclasses.replace(recipe, batch_size=8).run_id != recipe.run_id


def test_two_epochs_are_two_however_they_are_written() -> None:
    recipe = a_recipe()
    assert recipe.with_epochs(2.0) == recipe
    assert recipe.with_epochs(2.0).id == recipe.with_epochs(2).id == a_recipe(epochs=2.0).id
    assert recipe.with_epochs(0.25).epochs == 0.25


def test_the_record_of_a_recipe_is_plain_json() -> None:
    record = a_recipe(method=peft("lora", learning_rate=1e-3, target_modules=("q", "v"))).to_json()
    assert record["method"] == {
        "type": "Method",
        "name": "lora",
        "kind": "lora",
        "learning_rate": 1e-3,
        "settings": {"target_modules": ["q", "v"]},
    }
    assert record["task"]["train"] == 64
    assert record["epochs"] == 2


def with_lora(**settings: Any) -> Recipe:
    return dataclasses.replace(
        a_study().recipe,
        method=choice(full(learning_rate=loguniform(1e-4, 1e-3)), peft("lora", learning_rate=1e-3, **settings)),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"minimize": "labels"},
        {"minimize": ("usd", "labels")},
        {"recipe": with_lora(r=choice(4, 8, 16), lora_alpha=16)},
        {"recipe": with_lora(r=choice(4, 8), lora_alpha=32)},  # a fixed setting inside a choice
        {"recipe": with_lora(r=4, lora_alpha=16)},
        {"recipe": dataclasses.replace(a_study().recipe, epochs=integers(1, 5))},
        {"recipe": dataclasses.replace(a_study().recipe, epochs=integers(1, 4, log=True))},
        {"recipe": dataclasses.replace(a_study().recipe, seed=1)},
    ],
)
def test_another_space_or_objective_is_another_study(change: dict[str, Any]) -> None:
    assert a_study(**change).name != a_study().name


@pytest.mark.parametrize(
    "change",
    [
        {"label_usd": 0.5},
        {"trials": 99},
        {"trials": None},
        {"max_usd": 1.0},
        {"devices": 2},
        {"devices": "auto"},
        {"platform": "aws"},
        {"question": "why?"},
        {"minimize": ("usd",)},
        {"recipe": with_lora(lora_alpha=16, r=choice(4, 8))},
        {"path": Path("/elsewhere/study.py")},
    ],
)
def test_prices_limits_and_places_leave_a_study_what_it_is(change: dict[str, Any]) -> None:
    assert a_study(**change).name == a_study(path=Path("here/study.py")).name


def test_what_is_stated_is_told_from_defaults_that_equal_it():
    bare, stated = a_study(), a_study(label_usd=0.0, trials=16)
    assert (bare.label_usd, bare.trials, bare.minimize, bare.max_usd) == (0.0, 16, "usd", None)
    assert bare == stated
    assert bare.stated == {"recipe", "maximize"}
    assert stated.stated == {"recipe", "maximize", "label_usd", "trials"}
    again = stated.restated(platform="local", question="Which?")
    assert again.stated == stated.stated | {"platform"}
    assert (again.platform, again.question, again.label_usd) == ("local", "Which?", 0.0)


def test_a_study_is_called_after_its_file() -> None:
    assert a_study(path=Path("x/qa.py")).name.split("-")[0] == "qa"


def test_settings_make_a_recipe() -> None:
    study = a_study()
    assert list(study.dimensions) == ["task.train", "method", "full.learning_rate", "lora.r", "epochs"]
    recipe = study.resolve({"task.train": 32, "method": "lora", "lora.r": 8, "epochs": 3})
    assert recipe == a_recipe(task=TinyTask(train=32), method=peft("lora", learning_rate=1e-3, r=8, lora_alpha=16), epochs=3)


def test_methods_of_one_name_are_told_apart_by_another_name() -> None:
    with pytest.raises(UsageError, match="the option 'lora' twice"):
        choice(peft("lora", learning_rate=1e-3, r=4), peft("lora", learning_rate=1e-3, r=8))
    both = choice(peft("lora", learning_rate=1e-3, r=choice(1, 2)), peft("lora", name="wide", learning_rate=1e-3, r=choice(32, 64)))
    assert list(Study(a_recipe(method=both), maximize="accuracy").dimensions) == ["method", "lora.r", "wide.r"]


# Study files

HEAD = '''"""Which one?

What a lot of words.
"""
from workbench import Recipe, Study, choice, full, loguniform, integers, peft, uniform
from workbench.testing import TinyTask

'''
BODY = """study = Study(
    Recipe(
        task=TinyTask(),
        model="m",
        method=full(learning_rate=1e-3),
        epochs=2,
    ),
    maximize="accuracy",
)
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a study file."""

    def to_file(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


def test_load(write: Write) -> None:
    study = load(write(HEAD + BODY))
    assert study.recipe == a_recipe()
    assert study.question == "Which one? What a lot of words."
    assert study.path == write(HEAD + BODY).resolve()
    assert study.name.startswith("mine-")
    assert load(write(HEAD + BODY.replace('"accuracy"', '"accuracy", question="Why?"'))).question == "Why?"
    assert load(write(HEAD.partition('"""\n')[2] + BODY)).question == ""


def test_a_path_may_be_text_and_the_folder_does_not_matter(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(HEAD + BODY)
    monkeypatch.chdir(path.parent)
    assert load("mine.py").name == load(str(path)).name


@pytest.mark.parametrize(
    "old, new, where, message",
    [
        ("epochs=2", "epochs=integers(4, 1)", "integers(4, 1)", "integers\\(4, 1\\) is empty"),
        ("1e-3", "loguniform(0, 1)", "loguniform(0, 1)", "must start above 0"),
        ("1e-3", "0", "full(learning_rate=0)", "learning_rate must be a number above 0; got 0"),
        ("full(", 'peft("lroa", ', 'peft("lroa"', "PEFT has no method 'lroa'. Did you mean 'lora'"),
        ('"accuracy"', '"acc"', "Study(\n", "maximize='acc' is not a score of the task.*accuracy"),
        (
            'maximize="accuracy"',
            'maximize="accuracy", minimize="usdd"',
            "Study(\n",
            "minimize='usdd' is not a cost. Did you mean 'usd'",
        ),
        ("epochs=2", "epoch=2", "Recipe(\n", "Recipe\\(\\) has no argument 'epoch'. Did you mean 'epochs'"),
        ("maximize=", "maximise=", "Study(\n", "Study\\(\\) has no argument 'maximise'. Did you mean 'maximize'"),
        ("TinyTask()", "TinyTask(trian=3)", "TinyTask(trian=3)", "TinyTask\\(\\) has no argument 'trian'. Did you mean 'train'"),
        ("learning_rate=", "learnin_rate=", "full(learnin_rate", "argument 'learnin_rate'. Did you mean 'learning_rate'"),
        ("epochs=2", "**{}", "Recipe(\n", r"Recipe\(\) needs epochs, e\.g\. epochs=integers\(1, 4\)\."),
        ("learning_rate=1e-3", "", "full()", r"full\(\) needs learning_rate, e\.g\. learning_rate=loguniform\(5e-5, 5e-4\)\."),
        ('maximize="accuracy"', "**{}", "Study(\n", r"Study\(\) needs maximize, e\.g\. maximize=\"accuracy\"\."),
        ("full(learning_rate=1e-3)", "peft()", "peft()", r"needs method and learning_rate|needs method, e\.g\. method=\"lora\""),
        ("TinyTask()", "(lambda train: 1)()", "(lambda", "TypeError: <lambda>.. missing 1 required positional argument: 'train'"),
        ("epochs=2", "epochs=-2", "Recipe(\n", "epochs must be a number, at least 0; got -2"),
        ("epochs=2", "epochs=1/0", "epochs=1/0", "ZeroDivisionError: division by zero"),
        ("epochs=2", "epochs=open('/nowhere')", "epochs=open", "FileNotFoundError"),
        ("epochs=2", "epochs=exit(3)", "epochs=exit", "SystemExit: 3"),
        ("TinyTask()", "NoTask()", "task=NoTask()", "NameError: name 'NoTask' is not defined"),
        ("import TinyTask", "import NoTask", "import NoTask", "cannot import name 'NoTask'"),
        ("epochs=2", "epochs=", "epochs=,", "invalid syntax"),
        ("epochs=2", "epochs=(2 3)", "epochs=(2 3)", r"invalid syntax. Perhaps you forgot a comma\?$"),
        ("epochs=2,\n    )", "epochs=2,\n    ", "study = Study(", "'\\(' was never closed"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(write: Write, old: str, new: str, where: str, message: str) -> None:
    text = (HEAD + BODY).replace(old, new)
    path = write(text)
    with pytest.raises(StudyError, match=f"^{path}, line {line_of(text, where)}: .*{message}") as caught:
        load(path)
    assert str(caught.value).count("Did you mean") <= 1


def test_a_mistake_in_a_function_of_the_file_is_named_where_it_happens(write: Write) -> None:
    text = HEAD + "def rate():\n    return {}['x']\n\n\n" + BODY.replace("1e-3", "rate()")
    with pytest.raises(StudyError, match=f"line {line_of(text, 'return {')}: KeyError: 'x'"):
        load(write(text))


def test_a_syntax_error_in_a_neighbour_is_named_there(write: Write) -> None:
    path = write("import broken_neighbour\n" + HEAD + BODY)
    (path.parent / "broken_neighbour.py").write_text("x = 1\ny = (\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"broken_neighbour.py, line 2"):
        load(path)
    assert str(path.parent) not in sys.path


def test_a_file_may_import_its_neighbours_and_define_its_own_task(write: Write) -> None:
    """Dataclasses in the file are made under postponed annotations too, which need the module to be known."""
    own = "import dataclasses\nimport good_neighbour\n\n"
    own += "@dataclasses.dataclass(frozen=True)\nclass Own(TinyTask):\n    more: int = 1\n\n"
    text = "from __future__ import annotations\n" + HEAD + own + BODY.replace("TinyTask()", "Own(train=good_neighbour.TRAIN)")
    path = write(text)
    (path.parent / "good_neighbour.py").write_text("TRAIN = 16\n", encoding="utf-8")
    study = load(path)
    assert (study.recipe.task.train, study.recipe.task.more) == (16, 1)  # type: ignore[attr-defined]


def test_a_file_is_read_as_python_reads_it(write: Write) -> None:
    """Its own `__future__` and no other; a byte order mark and a declared encoding are heeded."""
    path = write(HEAD + "class A:\n    x: undefined_name = 1\n\n" + BODY)
    with pytest.raises(StudyError, match="NameError: name 'undefined_name'"):
        load(path)
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + BODY).encode())
    load(path)
    path.write_bytes(b"# coding: latin-1\n" + (HEAD + BODY).replace('"m"', '"\xe9"').encode("latin-1"))
    assert load(path).recipe.model == "é"
    path.write_bytes((HEAD + BODY).replace('"m"', '"\xe9"').encode("latin-1"))
    with pytest.raises(StudyError, match=r"mine.py, line .*utf-8"):
        load(path)


def test_no_file(write: Write, tmp_path: Path) -> None:
    path = write(HEAD + BODY)
    with pytest.raises(StudyError, match=r"there is no study file .*nine.py. Did you mean '.*mine.py'"):
        load(path.with_name("nine.py"))
    with pytest.raises(StudyError, match=r"there is no study file .*x.py. Give the path of a Python file"):
        load(tmp_path / "nowhere" / "x.py")
    with pytest.raises(StudyError, match="there is no study file"):
        load(tmp_path)


def test_there_must_be_one_study(write: Write) -> None:
    with pytest.raises(StudyError, match=r"mine.py holds no Study object; it must hold exactly one"):
        load(write(HEAD))
    with pytest.raises(StudyError, match=r"mine.py holds 2 Study objects \(study, more\)"):
        load(write(HEAD + BODY + BODY.replace("study =", "more =")))
    assert load(write(HEAD + BODY + "again = study\n")).recipe == a_recipe()


def test_the_default_study_can_be_loaded() -> None:
    study = load(ROOT / "studies" / "qa.py")
    assert study.question.endswith("?")
    assert len(study.dimensions["method"].space.ends) >= 3
    assert len(study.dimensions["model"].space.ends) >= 2


def test_methods_and_bitfit_need_a_rate_that_can_be() -> None:
    for rate in (0, -1, float("nan"), float("inf"), True, "1e-3", None):
        with pytest.raises(UsageError, match="learning_rate must be a number above 0"):
            bitfit(learning_rate=rate)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="learning_rate must be a number above 0; got 0"):
        full(learning_rate=choice(0, 1e-3))
    with pytest.raises(UsageError, match="name must be a name"):
        Method("", "full", 1e-3)


def test_a_checkpoint_resolves_to_the_recipe_of_a_shorter_run(study_file: Path) -> None:
    study = load(study_file)
    settings = {"task.train": 32, "method": "bitfit", "bitfit.learning_rate": 2e-3}
    whole, part = study.resolve({**settings, "epochs": 4}), study.resolve({**settings, "epochs": 0.5})
    assert part == whole.with_epochs(0.5)
    assert part.run_id == whole.run_id
    for wrong in (0, -1, 8, "long"):
        with pytest.raises(UsageError):
            study.resolve({**settings, "epochs": wrong})
