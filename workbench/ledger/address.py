"""Addresses of ledgers that are SQLite files: written so that they can be read again, whatever the folder is called."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

_SQLITE = "sqlite"


def default_url(folder: Path) -> str:
    """The default database: a SQLite file in `folder`."""
    return url_of(folder.resolve() / "optuna.db")


def url_of(path: Path) -> str:
    """The URL of a SQLite file, as SQLAlchemy from 2.1 on reads it: what would end the path, or be decoded in it, is encoded."""
    return f"{_SQLITE}:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def file_of(url: str) -> Path | None:
    """The file of a SQLite URL; None of other databases, and where none is named. What is asked of it beside is not checked."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] != _SQLITE:
        return None
    name = urllib.parse.unquote(rest.partition("/")[2].partition("?")[0])
    if name.startswith("file:"):  # an address that SQLite itself decodes
        name = urllib.parse.unquote(urllib.parse.urlsplit(name).path)
    return Path(name) if name and name != ":memory:" else None
