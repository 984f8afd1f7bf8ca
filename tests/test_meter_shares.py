"""Splitting whole amounts: the parts are exactly the whole."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.meter.shares import METHODS, Party, apportion, split, weigh

AMOUNTS = st.integers(0, 10**15)
WEIGHTS = st.lists(st.floats(0, 1e12, allow_subnormal=True), min_size=1, max_size=8)


@given(AMOUNTS, WEIGHTS)
def test_parts_sum_to_the_whole_and_are_within_one_of_their_quota(amount, weights):
    parts = apportion(amount, weights)
    whole = sum(map(Fraction, weights)) or Fraction(len(weights))
    exact = [Fraction(w) if any(weights) else Fraction(1) for w in weights]
    assert sum(parts) == amount
    assert all(abs(part - amount * weight / whole) < 1 for part, weight in zip(parts, exact, strict=True))


def test_remainders_go_to_the_largest_fractions_ties_to_the_earlier():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(10, [3, 3, 1]) == [4, 4, 2]  # quotas 4.29, 4.29, 1.43
    assert apportion(7, [0, 0]) == [4, 3]
    assert apportion(5, [0, 2]) == [0, 5]


@given(AMOUNTS, st.integers(-5, 10**15), WEIGHTS)
def test_idle_is_split_equally_and_the_rest_by_weight(amount, idle, weights):
    parts = split(amount, idle, weights)
    assert sum(parts) == amount
    floor = min(max(idle, 0), amount) // len(weights)
    assert min(parts) >= floor, "nobody gets less than an equal part of what is drawn by nobody's doing"


def test_a_split_by_example():
    assert split(100, 40, [3, 1]) == [20 + 45, 20 + 15]
    assert split(30, 40, [3, 1]) == [15, 15]


def test_alone_is_not_split():
    assert weigh([Party(-1, 0.0)], {7: 3.0}) == ([1], ())


def test_utilisation_decides_between_processes_and_work_within_one():
    parties = [Party(-1, 30.0), Party(-1, 10.0), Party(-9, 5.0), Party(77)]
    weights, ways = weigh(parties, {-1: 40.0, -9: 10.0, 77: 50.0})
    assert weights == [30, 10, 10, 50]
    assert ways == ("process_utilisation", "work")


@pytest.mark.parametrize("busy", [None, {}, {-1: 0.0, -9: 0.0}, {123: 9.0}])
def test_without_utilisation_work_decides(busy):
    assert weigh([Party(-1, 30.0), Party(-9, 10.0)], busy) == ([Fraction(3, 4), Fraction(1, 4)], ("work",))


def test_without_work_or_beside_a_stranger_all_are_equal():
    assert weigh([Party(-1, 0.0), Party(-9, 0.0)], None) == ([Fraction(1, 2)] * 2, ("equal",))
    assert weigh([Party(-1, 5.0), Party(77)], None) == ([Fraction(1, 2)] * 2, ("equal",))


def test_utilisation_says_nothing_of_tenants_in_one_process():
    assert weigh([Party(-1, 1.0), Party(-1, 3.0)], {-1: 80.0})[1] == ("work",)


PARTIES = st.lists(
    st.builds(Party, st.sampled_from([-1, -2, -3, 7, 8]), st.one_of(st.none(), st.floats(0, 1e9))), min_size=1, max_size=6
)


@given(AMOUNTS, PARTIES, st.one_of(st.none(), st.dictionaries(st.sampled_from([-1, -2, -3, 7, 8]), st.floats(0, 1e4))))
def test_any_weights_split_any_amount_exactly(amount, parties, busy):
    weights, ways = weigh(parties, busy)
    assert sum(weights) > 0
    assert min(weights) >= 0
    assert set(ways) <= set(METHODS)
    assert bool(ways) == (len(parties) > 1)
    assert sum(apportion(amount, weights)) == amount
