"""Which of the texts that wait for a label are worth one next, and what a model would say of them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import training
from workbench.data.answers import Waiting, blank
from workbench.data.labelled import LabelledTexts
from workbench.errors import UsageError
from workbench.labelling import Strategy, badge, diversity, uncertainty
from workbench.result import Result
from workbench.study import Recipe, Study
from workbench.tasks.classification import Classification
from workbench.tasks.monitoring import TopicMonitoring

if TYPE_CHECKING:
    from workbench.meter import Window

RANDOM = "random"
STRATEGIES = {"uncertainty": uncertainty, "diversity": diversity, "badge": badge}
"""Ways to choose, by the names of options; `random` is another."""


@dataclass(frozen=True)
class ToLabel:
    """Rows to be filled in, the most useful first.

    Attributes:
        rows: The rows, with what a model says.
        says: Who says it: the member of the front, or a regression where its weights are not kept.
        strategy: How they were chosen.
    """

    rows: Sequence[dict[str, str]]
    says: str
    strategy: str


def task_of(study: Study) -> Classification:
    """The one task of a study whose examples people can label, with the first value in each hole.

    Raises:
        UsageError: It is another kind of task, or there are several.
    """
    task: Any = study.recipe.task
    if isinstance(task, TopicMonitoring):
        raise UsageError("labels are asked for texts of one class each, and topics=True asks for two. Leave topics= out for that.")
    if isinstance(task, Classification) and not task.several and isinstance(task.data, str):
        return task
    what = type(task).__name__
    raise UsageError(f"labels are asked for texts of one class each, and this study's task is a {what}. Take classification(…).")


def best(study: Study, results: Sequence[Result]) -> Result | None:
    """The point with the highest score of those that the study holds; one of the data as they are, where there is any."""
    points = [r for r in results if r.status == "complete" and r.replicate_of is None and study.maximize in r.scores]
    return max(points, key=lambda r: (not r.outdated, r.scores[study.maximize]), default=None)


def to_label(
    recipe: Recipe,
    weights: Path | None,
    asked: Sequence[Waiting],
    count: int,
    strategy: str | None,
    window: Callable[[], AbstractContextManager[Window]],
) -> ToLabel:
    """Choose texts, and tell what a model says of them.

    Args:
        recipe: The model that will learn from the labels, without holes.
        weights: Its kept weights; None where there are none.
        asked: The texts that wait.
        count: How many are wanted, at most.
        strategy: A name out of `STRATEGIES`, or `RANDOM`; None: as the recipe says, else uncertainty.
        window: Opens a window of a meter.

    Raises:
        UsageError: As `training.train`.
    """
    training.prepare(recipe)
    task: Any = recipe.task
    labels = task.class_names()
    examples = [{"id": each.id, "text": _plain(each.text), "labels": [labels[0]]} for each in asked]
    seen = training.Seen(recipe, [*task.pool(), *examples], len(task.pool()), training.device(), window)
    chosen = recipe.acquire if strategy is None else STRATEGIES[strategy]() if strategy != RANDOM else None
    if strategy is None and chosen is None:
        chosen = uncertainty()
    order = _shuffled(len(asked), task.seed) if chosen is None else seen.next(_in_rounds(chosen, count), count)
    places = order[:count]
    trained = weights is not None or not recipe.method.labelled
    if trained:
        told = training.predict(recipe, weights, [examples[i] for i in places])
        said = [(each.labels[0] if each.labels else "", each.confidence) for each in told]
    else:
        said = seen.says(places, uncertainty().C if chosen is None else chosen.C)
    rows = [blank(asked[i], *each) for i, each in zip(places, said, strict=True)]
    who = recipe.method.name if trained else "a logistic regression"
    return ToLabel(rows, f"{who} on {recipe.model_name}", RANDOM if chosen is None else chosen.kind)


def form_of(task: Classification) -> LabelledTexts:
    """How the task's rows are read."""
    return task.form


def _plain(text: str | tuple[str, str]) -> str | list[str]:
    return text if isinstance(text, str) else list(text)


def _in_rounds(strategy: Strategy, count: int) -> Strategy:
    """All in one round: nobody labels one batch before the next is chosen."""
    return dataclasses.replace(strategy, batch=max(1, count))


def _shuffled(count: int, seed: int) -> list[int]:
    order = [*range(count)]
    random.Random(seed).shuffle(order)
    return order
