"""Opening the database that holds ledgers, and saying its errors as ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import process
from workbench.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

BUSY_SECONDS = 60
"""How long a writer waits for another one: a checkpoint must not be lost to a busy file."""


def default_url(folder: Path) -> str:
    """The default database: a SQLite file in `folder`."""
    return f"sqlite:///{folder.resolve() / 'optuna.db'}"


def open_storage(url: str, *, create: bool, read_only: bool = False) -> RDBStorage:
    """Optuna's storage at `url`; without `create` it must be there.

    With `read_only` the database itself refuses every write, no lock is taken, and each query has a connection of its own that is
    closed after it: such a reader can hold nobody up, and sees a store that was moved or made anew.

    Raises:
        UsageError: `url` is no database URL, or nothing is there.
        EnvironmentFault: It cannot be opened, or written where `create` is set.
    """
    path = sqlite_path(url)
    if path is None:
        with mapped(url):
            if read_only:
                return _connect(url, _server_reader(url), create)
            return _connect(url, {"pool_pre_ping": True}, create)  # a server may have been restarted since the last checkpoint
    if not create and not path.is_file():
        raise UsageError(f"there is no ledger {path}. Run `workbench sweep STUDY` first, or name the store with --storage.")
    if read_only:
        with mapped(url):
            return _connect(url, _file_reader(path), create)
    if create and not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise EnvironmentFault(f"the ledger {path} cannot be written. Work in a folder that you may write to, or use --storage.")
    with mapped(url), process.exclusive(path.absolute().parent):  # two that make the tables at once would meet each other's half
        storage = _connect(url, {"connect_args": {"timeout": BUSY_SECONDS}}, create)
        if create:
            with storage.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    return storage


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases. Raises UsageError when `url` is no database URL."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except ArgumentError:
        raise UsageError(
            f"--storage {url!r} is not a database URL. Use for instance sqlite:///optuna.db or postgresql+psycopg2://user@host/name."
        ) from None
    if parts.get_backend_name() != "sqlite":
        return None
    if not parts.database or parts.database == ":memory:":
        raise UsageError(f"--storage {url!r} names no file, and a ledger is kept. Use for instance sqlite:///optuna.db.")
    return Path(parts.database)


def shown(url: str) -> str:
    """The URL without a password; the path of a SQLite file."""
    from sqlalchemy import make_url

    with contextlib.suppress(Exception):
        return str(sqlite_path(url) or make_url(url).render_as_string(hide_password=True))
    return url


@contextlib.contextmanager
def mapped(url: str) -> Iterator[None]:
    """The storage's own errors, said as ours."""
    import sqlalchemy.exc as sql
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sql.SQLAlchemyError, StorageInternalError, ImportError, _Incompatible) as error:
        cause: BaseException = error
        while isinstance(cause, StorageInternalError) and cause.__cause__:
            cause = cause.__cause__
        detail = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0].rstrip(".")
        raise EnvironmentFault(f"the ledger {shown(url)} cannot be used: {detail}. {_advice(detail)}") from error
    except OSError as error:
        raise EnvironmentFault(f"the ledger {shown(url)} cannot be used: {error.strerror}. {_advice(str(error))}") from error


class _Incompatible(Exception):
    """Optuna's tables there are of another version."""


def _file_reader(path: Path) -> dict[str, Any]:
    """Engine options that open a SQLite file for reading alone.

    In WAL mode readers and the writer do not wait for each other; `mode=ro` also leaves the checkpointing to the writers.
    """
    from sqlalchemy.pool import NullPool

    address = f"{path.absolute().as_uri()}?mode=ro"
    return {
        "creator": lambda: sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False),
        "poolclass": NullPool,
    }


def _server_reader(url: str) -> dict[str, Any]:
    """Engine options of a server's reader; PostgreSQL is told to refuse writes."""
    from sqlalchemy import make_url
    from sqlalchemy.pool import NullPool

    postgres = make_url(url).get_backend_name() == "postgresql"
    return {"poolclass": NullPool} | (
        {"connect_args": {"options": "-c default_transaction_read_only=on", "connect_timeout": 10}} if postgres else {}
    )


def _connect(url: str, engine_kwargs: dict[str, Any], create: bool) -> RDBStorage:
    import warnings

    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                storage = RDBStorage(url, engine_kwargs, skip_table_creation=not create)
            except (IntegrityError, ProgrammingError):  # another host made the tables at this moment
                storage = RDBStorage(url, engine_kwargs, skip_table_creation=not create)
        except RuntimeError as error:
            raise _Incompatible(str(error)) from error
    if storage.engine.name == "sqlite":
        event.listen(storage.engine, "connect", _fast_sqlite)
        storage.engine.dispose()
    return storage


def _fast_sqlite(connection: Any, _: Any) -> None:
    # In WAL mode NORMAL loses nothing to a kill of the process, only, at worst, the last commits to a power cut.
    connection.execute("PRAGMA synchronous=NORMAL")


def _advice(detail: str) -> str:
    hints = {
        "not a database": "Move that file away, or name another store with --storage.",
        "full": "Free some disk space and run the same command again: it continues.",
        "No space": "Free some disk space and run the same command again: it continues.",
        "readonly": "Work in a folder that you may write to, or name another store with --storage.",
        "unable to open": "Check the folder, or name another store with --storage.",
        "no such file": "Check the folder, or name another store with --storage.",
        "locked": "Another program holds it; close that and run the same command again.",
        "no such table": "It is another program's: name another store with --storage.",
        "does not exist": "Run `workbench sweep STUDY` first, or name another store with --storage.",
        "module": "Install the database's Python driver.",
        "plugin": "Install the database's Python driver, or check the first word of the address.",
        "schema": "Use the Optuna that wrote it, or upgrade it with `optuna storage upgrade`.",
    }
    return next(
        (hint for word, hint in hints.items() if word.lower() in detail.lower()), "Check the address and that the server is up."
    )
