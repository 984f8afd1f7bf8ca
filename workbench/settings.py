"""The user's own settings: `workbench.toml` in the folder where the command runs, or where `WORKBENCH_SETTINGS` says.

    label_usd = 0.12                 # US$ a labelled example
    platform = "desk"                # the offer that prices compute
    max_usd = 2.50                   # and every other key of `OPTIONS`: the command's options of these names
    price_book = "quotes.csv"        # a price book of one's own, beside this file

    [[offers]]                       # a price; one with the name of a shipped offer takes its place
    platform = "aws"
    instance = "g6.xlarge"
    gpu = "L4"
    region = "eu-central-1"
    amount = 0.92
    currency = "EUR"
    source = "our contract"
    date = "2026-01-15"

    [[owned]]                        # a machine of one's own
    platform = "desk"
    gpu = "RTX4090"
    purchase_usd = 2600
    lifetime_years = 4
    utilisation = 0.3                # share of all hours in which it works
    electricity_usd_per_kwh = 0.30
    power_w = 420                    # a stated draw; left out, the joules measured are paid for

    [machines]                       # what machines of a sweep cost, by the names of their hosts
    "gpu-*" = "aws:g6.xlarge"

    [currencies]
    EUR = { usd = 1.08, source = "ECB reference rate", date = "2026-01-15" }

    [carbon]                         # the grid under one's own machines
    region = "DEU"                   # a country, or g_co2e_per_kwh = …
    pue = 1.0

    [platforms.aws]                  # facts about a platform that take the place of the shipped ones
    technical_support = "our account team"

Where there is no such file, the table `[tool.workbench]` of a `pyproject.toml` there says the same. A flag, an environment variable
`WORKBENCH_…` and what a study states go before it, in this order; `workbench config --origin` shows what counts.
What the tables mean in dollars and grams is said by `workbench.prices` and `workbench.carbon`; here they are only checked.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from workbench.errors import DataError, UsageError, did_you_mean

FILE, PYPROJECT = "workbench.toml", "pyproject.toml"
"""Names of the settings file in the working folder, and of one whose table `[tool.workbench]` is read where there is none."""


# By identity: mappings have no hash, and the price book is cached by this object.
@dataclass(frozen=True, eq=False)
class Settings:
    """What a settings file says, checked; numbers are `int` or `Decimal`, dates are text.

    Attributes:
        path: The file; None where there is none.
        options: What it says of `OPTIONS`, by name.
        price_book: A CSV price book of the user's.
        offers: The `[[offers]]` tables.
        owned: The `[[owned]]` tables.
        machines: The name of an offer by that of a host, or a pattern of it.
        currencies: By currency `{usd, source, date}`: US$ for one unit.
        carbon: The `[carbon]` table.
        platforms: The `[platforms.NAME]` tables by name.
    """

    path: Path | None = None
    options: Mapping[str, str | int | float] = field(default_factory=dict)
    price_book: Path | None = None
    offers: tuple[Mapping[str, Any], ...] = ()
    owned: tuple[Mapping[str, Any], ...] = ()
    machines: Mapping[str, str] = field(default_factory=dict)
    currencies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    carbon: Mapping[str, Any] = field(default_factory=dict)
    platforms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load(path: Path | None = None) -> Settings:
    """Read the settings at `path`, else where `WORKBENCH_SETTINGS` says, else in the working folder or its `pyproject.toml`.

    Without any of them nothing is set. The file is read at every call, so an edit counts at once; a
    text that was read before is not checked again.

    Raises:
        UsageError: A file that was named is not there or is no text.
        DataError: It is no TOML, or a key or value in it is wrong: the message names file and key.
    """
    named = path or (Path(variable) if (variable := os.environ.get("WORKBENCH_SETTINGS")) else None)
    for file in (named,) if named else (Path.cwd() / FILE, Path.cwd() / PYPROJECT):
        try:
            # Some editors begin a file with a byte order mark, at which tomllib would stop.
            return _parse(file.read_text(encoding="utf-8-sig"), file)
        except FileNotFoundError:
            if named is not None:
                raise UsageError(f"there is no settings file {file}. Write one, or name no file.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the settings {file} cannot be read: {error}. Mend the file, or name another one.") from error
    return _NONE


_NONE = Settings()


class _Kind(NamedTuple):
    """What a value must be: in words, and as a check."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    # True is an int to Python; TOML knows inf and nan, and 1e400 is inf as a float: no amount is.
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return number and not Decimal(value).is_nan() and abs(value) <= sys.float_info.max


_TEXT = _Kind("a text", lambda v: isinstance(v, str) and bool(v.strip()))
_DATE = _Kind("a date", lambda v: isinstance(v, datetime.date) or (isinstance(v, str) and bool(v.strip())))
_POSITIVE = _Kind("a number above 0", lambda v: _is_number(v) and v > 0)
_AMOUNT = _Kind("a number, 0 or more", lambda v: _is_number(v) and v >= 0)
_COUNT = _Kind("a whole number, 0 or more", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0)
_WHOLE = _Kind("a whole number above 0", lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0)
_PART = _Kind("a share above 0, below 1", lambda v: _is_number(v) and 0 < v < 1)
_SHARE = _Kind("a share above 0, at most 1", lambda v: _is_number(v) and 0 < v <= 1)
_RATIO = _Kind("a number, 1 or more", lambda v: _is_number(v) and v >= 1)


def _one_of(*words: str) -> _Kind:
    return _Kind(f"one of {', '.join(words)}", lambda v: v in words)


COMMITMENTS = ("on_demand", "spot", "reserved", "owned")
"""How a machine is held: by the hour, until somebody outbids, for a term, for good."""

UNITS = ("hour", "second", "day", "month", "gpu_hour")
"""What an amount is paid for: the whole machine for a time (a month is 730 hours), or each of its GPUs for an hour."""

_MACHINE = {
    "platform": _TEXT,
    "instance": _TEXT,
    "gpu": _TEXT,
    "gpus": _COUNT,
    "gpu_memory_gb": _POSITIVE,
    "vcpus": _POSITIVE,
    "memory_gib": _POSITIVE,
    "region": _TEXT,
    "source": _TEXT,
    "date": _DATE,
    "confidence": _TEXT,
    "note": _TEXT,
}
_OFFER = _MACHINE | {
    "commitment": _one_of(*COMMITMENTS),
    "amount": _POSITIVE,
    "currency": _TEXT,
    "unit": _one_of(*UNITS),
    "billing_seconds": _POSITIVE,
    "minimum_seconds": _AMOUNT,
    "usd_per_kwh": _AMOUNT,
}
_OWNED = _MACHINE | {
    "purchase_usd": _AMOUNT,
    "lifetime_years": _POSITIVE,
    "utilisation": _SHARE,
    "electricity_usd_per_kwh": _AMOUNT,
    "power_w": _POSITIVE,
}
_CURRENCY = {"usd": _POSITIVE, "source": _TEXT, "date": _DATE}
_CARBON = {
    "region": _TEXT,
    "g_co2e_per_kwh": _AMOUNT,
    "pue": _RATIO,
    "embodied_kg_co2e": _AMOUNT,
    "lifetime_years": _POSITIVE,
    "source": _TEXT,
    "date": _DATE,
}
_PLATFORM = {
    "billing_seconds": _POSITIVE,
    "minimum_seconds": _AMOUNT,
    "pue": _RATIO,
    "egress_usd_per_gb": _AMOUNT,
    **dict.fromkeys(("billing_source", "pue_source", "data", "technical_support", "business_scenes", "source"), _TEXT),
    **dict.fromkeys(("interface", "commitment", "binding_source"), _TEXT),
}
AUTO = "auto"
"""The value of `workers` and `devices` that leaves their number to the workbench."""

_NUMBER = _Kind(f"{_WHOLE.words}, or {AUTO!r}", lambda v: v == AUTO or _WHOLE.fits(v))
OPTIONS = {
    "storage": _TEXT,
    "tracking_uri": _TEXT,
    "states": _TEXT,
    "platform": _TEXT,
    "label_usd": _AMOUNT,
    "trials": _WHOLE,
    "max_usd": _POSITIVE,
    "max_hours": _POSITIVE,
    "max_energy_kwh": _POSITIVE,
    "max_labels": _WHOLE,
    "confirm_share": _PART,
    "confirm_seeds": _WHOLE,
    "stop_below": _POSITIVE,
    "workers": _NUMBER,
    "devices": _NUMBER,
    "sampler": _TEXT,
    "seed": _COUNT,
    "log_samples": _COUNT,
}
"""Options of the command line that a settings file may set, each by its own name, and what each must be."""

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
    if kind is _TEXT or (kind is _NUMBER and text == AUTO):
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


_TABLES = ("offers", "owned", "machines", "currencies", "carbon", "platforms")


@lru_cache(maxsize=16)
def _parse(text: str, path: Path) -> Settings:
    try:
        # A price of 0.1 stays 0.1: it stands in the id of its offer, which stored Results hold.
        record = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is no TOML: {error}.") from error
    where = f"{path}"
    if path.name == PYPROJECT:
        where, record = f"{path}, [tool.workbench]", record.get("tool", {}).get("workbench")
        if record is None:
            return _NONE
        if not isinstance(record, dict):
            raise DataError(f"{where} is a table; got {record!r}.")
    plain = OPTIONS | {"price_book": _TEXT}
    if unknown := sorted(record.keys() - {*plain, *_TABLES}):
        raise DataError(f"{where}: there is no setting {unknown[0]!r}.{did_you_mean(unknown[0], {*plain, *_TABLES})}")
    values = _checked(where, {name: record[name] for name in plain if name in record}, plain)
    options = {name: float(value) if isinstance(value, Decimal) else value for name, value in values.items() if name in OPTIONS}
    return Settings(
        path=path,
        options=options,
        price_book=path.parent / values["price_book"] if "price_book" in values else None,
        offers=_list(where, record, "offers", _OFFER, ("platform", "instance", "amount", "source", "date")),
        owned=_list(where, record, "owned", _OWNED, ("platform", *(k for k in _OWNED if k not in _MACHINE and k != "power_w"))),
        machines=_machines(where, record),
        currencies=_by_name(where, record, "currencies", _CURRENCY, ("usd", "source", "date")),
        carbon=_carbon(where, record),
        platforms=_by_name(where, record, "platforms", _PLATFORM, ()),
    )


def _list(
    where: str, record: Mapping[str, Any], name: str, kinds: Mapping[str, _Kind], needed: Iterable[str]
) -> tuple[Mapping[str, Any], ...]:
    tables = record.get(name, [])
    if not isinstance(tables, list):
        raise DataError(f"{where}: {name} is a list of tables, each headed [[{name}]]; got {tables!r}.")
    return tuple(_checked(f"{where}, [[{name}]] {i}", table, kinds, needed) for i, table in enumerate(tables, 1))


def _by_name(
    where: str, record: Mapping[str, Any], name: str, kinds: Mapping[str, _Kind], needed: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    tables = record.get(name, {})
    if not isinstance(tables, dict):
        raise DataError(f"{where}: {name} is a table of tables, [{name}.NAME]; got {tables!r}.")
    return {key: _checked(f"{where}, {name}.{key}", table, kinds, needed) for key, table in tables.items()}


def _machines(where: str, record: Mapping[str, Any]) -> dict[str, str]:
    table = record.get("machines", {})
    if not isinstance(table, dict):
        raise DataError(f'{where}: machines is a table, [machines], of lines HOST = "OFFER"; got {table!r}.')
    for host, offer in table.items():
        if not _TEXT.fits(offer):
            raise DataError(f"{where}, [machines]: {host} must be {_TEXT.words}, the name of an offer; got {offer!r}.")
    return dict(table)


def _carbon(where: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    table = _checked(f"{where}, [carbon]", record.get("carbon", {}), _CARBON)
    if ("embodied_kg_co2e" in table) != ("lifetime_years" in table):
        raise DataError(f"{where}, [carbon]: embodied_kg_co2e is spread over lifetime_years: give both, or none.")
    if "g_co2e_per_kwh" in table and "source" not in table:
        raise DataError(f"{where}, [carbon]: g_co2e_per_kwh needs a source: say where the figure was read.")
    return table


def _checked(where: str, table: Any, kinds: Mapping[str, _Kind], needed: Iterable[str] = ()) -> Mapping[str, Any]:
    """The table with its dates as text; every key known, every value of its kind, nothing needed missing."""
    if not isinstance(table, dict):
        raise DataError(f"{where}: this must be a table with keys out of {', '.join(kinds)}; got {table!r}.")
    for key, value in table.items():
        if key not in kinds:
            raise DataError(f"{where}: there is no key {key!r}.{did_you_mean(key, kinds)}")
        if not kinds[key].fits(value):
            raise DataError(f"{where}: {key} must be {kinds[key].words}; got {str(value) if _is_number(value) else repr(value)}.")
    if missing := [key for key in needed if key not in table]:
        raise DataError(f"{where}: {missing[0]} is missing. It must be {kinds[missing[0]].words}.")
    return {key: str(value) if isinstance(value, datetime.date) else value for key, value in table.items()}
