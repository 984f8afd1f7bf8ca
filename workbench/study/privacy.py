"""What is kept out of one part of a recipe is kept out of all of it: no name comes back by a corpus, a teacher or another task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workbench.data.redaction import KINDS
from workbench.errors import UsageError
from workbench.labelling import Distillation
from workbench.space import ends
from workbench.tasks.tables import TableTask

if TYPE_CHECKING:
    from workbench.study.recipe import Recipe


def check_redaction(recipe: Recipe) -> None:
    """Raise UsageError where a recipe reads some texts with `redact=` and others without, or with less.

    Built-in data count as redacted, and so does what has no texts that a task redacts: media, what users had, and tasks of a
    user's own without `redact`.
    """
    found = [*_read(recipe)]
    wanted = {kind for _, task in found for kind in task.redact or ()}
    for where, task in found:
        missing = [kind for kind in KINDS if kind in wanted and kind not in (task.redact or ())]
        if missing and not all(isinstance(data, str) and data in task.form.built_in for data in ends(task.data)):
            kinds = tuple(kind for kind in KINDS if kind in wanted)
            raise UsageError(
                f"{where} reads {task.data!r} with {', '.join(missing)} in it, which other texts of the recipe are rid of: "
                f"the model would learn there what it must not know. Give it redact={'all' if kinds == KINDS else kinds!r} too."
            )


def _read(recipe: Recipe, where: str = "the task") -> Iterator[tuple[str, TableTask]]:
    """Yield all tasks with texts that a recipe reads, each with how a user finds it."""
    for own, tasks in ((where, ends(recipe.task)), ("a task of also=", recipe.also)):
        yield from ((own, each) for task in tasks for each in _tables(task))
    for before in ends(recipe.pretrain):
        if before is not None:
            yield before.name, before.task
    for model in ends(recipe.model):
        if not isinstance(model, str):
            yield from _read(model, "the recipe in model=")
    for pseudo in ends(recipe.pseudo):
        if isinstance(pseudo, Distillation):
            yield from _read(pseudo.teacher, f"the teacher of {pseudo.name!r}")


def _tables(task: Any) -> Iterator[TableTask]:
    """Yield a task, or those that it is made of, where texts of theirs can be redacted."""
    for each in getattr(task, "tasks", (task,)):
        if isinstance(each, TableTask) and each.inputs:
            yield each
