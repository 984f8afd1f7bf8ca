"""Tasks: data, prompts and answers, and the score that grades them. One short file a task, without tensor code."""

from __future__ import annotations

from workbench.formulations import Example
from workbench.tasks.base import Splits, Task
from workbench.tasks.classification import Classification, classification
from workbench.tasks.question_answering import QuestionAnswering, question_answering
from workbench.tasks.ranking import Ranking, ranking
from workbench.tasks.retrieval import Retrieval, retrieval
from workbench.tasks.text_generation import TextGeneration, text_generation
from workbench.tasks.translation import Translation, translation

__all__ = [
    "Classification",
    "Example",
    "QuestionAnswering",
    "Ranking",
    "Retrieval",
    "Splits",
    "Task",
    "TextGeneration",
    "Translation",
    "classification",
    "question_answering",
    "ranking",
    "retrieval",
    "text_generation",
    "translation",
]
