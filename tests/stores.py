"""SQLite files of tests: never waited for until they are on the disk, which is of use after a power cut only.

MLflow's stores are copies of one that was made at first: it takes seconds of migrations, and a test makes a few of them. So are
ledgers: making Optuna's tables is half of what a test that writes some Results takes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from workbench.ledger import store as ledgers
from workbench.tracking import store as notebooks

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

EMPTY = "WORKBENCH_TESTS_EMPTY_STORE"
"""Names the file of the store that is copied, for the commands that a test begins as well."""

_create, _connect = notebooks._create, ledgers._connect


@event.listens_for(Engine, "connect")
def _without_the_disk(connection: object, _: object = None) -> None:
    if isinstance(connection, sqlite3.Connection):
        with contextlib.suppress(sqlite3.Error):  # it is no database: that is found out later
            connection.execute("PRAGMA synchronous=OFF")


def _copy(of: Path, to: Path, draft: str) -> None:
    shutil.copyfile(of, to.with_name(draft))
    to.with_name(draft).replace(to)


def _copied(path: Path) -> None:
    empty = Path(os.environ[EMPTY]) if EMPTY in os.environ else None
    if empty is None or not empty.exists():
        _create(path)
        if empty is not None:
            _copy(path, empty, f"{empty.name}.{os.getpid()}")
    else:
        _copy(empty, path, f".{path.name}.new")


def _connected(url: str, engine_kwargs: dict[str, Any], create: bool) -> RDBStorage:
    path = ledgers.sqlite_path(url)
    if not create or path is None or path.exists() or EMPTY not in os.environ:
        return _connect(url, engine_kwargs, create)
    empty = Path(os.environ[EMPTY]).with_name("empty-ledger.db")
    if empty.exists():
        shutil.copyfile(empty, path)
        return _connect(url, engine_kwargs, False)
    made = _connect(url, engine_kwargs, True)
    _copy(path, empty, f"{empty.name}.{os.getpid()}")
    return made


ledgers._fast_sqlite = _without_the_disk
ledgers._connect = _connected
notebooks._create = _copied
