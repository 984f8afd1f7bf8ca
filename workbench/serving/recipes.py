"""A recipe as plain data that it can be made again from, where neither its study nor its data are.

Only classes of this package are made from such data, by name, and those of the study's own file,
which is then part of the bundle. Nothing else that a file names is ever imported.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from workbench.errors import DataError, UsageError
from workbench.methods import Method
from workbench.study import Recipe
from workbench.tasks import Task

_ROOMS = ("workbench.tasks.", "workbench.methods.", "workbench.study.", "workbench.testing.")
STUDY = "study"
"""The module of a class that stands in the study's file."""


def encoded(value: Any) -> Any:
    """A recipe, or a part of one, as plain data for JSON.

    Raises:
        UsageError: It holds an object of which no record can be made.
    """
    if isinstance(value, (str, int, float, type(None))):  # bool is an int
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(name for name, of in _SEQUENCES.items() if isinstance(value, of))
        entries = sorted(value, key=repr) if kind == "set" else value
        return {kind: [encoded(each) for each in entries]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"map": {key: encoded(each) for key, each in value.items()}}
    if isinstance(value, (Task, Method, Recipe)):
        fields = {f.name: encoded(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": _name(type(value)), "fields": fields}
    raise UsageError(
        f"{type(value).__name__} stands in the recipe, and cannot be written down to be deployed. Use numbers, texts, lists, "
        "mappings by text, and fields of the task."
    )


def decoded(record: Any, study: Callable[[], ModuleType]) -> Any:
    """What `encoded` was given.

    Args:
        record: Plain data.
        study: Runs the study's file and returns its module. Called only where the recipe holds a
            class of it.

    Raises:
        DataError: It is no such record.
    """
    if not isinstance(record, dict):
        return record
    match record:
        case {"class": str(name), "fields": dict(fields)}:
            made, given = _class(name, study), {key: decoded(each, study) for key, each in fields.items()}
            if strange := given.keys() - {each.name for each in dataclasses.fields(made)}:
                raise DataError(
                    f"{made.__name__} has no {', '.join(sorted(strange))} in this workbench. Install the version that deployed it."
                )
            return made(**given)
        case {"map": dict(entries)}:
            return {key: decoded(each, study) for key, each in entries.items()}
    for kind, of in _SEQUENCES.items():
        if kind in record and isinstance(record[kind], list):
            return of(decoded(each, study) for each in record[kind])
    raise DataError(f"a recipe's record holds {', '.join(record)!s}, which is unknown here. Deploy the model again.")


def needs_study(task: Task) -> bool:
    """Whether a task's class stands in the study's file."""
    return _name(type(task)).startswith(f"{STUDY}:")


_SEQUENCES: Mapping[str, Any] = {"list": list, "tuple": tuple, "set": frozenset}


def _name(of: type) -> str:
    module = str(of.__module__)
    if module.startswith("_study_"):  # as `workbench.study.load` calls it
        return f"{STUDY}:{of.__qualname__}"
    if f"{module}.".startswith(_ROOMS):
        return f"{module}:{of.__qualname__}"
    raise UsageError(
        f"{of.__qualname__} is a class of {module}, which a deployed model would have to import. Write it into the study's file."
    )


def _class(name: str, study: Callable[[], ModuleType]) -> type[Task | Method | Recipe]:
    module, _, path = name.partition(":")
    if module == STUDY:
        found: Any = study()
    elif f"{module}.".startswith(_ROOMS):
        try:
            found = importlib.import_module(module)
        except ImportError:
            found = None
    else:
        raise DataError(f"a recipe's record names {name!r}, which is no class of workbench. It is not loaded.")
    for part in path.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, (Task, Method, Recipe))):
        raise DataError(f"a recipe's record names {name!r}, which this workbench does not have. Install the version it needs.")
    return found
