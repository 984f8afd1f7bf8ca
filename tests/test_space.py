"""Holes in recipes: what they hold, what they are called, and that filling them can be undone."""

import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.space import (
    Choice,
    Dimension,
    Integers,
    Space,
    Uniform,
    check,
    choice,
    describe,
    dimensions,
    integers,
    label,
    loguniform,
    resolve,
    sample,
    settings_of,
    uniform,
)


@dataclass(frozen=True)
class Part:
    """Stands for a method or a task: it has a name, and fields that may be holes."""

    name: str | None
    rate: Any = 1.0
    settings: Any = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    """Stands for a recipe."""

    part: Any
    size: Any = 1
    word: Any = "a"


# The holes themselves


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: choice(), "choice\\(\\) is empty"),
        (lambda: choice(4, 16, 4), "the option 4 twice"),
        (lambda: choice("a", "b", "a"), "the option 'a' twice"),
        (lambda: choice(1, 1.0), "the option 1.0 twice"),
        (lambda: choice(1, True), "the option True twice"),
        (lambda: choice(None, None), "the option None twice"),
        (lambda: choice(Part("lora"), Part("lora", rate=2)), "the option 'lora' twice.*another name"),
        (lambda: choice([1], [2]), "must be a number, a string, None, or have a name"),
        (lambda: choice(Part(None), 1), "have a name"),
        (lambda: choice(choice(1, 2), 3), "have a name"),
        (lambda: choice(1.0, math.nan), "must be finite"),
        (lambda: choice(1.0, math.inf), "must be finite"),
        (lambda: uniform(2, 2), "uniform\\(2, 2\\) is empty"),
        (lambda: uniform(3, 2), "is empty"),
        (lambda: uniform(0, math.inf), "finite"),
        (lambda: uniform(math.nan, 1), "finite"),
        (lambda: uniform(False, True), "finite numbers"),
        (lambda: uniform("a", 1), "finite numbers"),
        (lambda: loguniform(0, 1), "loguniform\\(0, 1\\).*above 0"),
        (lambda: loguniform(-1, 1), "above 0"),
        (lambda: integers(4, 4), "is empty"),
        (lambda: integers(0, 4, log=True), "above 0"),
        (lambda: integers(1, 2.5), "whole numbers"),
        (lambda: integers(False, 4), "whole numbers"),
    ],
)
def test_a_hole_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    "hole, inside, outside",
    [
        (choice(4, 16), [4, 16, 4.0], [5, True, "4", None]),
        (choice(0, 1), [0, 1], [False, True]),
        (choice(False, True), [False, True], [0, 1]),
        (choice(None, 4.0), [None, 4.0, 4], [0, "None", ""]),
        (choice("a", Part("b")), ["a", "b"], ["c", 1]),
        (uniform(-1, 2), [-1, 2, 0.5], [-1.0001, 2.0001, True, "0", None, math.nan, math.inf]),
        (loguniform(1e-5, 1e-3), [1e-5, 1e-3, 5e-4], [0.99e-5, 1.01e-3, 0]),
        (integers(1, 8), [1, 8, 2.0], [0, 9, 1.5, True, "1", None, math.nan]),
    ],
)
def test_contains(hole: Any, inside: list[Any], outside: list[Any]) -> None:
    assert all(hole.contains(setting) for setting in inside)
    assert not any(hole.contains(setting) for setting in outside)


@pytest.mark.parametrize(
    "hole, text",
    [
        (choice(4, 16), "choice(4, 16)"),
        (choice(None, "a", Part("lora")), "choice(None, 'a', 'lora')"),
        (uniform(0, 0.5), "uniform(0, 0.5)"),
        (loguniform(3e-5, 3e-4), "loguniform(3e-05, 0.0003)"),
        (uniform(0, 1234567.8), "uniform(0, 1234567.8)"),  # all digits: two spaces that differ read differently
        (integers(1, 8), "integers(1, 8)"),
        (integers(1, 8, log=True), "integers(1, 8, log=True)"),
    ],
)
def test_a_hole_reads_as_it_is_written(hole: Any, text: str) -> None:
    assert describe(hole) == text


def test_a_logarithmic_range_is_drawn_evenly_over_its_decades() -> None:
    rng = random.Random(0)
    drawn = [loguniform(1e-4, 1.0).sample(rng) for _ in range(2000)]  # type: ignore[attr-defined]
    assert 0.45 < sum(x < 1e-2 for x in drawn) / 2000 < 0.55
    whole = [integers(1, 64, log=True).sample(rng) for _ in range(2000)]  # type: ignore[attr-defined]
    assert set(range(1, 9)) < set(whole)
    assert max(whole) > 48
    assert 0.45 < sum(x <= 8 for x in whole) / 2000 < 0.68


def test_check_looks_at_the_ends_of_a_hole() -> None:
    positive = (lambda v: v > 0), "above 0"
    check(Whole(None, size=integers(1, 3)), "size", *positive)
    with pytest.raises(UsageError, match="size must be above 0; got 0"):
        check(Whole(None, size=integers(0, 3)), "size", *positive)
    with pytest.raises(UsageError, match="size must be above 0; got -1"):
        check(Whole(None, size=choice(3, -1)), "size", *positive)
    with pytest.raises(UsageError, match="size must be above 0; got 0"):
        check(Whole(None, size=0), "size", *positive)


# What holes are called, and when they exist


def test_dimensions_are_known_by_path() -> None:
    value = Whole(
        choice(
            Part("full", rate=loguniform(1e-5, 1e-3)),
            Part(
                "lora",
                rate=uniform(0, 1),
                settings={"r": choice(4, 16), "targets": ["q", choice("k", "v")], "deep": {"r": choice(1, 2)}},
            ),
        ),
        size=integers(1, 3),
    )
    found = dimensions(value)
    assert list(found) == ["part", "full.rate", "lora.rate", "lora.r", "lora.targets.1", "lora.deep.r", "size"]
    assert found["lora.r"] == Dimension("lora.r", Choice((4, 16)), (("part", "lora"),))
    assert found["part"].when == ()
    assert found["lora.r"].exists({"part": "lora"})
    assert not found["lora.r"].exists({"part": "full"})
    assert not found["lora.r"].exists({})


def test_a_named_value_at_a_fixed_place_is_known_by_its_name_too() -> None:
    assert list(dimensions(Whole(Part("lora", rate=uniform(0, 1))))) == ["lora.rate"]
    assert list(dimensions(Whole(Part(None, rate=uniform(0, 1))))) == ["part.rate"]


def test_a_choice_within_a_choice_exists_only_along_both() -> None:
    inner = Part("outer", settings={"init": choice(Part("x", rate=uniform(0, 1)), "y")})
    value = Whole(choice(inner, Part("other")))
    found = dimensions(value)
    assert found["x.rate"].when == (("part", "outer"), ("outer.init", "x"))
    assert found["x.rate"].exists({"part": "outer", "outer.init": "x"})
    assert not found["x.rate"].exists({"part": "outer", "outer.init": "y"})
    filled = resolve(value, {"part": "outer", "outer.init": "x", "x.rate": 0.5})
    assert filled.part.settings["init"] == Part("x", rate=0.5)


def test_two_holes_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two settings are called 'lora.rate'"):
        dimensions([Part("lora", rate=uniform(0, 1)), Part("lora", rate=uniform(0, 2))])


def test_a_hole_in_a_set_is_refused() -> None:
    with pytest.raises(UsageError, match="a set cannot hold"):
        dimensions(Whole(Part("lora", settings={"targets": {choice("q", "k")}})))


def test_labels() -> None:
    assert [label(x) for x in (1, 1.5, "a", None, True, Part("lora"))] == [1, 1.5, "a", None, True, "lora"]


# Filling


def a_study() -> Whole:
    return Whole(
        choice(Part("full", rate=uniform(1, 2)), Part("lora", settings={"r": choice(4, 16)})),
        size=integers(1, 4),
        word=choice("a", None),
    )


def test_resolve_fills_every_hole_and_leaves_the_rest_alone() -> None:
    study = a_study()
    filled = resolve(study, {"part": "lora", "lora.r": 16.0, "size": 2.0, "word": None})
    assert filled == Whole(Part("lora", settings={"r": 16}), size=2, word=None)
    assert isinstance(filled.size, int)  # a store may give a whole number back as a float
    assert isinstance(filled.part.settings["r"], int)
    assert study == a_study()
    assert resolve(filled, {}) is filled


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"part": "full", "full.rate": 1.5, "word": "a"}, "the setting 'size' is missing"),
        ({"part": "full", "full.rate": 1.5, "word": "a", "size": 5}, "size = 5 is not in integers\\(1, 4\\)"),
        ({"part": "lroa"}, "part = 'lroa' is not in choice\\('full', 'lora'\\)"),
        ({"part": "full", "full.rate": 1.5, "word": "a", "size": 1, "sise": 2}, "no setting 'sise' here. Did you mean 'size'"),
        ({"part": "full", "full.rate": 1.5, "word": "a", "size": 1, "lora.r": 4}, "'lora.r' is there only where part = 'lora'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(a_study(), settings)


def test_settings_of_tells_what_lies_outside() -> None:
    assert settings_of(a_study(), Whole(Part("full", rate=1.5), size=1, word="a")) == {
        "part": "full",
        "full.rate": 1.5,
        "size": 1,
        "word": "a",
    }
    assert settings_of(a_study(), Whole(Part("full", rate=2.5), size=1, word="a")) is None
    assert settings_of(a_study(), Whole(Part("ia3"), size=1, word="a")) is None
    assert settings_of(a_study(), Whole(Part("lora", settings={"r": 4, "more": 1}), size=1, word="a")) is None
    assert settings_of(a_study(), Whole(Part("full", rate=1.5), size=True, word="a")) is None
    assert settings_of(Whole(Part("a"), size=2), Whole(Part("a"), size=3)) is None


numbers = st.floats(-1e6, 1e6, allow_nan=False)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-100, 100), numbers, st.text(max_size=3))


@st.composite
def holes(draw: Any) -> Any:
    """A range, or a choice of plain options."""
    kind = draw(st.sampled_from(["choice", "uniform", "loguniform", "integers", "log integers"]))
    if kind == "choice":
        return choice(*draw(st.lists(scalars, min_size=1, max_size=4, unique=True)))
    if "integers" in kind:
        low = draw(st.integers(1, 50))
        return integers(low, low + draw(st.integers(1, 50)), log="log" in kind)
    low = draw(st.floats(1e-6, 1e3))
    return (uniform if kind == "uniform" else loguniform)(low, low * draw(st.floats(1.01, 1e4)))


@st.composite
def studies(draw: Any) -> Whole:
    """A value with holes at all kinds of places."""
    item = st.one_of(scalars, holes())

    def part(name: str) -> Part:
        listed = draw(st.lists(item, max_size=3))
        settings = {"r": draw(item), "many": draw(st.sampled_from([list, tuple]))(listed), "deep": {"r": draw(item)}}
        return Part(name, rate=draw(item), settings=settings)

    parts = [part(name) for name in draw(st.lists(st.sampled_from(["lora", "ia3", "full"]), min_size=1, max_size=3, unique=True))]
    return Whole(choice(*parts) if len(parts) > 1 else parts[0], size=draw(item), word=draw(item))


def has_holes(value: Any) -> bool:
    """Whether a hole is left, found by another way than the code's."""
    if isinstance(value, dict):
        return any(map(has_holes, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(has_holes, value))
    return has_holes(vars(value)) if isinstance(value, (Part, Whole)) else isinstance(value, Space)


@given(studies(), st.randoms(use_true_random=False))
def test_resolve_and_settings_of_are_inverse(study: Whole, rng: random.Random) -> None:
    settings = sample(study, rng)
    filled = resolve(study, settings)
    assert not has_holes(filled)
    again = settings_of(study, filled)
    assert again == settings
    assert resolve(study, again) == filled


@given(studies(), st.randoms(use_true_random=False))
def test_a_sample_lies_in_the_space_and_nothing_else_is_in_it(study: Whole, rng: random.Random) -> None:
    settings = sample(study, rng)
    known = dimensions(study)
    assert set(settings) == {name for name, dimension in known.items() if dimension.exists(settings)}
    assert all(known[name].space.contains(setting) for name, setting in settings.items())


@given(holes(), st.randoms(use_true_random=False))
def test_ends_bound_all_samples(hole: Any, rng: random.Random) -> None:
    drawn = hole.sample(rng)
    if isinstance(hole, (Uniform, Integers)):
        assert hole.ends[0] <= drawn <= hole.ends[-1]
        assert all(hole.contains(end) for end in hole.ends)
    else:
        assert drawn in hole.ends


def test_a_condition_on_true_does_not_hold_of_1():
    hole = Dimension("rate", Uniform(0.1, 1.0), when=(("flag", True),))
    assert hole.exists({"flag": True})
    assert not hole.exists({"flag": 1})
    assert not hole.exists({})
    assert Dimension("rate", Uniform(0.1, 1.0), unless=(("flag", True),)).exists({"flag": 1})
