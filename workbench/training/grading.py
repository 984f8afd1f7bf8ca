"""Rows by which a model is graded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import methods
from workbench.formulations import Example, Formulation, Rows, Shots
from workbench.objectives import NO_TARGET, Read
from workbench.study import Recipe
from workbench.tasks.base import Task
from workbench.tasks.refusals import UNANSWERED


@dataclass(frozen=True)
class Questions:
    """Rows by which a model is graded.

    Attributes:
        formulation: How the model computes what they are of.
        examples: The examples that the rows are made of.
        labelled: Rows with answers, for the loss; no rows where the loss is not asked for.
        asked: Rows without answers; the same object as `labelled` where predictions are read off
            the pass of the loss.
        plain: Whether rows without answers pass the model once, as they are.
        behind: For each row that a decoder writes an answer to, the labelled row that is the same
            with its answer behind it, shape (rows,); -1: it has none. None: some labelled row
            begins otherwise, or answers are not written.
        also: The same of other tasks that grade the model, each with its task.
    """

    formulation: Formulation
    examples: Sequence[Example]
    labelled: Rows
    asked: Rows
    plain: bool = True
    behind: np.ndarray | None = None
    also: Sequence[tuple[Task, Questions]] = ()

    def answers(self, asked: np.ndarray) -> list[np.ndarray]:
        """The tokens of the answers behind some rows that are asked, with their end tokens; none where `behind` has none."""
        assert self.behind is not None
        labels, prompts = self.labelled.columns["labels"], self.asked.columns["input_ids"]
        rows = [(labels[row] if row >= 0 else [], len(prompts[i])) for i, row in zip(asked, self.behind[asked], strict=True)]
        return [np.asarray(targets[size:], np.int64) for targets, size in rows]


def questions(
    formulation: Formulation, examples: Sequence[Example], processor: Any, shots: Shots = (), *, loss: bool = True
) -> Questions:
    """Encode the rows by which a model is graded, each question behind its examples with their
    answers.

    Args:
        formulation: The model's.
        examples: What it is graded by.
        processor: The model's.
        shots: Examples before each question.
        loss: Whether the loss is wanted even if it takes a pass of its own. That doubles the price
            of a model that is only asked.
    """
    inference = formulation.inference(processor)
    if isinstance(inference, Read):
        labelled = formulation.encode(examples, processor, shots=shots)
        return Questions(formulation, examples, labelled, labelled)
    # What has no right answer has no loss. It stands behind the others, so that these keep their places.
    answered = examples[: sum(UNANSWERED not in example for example in examples)]
    labelled = formulation.encode(answered if loss else (), processor, shots=shots if loss else ())
    asked = formulation.encode(examples, processor, answers=False, shots=shots)
    behind = _behind(labelled, asked) if inference.writes else None
    return Questions(formulation, examples, labelled, asked, inference.plain, behind)


def _behind(labelled: Rows, asked: Rows) -> np.ndarray | None:
    """As `Questions.behind`."""
    row_of = {example: row for row, example in enumerate(labelled.example.tolist())}
    found = np.array([row_of.get(example, -1) for example in asked.example.tolist()], np.int64)
    if not len(labelled) or len(row_of) < len(labelled) or (found >= 0).sum() < len(labelled):
        return None
    for prompt, row in zip(asked.columns["input_ids"], found, strict=True):
        if row >= 0:
            ids, targets, size = labelled.columns["input_ids"][row], labelled.columns["labels"][row], len(prompt)
            asks = len(ids) == len(targets) > size and np.array_equal(ids[:size], prompt)
            # In a conversation earlier answers are targets, too.
            if not asks or (targets[:size] != NO_TARGET).any() or not np.array_equal(targets[size:], ids[size:]):
                return None
    return found


def questions_of(recipe: Recipe, side: str, processor: Any) -> Questions:
    """Encode all that grades a recipe's model on a side, `dev` or `test`, as `questions` does: other tasks without their loss."""
    formulation = recipe.formulation
    shots = methods.shots(recipe.method, formulation, recipe.task.splits().train)
    own = questions(formulation, recipe.task.graded(side), processor, shots, loss=recipe.learns)
    others = [(of.task, questions(of.formulation, of.task.graded(side), processor, loss=False)) for of in recipe.graders]
    return dataclasses.replace(own, also=[(task, asked) for task, asked in others if asked.examples])
