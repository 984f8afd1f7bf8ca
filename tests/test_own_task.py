"""A task that somebody wrote: mistakes in it are told by its file and line, or by what it must be, and not by ours."""

import re
from pathlib import Path

import pytest

from workbench import formulations
from workbench.data import models
from workbench.errors import StudyError, UsageError
from workbench.study import load
from workbench.sweep import check_data
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
