"""How many tokens the examples have for each model of a study, and how many of them lose a part."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data import models
from workbench.errors import WorkbenchError
from workbench.formulations import Example
from workbench.tasks import Task

AT_ONCE = 1024
"""Texts that are tokenised together."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the texts of a split, for one model.

    Attributes:
        model: The model whose tokeniser counts; others of the study with the same one count alike.
        split: `train`, `dev` or `test`.
        shortest: Of all texts, special tokens included, the least.
        median: The median.
        p95: The 95th percentile.
        longest: The most.
        cut: Examples that lose a part because a row has no room for it.
        missed: Examples whose target no prediction can give, because of a length.
        why: What is cut or missed and what to do, a sentence; empty where nothing is.
    """

    model: str
    split: str
    shortest: int
    median: float
    p95: float
    longest: int
    cut: int
    missed: int
    why: str


def lengths(
    task: Task, names: Sequence[str], splits: Mapping[str, Sequence[Example]], text: Callable[[Example], str]
) -> list[Lengths]:
    """The lengths of every split for every distinct tokeniser; none where examples have no text.

    Args:
        task: Without holes.
        names: The study's models.
        splits: The examples by split.
        text: Gives an example's text.
    """
    found = []
    for model, processor in models.processors(names).items():
        if not hasattr(processor, "backend_tokenizer"):  # of images or sounds
            continue
        for split, examples in splits.items():
            texts = [each for example in examples if (each := text(example))]
            if texts:
                counts = np.array(_tokens(texts, processor))
                cut, missed, why = _reach(task, model, split, examples, processor)
                shortest, median, p95, longest = np.quantile(counts, [0, 0.5, 0.95, 1])
                found.append(Lengths(model, split, int(shortest), float(median), float(p95), int(longest), cut, missed, why))
    return found


def _tokens(texts: Sequence[str], processor: Any) -> list[int]:
    """The tokens of each text, none cut off."""
    found: list[int] = []
    for first in range(0, len(texts), AT_ONCE):
        encoded = processor(list(texts[first : first + AT_ONCE]), truncation=False, verbose=False)
        found += map(len, encoded["input_ids"])
    return found


def _reach(task: Task, model: str, split: str, examples: Sequence[Example], processor: Any) -> tuple[int, int, str]:
    """How many examples lose a part, how many cannot be given, and why."""
    with contextlib.suppress(WorkbenchError):  # a model that cannot do the task: `plan` says so
        reach = task.formulation(models.kind(model)).reach(examples, processor)
        return sum(reach.cut.values()), sum(reach.missed.values()), reach.told(f"{split} {reach.noun} for {model}")
    return 0, 0, ""
