"""Has the model at hand that a recipe starts from: it is made once, by the one loop, and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from workbench import methods, process
from workbench.errors import EnvironmentFault, Infeasible, UsageError
from workbench.result import UsagePart, label_order, merged_labels
from workbench.study import Recipe, sequences
from workbench.tasks.base import EACH
from workbench.training import anchoring, fisher, parent_store, shared_parents
from workbench.training.parent_store import ParentRecord
from workbench.training.progress import Progress
from workbench.training.tuning import Tuning
from workbench.usage import Usage, Work, total

if TYPE_CHECKING:
    from workbench.training.loop import Checkpoint

Train = Callable[..., Iterator["Checkpoint"]]
"""The loop, as `workbench.training.train`."""

STATE_SECONDS = 20.0
"""A parent's state is kept where so much training would be lost without it: writing it may take a second."""


@dataclass(frozen=True)
class Started:
    """What the parents of a recipe took.

    Attributes:
        usage: Cold, of all parents together: what they take a run that is alone.
        labels: Distinct labels that they were made with, by the order in which they are bought. A corpus has none.
        work: What was done now to have the parent at hand.
        scores: The last scores of each parent on its dev set, the first one first.
        elsewhere: What of `usage` was consumed on other machines, as the phase `pretrain`.
    """

    usage: Usage
    labels: Mapping[str, int]
    work: Work
    scores: Sequence[Mapping[str, float]]
    elsewhere: Sequence[UsagePart] = ()


_failed: dict[str, Infeasible] = {}
"""Parents that failed in this process, by id: the next run that starts from one does not pay for the same failure again."""


def prepare(recipe: Recipe, train: Train, meter: Any, progress: Progress) -> Started | None:
    """Have at hand what a recipe starts from, and the model that its teacher makes; whoever asks first makes them, and others wait
    meanwhile.

    One that was interrupted goes on from its last state.

    Args:
        recipe: The recipe.
        train: The loop.
        meter: Measures what it takes.
        progress: Is kept up to date.

    Returns:
        What they took together; None where the recipe has none.

    Raises:
        Infeasible: The parent ran out of memory, diverged or failed.
        UsageError: Its method cannot be merged; or as `train`.
        EnvironmentFault: The cache cannot be written to.
    """
    started = [each for of in (recipe, recipe.teacher) if of and (each := _prepare(of, train, meter, progress))]
    if recipe.teacher is not None and recipe.teacher.method.bought != 0:  # asked behind examples, whose labels are bought
        bought = {label_order(recipe.teacher.to_json()): len(recipe.teacher.task.splits().train)}
        progress.saw(bought)
        started.append(Started(Usage(), bought, Work(), []))
    if not started:
        return None
    labels: Mapping[str, int] = {}
    for each in started:
        labels = merged_labels(labels, each.labels)
    work = functools.reduce(operator.add, (each.work for each in started))
    scores = started[0].scores if recipe.parent is not None else []
    others = [part for each in started for part in each.elsewhere]
    return Started(total(each.usage for each in started), labels, work, scores, others)


def _prepare(recipe: Recipe, train: Train, meter: Any, progress: Progress) -> Started | None:
    """Have the model of a recipe's parent at hand; None where it has none."""
    parent = recipe.parent
    if parent is None:
        return None
    if problem := sequences.problem(recipe.task, recipe.method, recipe.weights):
        raise UsageError(problem)
    work = Work()
    if (record := parent_store.find(parent)) is None:
        lock = parent_store.root() / "locks" / parent_store.folder_of(parent).name
        try:
            lock.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write to {lock.parent}: {error.strerror}. Set WORKBENCH_CACHE to a folder that can be written to."
            ) from error
        with process.exclusive(lock):
            if (record := parent_store.find(parent) or shared_parents.fetched(parent)) is None:
                progress.phase = "pretrain"
                if recipe.starts_from_corpus:  # nobody had to label a corpus
                    progress.unlabelled.add(_order_of(parent))
                record, work = _make(parent, train, meter, progress)
                progress.phase = "train"
    parent_store.touch(parent)
    shared_parents.share(parent)
    if (start := recipe.begun_with) is not None and start is not parent and not parent_store.is_at_hand(start):
        _prepare(_first(recipe), train, meter, progress)  # what each task begins with was dropped since
    labels = record.labels_before if recipe.starts_from_corpus else record.labels
    progress.saw(labels)
    return Started(record.usage, labels, work, record.scores, shared_parents.elsewhere(record))


def _make(parent: Recipe, train: Train, meter: Any, progress: Progress) -> tuple[ParentRecord, Work]:
    """Train a parent and keep its model."""
    if parent.id in _failed:
        raise _failed[parent.id]
    states = parent_store.states()
    state = states.find(parent.run_id)
    resume = state if state and state.epochs < parent.epochs else None
    last: Checkpoint | None = None
    weights: dict[str, torch.Tensor] = {}
    work, unsaved = Work(), 0.0
    try:
        with contextlib.closing(train(parent, resume, meter=meter, progress=progress)) as segments:  # type: ignore[type-var]
            for checkpoint in segments:
                work, unsaved = work + checkpoint.spent["train"].work, unsaved + checkpoint.spent["train"].seconds
                if checkpoint.next_step is None:
                    last, weights = checkpoint, checkpoint.weights()
                elif unsaved >= STATE_SECONDS:
                    states.save(checkpoint.resume_state())
                    unsaved = 0.0
    except Infeasible as error:
        failed = Infeasible(error.reason, f"{parent.method.name} of {parent.model_name!r}, before its tuning: {error.detail}")
        if error.reason != "out_of_memory":  # of which there may be more next time
            _failed[parent.id] = failed
        raise failed from error
    assert last is not None
    model, information, taken = None, None, Usage()
    if parent.task.combines != EACH:
        tuning = Tuning(dataclasses.replace(parent, weights="float32"), torch.device("cpu"), None)
        tuning.adopt({methods.plain_name(name): value for name, value in weights.items()})
        if parent.task.teaches:
            information, taken = _information(parent, tuning, meter)
        model = tuning.plain()
    earlier = parent_store.find(parent.parent) if parent.parent is not None else None
    before_scores = [] if earlier is None else earlier.scores
    before = {name: count for name, count in last.labels_by_order.items() if name != _order_of(parent)}
    record = ParentRecord(
        usage=taken + _of_model(last.usage),
        labels=dict(last.labels_by_order),
        labels_before=before,
        head=parent_store.head_of(parent.formulation),
        scores=[*before_scores, last.scores],
        parts=[replace(part, usage={"pretrain": _of_model(part.usage)}) for part in last.elsewhere],
    )
    parent_store.write(parent, model, record, information, tuned=weights if model is None else None)
    states.drop(parent.run_id)
    return record, work


def _information(parent: Recipe, tuning: Tuning, meter: Any) -> tuple[dict[str, torch.Tensor], Usage]:
    """The Fisher information of a parent's weights with that of its own parents, and what computing it took."""
    with contextlib.nullcontext() if meter is None else meter.window() as window:
        before = tuning.work
        anchoring.merge(tuning)
        found = fisher.information(tuning)
        if parent.task.anchor and parent.parent is not None:
            earlier = parent_store.information(parent.parent)
            found = {name: value + earlier[name] if name in earlier else value for name, value in found.items()}
    return found, Usage() if window is None else window.usage.doing(tuning.work - before)


def _first(recipe: Recipe) -> Recipe:
    """The recipe of the first of several tasks."""
    while (parent := recipe.parent) is not None and recipe.task.predecessor() is not None:
        recipe = parent
    return recipe


def _order_of(recipe: Recipe) -> str:
    return label_order(recipe.to_json())


def _of_model(phases: Mapping[str, Usage]) -> Usage:
    """What making a model took: no evaluation, which no child needs."""
    return total(usage for phase, usage in phases.items() if phase != "evaluate")
