"""`workbench label`: from texts without labels to a sweep that has learned from the answers."""

import csv
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from commands import here
from test_task_classification import row

from workbench.data import answers, fingerprints, load
from workbench.data.labelled import LabelledTexts
from workbench.errors import DataError, UsageError
from workbench.ledger import Ledger, default_url
from workbench.study import load as load_study
from workbench.tasks import classification

LABELLED, WAITING = 60, 90


def table(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text(answers.written(rows), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    load.cache_clear()
    fingerprints.look_again()


@pytest.fixture
def place(tmp_path: Path, tiny: str) -> Path:
    """A folder with texts of which most wait for a label, and a study of them."""
    rows = [{"number": str(i), **row(i)} for i in range(LABELLED + WAITING)]
    table(tmp_path / "calls.csv", [each if i < LABELLED else each | {"label": ""} for i, each in enumerate(rows)])
    study(tmp_path, tiny)
    return tmp_path


def study(folder: Path, model: str, train: str = "choice(24, 40)", task: str = "") -> Path:
    file = folder / "calls.py"
    task = task or f'classification("calls.csv", train={train}, dev=10, test=5, max_length=32)'
    file.write_text(
        textwrap.dedent(f"""
        from workbench import Recipe, Study, choice, logistic, uncertainty
        from workbench.tasks import classification, question_answering, text_generation

        study = Study(
            Recipe(task={task}, model={model!r}, method=logistic(C=1000), epochs=1, acquire=choice(None, uncertainty(first=8))),
            maximize={"f1" if "question" in task else "accuracy"!r}, minimize="labels", trials=4, label_usd=0.01,
        )
        """),
        encoding="utf-8",
    )
    return file


def filled(file: Path, count: int, into: Path) -> Path:
    """The file with the first rows labelled as a person would: by the number of the row, which stands in the data."""
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    return table(into, [each | ({"label": row(int(each["number"]))["label"]} if i < count else {}) for i, each in enumerate(rows)])


@pytest.mark.slow
def test_the_loop_from_texts_to_a_better_model(place: Path, tiny: str) -> None:
    swept = here("sweep", "calls.py", "--json", cwd=place)
    assert swept.returncode == 0, swept.stderr
    before = json.loads(swept.stdout)
    own = (place / "calls.csv").read_bytes()
    asked = here("label", "calls.py", "--next", "30", cwd=place)
    assert asked.returncode == 0, asked.stderr
    assert "Wrote 30 texts to calls.label.csv, chosen by uncertainty; 60 more wait." in asked.stderr
    assert "What a model says is that of logistic on" in asked.stderr
    rows = list(csv.DictReader((place / "calls.label.csv").open(encoding="utf-8")))
    assert [*rows[0]] == ["number", "text", "label", "workbench_id", "workbench_says", "workbench_confidence"]
    assert {each["label"] for each in rows} == {""}
    assert {each["workbench_says"] for each in rows} <= {"first_one", "second", "third"}
    assert all(1 / 3 <= float(each["workbench_confidence"]) <= 1 for each in rows)
    again = here("label", "calls.py", "--next", "30", cwd=place)
    assert (again.returncode, "may hold labels" in again.stderr) == (3, True)

    filled(place / "calls.label.csv", 20, place / "done.csv")
    taken = here("label", "calls.py", "--answers", "done.csv", cwd=place)
    assert taken.returncode == 0, taken.stderr
    assert "Added 20 answers to calls.csv.answers.csv (10 rows without a label, 0 that were given before)." in taken.stderr
    assert "train= may be up to 68" in taken.stderr
    assert "its finished results are left off its front until it is swept again" in taken.stderr
    assert (place / "calls.csv").read_bytes() == own
    more = here("label", "calls.py", "--next", "100", "--out", "rest.csv", "--strategy", "diversity", cwd=place)
    assert more.returncode == 0, more.stderr
    assert "Wrote 70 texts to rest.csv, chosen by diversity; 0 more wait." in more.stderr  # what was answered waits no longer

    study(place, tiny, train="choice(24, 40, 68)")
    resumed = here("sweep", "calls.py", "--trials", "10", "--json", cwd=place)
    assert resumed.returncode == 0, resumed.stderr
    after = json.loads(resumed.stdout)
    assert "20 answers of calls.csv.answers.csv are trained on as well." in resumed.stderr
    found = load_study(place / "calls.py")
    ledger = Ledger.find(found.name, default_url(place), path="calls.py", study=found)
    results = ledger.results()
    assert max(r.labels for r in results) == 68
    assert max(r.scores["accuracy"] for r in results) > 50
    assert before["study"] != after["study"]


def test_answers_are_trained_on_behind_the_others_and_grade_nothing(place: Path) -> None:
    data = str(place / "calls.csv")
    form = LabelledTexts()
    plain = load(data, form)
    task = classification(data, train=24, dev=10, test=5)
    first = [each["id"] for each in task.pool()]
    assert sum("without a label" in note for note in plain.notes) == 1  # most of the rows, and no reason to refuse them
    waiting = answers.waiting(data, form)
    assert len(waiting) == WAITING
    digest = task.digest()
    file = table(place / "filled.csv", [answers.blank(each, "", None) | {"label": "third"} for each in waiting[:12]])
    found = answers.checked(file, waiting, {}, ("first_one", "second", "third"))
    assert answers.add(data, found.rows) == place / "calls.csv.answers.csv"
    load.cache_clear()
    fingerprints.look_again()
    more = load(data, form)
    assert (more.dev, more.test) == (plain.dev, plain.test)
    pool = task.pool()
    assert [each["id"] for each in pool][: len(first)] == first
    assert [each["text"] for each in pool[len(first) :]] == [each.text for each in waiting[:12]]
    assert task.digest() != digest
    assert len(answers.waiting(data, form)) == WAITING - 12
    (place / "calls.csv.answers.csv").unlink()
    load.cache_clear()
    fingerprints.look_again()
    assert task.digest() == digest  # undone


def test_texts_of_another_file_wait_too_each_once(place: Path) -> None:
    data, form = str(place / "calls.csv"), LabelledTexts()
    known = row(3)["text"]
    pool = [{"text": "w1 w2 new"}, {"text": " W1 w2  new"}, {"text": known}, {"text": ""}, {"text": row(80)["text"]}]
    table(place / "pool.csv", pool)
    found = answers.waiting(data, form, str(place / "pool.csv"))
    assert len(found) == WAITING + 1
    assert found[-1].text == "w1 w2 new"
    assert answers.blank(found[-1], "second", 0.51234) == {
        "text": "w1 w2 new",
        "label": "",
        "workbench_id": found[-1].id,
        "workbench_says": "second",
        "workbench_confidence": "0.512",
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label": "thrid"}, "line 2: 'thrid' is no label of the data. Did you mean 'third'"),
        ({"workbench_id": "0" * 16}, "is no row that waits for a label. If it came from another file, name it by --pool"),
        ("twice", "line 3: .* is answered twice. Keep one of the rows"),
        ("other", "line 2: 'third' was answered by 'second' before"),
        ("column", "has no column 'workbench_id'"),
    ],
)
def test_answers_that_are_wrong_are_told_and_none_is_taken(place: Path, changes: Any, told: str) -> None:
    waiting = answers.waiting(str(place / "calls.csv"), LabelledTexts())
    one = answers.blank(waiting[0], "", None) | {"label": "third"} | (changes if isinstance(changes, dict) else {})
    rows = [one, one] if changes == "twice" else [one]
    if changes == "column":
        rows = [{name: value for name, value in one.items() if name != "workbench_id"}]
    before = {waiting[0].id: "second"} if changes == "other" else {}
    with pytest.raises(DataError, match=told):
        answers.checked(table(place / "filled.csv", rows), waiting, before, ("first_one", "second", "third"))


def test_what_was_given_before_is_given_once(place: Path) -> None:
    waiting = answers.waiting(str(place / "calls.csv"), LabelledTexts())
    rows = [
        answers.blank(each, "", None) | {"label": label} for each, label in zip(waiting[:3], ("third", "", "second"), strict=True)
    ]
    found = answers.checked(table(place / "filled.csv", rows), waiting, {waiting[0].id: "third"}, ("second", "third"))
    assert ([each["label"] for each in found.rows], found.empty, found.known) == (["second"], 1, 1)


def test_an_answer_whose_text_has_a_label_in_the_data_is_left_out(place: Path) -> None:
    data, form = str(place / "calls.csv"), LabelledTexts()
    answers.add(data, [{"text": row(3)["text"], "label": "third", "workbench_id": "x"}])
    found = load(data, form)
    assert len(found.train) + len(found.dev) + len(found.test) == LABELLED
    assert "0 answers of" in found.notes[-1]
    answers.add(data, [{"text": "quite new", "label": "fourth", "workbench_id": "y"}])
    load.cache_clear()
    with pytest.raises(DataError, match="line 3: no row of the data has the label 'fourth'"):
        load(data, form)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "say what to do: --next N"),
        (("--next", "3", "--answers", "x.csv"), 2, "say what to do"),
        (("--next", "0"), 2, "0 is too small: give a number of at least 1"),
        (("--answers", "x.csv"), 2, "x.csv"),
        (("--next", "3", "--pool", "nothing.csv"), 2, "nothing.csv"),
        (("--next", "3", "--strategy", "uncertain"), 2, "uncertainty"),
    ],
)
def test_bad_input_is_told(command: Any, place: Path, words: tuple[str, ...], code: int, told: str) -> None:
    got, _, err = command("label", "calls.py", *words)
    assert (got, told in err) == (code, True), err


def test_other_tasks_and_data_are_refused(command: Any, place: Path, tiny: str) -> None:
    study(place, tiny, task='question_answering("pydocs", train=8)')
    code, _, err = command("label", "calls.py", "--next", "3")
    assert (code, "this study's task is a QuestionAnswering" in err) == (2, True), err
    study(place, tiny, task='classification("pytopics", train=8)')
    code, _, err = command("label", "calls.py", "--next", "3")
    assert (code, "beside a file or folder of your own, and 'pytopics' is none" in err) == (2, True), err


def test_a_study_that_was_never_swept_can_be_labelled_for(command: Any, place: Path) -> None:
    code, _, err = command("label", "calls.py", "--next", "5", "--strategy", "random")
    assert code == 0, err
    assert "chosen by random" in err
    assert "a logistic regression on" in err
    with pytest.raises(UsageError, match="none"):
        answers.beside("nowhere.csv")
