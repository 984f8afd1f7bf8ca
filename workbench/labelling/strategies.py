"""Ways to need fewer labels, as values in a study file.

    acquire=choice(None, uncertainty(), diversity(), badge())
    pseudo=choice(None, pseudo_labels(threshold=0.9), distil(teacher, most=1000))

All of them but the last look at the pool, which is the whole training side of the task, through the embeddings of
the recipe's own model as it was before tuning. What has to guess classes is a logistic regression on
those: it is fitted in a fraction of a second, and takes the place of the model that will be tuned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.errors import UsageError
from workbench.methods.base import count_of
from workbench.space import check, ends, is_number, is_whole
from workbench.tasks.base import Task

NEEDS_CLASSES = ("uncertainty", "badge")
"""Strategies that ask which class an example may have."""


@dataclass(frozen=True)
class Strategy:
    """Which examples of the pool are labelled next. Made by `uncertainty`, `diversity` and `badge`.

    Labels are bought in rounds: each is chosen by what the labels of the rounds before it teach. So
    the first labels of a longer order are those of a shorter one, and are bought once.

    Attributes:
        name: What it is called in settings and in the paths of its own settings (`badge.batch`).
        kind: `uncertainty`, `diversity` or `badge`.
        first: Examples of the first round, at least 1. They are the first of the task's own order.
        batch: Examples of each later round, at least 1.
        C: Inverse of the strength of the L2 penalty of the logistic regression, above 0.
    """

    name: str
    kind: str
    first: int
    batch: int
    C: float

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        _check_strength(self.C)

    @property
    def needs_classes(self) -> bool:
        """Whether it can choose only where each example has one class."""
        return self.kind in NEEDS_CLASSES


@dataclass(frozen=True)
class PseudoLabels:
    """Unlabelled examples whose class is told with confidence join the training. Made by `pseudo_labels`.

    Attributes:
        name: What it is called in settings and in the paths of its own settings.
        threshold: The least probability of the class that is told, 0 to 1.
        most: The most examples that join, the surest ones, at least 1.
        C: As `Strategy.C`.
    """

    name: str
    threshold: float
    most: int
    C: float

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        check(self, "threshold", lambda v: is_number(v) and 0 <= v <= 1, "a probability, from 0 to 1")
        check(self, "most", lambda v: is_whole(v) and v >= 1, "a whole number, at least 1")
        _check_strength(self.C)


@dataclass(frozen=True)
class Distillation:
    """Unlabelled examples join the training with what another recipe's model answers. Made by `distil`.

    Attributes:
        name: What it is called in settings and in the paths of its own settings.
        teacher: The recipe whose model is asked, without holes. The recipe that learns from it checks it.
        most: How many examples it is asked about, at least 1.
        threshold: The least probability that it gives to a class it tells, 0 to 1. Answers without a probability all join.
    """

    name: str
    teacher: Any = field(hash=False)  # a recipe's method holds a mapping
    most: int
    threshold: float

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        check(self, "most", lambda v: is_whole(v) and v >= 1, "a whole number, at least 1")
        check(self, "threshold", lambda v: is_number(v) and 0 <= v <= 1, "a probability, from 0 to 1")


def uncertainty(*, first: int = 32, batch: int = 32, C: float = 10.0, name: str = "uncertainty") -> Strategy:  # noqa: N803
    """Label what the model is least sure of: where its two likeliest classes are nearest to each
    other (least margin; Settles 2009, "Active Learning Literature Survey", section 3.1).

    Args:
        first: As `Strategy.first`.
        batch: As `Strategy.batch`.
        C: As `Strategy.C`.
        name: As `Strategy.name`.

    Raises:
        UsageError: A value is out of its range.
    """
    return Strategy(name, "uncertainty", count_of("first", first), count_of("batch", batch), C)


def diversity(*, name: str = "diversity") -> Strategy:
    """Label what is unlike all that is labelled: each example is drawn with a chance that grows with
    its squared distance to the nearest one before it (k-means++, Arthur & Vassilvitskii 2007).

    It asks for no class, so it is for every task, and it has no rounds. Examples are drawn, where
    greedy k-center (Sener & Savarese 2018, arXiv:1708.00489) takes the farthest one each time: that
    is an outlier more often than not.

    Args:
        name: As `Strategy.name`.
    """
    return Strategy(name, "diversity", 1, 32, 10.0)


def badge(*, first: int = 32, batch: int = 32, C: float = 10.0, name: str = "badge") -> Strategy:  # noqa: N803
    """Label what the model is unsure of, and in many ways: k-means++ on the gradients of the loss by
    the last layer, each taken as if the likeliest class was right (BADGE; Ash et al. 2020,
    arXiv:1906.03671).

    Args:
        first: As `Strategy.first`.
        batch: As `Strategy.batch`.
        C: As `Strategy.C`.
        name: As `Strategy.name`.

    Raises:
        UsageError: A value is out of its range.
    """
    return Strategy(name, "badge", count_of("first", first), count_of("batch", batch), C)


def pseudo_labels(*, threshold: float = 0.9, most: int = 1024, C: float = 100.0, name: str = "pseudo_labels") -> PseudoLabels:  # noqa: N803
    """Let examples of the pool that nobody labelled join the training, with the class that a
    logistic regression on the labelled ones is sure of (Lee 2013, "Pseudo-Label").

    They are bought by nobody: the labels of a point are those that were asked for. All of those are
    used from the first step on, because the pseudo-labels rest on them.

    Args:
        threshold: As `PseudoLabels.threshold`.
        most: As `PseudoLabels.most`.
        C: As `Strategy.C`; a weak penalty, since a strong one leaves no class with a high
            probability.
        name: As `PseudoLabels.name`.

    Raises:
        UsageError: A value is out of its range.
    """
    return PseudoLabels(name, threshold, most, C)


def distil(teacher: Any, *, most: int = 1024, threshold: float = 0.0, name: str = "distil") -> Distillation:
    """Let examples of the pool that nobody labelled join the training, with what a teacher answers (sequence-level knowledge
    distillation: Kim & Rush 2016, arXiv:1606.07947; of classes the hard labels of Hinton et al. 2015, arXiv:1503.02531).

    A large model that is tuned on few labels, or only asked, so teaches a small one that is cheaper to serve. The labels of a point
    are its own and its teacher's; its cost holds making the teacher in full (phase `pretrain`) and asking it (phase `data`).

    Args:
        teacher: A recipe without holes for a task of the same kind on the same data. What it tunes is made once and shared by
            all runs; what is only asked (`zero_shot`, `few_shot`) is asked as it is. A head that is fitted at once is no teacher.
        most: The most examples that it is asked about: those of the task's order behind the labelled ones.
        threshold: As `Distillation.threshold`.
        name: As `Distillation.name`.

    Raises:
        UsageError: A value is out of its range.
    """
    return Distillation(name, teacher, most, threshold)


def problem(task: Task, acquire: Strategy | None, pseudo: PseudoLabels | Distillation | None) -> str:
    """Say why the labels of a task cannot be chosen so, and what to do about it; empty where they can.

    Args:
        task: Without holes.
        acquire: Which examples are labelled; None: the task's own order.
        pseudo: Which ones need no label; None: no such.

    Raises:
        DataError: The data cannot be read.
    """
    if acquire is None and pseudo is None:
        return ""
    kind = type(task).__name__
    if task.pool() is None:
        asked = f"acquire={acquire.name}()" if acquire else "pseudo="
        return f"{asked} chooses from a pool, and {kind} tells of none. Give it a method pool(), or leave {asked} out."
    if isinstance(pseudo, Distillation):
        return _problem_of_teaching(task, pseudo)
    for what, needed in ((acquire, acquire is not None and acquire.needs_classes), (pseudo, pseudo is not None)):
        if needed and what is not None and not task.class_names():
            others = "diversity() or None" if what is acquire else "None"
            return f"{what.name!r} asks which class an example may have, and those of {kind} have not one each. Take {others}."
    return ""


def _problem_of_teaching(task: Task, pseudo: Distillation) -> str:
    """Say why a task's examples cannot be answered by a teacher."""
    other: Task = pseudo.teacher.task
    if not task.teachable:
        return f"{pseudo.name!r}: what a model answers to {type(task).__name__} cannot be learned from. Leave pseudo= out."
    if type(other) is not type(task) or [*other.class_names()] != [*task.class_names()]:
        return f"{pseudo.name!r}: the teacher's task is another one. Give it the same task and data; only its train= may differ."
    return ""


def _check_strength(strength: Any) -> None:
    for each in ends(strength):
        if not is_number(each) or each <= 0:
            raise UsageError(f"C must be a number above 0; got {each!r}.")
