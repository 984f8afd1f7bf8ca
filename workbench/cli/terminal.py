"""What a terminal can show: no letter that it lacks ends a command with an error."""

from __future__ import annotations

import codecs
import os
import sys

_PLAIN = {"…": "...", "×": "x", "÷": "/", "±": "+/-", "≥": ">=", "≤": "<=", "–": "-", "—": "-", "·": "-", "→": "->", "ε": "e"}
"""What stands for our signs where there are none."""


def write_what_it_can() -> None:
    """Make standard output and error write letters that their encoding lacks as plain ones, or as question marks."""
    codecs.register_error("workbench", _plainly)
    for stream in (sys.stdout, sys.stderr):
        # A stream that a test or a notebook put in place may lack it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="workbench")


def is_unicode() -> bool:
    """Return whether standard output can write every letter."""
    return codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name.startswith("utf")


def is_coloured() -> bool:
    """Return whether colour is wanted (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    # The handler is for writing; bytes that cannot be read are an error.
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
