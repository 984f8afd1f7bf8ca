"""Takes samples that hold a certain example out of all Results of a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from workbench.ledger.create import RESULT
from workbench.ledger.faults import mapped
from workbench.ledger.store import open_storage, sqlite_path

Holds = Callable[[Mapping[str, Any]], bool]
"""Whether a sample, `{"example", "prediction"}`, holds what is to be forgotten."""


def drop_samples(url: str, holds: Holds) -> int:
    """Take samples out of the Results of all studies in a database, and have a SQLite file forget
    their bytes.

    Nothing else of a Result changes. In a database server the old rows are there until it tidies up
    (`VACUUM`).

    Args:
        url: The ledger's database.
        holds: Whether a sample is to go.

    Returns:
        How many samples went.

    Raises:
        UsageError: There is no such database.
        EnvironmentFault: It cannot be read or written.
    """
    import sqlalchemy as sql

    storage, gone = open_storage(url, create=False), 0
    found = sql.text("SELECT trial_user_attribute_id, value_json FROM trial_user_attributes WHERE key = :key")
    change = sql.text("UPDATE trial_user_attributes SET value_json = :value WHERE trial_user_attribute_id = :id")
    with mapped(url):
        with storage.engine.begin() as connection:
            if sqlite_path(url) is not None:
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            for number, text in connection.execute(found, {"key": RESULT}).all():
                kept, count = _without(text, holds)
                if count:
                    connection.execute(change, {"value": kept, "id": number})
                    gone += count
        if gone and sqlite_path(url) is not None:
            _overwrite(storage.engine)
    return gone


def _without(text: str, holds: Holds) -> tuple[str, int]:
    """The text of a Result without some samples, and how many those were."""
    record = json.loads(text)
    samples = record.get("samples") if isinstance(record, dict) else None
    kept = [sample for sample in samples or () if not holds(sample)]
    count = len(samples or ()) - len(kept)
    return (json.dumps({**record, "samples": kept}), count) if count else (text, 0)


def _overwrite(engine: Any) -> None:
    """Write a SQLite file anew: pages that were freed, and the log beside it, would still hold the
    text.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
