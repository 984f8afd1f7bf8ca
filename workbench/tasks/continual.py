"""Continual learning: one model learns several tasks, one after the other, and is graded by all of them after each."""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from workbench.errors import DataError, UsageError
from workbench.formulations import Example, Formulation
from workbench.space import Space, check, ends, is_number, is_whole
from workbench.tasks import request
from workbench.tasks.base import EACH, MEAN, Splits, Task
from workbench.tasks.monitoring import TopicMonitoring
from workbench.tasks.tables import LabelledTask

STRATEGIES = ("plain", "replay", "ewc", "adapter_per_task", "merge")
"""What is done against forgetting."""

_UNREAD = 1000.0
"""The strength on the record of a strategy that has no use for it."""

_OF = "task_number"
"""The key of an example that tells which of the tasks it is of, from 0."""

_NUMBER = "task"
"""The field of a request that tells which of the tasks it is of, from 1: where each is answered by weights of its own."""

_LEARNED = "score_of_"
"""What the scores of single tasks are called: `score_of_1`, `score_of_2`, …."""


@dataclass(frozen=True, kw_only=True)
class Continual(Task):
    """The last of some tasks that a model learns one after the other; made by `continual`, which explains the fields.

    A recipe of it starts from the same recipe of the tasks before it, down to the first.

    Attributes:
        learned: How many of the tasks are learned in all: the last one of these now.
        done: Whether a model has learned all of them, and only answers.
        data: The data set that is learned now, as a recipe's labels are counted by it.
    """

    metrics: ClassVar[tuple[str, ...]] = ("average_accuracy", "backward_transfer")
    lower_is_better: ClassVar[tuple[str, ...]] = ("forgetting",)
    relative: ClassVar[tuple[str, ...]] = ("backward_transfer", "forgetting")

    tasks: tuple[Task, ...]
    strategy: str
    epochs: float
    memory: int
    strength: float
    learned: int
    done: bool = field(default=False, metadata={"later": True})
    data: str = field(init=False)
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        check(self, "strategy", lambda v: v in STRATEGIES, f"one of {', '.join(map(repr, STRATEGIES))}")
        check(self, "epochs", lambda v: is_number(v) and v > 0, "a number above 0")
        check(self, "memory", lambda v: is_whole(v) and v >= 1, "a whole number, at least 1")
        check(self, "strength", lambda v: is_number(v) and v > 0, "a number above 0")
        if self.strategy in STRATEGIES and self.strategy != "ewc":  # without it equal models are one recipe
            object.__setattr__(self, "strength", _UNREAD)
        if isinstance(self.tasks, Space) or any(isinstance(each, Space) or not isinstance(each, Task) for each in self.tasks):
            raise UsageError(
                "the tasks of continual() must be a list of tasks. What is open stands inside of them, or is strategy=."
            )
        if len(self.tasks) < 2:
            raise UsageError(f"continual() needs two tasks or more, to be learned one after the other; got {len(self.tasks)}.")
        if any(0 in ends(getattr(each, "train", 1)) for each in self.tasks):
            raise UsageError("each task of continual() is learned: its train must be at least 1.")
        now = self.tasks[self.learned - 1]
        object.__setattr__(self, "data", str(getattr(now, "data", type(now).__name__)))
        object.__setattr__(self, "seed", getattr(now, "seed", 0))

    # What is learned before

    def predecessor(self) -> tuple[Task, float] | None:
        """The same with one task less; None where this is the first."""
        return (dataclasses.replace(self, learned=self.learned - 1), self.epochs) if self.learned > 1 and not self.done else None

    def settled(self) -> Continual:
        return dataclasses.replace(self, done=True)

    @property
    def combines(self) -> str:
        return {"adapter_per_task": EACH, "merge": MEAN}.get(self.strategy, "")

    @property
    def stage(self) -> int:
        return self.learned

    def part(self, example: Example) -> int:
        return int(example.get(_OF, self.learned - 1))

    @property
    def anchor(self) -> float:
        return self.strength if self.strategy == "ewc" and self.learned > 1 and not self.done else 0.0

    @property
    def teaches(self) -> bool:
        return self.strategy == "ewc" and self.learned < len(self.tasks)

    @property
    def replayed(self) -> int:
        return sum(len(each) for each in self._remembered())

    # Data

    def splits(self) -> Splits:
        """The examples of the task that is learned now, with those that are remembered among them, and all tasks' to grade by."""
        every = [task.splits() for task in self._united()]
        own = [{**example, _OF: self.learned - 1} for example in every[self.learned - 1].train]
        old = [{**example, _OF: i, "replayed": True} for i, some in enumerate(self._remembered()) for example in some]
        # Of a task that is still to be learned there are no weights, where each has its own.
        graded = every[: self.learned] if self.combines == EACH else every
        dev, test = (
            [{**each, _OF: i} for i, splits in enumerate(graded) for each in getattr(splits, side)] for side in ("dev", "test")
        )
        return Splits(_spread(own, old, self.seed), dev, test)

    def _remembered(self) -> list[Sequence[Example]]:
        """The first examples of each task before, which are the same after each."""
        before = self._united()[: self.learned - 1] if self.strategy == "replay" else ()
        return [task.splits().train[: self.memory] for task in before]

    def digest(self) -> str:
        return hashlib.sha256(" ".join(task.digest() for task in self.tasks).encode()).hexdigest()

    def notes(self) -> list[str]:
        return list(dict.fromkeys(line for task in self._united() for line in task.notes()))

    def portable(self) -> Task:
        """One of the tasks, with the classes of all of them, where one model answers alike whatever the task."""
        every = tuple(task.portable() for task in self._united())
        return dataclasses.replace(self, tasks=every) if self.combines else every[0]

    def asked(self) -> Mapping[str, str]:
        fields = self.tasks[0].asked()
        return {_NUMBER: request.TEXT, **fields} if fields and self.combines == EACH else fields

    def question(self, example: Example) -> dict[str, Any]:
        number = example[_OF]
        return self.tasks[number].question(example) | ({_NUMBER: str(number + 1)} if self.combines == EACH else {})

    def example(self, row: Mapping[str, Any]) -> Example:
        if self.combines != EACH:
            return {**self.tasks[0].example(row), _OF: 0}
        numbers = [str(i + 1) for i in range(self.learned)]
        if (number := str(row[_NUMBER]).strip()) not in numbers:
            raise DataError(f"{_NUMBER} must be the number of the task that the row is of, {' or '.join(numbers)}; got {number!r}.")
        task = self.tasks[numbers.index(number)]
        return {**task.example({name: value for name, value in row.items() if name != _NUMBER}), _OF: numbers.index(number)}

    # The model and its scores

    def formulation(self, kind: str) -> Formulation:
        every = [task.formulation(kind) for task in self._united()]
        heads = {(each.auto_class, repr(sorted(each.settings.items()))) for each in every}
        if len(heads) > 1:
            raise UsageError(
                "the tasks of continual() must be for one and the same head of a model: tasks of one kind, or of a language model. "
                "Give classes the same labels=."
            )
        return every[0]

    def sharing(self, other: Task) -> Task:
        return self._united()[0].sharing(other)

    def _united(self) -> tuple[Task, ...]:
        """The tasks, those with classes with the classes of all of them: one head tells them all."""
        # Classes that are a topic with a label are told of by no labels=: they must be the same as they are.
        if not all(isinstance(task, LabelledTask) and not isinstance(task, TopicMonitoring) for task in self.tasks):
            return self.tasks
        words = {name: said for task in self.tasks for name, said in task.words().items()}  # type: ignore[attr-defined]
        return tuple(dataclasses.replace(task, labels=tuple(words.items())) for task in self.tasks)  # type: ignore[call-arg]

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        """The first score of each task, and their mean over those that were learned."""
        found = {}
        for i, task in enumerate(self._united()):
            places = [place for place, example in enumerate(examples) if example[_OF] == i]
            if places:
                graded = task.score([examples[place] for place in places], [predictions[place] for place in places])
                found[f"{_LEARNED}{i + 1}"] = graded[task.metrics[0]]
        known = [found[name] for i in range(self.learned) if (name := f"{_LEARNED}{i + 1}") in found]
        return found | ({"average_accuracy": statistics.fmean(known)} if known else {})

    def since(self, scores: Mapping[str, float], before: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The scores, with what was forgotten of the tasks before, and gained.

        With R[i, j] for the score on task j after task i was learned, after T of them:
        forgetting = mean over j < T of max over i < T of R[i, j] − R[T, j] (Chaudhry et al. 2018, arXiv:1801.10112),
        backward transfer = mean over j < T of R[T, j] − R[j, j] (Lopez-Paz and Ranzato 2017, arXiv:1706.08840).
        """
        stages = before[len(before) - self.learned + 1 :] if self.learned > 1 else ()
        names = [f"{_LEARNED}{j + 1}" for j in range(self.learned - 1)]
        known = len(stages) == len(names) and all(name in scores and name in stages[j] for j, name in enumerate(names))
        if not names or not known:
            return dict(scores)
        lost = [max(stage[name] for stage in stages if name in stage) - scores[name] for name in names]
        gained = [scores[name] - stages[j][name] for j, name in enumerate(names)]
        return {**scores, "forgetting": statistics.fmean(lost), "backward_transfer": statistics.fmean(gained)}


def _spread(own: Sequence[Example], old: Sequence[Example], seed: int) -> list[Example]:
    """Both together: the old ones at places that the seed draws, all in their order."""
    if not old:
        return [*own]
    places = {*np.random.default_rng(seed).permutation(len(own) + len(old))[: len(old)].tolist()}
    mine, others = iter(own), iter(old)
    return [next(others) if place in places else next(mine) for place in range(len(own) + len(old))]


def continual(
    tasks: Sequence[Task],
    *,
    strategy: str = "plain",
    epochs: float = 1,
    memory: int = 32,
    strength: float = 1e5,
) -> Continual:
    """Some tasks that one model learns one after the other, by one recipe, and is graded by all of them after each.

    A recipe of it starts from the model that the same recipe makes of the tasks before. Each of these is made once, is part of
    every point's cost (phase `pretrain`), and its labels count. The tasks share the model's head: classes are told among those of
    all tasks (class-incremental learning, the hardest of its kinds).

    Maximise `average_accuracy`, the mean over the tasks of each one's first score, or `backward_transfer`, what learning the
    later tasks has added to the earlier ones. `forgetting` is recorded, and the score of each task (`score_of_1`, …).

    Args:
        tasks: Two or more, in the order in which they are learned.
        strategy: `plain` tunes on each task in turn. `replay` puts examples of the tasks before among those of a task (experience
            replay; Chaudhry et al. 2019, arXiv:1902.10486). `ewc` holds each weight near what it was, the more the surer the
            tasks before were of it (elastic weight consolidation; Kirkpatrick et al. 2017, arXiv:1612.00796): by the diagonal of
            the empirical Fisher information, summed over these tasks. It is for methods that change the weights in place, and for
            LoRA, LoHa and LoKr, of which a weight is held with what is added to it.
            With the two others each task is learned from the same start, `model`. `adapter_per_task` keeps what was tuned for each
            task (an adapter, a head), and this answers the task's examples: nothing is forgotten, as nothing is learned over it.
            For that it must be known of which task an example is, in use as well, and every task adds its tuned numbers. It is
            for methods that leave the model as it is. `merge` makes one model with the mean of all models' weights, into which
            those of adapters are merged.
        epochs: Passes over the examples of each of the tasks before the last; the recipe's own are over the last one's.
        memory: With `replay`, examples that are remembered of each task.
        strength: With `ewc`, how strongly weights are held: lambda of the paper. What suits depends on what is tuned: with too
            little the first task is forgotten as with `plain`, with too much nothing new is learned. Search it, as
            `choice(1e5, 1e6, 1e7)`.

    Raises:
        UsageError: A setting is out of its range, or there is but one task.
    """
    every = tuple(tasks) if isinstance(tasks, (list, tuple)) else tasks
    if not isinstance(every, tuple):
        raise UsageError(f"the tasks of continual() must be a list of tasks; got {every!r}.")
    return Continual(tasks=every, strategy=strategy, epochs=epochs, memory=memory, strength=strength, learned=len(every))
