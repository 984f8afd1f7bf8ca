"""Holes in recipes: where a study puts a distribution instead of a value.

`choice(1, 2)` returns a `Space` but is typed as the value it will hold, as `dataclasses.field` is, so that a
study file passes a strict type checker. A hole is known by its path: the fields that lead to it, joined with dots.
A value that carries a `name` (a tuning method) stands in a path by that name: `lora.r`, not `method.r`.
"""

from __future__ import annotations

import dataclasses
import math
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from workbench.errors import UsageError, did_you_mean

T = TypeVar("T")
Value = bool | int | float | str | None
"""What a setting can be: what JSON and Optuna's categorical distributions hold."""


class Space(ABC):
    """A hole in a recipe. `contains` tells whether a setting fits, `sample` draws one."""

    @property
    @abstractmethod
    def ends(self) -> tuple[Any, ...]:
        """The options of a choice, the two ends of a range: a bound that holds there holds for all it may be filled with."""

    @abstractmethod
    def contains(self, setting: Value) -> bool: ...

    @abstractmethod
    def sample(self, rng: random.Random) -> Value: ...


@dataclass(frozen=True)
class Choice(Space):
    """One of a few options: numbers, strings, or objects with a `name` that may hold further holes."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise UsageError("choice() is empty: give it at least one option.")
        for i, name in enumerate(self.names):
            if name in self.names[:i]:  # 1, 1.0 and True are one option: a store does not tell them apart
                raise UsageError(f"choice() has the option {name!r} twice. Remove one, or give a method another name (name=…).")

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.options

    @property
    def names(self) -> tuple[Value, ...]:
        """What each option is called in settings and stores."""
        return tuple(label(option) for option in self.options)

    def contains(self, setting: Value) -> bool:
        return any(_same(setting, name) for name in self.names)

    def pick(self, setting: Value) -> Any:
        """The option known by `setting`."""
        return next(option for option in self.options if _same(setting, label(option)))

    def sample(self, rng: random.Random) -> Value:
        return rng.choice(self.names)


@dataclass(frozen=True)
class Uniform(Space):
    """A real number from `low` to `high`, evenly, or evenly in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range("loguniform" if self.log else "uniform", self.low, self.high, self.log)

    @property
    def ends(self) -> tuple[Any, ...]:
        return float(self.low), float(self.high)

    def contains(self, setting: Value) -> bool:
        return is_number(setting) and self.low <= cast(float, setting) <= self.high

    def sample(self, rng: random.Random) -> float:
        if not self.log:
            return min(self.high, rng.uniform(self.low, self.high))  # its rounding may pass the end
        return min(self.high, max(self.low, math.exp(rng.uniform(math.log(self.low), math.log(self.high)))))


@dataclass(frozen=True)
class Integers(Space):
    """A whole number from `low` to `high`, both included, evenly or evenly in its logarithm."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not (is_whole(self.low) and is_whole(self.high)):
            raise UsageError(f"integers({self.low!r}, {self.high!r}): both ends must be whole numbers.")
        _check_range("integers", self.low, self.high, self.log)

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def contains(self, setting: Value) -> bool:
        # 2.0 is 2: numbers come back from a store as either
        return is_number(setting) and float(cast(float, setting)).is_integer() and self.low <= cast(float, setting) <= self.high

    def sample(self, rng: random.Random) -> int:
        if not self.log:
            return rng.randint(self.low, self.high)
        # Half a unit wider at both ends, which rounding would draw too seldom otherwise.
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(self.high, max(self.low, round(drawn)))


def choice(*options: T) -> T:
    """One of `options`; typed as the option it will hold. Raises UsageError when empty or ambiguous."""
    return cast(T, Choice(options))


def uniform(low: float, high: float) -> float:
    """A real number in [low, high], evenly. Raises UsageError when the range is empty."""
    return cast(float, Uniform(low, high))


def loguniform(low: float, high: float) -> float:
    """A real number in [low, high], evenly in its logarithm; 0 < low. Raises UsageError when the range is empty."""
    return cast(float, Uniform(low, high, log=True))


def integers(low: int, high: int, *, log: bool = False) -> int:
    """A whole number in [low, high], both included. Raises UsageError when the range is empty."""
    return cast(int, Integers(low, high, log))


@dataclass(frozen=True)
class Dimension:
    """A hole by name. It exists only where every `(name, label)` in `when` was chosen, and none of those in `unless`.

    `barred` holds pairs of a `(name, label)` and an option of this hole, a choice, that cannot stand beside it.
    """

    name: str
    space: Space
    when: tuple[tuple[str, Value], ...] = ()
    unless: tuple[tuple[str, Value], ...] = ()
    barred: tuple[tuple[tuple[str, Value], Value], ...] = ()

    def exists(self, settings: Mapping[str, Value]) -> bool:
        return all(_has(settings, *each) for each in self.when) and not any(_has(settings, *each) for each in self.unless)

    def given(self, settings: Mapping[str, Value]) -> Space:
        """The space, without the options that cannot stand beside these settings."""
        out = [option for other, option in self.barred if _has(settings, *other)]
        if not out or not isinstance(self.space, Choice):
            return self.space
        return Choice(tuple(option for option in self.space.options if label(option) not in out))


def allowed(found: Mapping[str, Dimension], settings: Mapping[str, Value]) -> bool:
    """Whether these settings can stand beside each other, by the `barred` of their dimensions."""
    return all(found[name].given(settings).contains(value) for name, value in settings.items() if found[name].barred)


def label(option: Any) -> Value:
    """The setting by which an option is known: itself, or its `name`."""
    # nan is unequal to itself, so no stored setting would find it again; JSON has neither it nor
    # inf.
    if isinstance(option, float) and not math.isfinite(option):
        raise UsageError(f"choice() got {option!r}: an option must be finite.")
    if isinstance(option, Value):
        return option
    name = getattr(option, "name", None)
    if isinstance(name, str):
        return name
    raise UsageError(f"choice() got {option!r}: an option must be a number, a string, None, or have a name.")


def dimensions(value: Any) -> dict[str, Dimension]:
    """Return all holes in `value` by name, outermost first.

    Raises:
        UsageError: Two holes share a name.
    """
    found: dict[str, Dimension] = {}
    for dimension in _holes(value, "", ()):
        other = found.setdefault(dimension.name, dimension)
        if other is not dimension:
            raise UsageError(f"two settings are called {dimension.name!r}. Give what holds one of them another name (name=…).")
    return found


def resolve(value: T, settings: Mapping[str, Value]) -> T:
    """Return `value` with every hole filled from `settings`.

    Raises:
        UsageError: A setting is missing, does not fit its hole, or belongs to no hole that exists.
    """
    used: set[str] = set()

    def fill(name: str, hole: Space) -> Any:
        if name not in settings:
            raise UsageError(f"the setting {name!r} is missing.")
        setting = settings[name]
        if not hole.contains(setting):
            raise UsageError(f"the setting {name} = {setting!r} is not in {describe(hole)}.")
        used.add(name)
        if isinstance(hole, Choice):
            return hole.pick(setting)
        return int(cast(int, setting)) if isinstance(hole, Integers) else setting

    filled = cast(T, _map(value, "", fill))
    # A setting without a hole is of another form of the study: it must not be passed over in
    # silence.
    for name in settings:
        if name not in used:
            known = dimensions(value)
            if name not in known:
                raise UsageError(f"there is no setting {name!r} here.{did_you_mean(name, known)}")
            where = " and ".join(f"{other} = {chosen!r}" for other, chosen in known[name].when)
            raise UsageError(f"the setting {name!r} is there only where {where}.")
    return filled


def settings_of(value: Any, filled: Any) -> dict[str, Value] | None:
    """Invert `resolve`: return the settings that turn `value` into `filled`; None if none do."""
    found: dict[str, Value] = {}
    return found if _match(value, filled, "", found) else None


def sample(value: Any, rng: random.Random) -> dict[str, Value]:
    """Draw settings for the holes of `value` that exist together, each by its distribution."""
    return draw(dimensions(value), rng)


def draw(found: Mapping[str, Dimension], rng: random.Random) -> dict[str, Value]:
    """Do as `sample` does, from the holes that `dimensions` returned: for many draws."""
    drawn: dict[str, Value] = {}
    for name, dimension in found.items():
        if dimension.exists(drawn):
            drawn[name] = dimension.given(drawn).sample(rng)
    return drawn


def describe(hole: Space) -> str:
    """The hole as it is written in a study: `choice(4, 16)`, `loguniform(3e-05, 0.0003)`."""
    if isinstance(hole, Choice):
        return f"choice({', '.join(map(repr, hole.names))})"
    low, high = (repr(end).removesuffix(".0") for end in hole.ends)
    if isinstance(hole, Integers):
        return f"integers({low}, {high}{', log=True' if hole.log else ''})"
    return f"{'loguniform' if getattr(hole, 'log', False) else 'uniform'}({low}, {high})"


def check(owner: Any, field: str, ok: Callable[[Any], bool], wanted: str) -> None:
    """Check a field of `owner`; a hole is checked by its ends, which speak for all its values.

    Args:
        owner: The object that has the field.
        field: The field's name.
        ok: Whether a value will do.
        wanted: In words, which values will do; it stands in the message.

    Raises:
        UsageError: A value will not do.
    """
    for each in ends(getattr(owner, field)):
        if not ok(each):
            raise UsageError(f"{field} must be {wanted}; got {each!r}.")


def ends(value: Any) -> tuple[Any, ...]:
    """The value itself; of a hole its ends, which speak for all that it may be filled with."""
    return tuple(value.ends) if isinstance(value, Space) else (value,)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold. True and False are none here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_whole(value: Any) -> bool:
    """Whether a value is an int. True and False are none here."""
    return isinstance(value, int) and not isinstance(value, bool)


def _has(settings: Mapping[str, Value], name: str, value: Value) -> bool:
    return name in settings and _same(settings[name], value)


def _same(setting: Value, name: Value) -> bool:
    """Equal, and True is not 1."""
    # To Python True == 1, yet a flag is no number.
    return setting == name and isinstance(setting, bool) == isinstance(name, bool)


# A value is walked by one rule in all functions above: fields of dataclasses, items of mappings and of lists are its children.


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from ((str(i), child) for i, child in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        if any(isinstance(child, Space) for child in value):
            raise UsageError("a set cannot hold a choice or a range: its items have no place. Use a list.")
    elif dataclasses.is_dataclass(value) and not isinstance(value, (type, Space)):
        for each in dataclasses.fields(value):
            # `dataclasses.replace` refuses fields that the constructor does not take.
            if each.init:
                yield each.name, getattr(value, each.name)


def _path(prefix: str, owner: Any, name: str, child: Any) -> str:
    """A named value starts a path of its own; a field that is a mapping (a method's settings) adds no step."""
    if isinstance(getattr(child, "name", None), str):
        return str(child.name)
    if isinstance(child, Mapping) and dataclasses.is_dataclass(owner):
        return prefix
    return f"{prefix}.{name}" if prefix else name


def _holes(value: Any, prefix: str, when: tuple[tuple[str, Value], ...]) -> Iterator[Dimension]:
    if isinstance(value, Space):
        yield Dimension(prefix, value, when)
        if isinstance(value, Choice):
            for option in value.options:
                if not isinstance(option, Value):
                    yield from _holes(option, str(label(option)), (*when, (prefix, label(option))))
        return
    for name, child in _children(value):
        yield from _holes(child, _path(prefix, value, name, child), when)


def _map(value: Any, prefix: str, fill: Callable[[str, Space], Any]) -> Any:
    if isinstance(value, Space):
        chosen = fill(prefix, value)
        return chosen if isinstance(chosen, Value) else _map(chosen, str(label(chosen)), fill)
    changes = {name: _map(child, _path(prefix, value, name, child), fill) for name, child in _children(value)}
    # What has no hole is handed back as it is, not made anew: `replace` would check it once more.
    if all(changes[name] is child for name, child in _children(value)):
        return value
    if isinstance(value, (list, tuple)):
        return list(changes.values()) if isinstance(value, list) else tuple(changes.values())
    return changes if isinstance(value, Mapping) else dataclasses.replace(value, **changes)


def _match(value: Any, filled: Any, prefix: str, found: dict[str, Value]) -> bool:
    if isinstance(value, Choice):
        for option in value.options:
            inner: dict[str, Value] = {}
            if isinstance(option, Value):
                # Through `contains`, which does not take True for 1.
                if isinstance(filled, Value) and Choice((option,)).contains(filled):
                    found[prefix] = option
                    return True
            elif _match(option, filled, str(label(option)), inner):
                found[prefix] = label(option)
                found.update(inner)
                return True
        return False
    if isinstance(value, Space):
        if not isinstance(filled, Value) or not value.contains(filled):
            return False
        found[prefix] = filled
        return True
    children = dict(_children(value))
    if not children:
        return bool(value == filled)
    others = dict(_children(filled))
    return (
        type(value) is type(filled)
        and children.keys() == others.keys()
        and all(_match(child, others[name], _path(prefix, value, name, child), found) for name, child in children.items())
    )


def _check_range(word: str, low: float, high: float, log: bool) -> None:
    if not (is_number(low) and is_number(high)):
        raise UsageError(f"{word}({low!r}, {high!r}): both ends must be finite numbers.")
    if not low < high:
        raise UsageError(f"{word}({low!r}, {high!r}) is empty: the first end must be below the second.")
    if log and low <= 0:
        raise UsageError(f"{word}({low!r}, {high!r}): a logarithmic range must start above 0.")
