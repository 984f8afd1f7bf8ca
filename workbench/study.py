"""A recipe is everything needed to produce one model; a study is a recipe with holes and a question about them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from workbench import methods, prices
from workbench.errors import StudyError, UsageError, WorkbenchError, did_you_mean, line_in, said
from workbench.formulations import Formulation
from workbench.methods import Method
from workbench.space import Choice, Dimension, Space, Value, check, describe, dimensions, ends, is_number, is_whole, resolve
from workbench.tasks.base import GAP, WORST_GROUP, Task

S = TypeVar("S")

COSTS = ("usd", "usd_compute", "labels", "seconds", "energy_j", "grams_co2e")
"""What a study can minimise: US$ of compute and labels together, of compute alone, and physical quantities."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what model comes out, and nothing else: no price, no place, no name.

    Any field may be a hole (`choice`, `loguniform`, …) in a study; a recipe that is trained has none.

    Attributes:
        task: The data, their encoding and their score.
        model: A built-in model, a name on the model hub (`name@revision`), a folder (also PEFT's of an adapter), or a GGUF file.
        method: What is tuned, and at which learning rate.
        epochs: Passes over the training examples; fractions are allowed, and 0 grades what there is. The schedule has no
            length, so a checkpoint of a run is the result of the same recipe with fewer epochs.
        batch_size: Examples per optimiser step.
        warmup_steps: Optimiser steps over which the learning rate rises from 0; it is constant after them.
        weight_decay: AdamW's decoupled weight decay.
        max_grad_norm: Bound on the norm of the gradient.
        averaging: Weight of late steps in the average of the weights that is evaluated: eta of polynomial averaging
            (Shamir & Zhang 2013, arXiv:1212.1824); None evaluates the last weights.
        precision: `float32`, `bfloat16` (autocast), or `auto`: bfloat16 on GPUs that have it.
        weights: What holds the model's own weights: `float32`, `bfloat16`, or `nf4`, which is four bits (Dettmers et al. 2023,
            arXiv:2305.14314) and needs the package bitsandbytes. Other than float32 only where they are left as they are.
        seed: Of the head's first weights, dropout and adapters. The order of examples belongs to the task.
    """

    task: Task
    model: str
    method: Method
    epochs: float
    batch_size: int = 16
    warmup_steps: int = 8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    averaging: float | None = 4.0
    precision: str = "auto"
    seed: int = 0
    weights: str = field(default="float32", metadata={"later": True})

    def __post_init__(self) -> None:
        check(self, "task", lambda v: isinstance(v, Task), "a task, such as question_answering(…)")
        check(self, "model", lambda v: isinstance(v, str) and v != "", "a model's name")
        check(self, "method", lambda v: isinstance(v, Method), "a method, such as full(learning_rate=1e-4)")
        check(self, "epochs", lambda v: is_number(v) and v >= 0, "a number, at least 0")
        check(self, "batch_size", lambda v: is_whole(v) and v >= 1, "a whole number, at least 1")
        check(self, "warmup_steps", lambda v: is_whole(v) and v >= 0, "a whole number, at least 0")
        check(self, "weight_decay", lambda v: is_number(v) and v >= 0, "a number, at least 0")
        check(self, "max_grad_norm", lambda v: is_number(v) and v > 0, "a number above 0")
        check(self, "averaging", lambda v: v is None or (is_number(v) and v >= 0), "None or a number, at least 0")
        check(self, "precision", lambda v: v in ("auto", "float32", "bfloat16"), "'auto', 'float32' or 'bfloat16'")
        check(self, "seed", lambda v: is_whole(v) and v >= 0, "a whole number, at least 0")
        check(self, "weights", lambda v: v in WEIGHTS, f"one of {', '.join(map(repr, WEIGHTS))}")
        if any(each != "float32" for each in _each(self.weights)):
            for each in _each(self.method):
                if each.changes_weights:
                    raise UsageError(
                        f"{each.name!r} changes the model's own weights, which must be float32 then. Take it out, or weights=."
                    )
        if isinstance(self.method, Method) and not self.method.trains:
            # What only training reads says nothing of the model: without it equal models are one recipe.
            for name, value in _UNREAD.items():
                object.__setattr__(self, name, value)
            if self.method.bought is not None:
                object.__setattr__(self, "task", _with_labels(self.task, self.method.bought))
            else:
                _refuse_few(self.task, self.method)
        needed = not isinstance(self.method, Method) or self.method.labelled
        if needed and any(_labels(task) == 0 for task in _each(self.task)):
            raise UsageError("train must be at least 1 where something is trained; got 0.")

    @property
    def formulation(self) -> Formulation:
        """How its model computes its task, asked as its method says.

        Raises:
            UsageError: A model of this kind cannot do the task, or not be asked so; or as `models.kind`.
        """
        from workbench.data import models

        return self.task.formulation(models.kind(self.model)).reading(self.method.read)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data: a record to read, not a way to make one."""
        record: dict[str, Any] = _plain(self)
        if isinstance(self.method, Method):
            record["method"].pop("models", None)
        return record

    @functools.cached_property
    def inputs(self) -> dict[str, str | int]:
        """Fingerprints of what stands behind the recipe's names: `data`, `model`, `code` of the task, revision of the `method`.

        Those that are empty are left out: the name says it all. Raises as `Task.digest` does.
        """
        from workbench.data import fingerprints
        from workbench.tasks import source

        more: dict[str, str | int] = {
            "model": fingerprints.model(self.model),
            "code": source.fingerprint(self.task),
            "method": methods.revision(self.method),
        }
        known: dict[str, str | int] = {"data": self.task.digest()}
        return known | {kind: found for kind, found in more.items() if found}

    @functools.cached_property
    def id(self) -> str:
        """Sixteen hex digits of the recipe and its inputs: equal recipes on equal data, models and code are the same result."""
        return _hash(self.to_json(), **self.inputs)

    @functools.cached_property
    def run_id(self) -> str:
        """The id of the run: recipes that differ in nothing but `epochs` are checkpoints of one run."""
        return _hash(self.to_json() | {"epochs": None}, **self.inputs)

    @property
    def learns(self) -> bool:
        """Whether anything is learned step by step; what is not has no use for its loss on the dev set."""
        return self.method.trains and self.epochs > 0

    def with_epochs(self, epochs: float) -> Recipe:
        """The same recipe, trained for another length."""
        return dataclasses.replace(self, epochs=int(epochs) if float(epochs).is_integer() else epochs)


def _noting_what_is_stated(study: type[S]) -> type[S]:
    """Remember which fields were given: a settings file speaks for those that were not, and a default is no word of the study's."""
    make = study.__init__

    @functools.wraps(make)
    def init(self: S, *args: Any, **kwargs: Any) -> None:
        names = [each.name for each in dataclasses.fields(study)]  # type: ignore[arg-type]
        object.__setattr__(self, "stated", frozenset(names[: len(args)]) | frozenset(kwargs))
        make(self, *args, **kwargs)

    study.__init__ = init  # type: ignore[method-assign,assignment]
    return study


@_noting_what_is_stated
@dataclass(frozen=True)
class Study:
    """A recipe with holes, what to maximise and minimise, and prices.

    Attributes:
        recipe: The recipe with its holes: the space.
        maximize: A score of the task, or `worst_group_` and its name where the data have groups.
        minimize: A cost out of `COSTS`, or several. `usd` is compute plus labels.
        label_usd: Price of one labelled example in US$.
        platform: Name of the offer that prices compute (`workbench.prices.find`).
        trials: How many runs a sweep makes unless told otherwise, all its starts together; None for no bound.
        max_usd: What a sweep may spend unless told otherwise, in US$, all its starts together; None for no bound.
        question: What the study asks; the file's docstring unless given.
        path: The file it was loaded from; set by `load`.
        stated: Names of the fields that were given; the others have their defaults.
    """

    recipe: Recipe
    maximize: str
    minimize: str | tuple[str, ...] = "usd"
    label_usd: float = 0.0
    platform: str = prices.DEFAULT
    trials: int | None = 16
    max_usd: float | None = None
    question: str = ""
    path: Path | None = field(default=None, compare=False)
    stated: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if isinstance(getattr(self, each.name), Space):
                raise UsageError(f"{each.name} is not part of the recipe: it cannot be searched. Give it one value.")
        check(self, "recipe", lambda v: isinstance(v, Recipe), "a Recipe(…)")
        check(self, "label_usd", lambda v: is_number(v) and v >= 0, "a price in US$, at least 0")
        check(self, "trials", lambda v: v is None or (is_whole(v) and v >= 1), "a whole number of runs, at least 1, or None")
        check(self, "max_usd", lambda v: v is None or (is_number(v) and v > 0), "US$ above 0, or None")
        metrics = _metrics(self.recipe.task)
        lower = _metrics(self.recipe.task, "lower_is_better")
        if self.maximize in lower or str(self.maximize).startswith(GAP):
            raise UsageError(f"maximize={self.maximize!r}: lower is better. It is recorded; maximize {' or '.join(metrics)}.")
        if str(self.maximize).removeprefix(WORST_GROUP) not in metrics:
            raise UsageError(f"maximize={self.maximize!r} is not a score of the task.{did_you_mean(str(self.maximize), metrics)}")
        if not isinstance(self.minimize, (str, tuple, list)):  # a set has no first cost
            raise UsageError(f"minimize must be the name of a cost, or a tuple of names, got {self.minimize!r}.")
        if not self.costs:
            raise UsageError("minimize is empty: name at least one cost.")
        for cost in self.costs:
            if cost not in COSTS:
                raise UsageError(f"minimize={cost!r} is not a cost.{did_you_mean(str(cost), COSTS)}")
        if len(set(self.costs)) < len(self.costs):
            raise UsageError(f"minimize={self.minimize!r} names a cost twice.")
        prices.find(self.platform)
        self.dimensions  # noqa: B018  two holes of one name are found here,
        self.name  # noqa: B018  and here values of which no record can be made

    @property
    def costs(self) -> tuple[str, ...]:
        """What is minimised, always as a tuple."""
        return (self.minimize,) if isinstance(self.minimize, str) else tuple(self.minimize)

    @functools.cached_property  # a decision asks for them with every recipe it looks at
    def dimensions(self) -> dict[str, Dimension]:
        """The holes of the recipe by name, outermost first; what only training reads comes after the method, and not with all."""
        found, method = dimensions(self.recipe), self.recipe.method
        unread: dict[str, list[tuple[str, Value]]] = {}
        for option in method.options if isinstance(method, Choice) else ():
            if not option.trains:
                kept = dimensions(dataclasses.replace(self.recipe, method=option))
                for name, dimension in found.items():
                    if name not in kept and name != "method" and not dimension.when:
                        unread.setdefault(name, []).append(("method", option.name))
        if barred := self._barred():
            found["method"] = dataclasses.replace(found["method"], barred=barred)
        always = {name: dimension for name, dimension in found.items() if name not in unread}
        return always | {name: dataclasses.replace(found[name], unless=tuple(of)) for name, of in unread.items()}

    def _barred(self) -> tuple[tuple[tuple[str, Value], Value], ...]:
        """Methods that are not for a model, of those that the study chooses from."""
        model, method = self.recipe.model, self.recipe.method
        options = method.options if isinstance(method, Choice) else (method,)
        models = model.options if isinstance(model, Choice) else (model,)
        for option in options:
            if unknown := next((name for name in option.models if name not in models), None):
                hint = did_you_mean(unknown, models)
                raise UsageError(f"{option.name!r} is for the model {unknown!r}, which the study does not have.{hint}")
        if idle := next((name for name in models if all(each.models and name not in each.models for each in options)), None):
            raise UsageError(f"no method is for the model {idle!r}. Name it in the models= of one, or take it out of the study.")
        if not isinstance(method, Choice) or not isinstance(model, Choice):
            return ()
        return tuple((("model", name), each.name) for each in options if each.models for name in models if name not in each.models)

    @property
    def name(self) -> str:
        """Name in the stores: the file's stem and a digest of objectives and space, so that an edited space is a new study."""
        digest = _hash({"recipe": self.recipe.to_json(), "maximize": self.maximize, "minimize": self.costs})
        return f"{self.path.stem if self.path else 'study'}-{digest[:8]}"

    def resolve(self, settings: Mapping[str, Value]) -> Recipe:
        """The recipe with its holes filled. `epochs` may be less than its hole allows: a checkpoint of a longer run.

        Raises:
            UsageError: The settings do not fit the holes.
        """
        method = self.recipe.method
        if isinstance(method, Choice) and method.contains(settings.get("method")):
            chosen = method.pick(settings["method"])
            if not chosen.trains:  # then what only training reads has no holes
                others = {name: value for name, value in settings.items() if name != "method"}
                return resolve(dataclasses.replace(self.recipe, method=chosen), others)
        epochs, hole = settings.get("epochs"), self.dimensions.get("epochs")
        if hole is None or not is_number(epochs) or hole.space.contains(epochs):
            return resolve(self.recipe, settings)
        longest = resolve(self.recipe, {**settings, "epochs": max(hole.space.ends)})
        if not 0 < float(epochs) < longest.epochs:  # type: ignore[arg-type]
            return resolve(self.recipe, settings)  # says what is wrong
        return longest.with_epochs(float(epochs))  # type: ignore[arg-type]


def load(path: str | Path) -> Study:
    """Run a study file and return the one `Study` in it.

    Raises:
        StudyError: There is no such file, it cannot be run, or it does not hold just one Study.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"there is no study file {path}.{_near(path)}")
    from workbench.data import fingerprints

    fingerprints.look_again()  # a study that is loaded is one of the files as they are now
    module = _run(path)
    studies = {name: value for name, value in vars(module).items() if isinstance(value, Study)}
    if len({id(study) for study in studies.values()}) != 1:
        held = f"{len(studies)} Study objects ({', '.join(studies)})" if studies else "no Study object"
        raise StudyError(f"{path} holds {held}; it must hold exactly one: study = Study(Recipe(…), maximize=…).")
    study = next(iter(studies.values()))
    question = study.question or " ".join((module.__doc__ or "").split())
    loaded = dataclasses.replace(study, path=path.resolve(), question=question)
    object.__setattr__(loaded, "stated", study.stated)  # replace() gives every field
    return loaded


def _near(path: Path) -> str:
    """A hint at the study file that was meant: one beside it, or, of a bare name, one of that name a folder below."""
    below = sorted(path.parent.glob("*/*.py")) if path.parent == Path() else []
    if meant := next((p for p in below if path.name in (p.name, p.stem)), None):
        return f" Did you mean {meant.as_posix()!r}?"
    near = {p.stem: p.as_posix() for p in sorted(path.parent.glob("*.py"))} if path.parent.is_dir() else {}
    if nearest := difflib.get_close_matches(path.stem, near, 1):  # names alone: paths in one folder are all alike
        return f" Did you mean {near[nearest[0]]!r}?"
    studies = [name for name in near.values() if "Study(" in Path(name).read_text(encoding="utf-8", errors="ignore")]
    there = f" Those there: {', '.join(studies)}." if studies else ""
    return f" Give the path of a Python file that holds a Study.{there}"


def _run(path: Path) -> ModuleType:
    """Run a study file as a module of its own, which may import its neighbours."""
    name = f"_study_{path.stem}"  # a name that hides no package; known to Python, or a dataclass in the file would not work
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        raise StudyError(f"{error.filename or path}, line {error.lineno or '?'}: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        line = line_in(str(path), error)
        if line is None and isinstance(error, OSError):
            raise StudyError(f"{path} cannot be read: {error}.") from error
        what = str(error) if isinstance(error, WorkbenchError) else f"{said(error)}{_hint(error, module)}"
        raise StudyError(f"{path}, line {line or '?'}: {what}") from error
    finally:
        sys.path.remove(folder)
    return module


def _hint(error: BaseException, module: ModuleType) -> str:
    """Python names an argument that a function does not know; say which was meant."""
    found = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'(?!.*Did you mean)", said(error))
    owner = vars(module).get(found[1]) if found else None
    if found is None or not callable(owner):
        return ""
    return "." + did_you_mean(found[2], (name for name in inspect.signature(owner).parameters if name != "self"))


WEIGHTS = ("float32", "bfloat16", "nf4")
"""What can hold a model's own weights."""

_UNREAD: dict[str, Any] = {
    "epochs": 0, "batch_size": 1, "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "averaging": None, "seed": 0
}  # fmt: skip
"""What a recipe says of training where nothing is trained."""


def _each(value: Any) -> tuple[Any, ...]:
    """A value, or all that its hole may be filled with at its ends."""
    return ends(value)


def _labels(task: Any) -> int | None:
    """The fewest labelled examples that a task may train on; None where that is no setting."""
    train = getattr(task, "train", None)
    found = min(train.ends) if isinstance(train, Space) else train
    return found if is_whole(found) else None


def _refuse_few(task: Any, method: Method) -> None:
    """Raise UsageError where a task may have fewer labelled examples than a method puts before a question."""
    fewest = min((count for each in _each(task) if (count := _labels(each)) is not None), default=method.shots)
    if fewest < method.shots:
        raise UsageError(f"{method.name!r} chooses {method.shots} examples of train={fewest}. Buy more labels, or ask with fewer.")


def _with_labels(task: Any, count: int) -> Any:
    """The task, or each of a choice of tasks, with so many labelled examples, where that is a setting."""
    if isinstance(task, Choice):
        return Choice(tuple(_with_labels(option, count) for option in task.options))
    return dataclasses.replace(task, train=count) if hasattr(task, "train") else task


def _metrics(task: Any, which: str = "metrics") -> list[str]:
    """Scores that the task has; of a choice of tasks, those that all have."""
    first, *others = _each(task)
    return [name for name in getattr(first, which) if all(name in getattr(other, which) for other in others)]


def _plain(value: Any) -> Any:
    """Plain data of which equal values give equal text. Of a choice the options are told in full."""
    if isinstance(value, Choice):
        return {"choice": [_plain(option) for option in value.options]}
    if isinstance(value, Space):
        return describe(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {
            f.name: _plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            # Fields that came later leave the records of what does not use them as they were.
            if not f.metadata.get("later") or getattr(value, f.name) != f.default
        }
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v) for v in value), key=repr)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Value):
        return value
    if " at 0x" in (text := repr(value)):  # an address: another one in every process
        raise UsageError(f"{text} cannot stand in a recipe: it has no record. Use numbers, strings, lists, dicts or dataclasses.")
    return text


def _hash(record: Mapping[str, Any], data: str | int = "", **more: str | int) -> str:
    # Without more than data the text is what it was before there was more: ids in ledgers stay what they are.
    text = json.dumps([record, data, *([more] if more else [])], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
