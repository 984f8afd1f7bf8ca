"""Tasks: data, prompts and answers, and the score that grades them. One short file a task, without tensor code."""

from __future__ import annotations

from workbench.formulations import Example
from workbench.tasks.base import Splits, Task
from workbench.tasks.classification import Classification, classification
from workbench.tasks.question_answering import QuestionAnswering, question_answering

__all__ = ["Classification", "Example", "QuestionAnswering", "Splits", "Task", "classification", "question_answering"]
