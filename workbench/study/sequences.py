"""Which methods can learn several tasks one after the other, by which strategy."""

from __future__ import annotations

from workbench.methods import ADDED, IN_PLACE, Method
from workbench.tasks.base import EACH, MEAN, Task


def problem(task: Task, method: Method, weights: str = "float32") -> str:
    """Why a method cannot learn a task that others were learned before, a sentence; empty where it can.

    Whether what it adds to a model can be merged is told by `methods.merged`.

    Args:
        task: The task, without holes.
        method: The method.
        weights: As `Recipe.weights`.
    """
    if task.anchor and (method.kind not in (*IN_PLACE, *ADDED) or method.settings.get("use_dora")):
        return (
            f"ewc holds the weights of the model itself, and what {method.name!r} makes of them is no sum. "
            f"Take {', '.join((*IN_PLACE, *ADDED))}, or another strategy."
        )
    if task.combines == EACH and (not method.trains or method.fits or method.kind == "full"):
        why = (
            "tunes the model itself, which all tasks share"
            if method.kind == "full"
            else "has a head that is fitted at once"
            if method.fits
            else "tunes nothing"
        )
        return f"adapter_per_task keeps what was tuned for each task, and {method.name!r} {why}. Take a method of PEFT's or head."
    if task.combines == MEAN and weights != "float32":
        return (
            f"merge averages weights, which must be float32 then; they are {weights}. Leave weights= out, or take another strategy."
        )
    return ""


def of_parts(task: Task) -> str:
    """Why a model is no one model that other software loads, a sentence; empty where it is one."""
    if task.combines != EACH:
        return ""
    return (
        "adapter_per_task has weights for each of its tasks, which only workbench puts in their places: it is no one model that "
        "other software loads. `workbench deploy` serves it; rows name their task by its number."
    )
