"""A model as others will load it, graded on the dev set once more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from workbench.errors import Refused
from workbench.serving import bundle
from workbench.serving.loading import Deployed
from workbench.tasks import Task
from workbench.tasks.base import WORST_GROUP
from workbench.tasks.perturbations import PERTURBED
from workbench.tasks.refusals import UNANSWERED
from workbench.watching import reference
from workbench.watching.reference import Reference

EXAMPLES = 1.0
"""By how many examples of the dev set the score may move: sums of floats depend on the batches that
rows are in, and a tie may then fall to the other side.
"""


def regrade(folder: Path, task: Task, metric: str, expected: float, most: float | None = None) -> Reference:
    """Grade a model that MLflow loads from a folder, and raise Refused where it is another one.

    Args:
        folder: The model.
        task: The task with its data.
        metric: The score.
        expected: What the sweep measured.
        most: By how much the score may move; None: by `EXAMPLES`.

    Returns:
        How the dev set and the answers to it are distributed.

    Raises:
        Refused: It is another one.
    """
    # A score of perturbed examples, or of requests to decline, is of more than the dev set, which stands first.
    plain = task.splits().dev
    dev = plain if _plain(task, metric) else task.graded()
    rows = [task.question(example) for example in dev]
    said = Deployed(bundle.inside(folder)).predicted(rows)
    score = float(task.grade(dev, task.returned(said.values))[metric])
    check_score(metric, score, expected, tolerance(task, metric) if most is None else most)
    count = len(plain)
    embeddings = None if said.embeddings is None else said.embeddings[:count]
    return reference.of(rows[:count], said.values[:count], task.asked(), embeddings)


def tolerance(task: Task, metric: str) -> float:
    """By how much a score from 0 to 100 may move: `EXAMPLES` of those that it is of."""
    if _plain(task, metric):
        return 100 * EXAMPLES / max(1, len(task.splits().dev))
    # Of all parts the smallest: it is not told which one the score is of.
    parts = Counter((example.get(PERTURBED), example.get(UNANSWERED)) for example in task.graded())
    return 100 * EXAMPLES / max(1, min(parts.values(), default=1))


def _plain(task: Task, metric: str) -> bool:
    return metric.removeprefix(WORST_GROUP) in task.metrics


def check_score(metric: str, score: float, expected: float, most: float) -> None:
    """Raise Refused where a score has moved by more than `most`."""
    if not abs(score - expected) <= most + 1e-9:
        raise Refused(
            f"loaded again the model has {metric} {score:.2f}, and the sweep measured {expected:.2f}: more than {most:.2f} apart. "
            "It is not the model that was graded, and nothing was written."
        )
