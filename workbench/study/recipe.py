"""A recipe is everything needed to produce one model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workbench import methods
from workbench.data import fingerprints, models
from workbench.errors import UsageError
from workbench.formulations import Formulation
from workbench.labelling import Distillation, PseudoLabels, Strategy
from workbench.methods import Method
from workbench.result.model_names import learned_name, model_name
from workbench.space import Choice, Space, check, dimensions, ends, is_number, is_whole
from workbench.study import also as grading
from workbench.study.pretraining import Pretraining
from workbench.study.privacy import check_redaction
from workbench.study.record import digest, plain
from workbench.tasks import source
from workbench.tasks.base import EACH, Task

WEIGHTS = ("float32", "bfloat16", "nf4")
"""What can hold a model's own weights."""

_UNREAD: dict[str, Any] = {
    "epochs": 0, "batch_size": 1, "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "averaging": None, "seed": 0
}  # fmt: skip
"""What a recipe says of training where nothing is trained."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what model comes out, and nothing else: no price, no place, no name.

    Any field may be a hole (`choice`, `loguniform`, …) in a study; a recipe that is trained has none.

    Attributes:
        task: The data, their encoding and their score.
        model: A built-in model, a name on the model hub (`name@revision`), a folder (also PEFT's of an adapter), or a GGUF file.
            Or another recipe, whose model, tuned, is what is tuned now (transfer); it may itself begin with a recipe.
        method: What is tuned, and at which learning rate.
        epochs: Passes over the training examples; fractions are allowed, and 0 grades what there is. The schedule has no
            length, so a checkpoint of a run is the result of the same recipe with fewer epochs. It may be left out where nothing
            learns step by step.
        batch_size: Examples per optimiser step.
        warmup_steps: Optimiser steps over which the learning rate rises from 0; it is constant after them.
        weight_decay: AdamW's decoupled weight decay.
        max_grad_norm: Bound on the norm of the gradient.
        averaging: Weight of late steps in the average of the weights that is evaluated: eta of polynomial averaging
            (Shamir & Zhang 2013, arXiv:1212.1824); None evaluates the last weights.
        precision: `float32`, `bfloat16` (autocast), or `auto`: bfloat16 on GPUs that have it, and on CPUs with AVX512-BF16 for
            models of width 512 or more.
        weights: What holds the model's own weights: `float32`, `bfloat16`, or `nf4`, which is four bits (Dettmers et al. 2023,
            arXiv:2305.14314) and needs the package bitsandbytes. Other than float32 only where they are left as they are.
        seed: Seed of the head's first weights, of dropout and of adapters. The order of examples belongs to the task.
        pretrain: What the model learns by itself before it is tuned: `masked_lm(…)` or `causal_lm(…)`; None: nothing.
        acquire: Which examples of the task's pool are labelled: `uncertainty()`, `diversity()` or `badge()`; None: the task's
            own order, which is random.
        pseudo: Which other examples of the pool join the training with an answer that nobody gave: `pseudo_labels()`, or what the
            model of another recipe answers, `distil(teacher)`; None: none.
        also: Other tasks that grade every checkpoint: their scores stand beside the task's own under their names (`wiki_accuracy`),
            their dev sets are paid for in the phase `evaluate`, and nothing is trained by them. They are for the head of this
            recipe's task. A method that puts labelled examples before a question puts none before theirs.
    """

    task: Task
    model: str | Recipe
    method: Method
    epochs: float = None  # type: ignore[assignment]
    batch_size: int = 16
    warmup_steps: int = 8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    averaging: float | None = 4.0
    precision: str = "auto"
    seed: int = 0
    weights: str = field(default="float32", metadata={"later": True})
    pretrain: Pretraining | None = field(default=None, metadata={"later": True})
    acquire: Strategy | None = field(default=None, metadata={"later": True})
    pseudo: PseudoLabels | Distillation | None = field(default=None, metadata={"later": True})
    also: tuple[Task, ...] = field(default=(), metadata={"later": True})

    def __post_init__(self) -> None:
        check(self, "task", lambda v: isinstance(v, Task), "a task, such as question_answering(…)")
        check(self, "model", lambda v: isinstance(v, Recipe) or (isinstance(v, str) and v != ""), "a model's name, or a recipe")
        check(self, "pretrain", lambda v: v is None or isinstance(v, Pretraining), "None, or masked_lm(…) or causal_lm(…)")
        object.__setattr__(self, "also", grading.checked(self.also))
        self._check_parents()
        check(self, "method", lambda v: isinstance(v, Method), "a method, such as full(learning_rate=1e-4)")
        if self.epochs is None:  # left out
            if any(method.trains for method in ends(self.method)):
                raise UsageError("Recipe() needs epochs, e.g. epochs=integers(1, 4).")
            object.__setattr__(self, "epochs", 0)
        check(self, "epochs", lambda v: is_number(v) and v >= 0, "a number, at least 0")
        check(self, "batch_size", lambda v: is_whole(v) and v >= 1, "a whole number, at least 1")
        check(self, "warmup_steps", lambda v: is_whole(v) and v >= 0, "a whole number, at least 0")
        check(self, "weight_decay", lambda v: is_number(v) and v >= 0, "a number, at least 0")
        check(self, "max_grad_norm", lambda v: is_number(v) and v > 0, "a number above 0")
        check(self, "averaging", lambda v: v is None or (is_number(v) and v >= 0), "None or a number, at least 0")
        check(self, "precision", lambda v: v in ("auto", "float32", "bfloat16"), "'auto', 'float32' or 'bfloat16'")
        check(self, "seed", lambda v: is_whole(v) and v >= 0, "a whole number, at least 0")
        check(self, "weights", lambda v: v in WEIGHTS, f"one of {', '.join(map(repr, WEIGHTS))}")
        check(self, "acquire", lambda v: v is None or isinstance(v, Strategy), "None, uncertainty(), diversity() or badge()")
        told = (PseudoLabels, Distillation)
        check(self, "pseudo", lambda v: v is None or isinstance(v, told), "None, pseudo_labels() or distil(teacher)")
        self._check_teachers()
        check_redaction(self)
        if isinstance(self.method, Method) and not self.method.labelled:
            for name in ("acquire", "pseudo"):  # what is only asked learns from no label
                object.__setattr__(self, name, None)
        if any(weights != "float32" for weights in ends(self.weights)):
            for method in ends(self.method):
                if method.changes_weights:
                    raise UsageError(
                        f"{method.name!r} changes the model's own weights, which must be float32 then. Take it out, or weights=."
                    )
        if isinstance(self.method, Method) and not self.method.trains:
            # What only training reads says nothing of the model: without it equal models are one recipe.
            for name, value in _UNREAD.items():
                object.__setattr__(self, name, value)
            if self.method.bought is not None:
                _refuse_few(self.task, self.method, max)  # before it is lost how many the task says
                object.__setattr__(self, "task", _with_labels(self.task, self.method.bought))
            else:
                _refuse_few(self.task, self.method, min)
        needed = not isinstance(self.method, Method) or self.method.labelled
        if needed and any(_labels(task) == 0 for task in ends(self.task)):
            raise UsageError("train must be at least 1 where something is trained; got 0.")

    def _check_parents(self) -> None:
        """Raise UsageError where what the model learns before would be lost, or is nothing."""
        parents = [each for each in ends(self.model) if isinstance(each, Recipe)]
        if parents and any(each is not None and True in ends(each.from_scratch) for each in ends(self.pretrain)):
            raise UsageError(
                "from_scratch=True draws new weights, and those of the recipe in model= are lost. Leave one of them out."
            )
        for parent in parents:
            for method in ends(parent.method):
                if not method.trains:
                    raise UsageError(
                        f"the recipe in model= tunes nothing ({method.name!r}): what it makes is the model that it begins with. "
                        "Name that one, or give the recipe a method that trains."
                    )
            if any(isinstance(task, Task) and task.combines == EACH for task in ends(parent.task)):
                raise UsageError(
                    "the recipe in model= has weights for each of its tasks (adapter_per_task), and makes no one model to begin "
                    "with. Name a recipe of one of its tasks, or give it another strategy."
                )
            if 0 in ends(parent.epochs):
                raise UsageError("the recipe in model= has epochs=0, and tunes nothing. Give it at least a part of an epoch.")

    def _check_teachers(self) -> None:
        """Raise UsageError where what is to be distilled is no model that can be asked."""
        for pseudo in ends(self.pseudo):
            if not isinstance(pseudo, Distillation):
                continue
            if not isinstance(teacher := pseudo.teacher, Recipe):
                raise UsageError(f"the teacher of {pseudo.name!r} must be a Recipe(…), got {teacher!r}.")
            if holes := [*dimensions(teacher)]:
                raise UsageError(f"the teacher of {pseudo.name!r} has holes ({', '.join(holes)}). Give it one value for each.")
            if teacher.task.combines == EACH:
                raise UsageError(
                    f"the teacher of {pseudo.name!r} has weights for each of its tasks (adapter_per_task). Name a recipe of one."
                )
            if teacher.method.fits:
                raise UsageError(
                    f"the teacher of {pseudo.name!r} has a head that is fitted at once ({teacher.method.name!r}), and cannot be "
                    "kept as a model. Take pseudo_labels(), which tells classes in that way, or another teacher."
                )

    @functools.cached_property
    def teacher(self) -> Recipe | None:
        """The recipe that is asked what examples nobody labelled are answered: the teacher of `pseudo`, or where that is trained
        the model that it makes; None where there is none.
        """
        if not isinstance(self.pseudo, Distillation):
            return None
        teacher: Recipe = self.pseudo.teacher
        if not teacher.method.trains:
            return teacher
        return Recipe(task=teacher.task.settled(), model=teacher, method=methods.zero_shot(read=teacher.method.read), epochs=0)

    @property
    def parents(self) -> tuple[Recipe, ...]:
        """All that has to be made before it: what its model starts from, and its teacher where that is trained."""
        teacher = None if self.teacher is None else self.teacher.parent
        return tuple(each for each in (self.parent, teacher) if each is not None)

    @functools.cached_property
    def name(self) -> str:
        """What the model that it makes is called where it is the `model` of another recipe: `minilm-l3 + tickets`."""
        return learned_name(self.to_json())

    @functools.cached_property
    def model_name(self) -> str:
        """What people call the model that is tuned: its name, with what it learned before (`minilm-l3 + masked_lm`)."""
        return model_name(self.to_json())

    @property
    def origin(self) -> str:
        """The name of the model that its chain of parents begins with; its own model's where it has none."""
        return self.model.origin if isinstance(self.model, Recipe) else self.model

    @property
    def architecture(self) -> str:
        """The name of the model whose kind, shape and tokeniser its own model has: `origin`, or what is drawn in its likeness."""
        begun = self.model.architecture if isinstance(self.model, Recipe) else self.model
        return begun if self.pretrain is None else self.pretrain.architecture(begun)

    @functools.cached_property
    def parent(self) -> Recipe | None:
        """The recipe whose weights it starts from: that of the task before its own, if there is one, else `start`. None where it
        starts from `model` itself.

        Raises:
            UsageError: As `start`.
        """
        if isinstance(self.task, Task) and (before := self.task.predecessor()) is not None:
            return dataclasses.replace(self, task=before[0], epochs=before[1], also=())
        return self.start

    @property
    def begun_with(self) -> Recipe | None:
        """The recipe whose weights its own begin with: its parent, but where each task is learned from the same start."""
        return self.start if self.task.combines else self.parent

    @property
    def starts_from_corpus(self) -> bool:
        """Whether its parent learns from texts that nobody labelled."""
        return self.pretrain is not None and self.parent is self.start

    @functools.cached_property
    def start(self) -> Recipe | None:
        """The recipe that `model` or `pretrain` stands for; None where `model` is a name, and nothing is learned before.

        Raises:
            UsageError: The model does not learn in the way of `pretrain`, or as `Task.splits`.
        """
        if self.pretrain is None:
            return self.model if isinstance(self.model, Recipe) else None
        how, model = self.pretrain, self.model
        how.check_kind(self.architecture)
        task = how.task_of(how.steps)
        return Recipe(
            task=task,
            model=model if isinstance(model, Recipe) else how.architecture(model),
            method=how.method,
            epochs=how.steps * how.batch_size / task.train,
            batch_size=how.batch_size,
            seed=how.seed,
        )

    @functools.cached_property
    def graders(self) -> tuple[Recipe, ...]:
        """For each task in `also` a recipe that asks this one's model by it. Nothing is trained by these.

        Raises:
            UsageError: The task is for another head; or as `Task.splits`.
        """
        if problem := grading.problem(self.task, self.also, models.kind(self.architecture)):
            raise UsageError(problem)
        bare = dataclasses.replace(self, also=(), acquire=None, pseudo=None, method=methods.zero_shot(read=self.method.read))
        return tuple(dataclasses.replace(bare, task=self.task.sharing(task)) for task in self.also)

    @property
    def formulation(self) -> Formulation:
        """How its model computes its task, asked as its method says.

        Raises:
            UsageError: A model of this kind cannot do the task, or not be asked so; or as `models.kind`.
        """
        return self.task.formulation(models.kind(self.architecture)).reading(self.method.read)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data: a record to read, not a way to make one."""
        record: dict[str, Any] = plain(self)
        if isinstance(self.method, Method):
            record["method"].pop("models", None)
        if isinstance(self.model, Recipe):
            record["model"] = self.model.to_json()
        if isinstance(self.pseudo, Distillation):
            record["pseudo"]["teacher"] = self.pseudo.teacher.to_json()
        return record

    @functools.cached_property
    def inputs(self) -> dict[str, str | int]:
        """Fingerprints of what stands behind the recipe's names: `data`, `model`, `code` of the task, revision of the `method`,
        data and code of the tasks in `also`.

        Of a model with a parent `model` is that of the model that the chain begins with, and `parents` is one of all that stands
        behind the parents' names.

        Those that are empty are left out: the name says it all. Raises as `Task.digest` does.
        """
        more: dict[str, str | int] = {
            "model": fingerprints.model(self.origin),
            "code": source.fingerprint(self.task),
            "method": methods.revision(self.method),
            "parents": self._inputs_of_parents(),
            "also": digest({"data": [[task.digest(), source.fingerprint(task)] for task in self.also]}) if self.also else "",
        }
        known: dict[str, str | int] = {"data": self.task.digest()}
        return known | {kind: found for kind, found in more.items() if found}

    def _inputs_of_parents(self) -> str:
        """A fingerprint of all inputs of its parents; empty where it has none. No data are read for it but to be fingerprinted."""
        behind: dict[str, Any] = {}
        if isinstance(self.model, Recipe):
            behind["model"] = self.model.inputs
        if self.teacher is not None:
            behind["teacher"] = self.teacher.inputs
        if self.pretrain is not None:
            behind["pretrain"] = {"data": self.pretrain.task.digest(), "model": fingerprints.model(self.architecture)}
        return digest(behind) if behind else ""

    @functools.cached_property
    def id(self) -> str:
        """Sixteen hex digits of the recipe and its inputs: equal recipes on equal data, models and code are the same result."""
        return digest(self.to_json(), **self.inputs)

    @functools.cached_property
    def run_id(self) -> str:
        """The id of the run: recipes that differ in nothing but `epochs` are checkpoints of one run."""
        return digest(self.to_json() | {"epochs": None}, **self.inputs)

    def asked_of(self, model: str) -> Recipe:
        """The recipe by which a model that it made is asked: without what has made it, which says nothing of how it answers."""
        task = self.task.settled()
        return dataclasses.replace(self, task=task, model=model, pretrain=None, acquire=None, pseudo=None, also=())

    @property
    def learns(self) -> bool:
        """Whether anything is learned step by step; what is not has no use for its loss on the dev set."""
        return self.method.trains and self.epochs > 0

    def with_epochs(self, epochs: float) -> Recipe:
        """The same recipe, trained for another length."""
        return dataclasses.replace(self, epochs=int(epochs) if float(epochs).is_integer() else epochs)


def _labels(task: Any, which: Callable[..., Any] = min) -> int | None:
    """The fewest labelled examples that a task may train on, or with `max` the most; None where that is no setting."""
    train = getattr(task, "train", None)
    count = which(train.ends) if isinstance(train, Space) else train
    return count if is_whole(count) else None


def _refuse_few(task: Any, method: Method, which: Callable[..., Any]) -> None:
    """Raise UsageError where a task may have fewer labelled examples than a method puts before a question.

    What chooses among all that are bought needs them at the fewest (`which` is min); what buys the first ones just for itself is
    bound by the most that the task is ever given (max).
    """
    train = which((count for option in ends(task) if (count := _labels(option, which)) is not None), default=method.shots)
    if train < method.shots:
        raise UsageError(f"{method.name!r} chooses {method.shots} examples of train={train}. Buy more labels, or ask with fewer.")


def _with_labels(task: Any, count: int) -> Any:
    """The task, or each of a choice of tasks, with so many labelled examples, where that is a setting."""
    if isinstance(task, Choice):
        return Choice(tuple(_with_labels(option, count) for option in task.options))
    return dataclasses.replace(task, train=count) if hasattr(task, "train") else task
