"""What a request for a prediction holds: the fields that a model is asked with, and whether a row
of it has them.
"""

from __future__ import annotations

import base64
import binascii
import io
import wave
from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import DataError

TEXT, TEXTS, NUMBERS, TURNS, FILE = "text", "texts", "numbers", "turns", "file"
"""What a field holds: a text; several; whole numbers; turns of a conversation (`role` and
`content`); or the bytes of a file, in base64.
"""

ID = "id"
"""A text by which a caller may know a row again. Every task takes it, and none needs it."""

MOST_CHARACTERS = 200_000
"""The most characters of one row, base64 apart."""

MOST_OF_ID = 128
"""The most characters of an id, which a server's log holds."""

MOST_ENTRIES = 10_000
"""The most texts, numbers or turns of one field."""


def check_row(asked: Mapping[str, str], row: Any) -> None:
    """Make sure that a row of a request can be asked.

    Args:
        asked: Names of the fields that the task is asked with, and what each holds.
        row: The row as it came, from whoever sent it.

    Raises:
        DataError: It lacks a field, has another one, or holds something else there. The caller puts before the text which row.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"must be an object with {_needed(asked)}; got {_shown(row)}.")
    if missing := [name for name in asked if name not in row]:
        raise DataError(f"lacks {', '.join(map(repr, missing))}. A row holds {_needed(asked)}.")
    if strange := [str(name) for name in row if name not in asked and name != ID]:
        raise DataError(f"has {_shown(', '.join(strange))}, which is not asked for. A row holds {_needed(asked)}.")
    known = row.get(ID, "")
    if not isinstance(known, str) or len(known) > MOST_OF_ID:
        raise DataError(f"{ID} must be a text of at most {MOST_OF_ID} characters; got {_shown(known)}.")
    for name, kind in asked.items():
        if not _FITS[kind](row[name]):
            raise DataError(f"{name} must be {_WORDS[kind]}, and not empty; got {_shown(row[name])}.")
    if (total := length(asked, row)) > MOST_CHARACTERS:
        raise DataError(f"has {total:,} characters, and may have {MOST_CHARACTERS:,}. Send a shorter text.")


def length(asked: Mapping[str, str], row: Mapping[str, Any]) -> int:
    """Characters of what a row is asked with, base64 apart."""
    return sum(characters(row[name]) for name, kind in asked.items() if kind != FILE)


def _needed(asked: Mapping[str, str]) -> str:
    return ", ".join(f"{name!r} ({_WORDS[kind]})" for name, kind in asked.items())


def sample(asked: Mapping[str, str]) -> dict[str, Any]:
    """A row that shows what a request looks like, with nothing of anybody's data in it."""
    return {name: _SAMPLES[name] if name in _SAMPLES else _SAMPLES_OF[kind] for name, kind in asked.items()}


def file_of(name: str, value: str) -> bytes:
    """The bytes that a field holds in base64.

    Raises:
        DataError: It is no base64.
    """
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name} must be the bytes of a file in base64: {error}.") from None


def _shown(value: Any) -> str:
    """A value in an error: short, whatever it is."""
    text = repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()  # JSON can hold halves of a character, which no tokeniser takes
    except UnicodeEncodeError:
        return False
    return True


def _is_list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and 0 < len(value) <= MOST_ENTRIES and all(map(of, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and {*value} == {"role", "content"} and value["role"] in _ROLES and _is_text(value["content"])


_ROLES = ("system", "user", "assistant")
_FITS: Mapping[str, Callable[[Any], bool]] = {
    TEXT: _is_text,
    TEXTS: _is_list(_is_text),
    NUMBERS: _is_list(_is_number),
    TURNS: _is_list(_is_turn),
    FILE: _is_text,
}
_WORDS = {
    TEXT: "a text",
    TEXTS: "a list of texts",
    NUMBERS: "a list of whole numbers",
    TURNS: "a list of turns with role and content",
    FILE: "the bytes of a file in base64",
}


def _silence() -> str:
    """A twentieth of a second of it."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))  # one channel, of one byte
        file.writeframes(b"\x80" * 400)
    return base64.b64encode(written.getvalue()).decode()


_SAMPLES: Mapping[str, Any] = {
    "task": "1",
    "question": "Which river flows through Paris?",
    "context": "The Seine flows through Paris.",
    # A grey square of 8 x 8 pixels.
    "image": "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg==",
    "sound": _silence(),
}
_SAMPLES_OF: Mapping[str, Any] = {
    TEXT: "An example of a text.",
    TEXTS: ["An", "example"],
    NUMBERS: [10, 20],
    TURNS: [{"role": "user", "content": "An example of a question?"}],
}


def characters(value: Any) -> int:
    """Characters of all texts in a value; each number counts as one."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(characters, value.values()))
    return sum(map(characters, value)) if isinstance(value, (list, tuple)) else 1
