"""A task that somebody wrote: mistakes in it are told by its file and line, or by what it must be, and not by ours."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from workbench import Recipe, Study, choice, formulations, full, zero_shot
from workbench.data import models
from workbench.errors import StudyError, UsageError
from workbench.ledger import Ledger, default_url
from workbench.methods import Method
from workbench.study import load
from workbench.sweep import check_data
from workbench.tasks import Splits, Task
from workbench.testing import TinyTask

OWN = """from dataclasses import dataclass

from workbench import Recipe, Study, full
from workbench.tasks import Splits
from workbench.testing import TinyTask


@dataclass(frozen=True)
class Own(TinyTask):
    def splits(self):
        row = {"category": 1}
        return row["categry"]


study = Study(Recipe(task=Own(), model="m", method=full(learning_rate=1e-3), epochs=1), maximize="accuracy")
"""


def test_what_fails_while_a_users_task_reads_is_told_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    said = re.escape(f"{tmp_path / 'own.py'}, line 12: Own cannot read its data: KeyError: 'categry'.")
    with pytest.raises(StudyError, match=said):
        check_data(load(tmp_path / "own.py"))


def test_a_failure_of_a_task_of_ours_is_a_bug_and_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("    def splits(self):\n", "    def other(self):\n"))
    monkeypatch.setattr(TinyTask, "splits", lambda self: {}["gone"])
    with pytest.raises(KeyError, match="gone"):
        check_data(load(tmp_path / "own.py"))


def test_scores_of_other_names_than_the_metrics_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyTask, "score", lambda self, examples, predictions: {"f1_macro": 1.0})
    with pytest.raises(UsageError, match=r"score\(\) of TinyTask gave f1_macro, and its metrics name accuracy\."):
        TinyTask().grade([{}], [0])


@dataclass(frozen=True)
class Short(TinyTask):
    """Gives at most so many examples a side, whatever `train` and `dev` ask for."""

    most_train: int = 64
    most_dev: int = 32

    def splits(self) -> Splits:
        splits = super().splits()
        return Splits(splits.train[: self.most_train], splits.dev[: self.most_dev], splits.test)


def asking(task: Task, method: Method) -> Study:
    return Study(Recipe(task=task, model="m", method=method, epochs=1), maximize="accuracy")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Short(most_dev=0), r"splits\(\) of Short gave 0 dev examples, and they grade every checkpoint\. Give it at least one\."),
        (
            Short(most_train=0),
            r"splits\(\) of Short gave 0 examples to train on, .* Give it at least one, or name only .*zero_shot",
        ),
        (Short(most_train=48), r"train=64: Short has 48 examples to train on\. Ask for at most that many\."),
        (Short(train=choice(16, 96)), r"train=96: Short has 64 examples to train on\."),
    ],
    ids=["no dev", "no train", "fewer than asked for", "fewer than the most asked for"],
)
def test_splits_that_lack_examples_are_refused(task: Task, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_data(asking(task, full(learning_rate=1e-3)))


def test_splits_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Short, "splits", lambda self: ([], []))
    with pytest.raises(UsageError, match=r"splits\(\) of Short gave a tuple\. Return Splits\(train, dev, test\)"):
        check_data(asking(Short(), full(learning_rate=1e-3)))


def test_what_only_asks_needs_nothing_to_train_on() -> None:
    assert check_data(asking(Short(most_train=0), zero_shot())) == []
    assert check_data(asking(Short(most_train=48, train=48), full(learning_rate=1e-3))) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.5, "gave a float. Return a number for each of its metrics: accuracy."),
        ({"accuracy": None}, "gave accuracy as None. Give a float, or leave out what is not known."),
        ({"accuracy": 1.0, "f1": "0.5"}, "gave f1 as a str. Give a float"),
    ],
)
def test_scores_that_are_no_numbers_are_told(monkeypatch: pytest.MonkeyPatch, given: object, said: str) -> None:
    monkeypatch.setattr(TinyTask, "score", lambda self, examples, predictions: given)
    with pytest.raises(StudyError, match=re.escape(f"score() of TinyTask {said}")):
        TinyTask().grade([{}], [0])


def test_scores_of_numpy_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"accuracy": np.float32(0.5), "f1": np.int64(1)}
    monkeypatch.setattr(TinyTask, "score", lambda self, examples, predictions: given)
    assert json.dumps(TinyTask().grade([{}], [0])) == '{"accuracy": 0.5, "f1": 1.0}'


SCORED = """from dataclasses import dataclass

from workbench import Recipe, Study, bitfit, choice, full
from workbench.testing import TinyTask


@dataclass(frozen=True)
class Own(TinyTask):
    metrics = ("accuracy", "f1")

    def score(self, examples, predictions):
        return {GIVEN: 1.0}


methods = choice(full(learning_rate=1e-3), bitfit(learning_rate=1e-3))
study = Study(Recipe(task=Own(), model=MODEL, method=methods, epochs=1), maximize="accuracy")
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("precision", "score() of Own gave precision, and its metrics name accuracy, f1. Call them alike."),
        ("f1", "score() of Own gave f1, dev_loss, and the study maximises accuracy. Have score() give it, or maximize another."),
    ],
)
def test_a_wrong_score_ends_the_sweep_at_its_first_run(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, tiny: str, given: str, said: str
) -> None:
    (tmp_path / "own.py").write_text(SCORED.replace("GIVEN", repr(given)).replace("MODEL", repr(tiny)))
    code, _, err = command("sweep", "own.py", "--trials", "2")
    assert (code, said in " ".join(err.split())) == (2, True), err
    (result,) = Ledger.find("own", default_url(tmp_path)).results()
    assert (result.status, result.reason) == ("interrupted", f"fault: {said}")


def test_a_class_that_is_none_of_those_named_is_told(tiny: str) -> None:
    form = formulations.classification(
        "encoder",
        TinyTask(),
        {"0": "no", "2": "yes"},
        lambda row: row["text"],
        lambda row: [row["label"]],
        max_length=16,
        instruction="?",
    )
    with pytest.raises(UsageError, match="an example has the class '1', and the classes are '0', '2'"):
        form.encode([{"text": "w9", "label": "1"}], models.processor(tiny))
