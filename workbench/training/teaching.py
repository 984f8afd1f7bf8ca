"""What a teacher answers to examples that nobody labelled, for another model to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workbench.data import bases
from workbench.formulations import Example
from workbench.labelling import Distillation
from workbench.result import label_order
from workbench.study import Recipe
from workbench.training.passes import Passes
from workbench.training.remembering import remembered
from workbench.usage import Usage

KEPT = 4
"""Sets of answers that are kept across runs."""

_told: dict[tuple[Any, ...], tuple[list[Example], Usage]] = {}


def taught(recipe: Recipe, places: Sequence[int], where: torch.device, window: bases.Window) -> tuple[list[Example], Usage]:
    """Examples with the answers of a recipe's teacher, asked once a process for all runs that share them.

    Args:
        recipe: A recipe with a teacher. What the teacher starts from is at hand (`parents.prepare`).
        places: Places in the task's pool of the examples that it is asked about.
        where: The device.
        window: Opens a window of a meter.

    Returns:
        The examples that it answered so that they can be learned from, and surely enough; and what reading and asking it took.
    """
    teacher, pseudo = recipe.teacher, recipe.pseudo
    assert teacher is not None
    assert isinstance(pseudo, Distillation)
    key = (teacher.id, label_order(recipe.to_json()), recipe.task.digest(), pseudo.threshold, tuple(places), str(where))

    def ask() -> tuple[list[Example], Usage]:
        pool = recipe.task.pool() or ()
        examples = [pool[place] for place in places]
        with window() as opened:
            passes = Passes(teacher, where)
            answers = zip(examples, passes.answer(examples), strict=True)
            told = [
                recipe.task.told(example, prediction) for example, prediction in answers if _is_sure(prediction, pseudo.threshold)
            ]
        return [each for each in told if each is not None], opened.usage.doing(passes.work)

    return remembered(_told, key, ask, KEPT)


def _is_sure(prediction: Any, threshold: float) -> bool:
    confidence = getattr(prediction, "confidence", None)
    return confidence is None or confidence >= threshold


def forget() -> None:
    """Forget all answers: whoever learns from them next asks anew."""
    _told.clear()
