"""A study is a recipe with holes and a question about them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from workbench import prices
from workbench.errors import UsageError, did_you_mean
from workbench.result import MINIMIZABLE
from workbench.settings import AUTO, OF_STUDIES
from workbench.space import Choice, Dimension, Space, Value, check, dimensions, ends, is_number, is_whole, label, resolve
from workbench.study.also import scores_of
from workbench.study.recipe import Recipe
from workbench.study.record import digest
from workbench.tasks.base import GAP, WORST_GROUP

T = TypeVar("T")


class Unset:
    """The default of a field that need not be stated: it tells a value that was left out from one that was given."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


def unless_stated(value: T) -> T:
    """A dataclass field, typed as its value: `value` where it is not stated, and known then as not stated."""
    declared: Any = field(default=UNSET, metadata={"default": value})
    return declared  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Study:
    """A recipe with holes, what to maximise and minimise, and prices.

    Attributes:
        recipe: The recipe with its holes: the space.
        maximize: A score of the task, or `worst_group_` and its name where the data have groups; or one of a task in the recipe's
            `also`, behind that task's name.
        minimize: A cost out of `workbench.result.MINIMIZABLE`, or several. `usd` is compute plus labels.
        label_usd: Price of one labelled example in US$.
        platform: Name of the offer that prices compute (`workbench.prices.find`).
        trials: How many runs a sweep makes unless told otherwise, all its starts together; None for no bound.
        max_usd: What a sweep may spend unless told otherwise, in US$, all its starts together; None for no bound.
        devices: How many GPUs hold the model of each run together, each a part of it, for one larger than a GPU; `"auto"`: as many
            as the forecast of memory says, at least 1. Without GPUs it is so many processes.
        require: Bounds that a point must keep to be a member of the front, by score: at least so much, or at most where lower is
            better (`gap_…`). With groups in the data `{"worst_group_accuracy": 70}` leaves off what fails a group.
        question: What the study asks; the file's docstring unless given.
        path: The file it was loaded from; set by `load`.
        stated: Names of the fields that were given, `require`, `question` and `path` apart. The others have their defaults, and
            there a settings file comes first.
    """

    recipe: Recipe
    maximize: str
    minimize: str | tuple[str, ...] = unless_stated("usd")
    label_usd: float = unless_stated(OF_STUDIES["label_usd"])
    platform: str = unless_stated(prices.DEFAULT)
    trials: int | None = unless_stated(OF_STUDIES["trials"])
    max_usd: float | None = unless_stated(OF_STUDIES["max_usd"])
    devices: int | str = unless_stated(OF_STUDIES["devices"])
    require: Mapping[str, float] = field(default_factory=dict, hash=False)
    question: str = ""
    path: Path | None = field(default=None, compare=False)
    stated: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not UNSET}
        object.__setattr__(self, "stated", frozenset(given.keys() - {"question", "path", "require"}))
        for name, value in {**_DEFAULTS, **given}.items():
            object.__setattr__(self, name, value)
            if isinstance(value, Space):
                raise UsageError(f"{name} is not part of the recipe: it cannot be searched. Give it one value.")
        check(self, "recipe", lambda v: isinstance(v, Recipe), "a Recipe(…)")
        check(self, "label_usd", lambda v: is_number(v) and v >= 0, "a price in US$, at least 0")
        check(self, "trials", lambda v: v is None or (is_whole(v) and v >= 1), "a whole number of runs, at least 1, or None")
        check(self, "max_usd", lambda v: v is None or (is_number(v) and v > 0), "US$ above 0, or None")
        devices = "a whole number of GPUs, at least 1, or 'auto'"
        check(self, "devices", lambda v: v == AUTO or (is_whole(v) and v >= 1), devices)
        metrics, lower = _metrics(self.recipe), _metrics(self.recipe, "lower_is_better")
        if self.maximize in lower or str(self.maximize).startswith(GAP):
            raise UsageError(f"maximize={self.maximize!r}: lower is better. It is recorded; maximize {' or '.join(metrics)}.")
        if str(self.maximize).removeprefix(WORST_GROUP) not in metrics:
            raise UsageError(f"maximize={self.maximize!r} is not a score of the task.{did_you_mean(str(self.maximize), metrics)}")
        if not isinstance(self.minimize, (str, tuple, list)):  # a set has no first cost
            raise UsageError(f"minimize must be the name of a cost, or a tuple of names, got {self.minimize!r}.")
        if not self.costs:
            raise UsageError("minimize is empty: name at least one cost.")
        for cost in self.costs:
            if cost not in MINIMIZABLE:
                raise UsageError(f"minimize={cost!r} is not a cost.{did_you_mean(str(cost), MINIMIZABLE)}")
        if len(set(self.costs)) < len(self.costs):
            raise UsageError(f"minimize={self.minimize!r} names a cost twice. Name each once.")
        self.bounds  # noqa: B018  and what is wrong with those here
        prices.find(self.platform)
        self.dimensions  # noqa: B018  two holes of one name are found here,
        self.name  # noqa: B018  and here values of which no record can be made

    @property
    def costs(self) -> tuple[str, ...]:
        """What is minimised, always as a tuple."""
        return (self.minimize,) if isinstance(self.minimize, str) else tuple(self.minimize)

    @property
    def bounds(self) -> dict[str, dict[str, float]]:
        """The bounds of `require` by score, each `{"at_least": …}` or `{"at_most": …}`.

        Raises:
            UsageError: A bound is of no score of the task, or no number.
        """
        if not isinstance(self.require, Mapping):
            raise UsageError(f'require={self.require!r}: give a bound by score: require={{"worst_group_accuracy": 70}}.')
        higher, lower = _metrics(self.recipe), _metrics(self.recipe, "lower_is_better")
        found = {}
        for name, bound in self.require.items():
            plain = str(name).removeprefix(WORST_GROUP).removeprefix(GAP)
            if plain not in higher and name not in lower:
                raise UsageError(f"require={{{name!r}: …}} is no score of the task.{did_you_mean(plain, (*higher, *lower))}")
            if not is_number(bound):
                raise UsageError(f"require={{{name!r}: {bound!r}}}: a bound is a number, such as 70.")
            found[str(name)] = {"at_most" if name in lower or str(name).startswith(GAP) else "at_least": float(bound)}
        return found

    @functools.cached_property  # a decision asks for them with every recipe it looks at
    def dimensions(self) -> dict[str, Dimension]:
        """The holes of the recipe by name, outermost first; what only training reads comes after the method, and not with all."""
        holes, method = dimensions(self.recipe), self.recipe.method
        unread: dict[str, list[tuple[str, Value]]] = {}
        for option in method.options if isinstance(method, Choice) else ():
            if not option.trains:
                kept = dimensions(dataclasses.replace(self.recipe, method=option))
                for name, dimension in holes.items():
                    if name not in kept and name != "method" and not dimension.when:
                        unread.setdefault(name, []).append(("method", option.name))
        if barred := self._barred():
            holes["method"] = dataclasses.replace(holes["method"], barred=barred)
        always = {name: dimension for name, dimension in holes.items() if name not in unread}
        return always | {name: dataclasses.replace(holes[name], unless=tuple(of)) for name, of in unread.items()}

    def _barred(self) -> tuple[tuple[tuple[str, Value], Value], ...]:
        """Methods that are not for a model, of those that the study chooses from."""
        model, method = self.recipe.model, self.recipe.method
        options = method.options if isinstance(method, Choice) else (method,)
        models: list[str] = [str(label(each)) for each in (model.options if isinstance(model, Choice) else (model,))]
        for option in options:
            if unknown := next((name for name in option.models if name not in models), None):
                hint = did_you_mean(unknown, models)
                raise UsageError(f"{option.name!r} is for the model {unknown!r}, which the study does not have.{hint}")
        if idle := next((name for name in models if all(o.models and name not in o.models for o in options)), None):
            raise UsageError(f"no method is for the model {idle!r}. Name it in the models= of one, or take it out of the study.")
        if not isinstance(method, Choice) or not isinstance(model, Choice):
            return ()
        return tuple(
            (("model", name), option.name) for option in options for name in models if option.models and name not in option.models
        )

    @property
    def name(self) -> str:
        """Name in the stores: the file's stem and a digest of objectives and space, so that an edited space is a new study."""
        record = {"recipe": self.recipe.to_json(), "maximize": self.maximize, "minimize": self.costs}
        # Studies from before there were bounds keep their names.
        record |= {"require": self.bounds} if self.bounds else {}
        return f"{self.path.stem if self.path else 'study'}-{digest(record)[:8]}"

    def restated(self, **fields: Any) -> Study:
        """The study with other values for some fields. Unlike in `dataclasses.replace`, what was not stated stays so."""
        unstated = _DEFAULTS.keys() - self.stated
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init and f.name not in unstated}
        return type(self)(**given | fields)

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
        longest = resolve(self.recipe, self.longest(settings))
        if not 0 < float(epochs) < longest.epochs:  # type: ignore[arg-type]
            return resolve(self.recipe, settings)  # says what is wrong
        return longest.with_epochs(float(epochs))  # type: ignore[arg-type]

    def longest(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """The settings of the longest form of a run: with the most epochs that the study allows, where it searches them."""
        hole = self.dimensions.get("epochs")
        if hole is None or not hole.exists(settings):
            return dict(settings)
        return {**settings, "epochs": max(e for e in hole.space.ends if is_number(e))}


_DEFAULTS: Mapping[str, Any] = {
    each.name: each.metadata["default"] for each in dataclasses.fields(Study) if "default" in each.metadata
}
"""What a study's fields are where neither the study nor a settings file states them."""


def _metrics(recipe: Recipe, which: str = "metrics") -> list[str]:
    """Scores that the recipe's task has, and those of other tasks that grade it; of a choice of tasks, those that all have."""
    first, *others = ((each.all_metrics() if which == "metrics" else getattr(each, which)) for each in ends(recipe.task))
    return [*(name for name in first if all(name in other for other in others)), *scores_of(recipe.also, which)]
