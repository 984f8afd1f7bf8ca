"""Rows that a run is trained on and graded by, kept across runs: trials of a study share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.data import bases, models
from workbench.formulations import Example, Rows
from workbench.study import Recipe
from workbench.training import parent_store
from workbench.training.grading import Questions, questions_of
from workbench.training.remembering import remembered
from workbench.training.tuning import Tuning
from workbench.usage import Usage

KEPT_ROWS = 8
"""Tasks, as a model reads them, whose rows are kept."""

_encoded: dict[tuple[Any, ...], tuple[Rows, Questions, Usage]] = {}


def encode(recipe: Recipe, examples: Sequence[Example], window: bases.Window) -> tuple[Rows, Questions, Usage]:
    """Rows to train on and to be graded by, and what it took to make them.

    Args:
        recipe: A recipe without holes.
        examples: What it is trained on (`choosing.lot`).
        window: Opens a window of a meter.
    """
    task, trains = recipe.task, recipe.epochs > 0 or recipe.method.fits
    # Examples are chosen by the model as it is before it is tuned: another start may choose others.
    chosen = (recipe.acquire, recipe.pseudo, parent_store.place(recipe)) if recipe.acquire or recipe.pseudo else None
    key = (task, recipe.also, recipe.architecture, trains, recipe.learns, recipe.method.asking, chosen)

    def make() -> tuple[Rows, Questions, Usage]:
        with window() as opened:
            processor = models.processor(recipe.architecture)
            train_rows = recipe.formulation.encode(examples if trains else (), processor)
            dev = questions_of(recipe, "dev", processor)
        return train_rows, dev, opened.usage

    return remembered(_encoded, key, make, KEPT_ROWS)


_test_rows: dict[tuple[Any, ...], Questions] = {}


def test(tuning: Tuning) -> dict[str, float]:
    """Scores on the test split, whose rows are kept; empty where nothing is held out."""
    recipe = tuning.recipe
    if not recipe.task.splits().test:
        return {}

    key = (recipe.task, recipe.also, recipe.architecture, recipe.learns, recipe.method.asking)
    return tuning.test(remembered(_test_rows, key, lambda: questions_of(recipe, "test", tuning.processor), KEPT_ROWS))
