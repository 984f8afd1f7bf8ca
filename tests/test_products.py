"""What the fast part takes of a product of parameters."""

import itertools

from products import once_each

LETTERS, NUMBERS = "abcdef", (1, 2)


def members(**more):
    """Members of the fast part, and all."""
    _, params = once_each("letter, number", LETTERS, NUMBERS, **more).args
    return [param.values for param in params if not param.marks], [param.values for param in params]


def test_every_value_is_in_the_fast_part_and_every_member_is_there_once():
    fast, every = members()
    assert fast == [("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 1), ("f", 2)]
    assert sorted(every) == sorted(itertools.product(LETTERS, NUMBERS))


def test_a_share_of_them_is_in_the_fast_part_and_every_member_is_there_once():
    fast, every = members(share=3)
    assert fast == [("a", 1), ("d", 2)]
    assert sorted(every) == sorted(itertools.product(LETTERS, NUMBERS))
