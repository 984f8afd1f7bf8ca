"""How Results and studies are written as Optuna's trials: states, values, distributions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.errors import UsageError
from workbench.prices import Offer
from workbench.result import COSTS, Result, cost
from workbench.space import Choice, Dimension, Integers, Space, Uniform, Value
from workbench.study import Study

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import TrialState

FEASIBLE, INFEASIBLE = [-1.0], [1.0]
"""Optuna's constraints: above 0 is violated."""


def distribution(dimension: Dimension, *, checkpoints: bool = True) -> BaseDistribution:
    """The Optuna distribution of a dimension; that of epochs has room for `checkpoints`, which lie between and below its ends."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = dimension.space
    if dimension.name == "epochs" and checkpoints:
        low, high = _ends(space)
        return FloatDistribution(low / 1024, high, log=True)
    if isinstance(space, Choice):
        return CategoricalDistribution(space.names)
    assert isinstance(space, (Uniform, Integers))
    if isinstance(space, Integers):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def parameters(study: Study, settings: Mapping[str, Value]) -> dict[str, Any]:
    """The parameters of a trial with these settings: arguments of Optuna's `create_trial`."""
    dimensions = study.dimensions
    params = {name: value for name, value in settings.items() if name in dimensions}
    return {"params": params, "distributions": {name: distribution(dimensions[name]) for name in params}}


@dataclass(frozen=True)
class Objectives:
    """What is maximised and minimised where no study says so."""

    maximize: str
    costs: tuple[str, ...]


def outcome(result: Result, study: Study | Objectives, offer: Offer) -> tuple[TrialState, list[float] | None]:
    """State and values of a finished Result's trial."""
    from optuna.trial import TrialState

    if result.status == "interrupted":
        return TrialState.FAIL, None
    costs = [cost(result, name, offer, result.label_usd) for name in study.costs] if result.status == "complete" else [None]
    if result.status == "complete" and study.maximize not in result.scores:  # grades on the test split alone: no sampler's affair
        return TrialState.PRUNED, None
    if any(c is None for c in costs):  # Optuna has no value for an unknown cost: such a Result is kept, and not told to samplers
        return TrialState.PRUNED, None
    return TrialState.COMPLETE, [float(result.scores[study.maximize]), *(c for c in costs if c is not None)]


def is_result(record: object) -> bool:
    """Whether a record is that of a Result, and not something that another program has put in its place."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in ("recipe_id", "run_id", "status"))
        and all(isinstance(record.get(name), dict) for name in ("recipe", "settings"))
    )


def settings_in(study: Study, result: Result) -> dict[str, Value] | None:
    """The settings that make a Result of another study's in this one, or None where it lies outside the space.

    Its recipe is recognised by resolving settings here: the record alone never makes a recipe. A setting that was fixed
    when the Result was made, and is searched now, is looked up in the record.
    """
    settings: dict[str, Value] = {}
    for name, dimension in study.dimensions.items():
        if not dimension.exists(settings):
            continue
        try:
            settings[name] = result.settings[name] if name in result.settings else _recorded(result.recipe, name)
        except LookupError:
            return None
    try:
        recipe = study.resolve(study.longest(settings))
    except UsageError:
        return None
    # A checkpoint need not be an option of epochs: it is in the space when a longer run of it is.
    return settings if recipe.run_id == result.run_id and result.epochs <= recipe.epochs else None


def describe(study: Study) -> dict[str, Any]:
    """What is noted of a study when its ledger is made: question, objectives, reference point."""
    labels = study.dimensions.get("task.train")
    train = _ends(labels.space)[1] if labels else getattr(study.recipe.task, "train", 1)
    offer = prices.find(study.platform)
    known = {name: COSTS[name].reference for name in study.costs}
    reference = {name: of(offer, train, study.label_usd) for name, of in known.items() if of}
    return {
        "question": study.question,
        "path": str(study.path) if study.path else None,
        "maximize": study.maximize,
        "minimize": list(study.costs),
        "label_usd": study.label_usd,
        "platform": study.platform,
        "require": study.bounds,
        "stated": sorted(study.stated & {"label_usd", "platform"}),
        "reference": {study.maximize: 0.0} | reference,
        "created": time.time(),
        "schema": 1,
    }


def _ends(space: Space) -> tuple[float, float]:
    """The least and the greatest of a space of numbers."""
    numbers = [x for x in space.ends if isinstance(x, (int, float))]
    return min(numbers, default=1), max(numbers, default=1)


def _recorded(record: Mapping[str, Any], path: str) -> Value:
    """What a recipe's record holds at the path of a hole; see `workbench.space` for paths. Raises LookupError."""
    place: Any = record
    for name in path.split("."):
        inner = [place, *(child for child in place.values() if isinstance(child, Mapping))] if isinstance(place, Mapping) else []
        places = [m[name] for m in inner if name in m] or [m for m in inner if m.get("name") == name]
        if not places:
            raise LookupError(path)
        place = places[0]
    value: Value = place["name"] if isinstance(place, Mapping) else place
    return value
