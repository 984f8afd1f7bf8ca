"""Products of parameters, of which a few members say most: every value once, beside another one each time."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest


def once_each(names: str, *axes: Sequence[Any], label: Callable[[Any], str] = str, share: int = 1) -> pytest.MarkDecorator:
    """`parametrize` over a product whose fast part has every value of each axis at least once; the rest is slow.

    Args:
        names: Of the parameters, as `parametrize` takes them.
        axes: Their values.
        label: What a value is called in a test's name.
        share: Only one in so many values of the longest axis is in the fast part.
    """
    fast = [tuple(axis[i % len(axis)] for axis in axes) for i in range(0, max(map(len, axes)), share)]
    slow = [member for member in itertools.product(*axes) if member not in fast]
    params = [pytest.param(*member, id="-".join(map(label, member))) for member in fast]
    params += [pytest.param(*member, id="-".join(map(label, member)), marks=pytest.mark.slow) for member in slow]
    return pytest.mark.parametrize(names, params)
