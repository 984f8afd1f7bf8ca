"""The search space that a table states, as dimensions; and a run's settings as values of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.errors import DataError, UsageError, did_you_mean
from workbench.space import Choice, Dimension, Integers, Space, Uniform, Value, is_number

ROUNDING = 1e-5
"""Relative: a number that passes the end of its range by less was rounded when the table was written."""


def dimensions_of(space: Mapping[str, Any], place: str) -> dict[str, Dimension]:
    """Dimensions by name. Raises DataError when a type or a range cannot be used."""
    if not space:
        raise DataError(f"{place}: the space is empty. Name at least one setting.")
    return {name: Dimension(name, _space(name, described, place)) for name, described in space.items()}


def settings_of(config: Mapping[str, Any], dimensions: Mapping[str, Dimension], place: str) -> dict[str, Value]:
    """A run's settings as the space knows them. Raises DataError when one is not in it."""
    return {name: _setting(name, value, dimensions, place) for name, value in config.items() if value is not None}


def _space(name: str, described: Any, place: str) -> Space:
    if not isinstance(described, Mapping):
        raise DataError(f'{place}: the space of {name!r} must be {{"type": …}}; got {described!r}.')
    kind = described.get("type")
    try:
        if kind == "categorical":
            return Choice(_choices(described.get("choices")))
        if kind not in ("int", "float"):
            raise UsageError(f"the type {kind!r} is unknown.{did_you_mean(str(kind), ('categorical', 'int', 'float'))}")
        low, high, log = described.get("low"), described.get("high"), described.get("log") or False
        if not isinstance(log, bool):
            raise UsageError(f'"log" must be true or false; got {log!r}.')
        if low == high and is_number(low):
            return Choice((low,))  # a range of one value is a choice of one
        if low is None or high is None:
            raise UsageError('"low" or "high" is missing.')
        return Integers(low, high, log) if kind == "int" else Uniform(low, high, log)
    except UsageError as error:
        raise DataError(f"{place}: the space of {name!r} cannot be used: {error}") from error


def _choices(choices: Any) -> tuple[Value, ...]:
    """Options of a choice. Raises UsageError when they are no list of plain values."""
    if not isinstance(choices, list):
        raise UsageError(f'"choices" must be a list; got {choices!r}.')
    for option in choices:
        if not (option is None or isinstance(option, (bool, str)) or is_number(option)):
            raise UsageError(f"an option must be text, a finite number, true or false; got {option!r}.")
    return tuple(choices)


def _setting(name: str, value: Any, dimensions: Mapping[str, Dimension], place: str) -> Value:
    if name not in dimensions:
        raise DataError(f"{place}: the setting {name!r} is not in the space.{did_you_mean(name, dimensions)}")
    space = dimensions[name].space
    if isinstance(space, Choice):
        for label in space.names:
            if (space.contains(value) and label == value) or str(value) == label:  # choices may be written as text
                return label
    elif is_number(value):
        low, high = space.ends
        # Tables are written with few digits: the end of a range may come back a rounding beyond it.
        held = min(max(value, low), high)
        if math.isclose(held, value, rel_tol=ROUNDING) and space.contains(held):
            return int(held) if isinstance(space, Integers) else float(held)
    raise DataError(
        f"{place}: {name} = {value!r} is not in its space, {space!r}. Widen the space in the first line, or mend the run."
    )
