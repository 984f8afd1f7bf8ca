"""The store behind the tracker: opened without long retries, and created whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.util
import logging
import os
import re
import shlex
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from workbench import process
from workbench.data import cache
from workbench.errors import EnvironmentFault, UsageError
from workbench.process import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The writer has its own patience; MLflow's is 7 retries of 120 s each.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for data
}


def examine(tracking_uri: str) -> str:
    """What the store at this URI is, in words, changing nothing.

    Raises:
        EnvironmentFault: It cannot be used: it does not answer, is no store of MLflow's, or one of an older or a newer MLflow.
        UsageError: As `sqlite_path`.
    """
    path = sqlite_path(tracking_uri)
    if re.match(r"https?:", tracking_uri):
        return _ask_server(tracking_uri)
    if path is None and not _is_database(tracking_uri):
        return f"{without_secrets(tracking_uri)} (not asked)"
    if path is not None and not path.exists():
        return f"{path} (not there yet; made by the first sweep)"
    if path is not None and _is_empty(path):
        return f"{path} (an empty file; made a store by the first sweep)"
    try:
        contents = _look(tracking_uri)
    except Exception as error:  # whatever a database, its driver or SQLAlchemy raises
        lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        advice = "Move it away" if path else "Start it, or correct its address"
        raise EnvironmentFault(
            f"{named(tracking_uri)} cannot be used: {without_secrets(lines[0])}. {advice}, or give --tracking-uri."
        ) from error
    if text := _unfit(tracking_uri, contents):
        raise EnvironmentFault(text)
    return f"{named(tracking_uri)}: {contents.runs} runs" if contents.tables else f"{named(tracking_uri)} (made by the first sweep)"


def check(tracking_uri: str) -> None:
    """Make sure that a database is of the installed MLflow, or empty, before MLflow touches it; stores that are none pass.

    Raises:
        EnvironmentFault: It is another program's, or an older or a newer MLflow's; the text says what to do.
        Exception: Whatever the database or its driver raise where it cannot be opened.
    """
    if _is_database(tracking_uri) and (text := _unfit(tracking_uri, _look(tracking_uri))):
        raise EnvironmentFault(text)


class _Contents(NamedTuple):
    """What a database holds: names of its tables, the version of MLflow's schema, and how many runs."""

    tables: frozenset[str]
    version: str | None = None
    runs: int = 0


def _look(tracking_uri: str) -> _Contents:
    """Look into a database without writing to it. Raises what SQLAlchemy and the driver raise."""
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    path = sqlite_path(tracking_uri)
    options: dict[str, Any] = {}
    if path is not None:
        address = f"{path.resolve().as_uri()}?mode=ro"
        options = {"creator": lambda: sqlite3.connect(address, uri=True, timeout=10, check_same_thread=False)}
    elif tracking_uri.startswith("postgres"):
        options = {"connect_args": {"connect_timeout": 10}}
    engine = sqlalchemy.create_engine("sqlite://" if path else tracking_uri, poolclass=NullPool, **options)
    with engine.connect() as connection:
        tables = frozenset(sqlalchemy.inspect(connection).get_table_names())
        if not tables >= _OURS:
            return _Contents(tables)
        version = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()
        return _Contents(tables, version, connection.execute(sqlalchemy.text("SELECT count(*) FROM runs")).scalar() or 0)


_OURS = frozenset(("alembic_version", "experiments", "runs"))
"""Tables of every store since MLflow 1.0."""


def _unfit(tracking_uri: str, contents: _Contents) -> str:
    """Why the installed MLflow cannot use such a database, and what to do; empty where it can."""
    where = named(tracking_uri)
    if not contents.tables:
        return ""
    if not contents.tables >= _OURS:
        some = ", ".join(sorted(contents.tables)[:4])
        return (
            f"{where} is another program's database (it holds {some}), and no store of MLflow's. Give --tracking-uri another one."
        )
    head, revisions = schemas()
    if not head or contents.version == head:
        return ""
    installed = f"the installed MLflow {metadata.version('mlflow')}"
    if contents.version and contents.version not in revisions:
        return (
            f"{where} was made by a newer MLflow: {installed} does not know its schema, {contents.version}. "
            "Upgrade it (pip install --upgrade mlflow), or give --tracking-uri another store."
        )
    keep = "Copy the file" if sqlite_path(tracking_uri) else "Make a backup"
    return (
        f"{where} was made by an older MLflow: its schema is {contents.version}, and {installed} needs {head}. "
        f"{keep} while nobody writes to it, then run `mlflow db upgrade {shlex.quote(without_secrets(absolute(tracking_uri)))}`."
    )


@functools.cache
def schemas() -> tuple[str, frozenset[str]]:
    """The version of the schema that the installed MLflow needs, and all that it knows; empty where it does not say.

    They are read from its migrations without importing it, which takes seconds.
    """
    spec = importlib.util.find_spec("mlflow")
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions" if spec and spec.origin else Path()
    revisions, older = set(), set()
    for file in folder.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        revisions |= set(re.findall(r"""^revision(?:: str)? = ["'](\w+)["']""", text, re.MULTILINE))
        for line in re.findall(r"^down_revision(?::[^=]*)? = (.+)$", text, re.MULTILINE):
            older |= set(re.findall(r"""["'](\w+)["']""", line))
    heads = revisions - older
    return (heads.pop() if len(heads) == 1 else ""), frozenset(revisions)


def _ask_server(tracking_uri: str) -> str:
    """Whether something answers at this address, in words. Raises EnvironmentFault where nothing does."""
    parts, where = urlsplit(tracking_uri), without_secrets(tracking_uri)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health"))
    try:
        with contextlib.suppress(urllib.error.HTTPError):  # it answers: who may ask for what is no matter here
            urllib.request.urlopen(plain, timeout=5).close()  # noqa: S310  http, as was asked for
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise EnvironmentFault(
            f"the MLflow server {where} does not answer: {reason}. Start it, or give --tracking-uri another address."
        ) from error
    return f"{where} answers"


def default_file(folder: Path) -> Path:
    """Where MLflow's store lies in a folder, unless another one is named: `mlflow.db`, absolute."""
    return folder.resolve() / "mlflow.db"


def default_uri(folder: Path) -> str:
    """The tracking URI of `default_file`."""
    return uri_of(default_file(folder))


def uri_of(path: Path, options: Mapping[str, Any] | None = None) -> str:
    """The tracking URI of a SQLite file, whatever signs are in its path.

    MLflow takes what follows `sqlite:///` for the path of a folder to make, and SQLAlchemy since 2.1 for an escaped one: where
    these differ the driver is named as well, and MLflow leaves the folder alone. SQLAlchemy before 2.1 escapes nothing: where
    that leads elsewhere the path is given as SQLite's own `file:` URI.

    Args:
        path: The file.
        options: What stands behind the `?`, for SQLite's driver.
    """
    from sqlalchemy import URL, make_url

    if "uri" not in (options or {}):
        for driver in ("sqlite", "sqlite+pysqlite"):
            url = URL.create(driver, database=str(path))
            text = url.render_as_string()
            if make_url(text) == url and (driver != "sqlite" or text == f"sqlite:///{path}"):
                return url.set(query=dict(options or {})).render_as_string()
    url = URL.create("sqlite+pysqlite", database=path.absolute().as_uri(), query={"uri": "true", **(options or {})})
    return url.render_as_string()


def absolute(tracking_uri: str) -> str:
    """The URI that leads to the same store from any folder: that of a SQLite file is made absolute. Raises as `sqlite_path`."""
    path = sqlite_path(tracking_uri)
    if path is None:
        return tracking_uri
    from sqlalchemy import make_url

    return uri_of(path.resolve(), make_url(tracking_uri).query)


def sqlite_path(tracking_uri: str) -> Path | None:
    """The file of a SQLite store; None for every other store.

    Raises:
        UsageError: What stands behind a `?` is no option of SQLite's driver but the rest of a path, which would be lost.
    """
    if not tracking_uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(tracking_uri)
    except (ArgumentError, ValueError):
        return None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    _, _, asked = tracking_uri.partition("?")
    options = [part.partition("=") for part in re.split("[&;]", asked)] if asked else []
    if any(not sign or ("uri" not in url.query and name not in _OPTIONS) for name, sign, _ in options):
        whole = Path(re.sub(r"^sqlite[^:]*:///", "", tracking_uri))
        raise UsageError(
            f"--tracking-uri {tracking_uri!r}: what follows the '?' is read as options, and the store would lie at {url.database}. "
            f"Give that path so: {uri_of(whole)!r}"
        )
    if not url.database.startswith("file:"):
        return Path(url.database)
    path = url2pathname(urlsplit(url.database).path)
    return None if path == ":memory:" or url.query.get("mode") == "memory" else Path(path)


_OPTIONS = ("timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements", "uri", "autocommit")
"""Options of SQLite's driver that a URI may set."""


def _is_empty(path: Path) -> bool:
    """Whether a file that is there holds nothing, nor its write-ahead log."""
    log = path.with_name(f"{path.name}-wal")
    return path.is_file() and not path.stat().st_size and not (log.exists() and log.stat().st_size)


def _is_database(tracking_uri: str) -> bool:
    return re.match(r"(sqlite|postgres|mysql|mssql)\w*(\+\w+)?:", tracking_uri) is not None


def named(tracking_uri: str) -> str:
    """What a store is called in a sentence: the path of a SQLite file, the URI of others without a password."""
    return str(sqlite_path(tracking_uri) or without_secrets(tracking_uri))


def artifact_root(tracking_uri: str) -> str | None:
    """Where new experiments keep their files: beside a SQLite store; here for other databases; None lets a server decide."""
    path = sqlite_path(tracking_uri)
    if path is not None:
        return (path.resolve().parent / "mlartifacts").as_uri()
    return None if re.match(r"(https?|databricks|uc)\b", tracking_uri) else (Path.cwd() / "mlartifacts").as_uri()


def load() -> None:
    """Import MLflow with telemetry off, quietly; 2 to 4 seconds the first time.

    Settings that the user made in the environment stand.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    cache.make_home()  # MLflow asks for it when it is imported
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401

    # MLflow logs tracebacks of what it raises as well; the writer reports each outage once, in a sentence.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the store; a SQLite store that does not exist is created.

    Raises:
        EnvironmentFault: As `check`.
        Exception: Whatever the store, its driver or MLflow raise where it cannot be opened.
    """
    load()
    from mlflow import MlflowClient

    path = sqlite_path(tracking_uri)
    if path is not None:
        with exclusive(tracking_uri):
            if not path.exists() or _is_empty(path):
                _create(path)
        # Also finds out a file that is no database at once, where MLflow would retry for a minute and a half.
        _use_wal(path)
    check(tracking_uri)
    return MlflowClient(tracking_uri)


@contextlib.contextmanager
def exclusive(tracking_uri: str) -> Iterator[None]:
    """Held by one process at a time, for finding or creating one thing. On stores other than SQLite it holds nobody back."""
    path = sqlite_path(tracking_uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with process.exclusive(path.parent):
        yield


def _create(path: Path) -> None:
    """Create the store beside its place and move it there: a kill between two of MLflow's migrations leaves no broken store."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = path.with_name(f".{path.name}.new")
    for leftover in path.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    try:
        # Without a write-ahead log: where the disk is full that may not go into the file at the end, and nobody is told.
        SqlAlchemyStore(uri_of(draft), artifact_root(uri_of(path)))
    finally:  # another try must not meet this one's connections, which are to a file that is gone
        engine = getattr(SqlAlchemyStore, "_engine_map", {}).pop(uri_of(draft), None)
        if engine is not None:
            engine.dispose()
    draft.replace(path)


def _use_wal(path: Path) -> None:
    """Write-ahead logging, for good: readers never block the writer, and runs are logged 2.3 times faster."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
        database.execute("PRAGMA journal_mode=WAL")
