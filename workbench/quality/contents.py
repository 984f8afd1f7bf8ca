"""Which text and which classes an example has, for the tasks of workbench and for a user's own."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from workbench.data.tables import Table
from workbench.formulations import Classification, Example, Formulation
from workbench.tasks import Task


def text_of(task: Task, formulation: Formulation | None) -> Callable[[Example], str]:
    """A function that gives an example's text: what the task says, else what its formulation reads.

    Args:
        task: Without holes.
        formulation: As a model of the study computes the task; None where no model can.

    Returns:
        A function whose text is empty where neither says which text an example has.
    """
    if task.inputs or formulation is None:
        return task.content
    if isinstance(formulation, Classification):
        read = formulation.text
        return lambda example: text if isinstance(text := read(example), str) else "\n".join(text)
    return formulation.question


def classes_of(task: Task, formulation: Formulation | None) -> Callable[[Example], Sequence[str]] | None:
    """A function that gives an example's classes; None where the task has none."""
    form = getattr(task, "form", None)
    if isinstance(form, Table) and type(form).labels_of is not Table.labels_of:
        return lambda example: form.labels_of(dict(example))
    return formulation.label if isinstance(formulation, Classification) else None


LIKENESS, TIMES = 0.85, 10
"""A class is likely a slip of another where their names are so alike (0 to 1, by difflib) and the other is so many times as
frequent.
"""


def slips(classes: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The classes whose name looks like a slip of the keyboard, each with the one that was likely meant.

    Args:
        classes: By split, how many examples each class has.
    """
    often: Counter[str] = Counter()
    for of_split in classes.values():
        often.update(of_split)
    found = {}
    for name, count in often.items():
        near = difflib.get_close_matches(name, [other for other in often if often[other] >= TIMES * count], 1, LIKENESS)
        if near:
            found[name] = near[0]
    return found
