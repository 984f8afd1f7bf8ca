"""Opening the database that holds ledgers."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import process
from workbench.errors import EnvironmentFault, UsageError
from workbench.ledger.address import file_of, url_of
from workbench.ledger.faults import Incompatible, mapped

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

BUSY_SECONDS = 60
"""How long a writer waits for another one: a checkpoint must not be lost to a busy file."""

_CONNECT_SECONDS = 10
"""How long a server may take to answer at all."""

_OPENINGS = 8
"""How often the tables of a new database are made, which other hosts may be making at the same moment."""

_OPTIONS = {
    *("uri", "timeout", "mode", "cache", "immutable", "nolock", "vfs", "psow", "modeof"),
    *("detect_types", "isolation_level", "check_same_thread", "cached_statements"),
}
"""What may stand behind the `?` of a SQLite URL."""

_EXAMPLES = "sqlite:///optuna.db or postgresql+psycopg2://user@host/name"


def open_storage(url: str, *, create: bool, read_only: bool = False) -> RDBStorage:
    """Optuna's storage at `url`; without `create` it must be there.

    With `read_only` the database itself refuses every write, no lock is taken, and each query has a connection of its own that is
    closed after it: such a reader can hold nobody up, and sees a store that was moved or made anew.

    Raises:
        UsageError: `url` is no database URL, or nothing is there.
        EnvironmentFault: It cannot be opened, or written where `create` is set; `Away` where that may pass.
    """
    path = sqlite_path(url)
    if path is None:
        with mapped(url):
            return _connect(url, _server(url, read_only=read_only), create)
    if not create and not path.is_file():
        raise UsageError(f"there is no ledger {path}. Run `workbench sweep STUDY` first, or name the store with --storage.")
    if read_only:
        with mapped(url):
            return _connect(url, _file_reader(path), create)
    # SQLite would open it all the same, and say "readonly" at the first checkpoint, when training is paid for.
    if create and not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise EnvironmentFault(f"the ledger {path} cannot be written. Work in a folder that you may write to, or use --storage.")
    with mapped(url), process.exclusive(path.absolute().parent):  # two that make the tables at once would meet each other's half
        storage = _connect(url, _file(url), create)
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
    except (ArgumentError, ValueError):  # a port that is no number, too
        raise UsageError(
            f"--storage {process.without_secrets(url)!r} is not a database URL. Use for instance {_EXAMPLES}."
        ) from None
    if parts.get_backend_name() != "sqlite":
        return None
    path, asked = file_of(url), url.partition("?")[2]
    if path is None:
        raise UsageError(f"--storage {url!r} names no file, and a ledger is kept. Use for instance sqlite:///optuna.db.")
    unknown = [part for part in asked.split("&") if part.partition("=")[0] not in _OPTIONS]
    if asked and unknown:  # a path with a `?` in it would be cut there, and another file be taken for the ledger
        whole = Path(f"{path}?{asked}")
        raise UsageError(f"--storage {url!r}: a '?' in a path begins options, and {unknown[0]!r} is none. Write {url_of(whole)}.")
    return path


def _file(url: str) -> dict[str, Any]:
    """Engine options that open the SQLite file of a URL, whatever its folder is called."""
    from sqlalchemy import make_url

    parts = make_url(url)
    names, options = parts.get_dialect()().create_connect_args(parts)
    known: dict[str, Any] = {"timeout": BUSY_SECONDS, "check_same_thread": False, **options}
    # A creator of our own: SQLAlchemy would read a `?` or `%` in the folder's name as its own signs.
    return {"creator": lambda: sqlite3.connect(names[0], **known)}


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


def _server(url: str, *, read_only: bool) -> dict[str, Any]:
    """Engine options of a server: a connection that was cut is found out before it is used, and one that is dead soon after.

    A reader's are closed after each query, and PostgreSQL is told to refuse its writes.
    """
    from sqlalchemy import make_url
    from sqlalchemy.pool import NullPool

    parts = make_url(url)
    options: dict[str, Any] = {}
    if parts.drivername in ("postgresql", "postgresql+psycopg2", "postgresql+psycopg"):  # libpq's words
        alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
        options = {name: value for name, value in alive.items() if name not in parts.query}
        given = parts.query.get("options", "")  # such as a team's schema, `-c search_path=…`: it would be lost
        given = given if isinstance(given, str) else " ".join(given)
        options |= {"options": f"{given} -c default_transaction_read_only=on".strip()} if read_only else {}
    if parts.get_backend_name() in ("postgresql", "mysql", "mariadb") and "asyncpg" not in parts.drivername:
        name = "timeout" if parts.drivername.endswith("pg8000") else "connect_timeout"
        options |= {} if name in parts.query else {name: _CONNECT_SECONDS}
    # A worker has three threads, which ask for a moment once a second: a server's connections are few, and hundreds share them.
    pool: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 4}
    return {"connect_args": options} | ({"poolclass": NullPool} if read_only else pool)


def _connect(url: str, engine_kwargs: dict[str, Any], create: bool) -> RDBStorage:
    import warnings

    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Optuna fills braces in; of a file's path it needs none, as it is opened by its creator.
    address = "sqlite:///optuna.db" if "creator" in engine_kwargs else url.replace("{", "{{").replace("}", "}}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for left in reversed(range(_OPENINGS)):
                try:
                    storage = RDBStorage(address, engine_kwargs, skip_table_creation=not create)
                    break
                except (IntegrityError, ProgrammingError):  # other hosts make the tables at this moment, one after another
                    if not create or not left:
                        raise
                    time.sleep(random.uniform(0.0, 0.5))
        except RuntimeError as error:
            raise Incompatible(str(error)) from error
    storage.url = url
    if storage.engine.name == "sqlite":
        event.listen(storage.engine, "connect", _fast_sqlite)
        storage.engine.dispose()
    return storage


def _fast_sqlite(connection: Any, _: Any) -> None:
    # In WAL mode NORMAL loses nothing to a kill of the process, only, at worst, the last commits to a power cut.
    connection.execute("PRAGMA synchronous=NORMAL")
