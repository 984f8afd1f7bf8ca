"""What a task is: data, its formulation for each kind of model, and the score that grades it.

A task is a small frozen dataclass whose fields are settings, any of which may be a hole of the study. The training
loop knows tasks only through the methods below.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from workbench.data import names, redaction
from workbench.errors import StudyError, UsageError
from workbench.formulations import Example, Formulation
from workbench.tasks import request
from workbench.tasks.perturbations import NEGATED, PERTURBED, perturbed

WORST_GROUP, GAP = "worst_group_", "gap_"
"""Prefixes of a metric's name: for its value in the worst group, and for the gap from there to the
best.
"""


EACH, MEAN = "each", "mean"
"""How models that each learned one task from the same start answer together: each for its own task's examples, or as one model
with the mean of their weights.
"""


def apart(of: str, name: str) -> str:
    """What a score is called that is of other examples than the task's own: `typos_accuracy`, `wiki_accuracy`."""
    return f"{of}_{name}"


@dataclass(frozen=True)
class Splits:
    """The examples of a task. `train` is already cut to the number of labels asked for.

    Attributes:
        train: Examples whose labels may reach the loss. A smaller training set is a prefix of a larger one.
        dev: Examples that grade every checkpoint.
        test: Examples held out until the end, never read by a sweep.
    """

    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]


@dataclass(frozen=True)
class Task(ABC):
    """Base of all tasks.

    A task whose number of labelled examples is a setting calls it `train`: methods that train nothing leave it unread.

    Attributes:
        metrics: Names of the scores that `score` gives, higher is better (a class attribute).
        lower_is_better: Names of those of which lower is better: they are recorded, and cannot be maximised (a class attribute).
        per_example: Names of those scores that are told of example by example, so that few dev examples say little of them (a class
            attribute).
        relative: Names of those scores that are told only beside the models that one started from, by `since`: a model that is
            graded by itself has none of them (a class attribute).
        bounds: Names of the fields that bound what can be predicted, which `Formulation.reach` looks at (a class attribute).
        inputs: Keys of an example whose values are text that a model reads: a text, a list of texts
            or of a conversation's turns. First the one that users write (a class attribute).
        teachable: Whether `told` makes labelled examples of what a model answers (a class attribute).
    """

    metrics: ClassVar[tuple[str, ...]]
    lower_is_better: ClassVar[tuple[str, ...]] = ()
    per_example: ClassVar[tuple[str, ...]] = ()
    relative: ClassVar[tuple[str, ...]] = ()
    bounds: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ()
    teachable: ClassVar[bool] = False

    def provision(self) -> None:
        """Fetch, build and import what the other methods need, so that no run pays for what a machine or process does once."""
        self.splits()

    @abstractmethod
    def splits(self) -> Splits:
        """Read and split the data. Raises DataError when a file is not what it must be."""

    def pool(self) -> Sequence[Example] | None:
        """Return all examples that labels can be bought for, in the order in which they are bought
        unless a recipe says otherwise: `train` of `splits` is a prefix of them.

        Returns:
            The examples; None where the task does not tell, so that nothing can be chosen of them.
        """
        return None

    def class_names(self) -> Sequence[str]:
        """Return the names of all classes, where each example has just one; else nothing."""
        return ()

    def class_of(self, example: Example) -> str:
        """The class of an example, where there are `class_names`."""
        return str(example["labels"][0])

    def with_class(self, example: Example, name: str) -> Example:
        """The same example with another class, where there are `class_names`."""
        return {**example, "labels": [name]}

    def told(self, example: Example, prediction: Any) -> Example | None:
        """The same example with a prediction in the place of its answer, where the task is `teachable`; None where the prediction
        is no answer that could be learned.
        """
        return None

    def answered(self, example: Example, answer: str) -> Example | None:
        """The same example with a right answer as a person wrote it, where the task is `teachable`; None where it is none."""
        return self.told(example, answer)

    @abstractmethod
    def digest(self) -> str:
        """Return a hash of the data's content as this process has read it: a recipe on other data
        is another recipe.

        Of files, not of their names: `workbench.data.fingerprints.data` gives that of a data set
        that `workbench.data.load` reads. It is asked for with every recipe, so it must be quick.
        The task's code is no part of it: it is fingerprinted beside it.
        """

    @abstractmethod
    def formulation(self, kind: str) -> Formulation:
        """How a kind of model computes this task.

        Args:
            kind: One of `workbench.data.models.KINDS`, as the model's configuration says: `encoder`, `decoder`, ….

        Raises:
            UsageError: Such a model cannot do this task.
        """

    def notes(self) -> list[str]:
        """Return a line for each thing that was left out of the data or is doubtful, to be told
        before anything is spent.

        Raises what `splits` raises.
        """
        self.splits()
        return []

    def redaction(self) -> Mapping[str, Any] | None:
        """What was replaced by placeholders in the data of all splits, as `redaction.summary` tells
        it, with `kinds`: what was looked for, and by what. None where the task redacts nothing.
        """
        kinds = getattr(self, "redact", None)
        return _redaction(self, kinds, self.digest()) if kinds else None

    def redaction_notes(self) -> list[str]:
        """Say in a sentence what was redacted; none where the task redacts nothing."""
        found = self.redaction()
        if found is None:
            return []
        few = (
            "Names are found by what stands before them, and most are missed: presidio finds more (pip install presidio-analyzer)."
        )
        return [redaction.told(found), *([few] if f"name by {names.PATTERNS}" in found["kinds"] else [])]

    def searchable(self) -> Sequence[Example]:
        """What examples are searched in; none for most tasks."""
        return ()

    def content(self, example: Example) -> str:
        """The text of an example that a model reads; empty where that is none, or the task names no
        `inputs`.
        """
        return "\n".join(text for name in self.inputs for text in _texts(example.get(name)))

    def constant_scores(self) -> dict[str, float]:
        """Return the dev scores of giving every example the commonest answer; empty where no answer
        is common.

        A front whose best point does no better is doubted. Raises what `splits` raises.
        """
        return {}

    def asked(self) -> Mapping[str, str]:
        """What a model of this task is asked with when it is deployed: the name of each field, and what
        it holds (`workbench.tasks.request`). Empty, as here: such a model cannot be deployed.
        """
        return {}

    def question(self, example: Example) -> dict[str, Any]:
        """The row of a request that asks for an example's prediction: its fields without the answer."""
        known = {name: example[name] for name in self.asked()}
        return known | ({request.ID: example[request.ID]} if isinstance(example.get(request.ID), str) else {})

    def example(self, row: Mapping[str, Any]) -> Example:
        """The example that a row of a request asks about. What only an answer would need is empty.

        Args:
            row: A row that `workbench.tasks.request.check_row` has let through.

        Raises:
            DataError: What it holds cannot be read.
        """
        return row

    def portable(self) -> Task:
        """The same task with all that its formulation reads from the data written into its fields, so
        that it can be asked where the data are not. Raises what `splits` raises.
        """
        return self

    def returned(self, predictions: Sequence[Any]) -> Sequence[Any]:
        """Predictions of the portable task as those of this one, to be graded."""
        return predictions

    def predecessor(self) -> tuple[Task, float] | None:
        """The task that a model learns before this one, by the same recipe, and over how many epochs; None, as here: nothing."""
        return None

    def since(self, scores: Mapping[str, float], before: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The scores, with what can be said only beside those of what the model started from.

        Args:
            scores: What `grade` gave.
            before: What it gave of each model that this one started from, the first one first.
        """
        return dict(scores)

    def sharing(self, other: Task) -> Task:
        """Another task as a model of this one is graded by it: with the classes of this one's head, where these hold its own."""
        return other

    @property
    def combines(self) -> str:
        """How models of this task and of those before, each learned from the same start, answer together: `EACH` or `MEAN`. Empty,
        as here: the model goes on from what it learned before.
        """
        return ""

    @property
    def stage(self) -> int:
        """How many tasks it has learned with this one."""
        return 1

    def part(self, example: Example) -> int:
        """Which of the tasks that it has learned an example is of, from 0."""
        return 0

    def settled(self) -> Task:
        """The same task with nothing to be learned before it: of a model that has learned all of it."""
        return self

    @property
    def anchor(self) -> float:
        """How strongly each weight is held near where it begins, by the Fisher information of what was learned before; 0: not."""
        return 0.0

    @property
    def teaches(self) -> bool:
        """Whether who starts from a model of this task needs the Fisher information of its weights."""
        return False

    @property
    def replayed(self) -> int:
        """How many of its training examples were bought for an earlier task: they have `replayed` in them."""
        return 0

    @property
    def perturbations(self) -> tuple[str, ...]:
        """How the examples that grade are perturbed as well, kinds out of `perturbations.KINDS`: a task's field `perturb`."""
        return tuple(getattr(self, "perturb", None) or ())

    def all_metrics(self) -> tuple[str, ...]:
        """Return the names in `metrics`, and of each perturbation those with its name before them: `typos_accuracy`."""
        return (*self.metrics, *(apart(kind, name) for kind in self.perturbations for name in self.metrics))

    def graded(self, side: str = "dev") -> Sequence[Example]:
        """Return the examples of a side that grade, `dev` or `test`, and behind them the same as perturbed in each way.

        Raises what `splits` raises, and UsageError where no dev example can be perturbed in one of the ways.
        """
        plain: Sequence[Example] = getattr(self.splits(), side)
        if not self.perturbations:
            return plain
        others = {kind: [self._perturbed(each, kind) for each in plain] for kind in self.perturbations}
        for kind, of in others.items():
            if plain and side == "dev" and not any(of):
                raise UsageError(
                    f"perturb={kind!r}: none of the {len(plain):,} {side} examples can be written so by rule. Leave it out."
                )
        return [*plain, *(each for of in others.values() for each in of if each is not None)]

    def _perturbed(self, example: Example, kind: str) -> Example | None:
        """An example as perturbed in one way; None where that cannot be said of it."""
        other = perturbed(example, kind, self.inputs[0])
        if kind != NEGATED:
            return other
        turned = self.opposite(example)
        return (
            None if turned is None or other[self.inputs[0]] == example[self.inputs[0]] else {**other, **_changed(turned, example)}
        )

    def opposite(self, example: Example) -> Example | None:
        """The same example with the opposite of its answer; None, as here, where there is none."""
        return None

    @abstractmethod
    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        """The task's scores, a number for each name in `metrics` and `lower_is_better`. Unknown is absent, never 0."""

    def grade(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        """The scores of examples as they are, and of those that are perturbed the metrics apart (`typos_accuracy`). Raises as
        `grade_plain`, which tells of groups.
        """
        if not self.perturbations:
            return self.grade_plain(examples, predictions)
        parts: dict[str, list[int]] = {}
        for i, example in enumerate(examples):
            parts.setdefault(example.get(PERTURBED, ""), []).append(i)
        found = {
            kind: self.grade_plain([examples[i] for i in places], [predictions[i] for i in places])
            for kind, places in parts.items()
        }
        return found.get("", {}) | {
            apart(kind, name): found[kind][name] for kind in found if kind for name in self.metrics if name in found[kind]
        }

    def grade_plain(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        """The scores and, where examples have a `group`, of each metric the worst group's and the gap from there to the best.

        They are called `worst_group_f1` and `gap_f1`; of the first higher is better, of the second lower.

        Raises:
            StudyError: `score` gives none of the task's metrics, or no numbers by name.
        """
        scores = self.score(examples, predictions)
        own, named = type(self).__name__, ", ".join(self.metrics)
        if not isinstance(scores, Mapping):
            raise StudyError(f"score() of {own} gave a {type(scores).__name__}. Return a number for each of its metrics: {named}.")
        if not {*self.metrics} & {*scores}:
            given = ", ".join(map(str, scores)) or "nothing"
            raise StudyError(f"score() of {own} gave {given}, and its metrics name {named}. Call them alike.")
        for name, value in scores.items():
            if not isinstance(value, Real):  # nothing else can be stored
                what = "None" if value is None else f"a {type(value).__name__}"
                raise StudyError(f"score() of {own} gave {name} as {what}. Give a float, or leave out what is not known.")
        # Of NumPy's numbers JSON knows float64 alone.
        scores = {name: value if isinstance(value, (int, float)) else float(value) for name, value in scores.items()}
        places: dict[str, list[int]] = {}
        for i, example in enumerate(examples):
            if "group" in example:
                places.setdefault(example["group"], []).append(i)
        # A single group is the best and the worst at once: its gap of 0 would look like a finding.
        if len(places) < 2:
            return scores
        groups = [self.score([examples[i] for i in of], [predictions[i] for i in of]) for of in places.values()]
        for name in self.metrics:
            known = [group[name] for group in groups if name in group]
            if known:
                scores |= {f"{WORST_GROUP}{name}": min(known), f"{GAP}{name}": max(known) - min(known)}
        return scores


def _changed(example: Example, before: Example) -> dict[str, Any]:
    """What of an example is not as it was before."""
    return {name: value for name, value in example.items() if name not in before or before[name] != value}


@functools.lru_cache(maxsize=8)
def _redaction(task: Task, kinds: tuple[str, ...], digest: str) -> Mapping[str, Any]:
    # The digest is a part of the key alone: an edited file is counted again.
    splits = task.splits()
    found = redaction.summary([*splits.train, *splits.dev, *splits.test, *task.searchable()])
    return {"kinds": list(redaction.finders(kinds)), **found}


def _texts(value: Any) -> Iterator[str]:
    """The texts of a value of `Task.inputs`; of a turn what is said, not who says it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.get("content"))
    elif isinstance(value, Sequence):
        for each in value:
            yield from _texts(each)
