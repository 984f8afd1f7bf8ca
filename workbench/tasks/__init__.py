"""Tasks: data, how to encode it, and the score that grades it. One short file a task."""

from __future__ import annotations

from workbench.tasks.base import Example, Rows, Splits, Task
from workbench.tasks.question_answering import QuestionAnswering, question_answering

__all__ = ["Example", "QuestionAnswering", "Rows", "Splits", "Task", "question_answering"]
