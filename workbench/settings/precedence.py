"""Who says what an option is: the flag, the environment variable, the study, the settings file or the default, in this order."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from workbench.errors import UsageError
from workbench.settings.file import load
from workbench.settings.kinds import AUTO, NUMBER, OPTIONS, TEXT

OF_STUDIES: Mapping[str, Any] = {"platform": "local", "label_usd": 0.0, "trials": 16, "max_usd": None, "devices": 1}
"""Options that are fields of a study too, and what each is where nobody states it."""


class States(Protocol):
    """A study, as far as its settings go: each name of `OF_STUDIES` is an attribute of it.

    Attributes:
        stated: Names of the fields that its file states; the others have their defaults.
    """

    @property
    def stated(self) -> frozenset[str]: ...


def variable(name: str) -> str:
    """The environment variable of an option: `WORKBENCH_MAX_USD` of `max_usd`."""
    return f"WORKBENCH_{name.upper()}"


def in_environment(name: str) -> str | int | float | None:
    """The value of an option's environment variable; None where it is not set, or empty.

    Raises:
        UsageError: The value is not what the option must be.
    """
    text, kind = os.environ.get(variable(name)), OPTIONS[name]
    if not text:
        return None
    if kind is TEXT or (kind is NUMBER and text == AUTO):
        return text
    try:
        value = int(text) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else Decimal(text)
    except InvalidOperation:
        # It fits no kind, so words that are no number are refused with those out of range.
        value = Decimal("nan")
    if not kind.fits(value):
        raise UsageError(f"the environment variable {variable(name)} must be {kind.words}; got {text!r}.")
    return float(value) if isinstance(value, Decimal) else value


def origin(name: str, flag: Any, study: States | Mapping[str, Any]) -> tuple[Any, str]:
    """The value of an option out of `OF_STUDIES`, and who said it.

    The order is: the flag, the environment variable, the study, the settings file, the default.

    Args:
        name: The name of the option.
        flag: The value of the flag; None where it is not given.
        study: The study, or what its ledger noted of it.

    Returns:
        The value, and `flag`, `environment`, `study`, `file` or `default`.

    Raises:
        UsageError: The environment variable has a wrong value, or the settings file cannot be read.
        DataError: The settings file is wrong.
    """
    if flag is not None:
        return flag, "flag"
    if (found := in_environment(name)) is not None:
        return found, "environment"
    own, stated = _of_study(study, name)
    if stated:
        return own, "study"
    found = load().options.get(name)
    return (own, "default") if found is None else (found, "file")


def stated(name: str, flag: Any, study: States | Mapping[str, Any]) -> Any:
    """The value of an option out of `OF_STUDIES`, as `origin` finds it. Raises what `origin` raises."""
    return origin(name, flag, study)[0]


def place(name: str, said: str) -> str:
    """Name the place of a value, as a prefix for a message about it; empty for a flag and a study.

    `name` is the option's, and `said` who gave the value, as `origin` tells.
    """
    places = {"environment": f"the environment variable {variable(name)}: ", "file": f"{name} in {load().path}: "}
    return places.get(said, "")


def _of_study(study: States | Mapping[str, Any], name: str) -> tuple[Any, bool]:
    """Return a study's value, and whether the study states it.

    Old ledgers did not note what was stated: there a value counts as stated if it differs from the default.
    """
    if not isinstance(study, Mapping):
        return getattr(study, name), name in study.stated
    value = study[name]
    return value, name in study["stated"] if "stated" in study else value != OF_STUDIES[name]
