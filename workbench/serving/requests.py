"""What a request may be: JSON of a bounded size with rows that can be asked. Everything else is
refused before a model hears of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMATS = ("dataframe_records", "dataframe_split", "instances", "inputs")
"""The fields of a request in which MLflow takes rows: it has just one of them."""


@dataclass(frozen=True)
class Limits:
    """What a server takes at once.

    Attributes:
        rows: The most rows of a request.
        megabytes: The most that its body may have.
        queue: Requests that may be answered or wait at a time; further ones are told to come again.
        together: The most rows of several waiting requests that are answered by one call of the model; 1: each for itself.
        characters: The most characters of all rows of a request, base64 apart: so long it keeps all others waiting.
    """

    rows: int = 256
    megabytes: float = 4.0
    queue: int = 64
    together: int = 32
    characters: int = 400_000

    @property
    def bytes(self) -> int:
        """`megabytes` in bytes."""
        return int(self.megabytes * 1_000_000)


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        text: Why, and what to do.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def parsed(body: bytes) -> dict[str, Any]:
    """The object of a request's body. Raises Refusal where it is none."""
    try:
        found = json.loads(body.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the request is not UTF-8: {error.reason} at byte {error.start:,}.") from None
    except RecursionError:
        raise Refusal(400, "the request is nested too deeply.") from None
    except ValueError as error:
        raise Refusal(400, f"the request is no JSON: {str(error)[:200]}.") from None
    if not isinstance(found, dict):
        raise Refusal(400, f"the request must be an object with one of {', '.join(FORMATS)}.")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def rows_in(found: dict[str, Any], asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of any of MLflow's formats, as they came. Raises Refusal."""
    named = [name for name in FORMATS if name in found]
    if len(named) != 1 or len(found) > 1:
        given = ", ".join(repr(name[:40]) for name in list(found)[:5]) or "nothing"
        raise Refusal(400, f"the request must have just one of {', '.join(FORMATS)}; it has {given}.")
    value = found[named[0]]
    if named[0] == "dataframe_split":
        return _split(value)
    if isinstance(value, dict) and named[0] == "inputs":  # columns by name
        return _columns(value)
    if not isinstance(value, list):
        raise Refusal(400, f"{named[0]} must be a list of rows.")
    if len(asked) == 1 and named[0] != "dataframe_records":  # a bare text is a row of the one field that there is
        (name,) = asked
        return [row if isinstance(row, dict) else {name: row} for row in value]
    return value


def _split(value: Any) -> list[dict[str, Any]]:
    columns, data = (value.get(name) for name in ("columns", "data")) if isinstance(value, dict) else (None, None)
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns) or not isinstance(data, list):
        raise Refusal(400, "dataframe_split must have columns, a list of names, and data, a list of rows.")
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise Refusal(400, f"each row of data must be a list of {len(columns)} values, one a column.")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _columns(value: dict[str, Any]) -> list[dict[str, Any]]:
    if not all(isinstance(each, list) for each in value.values()) or len({len(each) for each in value.values()}) > 1:
        raise Refusal(400, "inputs must be a list of rows, or lists of one length by column.")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
