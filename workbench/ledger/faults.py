"""A database's own errors, said as ours; and which of them pass by themselves."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from workbench import process
from workbench.errors import EnvironmentFault
from workbench.ledger.address import file_of
from workbench.ledger.patience import Away

_SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
"""Primary codes: others hold it, or its disk, which may be another machine's, failed."""

_SQLSTATES = ("08", "40", "53", "57P", "55P03", "25P03")
"""Beginnings of the codes of what passes: connections cut, deadlocks, no more connections or memory, a server that starts or
shuts down, a lock that was not given in time, a session that was ended because it stood still in the middle."""

_DISK_FULL_STATE = "53100"

_MYSQL_CODES = {1040, 1053, 1205, 1213, 2002, 2003, 2006, 2013, 2055}
"""Too many connections, shutting down, lock not given, deadlock, not reached, gone, lost."""

_SERVER_PASSES = (
    *("starting up", "shutting down", "recovery", "not yet accepting", "terminating"),
    *("too many", "remaining connection slots", "reserved for"),
    *("could not write", "could not extend", "No space left"),  # its disk is full
)
"""Words of a server that refuses a connection for a while; there is no code for that."""


class Incompatible(Exception):
    """Optuna's tables there are of another version."""


def shown(url: str) -> str:
    """The URL without a password; the path of a SQLite file."""
    from sqlalchemy import make_url

    path = file_of(url)
    if path is not None:
        return str(path)
    with contextlib.suppress(Exception):
        return process.without_secrets(make_url(url).render_as_string(hide_password=True))
    return process.without_secrets(url)


@contextlib.contextmanager
def mapped(url: str) -> Iterator[None]:
    """The storage's own errors, said as ours: `Away` where they pass by themselves, else EnvironmentFault."""
    import sqlalchemy.exc as sql
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sql.SQLAlchemyError, sqlite3.Error, StorageInternalError, ImportError, Incompatible) as error:
        cause: BaseException = error
        while isinstance(cause, StorageInternalError) and cause.__cause__:
            cause = cause.__cause__
        driver: Any = getattr(cause, "orig", None) or cause
        detail = (str(driver).strip() or type(driver).__name__).splitlines()[0].rstrip(".")
        raise _fault(url, detail, passes(cause), is_full(driver)) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:  # the file is damaged, or another program has written into it
        raise _fault(url, f"it holds what is no text or no JSON ({error})", False, False) from error
    except OSError as error:
        full, passes_by = error.errno in (errno.ENOSPC, errno.EDQUOT), error.errno in (errno.ESTALE, errno.EIO)
        raise _fault(url, error.strerror or str(error), passes_by, full, str(error)) from error


def _fault(url: str, detail: str, away: bool, full: bool, told: str = "") -> EnvironmentFault:
    text = f"the ledger {shown(url)} cannot be used: {detail}. {_advice(told or detail)}"
    # A server's disk is not this one: nothing that could be dropped here makes room there, and somebody looks after it.
    return Away(text, detail, full=full and file_of(url) is not None) if away or full else EnvironmentFault(text)


def passes(error: BaseException) -> bool:
    """Whether such an error of a database passes by itself, so that the same may be asked again."""
    import sqlalchemy.exc as sql

    if isinstance(error, sql.TimeoutError) or getattr(error, "connection_invalidated", False):
        return True
    driver: Any = getattr(error, "orig", None) or error
    if isinstance(driver, sqlite3.Error):
        return (getattr(driver, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_BUSY
    state = getattr(driver, "pgcode", None) or getattr(driver, "sqlstate", None)
    if state:
        return str(state).startswith(_SQLSTATES)
    arguments = getattr(driver, "args", ())
    if arguments and isinstance(arguments[0], int):
        return arguments[0] in _MYSQL_CODES
    if not isinstance(error, (sql.OperationalError, sql.InterfaceError)):
        return False
    # No code: the server was not reached, or it has refused the connection, and says `FATAL` and why, in its own language.
    text = str(driver)
    return "FATAL" not in text or any(words in text for words in _SERVER_PASSES)


def is_full(driver: object) -> bool:
    """Whether a driver's error says that the disk is full."""
    if isinstance(driver, sqlite3.Error):
        return (getattr(driver, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_FULL
    return _DISK_FULL_STATE in (getattr(driver, "pgcode", None), getattr(driver, "sqlstate", None))


def _advice(detail: str) -> str:
    hints = {
        "not a database": "Move that file away, or name another store with --storage.",
        "full": "Free some disk space and run the same command again: it continues.",
        "No space": "Free some disk space and run the same command again: it continues.",
        "readonly": "Work in a folder that you may write to, or name another store with --storage.",
        "unable to open": "Check the folder, or name another store with --storage.",
        "no such file": "Check the folder, or name another store with --storage.",
        "locked": "Another program holds it; close that and run the same command again.",
        "no text or no JSON": "It is damaged, or another program has written into it: name another store with --storage.",
        "no such table": "It is another program's: name another store with --storage.",
        "does not exist": "Run `workbench sweep STUDY` first, or name another store with --storage.",
        "permission denied": "Its role may only read, as `workbench front`, `status` and `dashboard` do: write as another one.",
        "module": "Install the database's Python driver.",
        "plugin": "Install the database's Python driver, or check the first word of the address.",
        "schema": "Use the Optuna that wrote it, or upgrade it with `optuna storage upgrade`.",
    }
    return next(
        (hint for word, hint in hints.items() if word.lower() in detail.lower()), "Check the address and that the server is up."
    )
