"""Settings as numbers: each dimension a column, scaled to its range, absent where the run does not have it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.space import Choice, Dimension, Integers, Uniform, Value

Floats = NDArray[np.float64]


class Features:
    """Turns settings into rows: numbers in [0, 1] (logarithmic where the dimension is), options as their index.

    A choice between numbers counts as a number by its rank: 256 and 1,024 are nearer than 256 and 4,096. What is absent is nan.

    Args:
        dimensions: The space. Columns follow its order.
    """

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        self.columns = [d for d in dimensions.values() if _varies(d)]
        self.categorical = np.array([isinstance(d.space, Choice) and not ordered(d.space) for d in self.columns], bool)

    def rows(self, settings: Sequence[Mapping[str, Value]]) -> Floats:
        """The settings of runs as numbers, a column for each dimension, shape (runs, columns)."""
        # Absent is nan and not a number: a method that lacks a rate is not one with a rate of 0.
        table = np.full((len(settings), len(self.columns)), np.nan)
        for j, dimension in enumerate(self.columns):
            name = dimension.name
            for i, settings_of in enumerate(settings):
                if name in settings_of:
                    table[i, j] = _place(dimension, settings_of[name])
        return table


def _varies(dimension: Dimension) -> bool:
    space = dimension.space
    return len(space.options) > 1 if isinstance(space, Choice) else space.ends[0] < space.ends[1]


def ordered(space: Choice) -> bool:
    """Whether the options are numbers."""
    return all(isinstance(option, (int, float)) and not isinstance(option, bool) for option in space.options)


def _place(dimension: Dimension, value: Value) -> float:
    space = dimension.space
    if isinstance(space, Choice):
        ranks = sorted(space.names) if ordered(space) else space.names  # type: ignore[type-var]
        rank = next((i for i, option in enumerate(ranks) if option == value), math.nan)
        # By rank and not by value: 256, 1,024 and 4,096 labels are one step apart each.
        return rank / (len(ranks) - 1) if ordered(space) else rank
    assert isinstance(space, (Uniform, Integers))
    scale = math.log if space.log else float
    assert isinstance(value, (int, float))
    low, high = scale(space.low), scale(space.high)
    return (scale(value) - low) / (high - low)
