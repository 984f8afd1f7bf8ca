"""What every page is given: the ledger as it was read, and the prices and objectives that the reader chose.

The ledger is read anew at each run of the script, by a connection that cannot write and is closed at once; what was
parsed before is kept. Every choice has its place in the URL, so that an address says what its reader saw.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import choices
import streamlit as st
from streamlit.navigation.page import StreamlitPage

from workbench.errors import WorkbenchError
from workbench.forecast.calibration import Calibration, kept
from workbench.front.objectives import View, view_of
from workbench.front.points import Points
from workbench.ledger import Ledger, LedgerSnapshot, default_url
from workbench.ledger.store import sqlite_path
from workbench.result import Result


@dataclass(frozen=True)
class Context:
    """What a page shows.

    Attributes:
        name: The study's full name.
        description: What was noted of the study when its ledger was made.
        results: Finished Results in the order of their trials.
        running: Results that are being made, as they stood at the last heartbeat.
        leases: The records of their workers: process, host, heartbeat, spend.
        ended: How the last sweep ended; None while one works, or if it was killed.
        mlflow_runs: MLflow's run id for each run id that has one.
        view: The prices and objectives chosen.
        cost: The cost axis chosen, a name of `workbench.report.axes.AXES`.
        url: The URL of the ledger's database.
        version: Changes when a Result is added. What was computed for a version holds for the next run of the script too.
        pages: The pages, by the names of their files.
    """

    name: str
    description: Mapping[str, Any]
    results: Sequence[Result]
    running: Sequence[Result]
    leases: Sequence[Mapping[str, Any]]
    ended: Mapping[str, Any] | None
    mlflow_runs: Mapping[str, str]
    view: View
    cost: str
    url: str
    version: tuple[Any, ...]
    pages: Mapping[str, StreamlitPage] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """Version, prices and objectives: the key of what is computed from Results at these prices (`st.cache_data`)."""
        return (*self.version, self.view.offer.id, self.view.label_usd, self.view.maximize, *self.view.minimize)

    @property
    def calibration(self) -> Calibration | None:
        """What was timed of this machine, kept beside the ledger; None where nothing was, or it cannot be read."""
        path = sqlite_path(self.url)
        with contextlib.suppress(WorkbenchError):
            return kept(Path.cwd() if path is None else path.parent)
        return None

    @property
    def points(self) -> Points:
        """The study's points at these prices, worked out once for each `key`."""
        return _points(self.key, self)


# A resource is handed out as it is, where `cache_data` would copy all points for every rerun.
@st.cache_resource(show_spinner=False, max_entries=16)
def _points(key: tuple[Any, ...], _context: Context) -> Points:
    return Points.of(_context.results, _context.view)


def warm(url: str, wanted: str | None) -> None:
    """Read and work out what the first page will ask for, while its reader is still on the way.

    Raises:
        WorkbenchError: The ledger, or the study, is not there. The page says so too.
    """
    name = wanted or _names(url)[-1]
    reading = read(url, name)
    view = view_of(reading.description)  # the reader has chosen nothing yet
    made = _context(url, name, reading, _version(url, name, reading), view, view.minimize[0])
    made.points  # noqa: B018  kept for the page


def open_context(pages: Mapping[str, StreamlitPage]) -> Context | None:
    """Read the ledger and the sidebar's choices. Where there is nothing to show, say why, and return None."""
    # Streamlit runs this file without arguments: the command hands over its own in the environment.
    url = os.environ.get("WORKBENCH_STORAGE") or default_url(Path.cwd())
    try:
        names = _names(url)
        name = choices.study(names, os.environ.get("WORKBENCH_DASHBOARD_STUDY"))
        with st.spinner("Reading the ledger …"):  # shown after a tenth of a second
            reading = read(url, name)
        version = _version(url, name, reading)
        view, cost = choices.view(reading, version)
    except WorkbenchError as error:
        st.error(_sentence(str(error)))
        # Nothing waits for the answer: any click runs the script anew, and with it the reading.
        st.button("Try again")
        return None
    return replace(_context(url, name, reading, version, view, cost), pages=pages)


def _version(url: str, name: str, reading: LedgerSnapshot) -> tuple[Any, ...]:
    # Results are never changed, so their number tells a new one.
    # Edited data or code outdates some of them without adding any.
    return url, _file(url), name, len(reading.results), sum(bool(r.outdated) for r in reading.results)


def _context(url: str, name: str, reading: LedgerSnapshot, version: tuple[Any, ...], view: View, cost: str) -> Context:
    return Context(
        name=name,
        description=reading.description,
        results=reading.results,
        running=[lease.result for lease, _ in reading.leases],
        leases=[record for _, record in reading.leases],
        ended=reading.ended,
        mlflow_runs=reading.mlflow_runs,
        view=view,
        cost=cost,
        url=url,
        version=version,
    )


def _names(url: str) -> list[str]:
    """Return the names of all studies, the newest last, as of `NAMES_SECONDS` ago at most."""
    ledger = _newest(url, _file(url))
    return [*ledger.others, ledger.name]


NAMES_SECONDS = 30.0
"""How long the list of studies may be old: a new one may have begun meanwhile."""


@st.cache_resource(show_spinner=False, max_entries=16, ttl=NAMES_SECONDS)
def _newest(url: str, of_file: tuple[int, int] | None) -> Ledger:
    return Ledger.find(None, url, read_only=True)


def read(url: str, name: str) -> LedgerSnapshot:
    """Return all that the ledger says of a study now. Raises what `Ledger.find` raises."""
    ledger, lock = _ledger(url, name, _file(url))
    with lock:  # two readers of the page are two threads
        return ledger.read()


@st.cache_resource(show_spinner=False, max_entries=16)
def _ledger(url: str, name: str, of_file: tuple[int, int] | None) -> tuple[Ledger, threading.Lock]:
    """Return the ledger's reader, which remembers what it has parsed: only what is new is read again."""
    ledger = Ledger.find(name, url, read_only=True)
    ledger.read()
    gc.freeze()  # these objects stay: the collector need not look at all of them again while somebody moves a slider
    return ledger, threading.Lock()


def _file(url: str) -> tuple[int, int] | None:
    """Return the identity of the file: a store that was removed and made anew has nothing to do with the old one."""
    path = sqlite_path(url)
    if path is None or not path.exists():
        return None
    found = path.stat()
    return found.st_dev, found.st_ino


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
