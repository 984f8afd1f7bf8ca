"""How many rows and tokens the examples of a task are for a model, from a sample of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import methods, training
from workbench.data import models
from workbench.formulations import Rows
from workbench.objectives import Generate, Inference, Likelihood, Objective
from workbench.study import Recipe
from workbench.tasks.refusals import UNANSWERED

if TYPE_CHECKING:
    from workbench.training.grading import Questions

SAMPLE = 64
"""Examples that are encoded to know how many rows and tokens one gives."""


@dataclass(frozen=True)
class Data:
    """Counts and lengths.

    Attributes:
        train_examples: All of them.
        dev_examples: All of them.
        train: Tokens of the rows of each sampled training example.
        dev: The same of dev examples, with their answers.
        asked: The same as they are asked; none where that takes no pass of its own.
        behind: Whether a row of `dev` is one of `asked` with its answer behind it, so that a pass may do for both.
        written: Tokens that each of those is answered with: written, or weighed; 0 where an answer is one number.
        shared: Tokens of the rows that are asked once, however many examples there are.
        rows: The sampled training rows themselves; of dev examples where nothing is trained on.
        objective: What is learned by.
        pool_examples: All that labels can be bought for; 0 where the recipe chooses none of them.
        classes: How many classes there are, where that is so.
    """

    train_examples: int
    dev_examples: int
    train: Sequence[Sequence[int]]
    dev: Sequence[Sequence[int]]
    asked: Sequence[Sequence[int]]
    written: Sequence[int]
    shared: Sequence[int]
    rows: Rows
    objective: Objective
    behind: bool = False
    pool_examples: int = 0
    classes: int = 0

    @property
    def together(self) -> bool:
        """Whether a step is not cut apart."""
        return self.rows.together or self.objective.together

    @property
    def tokens(self) -> float:
        """Mean tokens of a training example."""
        return statistics.fmean(map(sum, self.train)) if self.train else 0.0


def sampled(recipe: Recipe) -> Data:
    """Encode at most `SAMPLE` examples of each side for the recipe's model. Raises as `splits`, `formulation` and `encode` do."""
    processor, splits = models.processor(recipe.architecture), recipe.task.splits()
    formulation = recipe.formulation
    trained = splits.train if recipe.method.labelled else ()
    rows = formulation.encode(_spread_out(trained), processor)
    dev = training.questions(
        formulation, _spread_out(recipe.task.graded()), processor, methods.shots(recipe.method, formulation, splits.train)
    )
    apart = dev.asked is not dev.labelled
    own = int(np.searchsorted(dev.asked.example, len(dev.examples)))  # the rest is asked once
    return Data(
        len(splits.train),
        len(recipe.task.graded()),
        _by_example(rows, len(rows)),
        _by_example(dev.labelled, len(dev.labelled)),
        _by_example(dev.asked, own) if apart else [],
        _written(formulation.inference(processor), dev, dev.asked.example[:own].tolist()) if apart else [],
        dev.asked.lengths[own:].tolist(),
        rows if len(rows) else dev.labelled,
        methods.lesson(recipe.method, formulation.objective),
        dev.behind is not None,
        *((len(recipe.task.pool() or ()), len(recipe.task.class_names())) if recipe.acquire or recipe.pseudo else (0, 0)),
    )


def _written(inference: Inference, dev: Questions, asked: Sequence[int]) -> list[int]:
    """Tokens that each row asked is answered with: those of its example's answer, or of all that are weighed."""
    if isinstance(inference, Likelihood):
        return [inference.read_tokens] * len(asked)
    if not inference.writes:
        return [0] * len(asked)
    answers = dict(zip(dev.labelled.example.tolist(), dev.labelled.items.tolist(), strict=True))
    # What has no right answer may be answered at any length.
    longest = inference.max_new_tokens if isinstance(inference, Generate) else 0
    return [int(answers.get(i, longest if UNANSWERED in dev.examples[i] else 0)) for i in asked]


def _spread_out(examples: Sequence[Any]) -> list[Any]:
    """At most `SAMPLE` of the items, evenly spaced."""
    count = min(SAMPLE, len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]


def _by_example(rows: Rows, count: int) -> list[list[int]]:
    """Tokens of the first rows, those of each example together."""
    by_example: dict[int, list[int]] = {}
    for example, length in zip(rows.example[:count].tolist(), rows.lengths[:count].tolist(), strict=True):
        by_example.setdefault(example, []).append(length)
    return list(by_example.values())
