"""Reading others' JSON with its file and place at hand: what is missing or wrong is said so that it can be found."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from workbench.errors import DataError

T = TypeVar("T")


class Fields:
    """An object of a JSON file; a path names a place in it, its steps joined by dots. `null` counts as missing.

    Args:
        file: The file's name.
        content: What stands at `place`.
        kind: What the file should be, as in `"a result of …"`.
        place: Where in the file the object is, for messages.

    Raises:
        DataError: `content` is no object. So does every method for what is missing or of another kind, unless it says otherwise.
    """

    def __init__(self, file: str, content: Any, kind: str, place: str = "") -> None:
        self._file, self._kind, self._place = file, kind, place
        self.content: dict[str, Any] = content if isinstance(content, dict) else {}
        if not isinstance(content, dict):
            raise self.wrong("", "is missing" if content is None else "is no JSON object")

    def wrong(self, path: str, what: str) -> DataError:
        """The error that says what is wrong at a path."""
        where = ".".join(part for part in (self._place, path) if part)
        return DataError(
            f"{self._file} is not {self._kind}: {where or 'its content'} {what}. Is it the right folder? Nothing was imported."
        )

    def get(self, path: str) -> Any:
        """The value at a path; None where there is none."""
        value: Any = self.content
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def inside(self, path: str) -> Fields:
        """The object at a path."""
        return Fields(self._file, self.get(path), self._kind, f"{self._place}.{path}".strip("."))

    def objects(self, path: str) -> list[Fields]:
        """The objects of a list at a path."""
        value = self.get(path)
        if not isinstance(value, list):
            raise self.wrong(path, "is missing" if value is None else "is no list")
        place = f"{self._place}.{path}".strip(".")
        return [Fields(self._file, each, self._kind, f"{place}[{i}]") for i, each in enumerate(value)]

    def text(self, path: str) -> str:
        """A text that is not empty."""
        value = self.get(path)
        if not isinstance(value, str) or not value:
            raise self.wrong(path, "is missing" if value in (None, "") else f"is no text: {value!r:.40}")
        return value

    def number(self, path: str) -> float:
        """A number, at least 0."""
        value = self.get(path)
        number = _float(value)
        if number is None or not 0 <= number < math.inf:
            raise self.wrong(path, "is missing" if value is None else f"is no number, at least 0: {value!r:.40}")
        return number

    def count(self, path: str) -> int:
        """A whole number, at least 0."""
        value = self.number(path)
        if not value.is_integer():
            raise self.wrong(path, f"is no whole number: {value!r}")
        return int(value)

    def text_or(self, path: str, default: T) -> str | T:
        """As `text`; `default` where it is missing or empty."""
        return default if self.get(path) in (None, "") else self.text(path)

    def number_or(self, path: str, default: T) -> float | T:
        """As `number`; `default` where it is missing."""
        return default if self.get(path) is None else self.number(path)

    def count_or(self, path: str, default: T) -> int | T:
        """As `count`; `default` where it is missing."""
        return default if self.get(path) is None else self.count(path)

    def measured(self, path: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A number between two bounds; None where it is missing, infinite or NaN: not measured."""
        value = self.get(path)
        number = _float(value)
        if value is None or (number is not None and not math.isfinite(number)):
            return None
        if number is None or not low <= number <= high:
            raise self.wrong(path, f"is no number from {low:g} to {high:g}: {value!r:.40}")
        return number


def _float(value: Any) -> float | None:
    """Return a JSON number as a float, infinite where it is too large; None for any other value."""
    # True is an int to Python, and no number in JSON.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        # JSON writes integers of any length, beyond the largest float too.
        return math.inf
