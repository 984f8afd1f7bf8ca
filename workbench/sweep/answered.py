"""Right answers that became known in use, as labels of a study: its next sweep can buy them."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from workbench.data import answers, fingerprints
from workbench.errors import UsageError
from workbench.formulations import Example
from workbench.study import Study
from workbench.sweep import to_label
from workbench.tasks import Task
from workbench.tasks.classification import Classification
from workbench.tasks.question_answering import QuestionAnswering
from workbench.tasks.tables import TableTask
from workbench.tasks.text_generation import TextGeneration

CHANGED = "With them the data of {study} changed: its finished results are left off its front until it is swept again."
"""What whoever adds labels is to know."""


def task_of(study: Study) -> Task:
    """The one task of a study that takes answers from use, with the first value in each hole.

    Raises:
        UsageError: It is another kind of task, or there are several.
    """
    task: Any = study.recipe.task
    if isinstance(task, (QuestionAnswering, TextGeneration)) and isinstance(task.data, str):
        return task
    if isinstance(task, Classification):
        return to_label.task_of(study)
    raise UsageError(
        f"answers from use become labels of classification(…), question_answering(…) and text_generation(…), and this study's task "
        f"is a {type(task).__name__}. Leave --study out: the score in use is kept all the same."
    )


def add(task: Task, examples: Sequence[Example]) -> tuple[int, int]:
    """Add answered examples to the labels of a task. What has a label already keeps it.

    Args:
        task: As `task_of` gives it.
        examples: Examples of it with the right answers.

    Returns:
        How many of them are new; and how many cannot be labels: a conversation, or an answer that is no part of its text.

    Raises:
        DataError: An answer is no class of the data.
        UsageError: The data have no place for answers.
    """
    if isinstance(task, (QuestionAnswering, TextGeneration)):
        return answers.add_texts(task.data, cast(answers.TextAnswers, task.form), examples)
    assert isinstance(task, Classification)
    return _add_classes(task, {_text(example["text"]): str(example["labels"][0]) for example in examples}), 0


def _add_classes(task: Classification, labels: Mapping[str | tuple[str, str], str]) -> int:
    """Add texts with their classes, as `workbench label --answers` does."""
    answers.beside(task.data)  # data without a place for answers are refused before anything is written
    columns = task.form.text if isinstance(task.form.text, tuple) else (task.form.text or "text",)
    with tempfile.TemporaryDirectory(prefix="workbench-answered-") as scratch:
        pool, filled = Path(scratch, "texts.jsonl"), Path(scratch, "answers.csv")
        rows = [dict(zip(columns, (text,) if isinstance(text, str) else text, strict=True)) for text in labels]
        pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        waiting = answers.waiting(task.data, task.form, str(pool))
        told = [answers.blank(each, "", None) | {each.label: labels[each.text]} for each in waiting if each.text in labels]
        filled.write_text(answers.written(told), encoding="utf-8")
        found = answers.checked(filled, waiting, {}, task.class_names()) if told else answers.Answers([], 0, 0)
    if found.rows:
        answers.add(task.data, found.rows)
    return len(found.rows)


def _text(value: object) -> str | tuple[str, str]:
    """A text as the data's reader has it, or the two of a pair."""
    return (str(value[0]), str(value[1])) if isinstance(value, list) and len(value) == 2 else str(value)


def labels(task: Task) -> int:
    """How many labels a task has to train on now, with all answers."""
    fingerprints.look_again()
    of_one_order = dataclasses.replace(cast(TableTask, task), seed=0)  # which may be a hole, and does not matter
    return len(of_one_order.pool() or ())
