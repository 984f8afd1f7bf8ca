"""SQLite files of tests: never waited for until they are on the disk, which is of use after a power cut only.

MLflow's stores are copies of one that was made at first: it takes seconds of migrations, and a test makes a few of them.
"""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from workbench.ledger import store as ledgers
from workbench.tracking import store as notebooks

EMPTY = "WORKBENCH_TESTS_EMPTY_STORE"
"""Names the file of the store that is copied, for the commands that a test begins as well."""

_create = notebooks._create


@event.listens_for(Engine, "connect")
def _without_the_disk(connection: object, _: object = None) -> None:
    if isinstance(connection, sqlite3.Connection):
        with contextlib.suppress(sqlite3.Error):  # it is no database: that is found out later
            connection.execute("PRAGMA synchronous=OFF")


def _copied(path: Path) -> None:
    empty = Path(os.environ[EMPTY]) if EMPTY in os.environ else None
    if empty is None:
        _create(path)
        return
    if not empty.exists():
        _create(path)
        draft = empty.with_name(f"{empty.name}.{os.getpid()}")
        shutil.copyfile(path, draft)
        draft.replace(empty)
        return
    draft = path.with_name(f".{path.name}.new")
    shutil.copyfile(empty, draft)
    draft.replace(path)


ledgers._fast_sqlite = _without_the_disk
notebooks._create = _copied
