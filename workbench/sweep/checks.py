"""What can be known to be wrong before anything is spent."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench import prices
from workbench.data import models
from workbench.errors import Refused, StudyError, UsageError, WorkbenchError, line_in, said
from workbench.forecast.starts import starts
from workbench.formulations import Reach
from workbench.meter import Meter
from workbench.prices import Offer
from workbench.space import Choice, Dimension, Value, dimensions, is_number, is_whole, label, resolve
from workbench.study import Study
from workbench.study.also import name_of
from workbench.tasks.base import GAP, WORST_GROUP, Splits, Task

MOST_MISSED = 0.5
"""The share of a split's targets that may be out of reach. A study in which every setting misses
more than this is not begun."""

MOST_FORMS = 64
"""At most so many forms of one task are looked at. There is one for each option of a choice, and
for both ends of a range."""


def check_data(study: Study) -> list[str]:
    """Read the data of every task that the study names, with as many examples as it may ask for, and look what of it can be given.

    Returns:
        What of the data is left out, and what bounds the scores: how many targets of a side no prediction can be, and what to
        raise. A line each.

    Raises:
        DataError: They are not as they must be.
        UsageError: There are fewer examples, or none, or of a side no more than half of the targets can be given.
    """
    named = _options(study.recipe.task)
    reads_train = any(method.labelled or method.shots for method in _options(study.recipe.method))
    told: list[str] = []
    for task in named:
        alike: dict[str, list[Task]] = {}
        for settings in itertools.islice(_settings(list(dimensions(task).values()), task.bounds, {}), MOST_FORMS):
            # Forms that differ only in a length or a count are judged together: a length
            # that cuts too much is no reason to refuse the study where another one does not.
            others = {name: value for name, value in settings.items() if name not in task.bounds and not is_number(value)}
            of = [f"{name}={value!r}" for name, value in others.items()] + ([str(label(task))] if len(named) > 1 else [])
            alike.setdefault(f" of {', '.join(of)}" if of else "", []).append(resolve(task, settings))
        for of_what, forms in alike.items():
            with _of_its_author(forms[0]):
                _check_splits(forms[0], reads_train)
                told += forms[0].notes()
            for name in (study.maximize, *study.bounds):
                _check_groups(name, forms[0])
            if task.bounds:
                told += _missed(forms, models.processors(start.architecture for start in starts(study)), of_what)
    for task in study.recipe.also:
        with _of_its_author(task):
            _check_splits(task, reads_train=False)
            told += [f"{name_of(task)}: {line}" for line in task.notes()]
    return list(dict.fromkeys(told))


def graded_by(study: Study) -> dict[str, Any]:
    """What grades the study's points, as `report.doubts` takes it; empty where that is not the same of all. Raises as `check_data`.

    `graded_examples` is how many dev examples there are; `dev_examples` the same where the score is told of example by example, so
    that its standard error is known, else None; `constant_score` what giving all of them the commonest answer has, None where that
    is not known; `test_examples` how many are held out, told where `dev_examples` is; `dev_whole` whether the dev examples are all
    that the data have, fewer than `dev=` asks for, None where that is not known; `score_range` the least and the most that the
    score can be, None where that is not known.
    """
    found: list[dict[str, Any]] = []
    for task in _options(study.recipe.task):
        for settings in itertools.islice(_settings(list(dimensions(task).values()), (*task.bounds, "dev"), {}), MOST_FORMS):
            form = resolve(task, settings)
            with _of_its_author(form):
                graded = len(form.splits().dev)
                examples = graded if study.maximize.removeprefix(WORST_GROUP) in form.per_example else None
                constant = form.constant_scores().get(study.maximize)
            most: Any = getattr(form, "dev", None)
            whole = graded < most if is_whole(most) else None
            held_out = len(form.splits().test) if study.maximize in form.per_example else None
            told = {"dev_examples": examples, "graded_examples": graded, "constant_score": constant}
            # All scores of the tasks of ours are percentages, but for those that are told beside another model's.
            percent = examples is not None or (_is_ours(form) and study.maximize not in form.relative)
            ends = [0.0, 100.0] if percent else None
            found.append({**told, "test_examples": held_out, "dev_whole": whole, "score_range": ends})
            if found[-1] != found[0]:
                return {}
    return found[0]


def _check_splits(task: Task, reads_train: bool) -> None:
    """Raise UsageError where a user's own task lacks examples that a study needs; the tasks of ours refuse by themselves.

    Args:
        task: Without holes.
        reads_train: A method of the study is made of labelled examples, or asks with some.
    """
    if _is_ours(task):
        return
    own, splits = type(task).__name__, task.splits()
    if not isinstance(splits, Splits):
        raise UsageError(f"splits() of {own} gave a {type(splits).__name__}. Return Splits(train, dev, test) of workbench.tasks.")
    if not len(splits.dev):
        raise UsageError(f"splits() of {own} gave 0 dev examples, and they grade every checkpoint. Give it at least one.")
    if not reads_train:
        return
    given, asked = len(splits.train), getattr(task, "train", 0)
    if not given:
        raise UsageError(
            f"splits() of {own} gave 0 examples to train on, and a method of the study is made of them. Give it at least one, or "
            "name only methods that train on nothing: zero_shot()."
        )
    if is_whole(asked) and given < asked:
        raise UsageError(f"train={asked}: {own} has {given} examples to train on. Ask for at most that many.")


def _is_ours(task: Task) -> bool:
    return type(task).__module__.startswith("workbench.")


def _check_groups(name: str, task: Task) -> None:
    """Raise UsageError where the study asks for a score over groups and the dev set has fewer than
    two.
    """
    if not name.startswith((WORST_GROUP, GAP)):
        return
    groups = {example["group"] for example in task.splits().dev if "group" in example}
    if len(groups) < 2:
        raise UsageError(
            f"{name!r} needs groups to compare, and the dev examples have {len(groups)}. Give the data a column of groups, name it "
            f"by group=, or name {name.removeprefix(WORST_GROUP).removeprefix(GAP)!r}."
        )


@contextlib.contextmanager
def _of_its_author(task: Task) -> Iterator[None]:
    """Name the file and line of a user's own task where it fails to read its data. Raises
    StudyError.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:
        file = getattr(sys.modules.get(type(task).__module__), "__file__", None)
        line = line_in(file, error) if file else None
        if line is None or _is_ours(task):
            raise  # a bug of our own
        raise StudyError(f"{file}, line {line}: {type(task).__name__} cannot read its data: {said(error)}.") from error


def _missed(forms: Sequence[Task], processors: Mapping[str, Any], of_what: str) -> list[str]:
    """Say which targets of one task cannot be given, by form and by processor.

    Raises:
        UsageError: Of some split every form misses more than `MOST_MISSED` of the targets.
    """
    found: dict[str, list[tuple[Reach, str]]] = {"train": [], "dev": []}
    for task, (model, processor) in itertools.product(forms, processors.items()):
        splits = task.splits()
        with contextlib.suppress(WorkbenchError):  # a form that this model cannot have: the plan of the pair says so
            for side in found:
                reach = task.formulation(models.kind(model)).reach(getattr(splits, side), processor)
                found[side].append((reach, f"{side} {reach.noun}{of_what}{f' for {model}' if len(processors) > 1 else ''}"))
    for of_side in found.values():
        # The study is refused by its best setting: a single good one is enough to begin.
        best, what = min(of_side, key=lambda each: each[0].share_missed, default=(Reach(0, {}), ""))
        if best.share_missed > MOST_MISSED:
            raise UsageError(f"{best.told(what)} Too little is left to tune on or to be graded by.")
    return [text for of_side in found.values() for reach, what in of_side if (text := reach.told(what))]


def _options(value: Any) -> Sequence[Any]:
    return value.options if isinstance(value, Choice) else (value,)


def _settings(holes: Sequence[Dimension], bounds: Sequence[str], known: Mapping[str, Value]) -> Iterator[Mapping[str, Value]]:
    """Yield the settings of a task to be checked: each option of what bounds its rows and of what
    is no number, and the largest value of every other number.
    """
    if not holes:
        yield known
        return
    hole, *others = holes
    if not hole.exists(known):
        yield from _settings(others, bounds, known)
        return
    options: Sequence[Value] = hole.space.names if isinstance(hole.space, Choice) else hole.space.ends
    numbers = [option for option in options if is_number(option)]
    # Data that have too few examples are found now, not when the search first draws the largest.
    if numbers and hole.name not in bounds:
        options = [max(numbers)]  # type: ignore[type-var]
    for option in options:
        yield from _settings(others, bounds, {**known, hole.name: option})


def check_offer(offer: Offer, meter: Meter) -> None:
    """Raise Refused when the offer does not price this machine. A GPU is never billed as a machine
    without one, nor as another model.
    """
    if not meter.devices:
        return
    gpu = meter.devices[0].name
    # None means that the table lacks one of the two names: what is unknown is not refused.
    if offer.gpus and prices.same_gpu(gpu, offer.gpu) is False:
        known = prices.gpu(gpu)
        assert known is not None  # as it is another one
        raise Refused(
            f"this machine has a {gpu}, and {offer.name!r} prices a {offer.gpu}. Name what this machine costs; "
            f"`workbench prices --gpu {known.name}` lists its offers; `workbench front --platform …` prices results elsewhere."
        )
    if offer.gpus == 0:
        raise Refused(
            f"this machine has a {gpu}, and {offer.name!r} prices a machine without a GPU. Name what it costs, e.g. "
            "--platform vast or --platform aws:g6.xlarge; or hide the GPU with CUDA_VISIBLE_DEVICES= to train on the CPU."
        )
