"""A quick look into a ledger for a shell's completion: SQLite's own library, without Optuna, which takes a second to import.

Everything that is wrong gives nothing: the command that is being typed will say what.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from workbench.ledger.address import file_of
from workbench.ledger.create import _DRAFT, RESULT, STUDY
from workbench.result.model_names import model_name

_WAIT_SECONDS = 0.2


def names(url: str) -> list[str]:
    """Names of all studies, oldest first; none of a database that is no SQLite file."""
    query = (
        "SELECT s.study_name FROM studies s JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key = ? "
        "ORDER BY s.study_id"
    )
    return [name for (name,) in _asked(url, query, STUDY) if not name.startswith(_DRAFT)]


def runs(url: str, name: str | None, beginning: str, most: int) -> dict[int, str]:
    """The newest runs of a study whose trial begins so: by trial, in words. `name` may be a stem; None is the newest study."""
    full = next((n for n in reversed(names(url)) if name in (None, n, n.rsplit("-", 1)[0])), None)
    query = (
        "SELECT a.value_json FROM trials t JOIN studies s ON s.study_id = t.study_id "
        "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = ? "
        "WHERE s.study_name = ? AND CAST(t.number AS TEXT) LIKE ? ORDER BY t.number DESC LIMIT ?"
    )
    found = {}
    for (text,) in _asked(url, query, RESULT, full, f"{beginning}%", most):
        with contextlib.suppress(KeyError, TypeError):  # another program's
            record = json.loads(text)
            if str(record["trial"]).startswith(beginning):
                found[record["trial"]] = _told(record)
    return found


def _told(record: dict[str, Any]) -> str:
    recipe = record["recipe"]
    return f"{recipe['method']['name']} on {Path(model_name(recipe)).name}, {record['status']}"


def _asked(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows, read without waiting for a writer for long; none where anything is wrong."""
    path = file_of(url)
    if path is None or not path.is_file():
        return []
    with contextlib.suppress(sqlite3.Error):
        address = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)) as connection:
            return connection.execute(query, values).fetchall()
    return []
