"""Other tasks that a recipe's model is graded by at every checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import UsageError
from workbench.space import dimensions, ends
from workbench.tasks.base import Task, apart


def checked(also: Any) -> tuple[Task, ...]:
    """The tasks of a recipe's `also`, as it keeps them.

    Raises:
        UsageError: They are no list of tasks, one has holes, or two are called alike.
    """
    if not isinstance(also, (list, tuple)) or not all(isinstance(each, Task) for each in also):
        raise UsageError(f"also must be a list of tasks, which grade every checkpoint; got {also!r}.")
    names: list[str] = []
    for task in also:
        if holes := [*dimensions(task)]:
            raise UsageError(f"a task in also= has holes ({', '.join(holes)}). Give it one value for each.")
        if (name := name_of(task)) in names:
            raise UsageError(f"two tasks in also= are called {name!r}, and so would their scores be. Give one another name=.")
        names.append(name)
    return tuple(also)


def name_of(task: Task) -> str:
    """What stands before the names of a task's scores: its name, or else that of its data, in letters, digits and `_`."""
    data = getattr(task, "data", type(task).__name__)
    name = getattr(task, "name", None) or (Path(str(data)).stem if Path(str(data)).suffix else str(data))
    return re.sub(r"\W+", "_", name).strip("_").lower()


def scores_of(also: Sequence[Task], which: str = "metrics") -> Iterator[str]:
    """Names of the scores that such tasks give: of `metrics`, those on perturbed examples included, or of `lower_is_better`."""
    for task in also:
        for score in task.all_metrics() if which == "metrics" else task.lower_is_better:
            yield apart(name_of(task), score)


def scored(task: Task, found: Mapping[str, float]) -> dict[str, float]:
    """Scores of such a task under its name. Those of groups are left out, as they are of perturbed examples."""
    return {apart(name_of(task), score): found[score] for score in (*task.all_metrics(), *task.lower_is_better) if score in found}


def problem(task: Any, also: Sequence[Task], kind: str) -> str:
    """Why a model of some kind with the head of a recipe's task cannot be graded by such tasks, a sentence; empty where it can.

    Args:
        task: The recipe's task, or a choice of some.
        also: The others.
        kind: As `Task.formulation` takes it.
    """
    for own in ends(task):
        for other in also:
            try:
                head, theirs = own.formulation(kind), own.sharing(other).formulation(kind)
            except UsageError as error:
                return f"{name_of(other)!r} of also=: {error}"
            if (head.auto_class, sorted(head.settings.items())) != (theirs.auto_class, sorted(theirs.settings.items())):
                how = "Name tasks of the same kind, with no class that the recipe's task does not have."
                return (
                    f"{name_of(other)!r} of also= is for another head than the recipe's task: {_head(theirs)}, not {_head(head)}. "
                    f"{how}"
                )
    return ""


def _head(formulation: Any) -> str:
    classes = formulation.settings.get("id2label")
    return f"{formulation.auto_class}{' of ' + ', '.join(map(str, classes.values())) if classes else ''}"
