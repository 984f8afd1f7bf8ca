"""The tasks that a study names, without holes and as large as it allows."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.space import Choice, Value, dimensions, is_number, resolve
from workbench.study.study import Study
from workbench.tasks.base import Task


def largest_tasks(study: Study) -> Iterator[Task]:
    """Yield each task of a study with the largest value of each number that is left open, and the
    first of other options.
    """
    task = study.recipe.task
    for option in task.options if isinstance(task, Choice) else (task,):
        settings: dict[str, Value] = {}
        for name, hole in dimensions(option).items():
            if hole.exists(settings):
                options = hole.space.names if isinstance(hole.space, Choice) else hole.space.ends
                settings[name] = max(options) if all(map(is_number, options)) else options[0]
        yield resolve(option, settings)
