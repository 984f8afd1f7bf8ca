"""Values as tables have them: with gaps, as NumPy's types, as reals in columns with gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.files import wrong
from workbench.errors import did_you_mean


def plain(value: Any) -> Any:
    """The value as Python's own type; data sets of the hub may be set to give NumPy's."""
    return value.tolist() if type(value).__module__ == "numpy" else value


def missing(value: Any) -> bool:
    """Whether a value is missing: null, or the NaN that tables have in its place."""
    return value is None or (isinstance(value, float) and value != value)


def whole(value: Any) -> int | None:
    """A whole number, also from 3.0, which tables write in columns with gaps; None where it is
    none.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def kind(value: Any) -> str:
    """The type of a value in a word."""
    return "NaN" if isinstance(value, float) and missing(value) else type(value).__name__


def identifier(value: Any, key: str) -> str:
    """An id as text: text without the space around it, or a whole number.

    Raises:
        ValueError: It is neither; the message says what it is, in a sentence.
    """
    value = plain(value)
    if isinstance(value, str) and value.strip():
        return value.strip().encode("utf-8", "backslashreplace").decode()
    if (number := whole(value)) is None:
        raise ValueError(f"{key!r} must be text or a whole number, got {kind(value)} {str(value)[:40]!r}.")
    return str(number)


def text(value: Any, key: str, place: str, row: Mapping[str, Any] | None = None) -> str:
    """The value, if it is text.

    Args:
        value: The value.
        key: Its column, for errors.
        place: Its file and line, for errors.
        row: The row, whose other keys may be a misspelling of `key`.

    Raises:
        DataError: It is not text, or holds half a character.
    """
    if not isinstance(value, str):
        hint = did_you_mean(key, map(str, row)) if row is not None and key not in row else ""
        raise wrong(f"{place}: {key!r} must be text, got {kind(value)}.{hint}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise wrong(
            f"{place}: {key!r} is not text: at {error.start} it has {value[error.start]!r}, half a character (a lone surrogate). "
            "Put the whole character there or remove it, and count the offsets anew."
        ) from None
    return str(value)
