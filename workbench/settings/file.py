"""The settings file: where it is, and what it says."""

from __future__ import annotations

import datetime
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.errors import DataError, UsageError, did_you_mean
from workbench.settings.kinds import CARBON, CURRENCY, MACHINE, OFFER, OPTIONS, OWNED, PLATFORM, TEXT, Kind, is_number

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
    plain = OPTIONS | {"price_book": TEXT}
    if unknown := sorted(record.keys() - {*plain, *_TABLES}):
        raise DataError(f"{where}: there is no setting {unknown[0]!r}.{did_you_mean(unknown[0], {*plain, *_TABLES})}")
    values = _checked(where, {name: record[name] for name in plain if name in record}, plain)
    options = {name: float(value) if isinstance(value, Decimal) else value for name, value in values.items() if name in OPTIONS}
    return Settings(
        path=path,
        options=options,
        price_book=path.parent / values["price_book"] if "price_book" in values else None,
        offers=_list(where, record, "offers", OFFER, ("platform", "instance", "amount", "source", "date")),
        owned=_list(where, record, "owned", OWNED, ("platform", *(k for k in OWNED if k not in MACHINE and k != "power_w"))),
        machines=_machines(where, record),
        currencies=_by_name(where, record, "currencies", CURRENCY, ("usd", "source", "date")),
        carbon=_carbon(where, record),
        platforms=_by_name(where, record, "platforms", PLATFORM, ()),
    )


def _list(
    where: str, record: Mapping[str, Any], name: str, kinds: Mapping[str, Kind], needed: Iterable[str]
) -> tuple[Mapping[str, Any], ...]:
    tables = record.get(name, [])
    if not isinstance(tables, list):
        raise DataError(f"{where}: {name} is a list of tables, each headed [[{name}]]; got {tables!r}.")
    return tuple(_checked(f"{where}, [[{name}]] {i}", table, kinds, needed) for i, table in enumerate(tables, 1))


def _by_name(
    where: str, record: Mapping[str, Any], name: str, kinds: Mapping[str, Kind], needed: Iterable[str]
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
        if not TEXT.fits(offer):
            raise DataError(f"{where}, [machines]: {host} must be {TEXT.words}, the name of an offer; got {offer!r}.")
    return dict(table)


def _carbon(where: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    table = _checked(f"{where}, [carbon]", record.get("carbon", {}), CARBON)
    if ("embodied_kg_co2e" in table) != ("lifetime_years" in table):
        raise DataError(f"{where}, [carbon]: embodied_kg_co2e is spread over lifetime_years: give both, or none.")
    if "g_co2e_per_kwh" in table and "source" not in table:
        raise DataError(f"{where}, [carbon]: g_co2e_per_kwh needs a source: say where the figure was read.")
    return table


def _checked(where: str, table: Any, kinds: Mapping[str, Kind], needed: Iterable[str] = ()) -> Mapping[str, Any]:
    """The table with its dates as text; every key known, every value of its kind, nothing needed missing."""
    if not isinstance(table, dict):
        raise DataError(f"{where}: this must be a table with keys out of {', '.join(kinds)}; got {table!r}.")
    for key, value in table.items():
        if key not in kinds:
            raise DataError(f"{where}: there is no key {key!r}.{did_you_mean(key, kinds)}")
        if not kinds[key].fits(value):
            raise DataError(f"{where}: {key} must be {kinds[key].words}; got {str(value) if is_number(value) else repr(value)}.")
    if missing := [key for key in needed if key not in table]:
        raise DataError(f"{where}: {missing[0]} is missing. It must be {kinds[missing[0]].words}.")
    return {key: str(value) if isinstance(value, datetime.date) else value for key, value in table.items()}
