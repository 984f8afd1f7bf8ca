"""What a study tunes: its models with what they learn before, by its methods; every option, and the ends of ranges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.methods import Method
from workbench.space import Choice, Dimension, Value, dimensions, label, resolve
from workbench.study import Recipe, Study

MOST_CORNERS = 256
"""The most combinations of options and ends that are looked at."""


@dataclass(frozen=True)
class Start:
    """What a study tunes: a model, with what it learns before.

    Attributes:
        name: What it is called: `minilm-l3 + masked_lm`.
        model: What its option of `Recipe.model` is called in settings, and in the `models` of methods.
        architecture: Name of the model whose shape and tokeniser it has.
        fillings: `model` and `pretrain` of the recipes that start so, holes filled: each option, and both ends of a range.
    """

    name: str
    model: str
    architecture: str
    fillings: tuple[Mapping[str, Any], ...] = dataclasses.field(compare=False)


def starts(study: Study) -> list[Start]:
    """Return what the study tunes, in its order."""
    of: dict[str, Any] = {"model": study.recipe.model, "pretrain": study.recipe.pretrain}
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for settings in itertools.islice(combinations(list(dimensions(of).values()), {}, both_ends=True), MOST_CORNERS):
        filled = resolve(of, settings)
        recipe = dataclasses.replace(study.recipe, **filled)  # whatever else is open
        key = recipe.model_name, str(label(filled["model"])), recipe.architecture
        found.setdefault(key, []).append(filled)
    return [Start(*key, tuple(fillings)) for key, fillings in found.items()]


def parents(study: Study) -> list[tuple[Recipe, ...]]:
    """Return what the study's models start from: recipes of one model and method together, a parent's own parent before it."""
    found: dict[tuple[str, str], dict[str, Recipe]] = {}

    def note(recipe: Recipe) -> None:
        for parent in recipe.parents:
            note(parent)
        found.setdefault((recipe.model_name, recipe.method.name), {})[recipe.id] = recipe

    for start in starts(study):
        for filled in start.fillings:
            for pseudo in options(study.recipe.pseudo):
                begun = dataclasses.replace(study.recipe, **filled, pseudo=pseudo)
                for made in (begun.start, begun.teacher and begun.teacher.start):
                    if made is not None:
                        note(made)
    return [tuple(each.values()) for each in found.values()]


def recipes(study: Study, start: Start, method: Method) -> Iterator[Recipe]:
    """Recipes of one start and method with every other hole at each of its options, or at the ends of its range; at most 256."""
    made = (
        resolve(of_pair, settings)
        for filled in start.fillings
        for of_pair in (dataclasses.replace(study.recipe, **filled, method=method),)
        for settings in combinations(list(dimensions(of_pair).values()), {}, both_ends=True)
    )
    yield from itertools.islice(made, MOST_CORNERS)


def methods_of(study: Study) -> Iterator[tuple[Start, Method]]:
    """Every start with every method of the study, the latter once for each combination of its own options; ranges stand at their
    end.
    """
    for start in starts(study):
        for method in chosen_methods(study.recipe.method, start.model):
            yield start, method


def options(value: Any) -> Sequence[Any]:
    """Return the options of a choice; of a value itself."""
    return value.options if isinstance(value, Choice) else (value,)


def chosen_methods(method: Any, model: str) -> Iterator[Method]:
    """Every method of the study for a model, once for each combination of its own options; ranges stand at their end."""
    for option in options(method):
        if option.models and model not in option.models:
            continue
        made: list[Method] = []
        for settings in combinations(list(dimensions({"method": option}).values()), {}):
            filled = resolve({"method": option}, settings)["method"]
            # Learning rates change no model.
            shape = dataclasses.replace(filled, learning_rate=1.0, head_learning_rate=None) if filled.trains else filled
            if shape not in made:
                made.append(shape)
                yield filled


def combinations(
    holes: Sequence[Dimension], chosen: Mapping[str, Value], *, both_ends: bool = False
) -> Iterator[Mapping[str, Value]]:
    """Yield the settings of holes beside those that are `chosen`: each option of a choice, and the end of a range, or both ends."""
    if not holes:
        yield chosen
        return
    hole, *others = holes
    if not hole.exists(chosen):
        yield from combinations(others, chosen, both_ends=both_ends)
        return
    for setting in hole.space.names if isinstance(hole.space, Choice) else hole.space.ends[0 if both_ends else -1 :]:
        yield from combinations(others, {**chosen, hole.name: setting}, both_ends=both_ends)
