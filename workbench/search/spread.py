"""Settings that are far from all that were run, and what is covered by them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from workbench.space import Choice, Dimension, Integers, Space, Uniform, Value, draw
from workbench.study import Study

_DRAWS = 64
_ASKED = 1024
"""Configurations that are asked about in order, when none that was drawn is admitted."""


def farthest(
    study: Study,
    taken: Sequence[Mapping[str, Value]],
    rng: random.Random,
    admits: Callable[[Mapping[str, Value]], bool] = lambda settings: True,
) -> dict[str, Value] | None:
    """The random settings that lie farthest from all that were run: every method and model comes early. None when none is left.

    Only settings that `admits` are taken.
    """
    dimensions = study.dimensions
    options = [name for name, dimension in dimensions.items() if isinstance(dimension.space, Choice)]

    def score(settings: Mapping[str, Value]) -> float:
        distance = min((_distance(dimensions, settings, other) for other in taken), default=0.0)
        # The nearest run alone leaves many ties between categories: how often an option was used breaks them.
        crowd = sum(name in settings and other.get(name) == settings[name] for other in taken for name in options)
        return distance - crowd / (1 + len(taken))

    # Drawing is enough while the space is large. A small one may have one configuration left that no draw meets: it
    # is looked for in order.
    drawn = [draw(dimensions, rng) for _ in range(_DRAWS)]
    free = [settings for settings in drawn if not covered(settings, taken) and admits(settings)]
    if free:
        return max(free, key=score)
    left = (settings for settings in every(dimensions) if not covered(settings, taken))
    return next((settings for settings in itertools.islice(left, _ASKED) if admits(settings)), None)


def covered(settings: Mapping[str, Value], taken: Sequence[Mapping[str, Value]]) -> bool:
    """Whether a run with the same settings goes at least as far: its checkpoints hold this one."""
    epochs = settings.get("epochs")
    for other in taken:
        if all(name in other and other[name] == value for name, value in settings.items() if name != "epochs"):
            # A longer run passed through this one: its checkpoint holds the answer already.
            far = other.get("epochs")
            if not isinstance(epochs, (int, float)) or not isinstance(far, (int, float)) or far >= epochs:
                return True
    return False


def every(dimensions: Mapping[str, Dimension], most: int | None = None) -> Iterator[dict[str, Value]]:
    """All settings of a space, or the first so many; of a range of real numbers only the ends."""
    return itertools.islice(_all(list(dimensions.values()), {}), most)


def _all(dimensions: Sequence[Dimension], chosen: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    if not dimensions:
        yield dict(chosen)
        return
    first, *rest = dimensions
    if not first.exists(chosen):
        yield from _all(rest, chosen)
        return
    for value in _values(first.given(chosen)):
        yield from _all(rest, {**chosen, first.name: value})


def _values(space: Space) -> Sequence[Value]:
    if isinstance(space, Choice):
        return space.names
    assert isinstance(space, (Uniform, Integers))
    return range(space.low, space.high + 1) if isinstance(space, Integers) else [space.low, space.high]


def _distance(dimensions: Mapping[str, Dimension], a: Mapping[str, Value], b: Mapping[str, Value]) -> float:
    """Mean over dimensions that both have: 0 or 1 for options, the share of the range for numbers."""
    parts = [_difference(dimensions[name], value, b[name]) for name, value in a.items() if name in b]
    return sum(parts) / len(parts) if parts else 1.0


def _difference(dimension: Dimension, x: Value, y: Value) -> float:
    space = dimension.space
    if isinstance(space, Choice):
        return float(x != y)
    assert isinstance(space, (Uniform, Integers))
    assert isinstance(x, (int, float))
    assert isinstance(y, (int, float))
    scale = math.log if space.log else float
    return min(1.0, abs(scale(x) - scale(y)) / (scale(space.high) - scale(space.low)))
