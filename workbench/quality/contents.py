"""Which text and which classes an example has, for the tasks of workbench and for a user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
