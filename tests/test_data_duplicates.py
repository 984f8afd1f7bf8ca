"""Near-duplicate texts are found and grouped; others are not."""

import random

from hypothesis import given
from hypothesis import strategies as st

from workbench.data.duplicates import groups, shingles, similar_pairs

TEXT = "the axis along which the sum of all elements is taken, by default over the whole of the flattened array in memory"


def test_copies_and_small_changes_are_similar_and_others_are_not():
    texts = [
        TEXT,
        TEXT.replace("memory", "storage"),
        "a graph with nodes and edges, directed or not, of any size at all",
        TEXT.upper() + ".",
    ]
    assert groups(4, similar_pairs([shingles(text) for text in texts], 0.6)) == [0, 0, 2, 0]


def test_numbers_count_as_the_same_word():
    assert shingles("an array of 3 rows") == shingles("an array of 27 rows")


def test_short_and_empty_texts_are_compared_too():
    assert groups(4, similar_pairs([shingles(text) for text in ("int", "", "int", "str")], 0.6)) == [0, 1, 0, 3]


def test_many_copies_are_one_group():
    assert set(groups(3000, similar_pairs([shingles(TEXT)] * 3000, 0.9))) == {0}


def test_nearly_all_similar_pairs_are_found_and_only_those():
    rng = random.Random(0)
    sets = []
    for _ in range(300):
        common = {rng.getrandbits(32) for _ in range(70)}
        sets += [frozenset(common | {rng.getrandbits(32) for _ in range(12)}) for _ in range(2)]  # similarity 70 / 94
    found = set(similar_pairs(sets, 0.6))
    assert len(found) >= 298
    assert all(b == a + 1 and a % 2 == 0 for a, b in found)


@given(
    st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))))
)
def test_groups_are_the_connected_components(case):
    count, pairs = case
    reach = [{i} for i in range(count)]
    for _ in range(count):
        for a, b in pairs:
            reach[a] |= reach[b]
            reach[b] |= reach[a]
    assert groups(count, pairs) == [min(each) for each in reach]
