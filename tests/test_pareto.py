"""Dominance, fronts and hypervolume, against their definitions."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.pareto import dominates, front, hypervolume

Points = list[tuple[float, ...]]


def points(least: int = 0, most: int = 10, top: int = 6) -> Any:
    """Points on a small grid, where ties and duplicates are common."""
    coordinates = st.integers(0, top)
    return st.integers(2, 4).flatmap(lambda n: st.lists(st.tuples(*[coordinates] * n), min_size=least, max_size=most))


def cells(found: Sequence[Sequence[float]], reference: Sequence[int]) -> int:
    """Unit cells below the reference that some point dominates: the volume of points on a grid, by counting."""
    grid = itertools.product(*(range(-1, end) for end in reference))
    return sum(any(all(x <= low for x, low in zip(point, cell, strict=True)) for point in found) for cell in grid)


@pytest.mark.parametrize(
    "a, b, expected",
    [((1, 1), (2, 2), True), ((1, 2), (2, 1), False), ((1, 1), (1, 1), False), ((1, 1), (1, 2), True), ((2, 2), (1, 1), False)],
)
def test_dominates(a: Any, b: Any, expected: bool) -> None:
    assert dominates(a, b) is expected


@given(points())
def test_the_front_is_what_no_point_dominates(found: Points) -> None:
    kept = front(found)
    members = {found[i] for i in kept}
    assert members == {p for p in found if not any(dominates(q, p) for q in found)}
    assert sorted(kept) == [i for i, p in enumerate(found) if p in members]  # all that tie exactly
    assert kept == sorted(kept, key=lambda i: (found[i], i))


def test_the_front_of_nothing_is_empty() -> None:
    assert front([]) == []
    assert hypervolume([], (1, 1)) == 0


def test_one_coordinate() -> None:
    assert front([(3.0,), (1.0,), (2.0,), (1.0,)]) == [1, 3]
    assert hypervolume([(3.0,), (1.0,), (9.0,)], (5.0,)) == 4.0


@pytest.mark.parametrize("coordinates", [1, 2, 3])
def test_points_that_tie_exactly_are_all_kept_however_many(coordinates: int) -> None:
    many = [(0.0,) * coordinates] * 20_000  # each compared with each would take minutes
    assert front([(1.0,) * coordinates, *many]) == list(range(1, 20_001))
    assert hypervolume(many, (1.0,) * coordinates) == 1.0


def test_coordinates_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        front([(1, 2, 3), (1, 2)])
    with pytest.raises(ValueError, match="zip"):
        hypervolume([(1, 2)], (3, 3, 3))


@given(points(most=6))
def test_hypervolume_is_the_volume_of_the_cells_below_the_reference(found: Points) -> None:
    reference = (5,) * (len(found[0]) if found else 2)  # some points lie on it, or beyond
    inside = [p for p in found if all(x < 5 for x in p)]
    assert hypervolume(found, reference) == pytest.approx(cells(inside, reference))


@given(points(least=1, most=6), st.randoms(use_true_random=False))
def test_hypervolume_does_not_know_order_duplicates_or_dominated_points(found: Points, rng: Any) -> None:
    reference = (7,) * len(found[0])
    volume = hypervolume(found, reference)
    shuffled = rng.sample(found * 2, 2 * len(found))
    assert hypervolume(shuffled, reference) == pytest.approx(volume)
    assert hypervolume([found[i] for i in front(found)], reference) == pytest.approx(volume)


@given(points(least=1, most=6))
def test_hypervolume_grows_with_a_point_that_is_not_dominated_and_only_then(found: Points) -> None:
    reference = (7,) * len(found[0])
    *rest, new = found
    dominated = any(dominates(p, new) or p == new for p in rest)
    before, after = hypervolume(rest, reference), hypervolume(found, reference)
    assert after == pytest.approx(before) if dominated else after > before


def test_hypervolume_in_fractions() -> None:
    """Inclusion and exclusion of two boxes in three coordinates."""
    a, b, reference = (0.25, 0.5, 0.125), (0.5, 0.25, 0.75), (1.0, 1.0, 2.0)
    box = lambda p: (1 - p[0]) * (1 - p[1]) * (2 - p[2])  # noqa: E731
    both = box(tuple(map(max, a, b)))
    assert hypervolume([a, b], reference) == pytest.approx(box(a) + box(b) - both)


def test_points_that_do_not_reach_below_the_reference_add_nothing() -> None:
    assert hypervolume([(1, 5), (5, 1), (1, 9), (5, 5)], (5, 5)) == 0
    assert hypervolume([(1, 5), (4, 4)], (5, 5)) == 1
