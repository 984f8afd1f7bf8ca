"""A quick look into a ledger for a shell's completion: SQLite's own library, without Optuna, which takes a second to import.

Everything that is wrong gives nothing: the command that is being typed will say what.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from workbench.ledger.create import _DRAFT, RESULT

_SQLITE = "sqlite:///"
_WAIT_SECONDS = 0.2


def names(url: str) -> list[str]:
    """Names of all studies, oldest first; none of a database that is no SQLite file."""
    return [name for (name,) in _asked(url, "SELECT study_name FROM studies ORDER BY study_id") if not name.startswith(_DRAFT)]


def runs(url: str, name: str | None, beginning: str, most: int) -> dict[int, str]:
    """The newest runs of a study whose trial begins so: by trial, in words. `name` may be a stem; None is the newest study."""
    full = next((n for n in reversed(names(url)) if name in (None, n, n.rsplit("-", 1)[0])), None)
    query = (
        "SELECT a.value_json FROM trials t JOIN studies s ON s.study_id = t.study_id "
        "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = ? "
        "WHERE s.study_name = ? AND CAST(t.number AS TEXT) LIKE ? ORDER BY t.number DESC LIMIT ?"
    )
    records = [json.loads(text) for (text,) in _asked(url, query, RESULT, full, f"{beginning}%", most)]
    return {r["trial"]: _told(r) for r in records if str(r["trial"]).startswith(beginning)}


def _told(record: dict[str, Any]) -> str:
    recipe = record["recipe"]
    return f"{recipe['method']['name']} on {Path(recipe['model']).name}, {record['status']}"


def _asked(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows, read without waiting for a writer for long; none where anything is wrong."""
    path = Path(url.removeprefix(_SQLITE))
    if not url.startswith(_SQLITE) or not path.is_file():
        return []
    with contextlib.suppress(sqlite3.Error):
        address = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)) as connection:
            return connection.execute(query, values).fetchall()
    return []
