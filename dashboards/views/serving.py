"""The page Serving: what runs, what it costs, whether its rows have changed, and how good it is in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from context import Context
from parts import MONEY, SHORT, chart, table
from words import plain

from workbench import figures
from workbench.errors import WorkbenchError
from workbench.ledger.store import sqlite_path
from workbench.quantities import dollars
from workbench.report import in_use
from workbench.watching import feedback, history
from workbench.watching.history import History
from workbench.watching.overview import Model, Overview, overview


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Serving", anchor=False)
    try:
        known = {file.stem: read for file in _logs(c) if (read := _read(file)).is_of(c.name)}
    except WorkbenchError as error:
        st.error(plain(str(error)))
        return
    if not known:
        st.info("No model of this study was served from its folder. `workbench deploy STUDY` and `workbench serve NAME` do it.")
        return
    names = [*known]
    name = st.selectbox("Model", names, len(names) - 1, key="serving_model", bind="query-params") if len(names) > 1 else names[0]
    _page(c, str(name), known[str(name)])


def _page(c: Context, name: str, read: History) -> None:
    file = history.log_file(name, _folder(c))
    try:
        found = _found(c.view.offer.id, _version(file), _version(feedback.beside(file)), c, read, file)
    except WorkbenchError as error:
        st.error(plain(str(error)))
        return
    model = found.models[-1]
    _figures(model)
    for sentence in in_use.sentences(model, found):
        st.markdown(plain(sentence))
    for shadow in found.shadows:
        st.markdown(plain(in_use.shadow_text(shadow)))
    rows = [row for row in read.of(model.use.model_id) if row.label is not None]
    if len(rows) >= figures.FEWEST_ROWS:
        alt = " ".join(["Shares of classes over the rows that were answered.", *in_use.alarm_texts(model)])
        chart(figures.class_shares(rows, model.watched.alarms), alt, "serving_classes")
    _tables(c, found, model)


def _figures(model: Model) -> None:
    """What is asked first, in large print."""
    used = model.use
    state, load, latency, cost = st.columns(4)
    state.metric(f"{used.model} {used.version}", {True: "runs", False: "ended", None: "unknown"}[used.runs])
    load.metric("rows answered", f"{used.rows:,}")
    latency.metric(
        "median, 99 of 100", "unknown" if used.p50 is None or used.p99 is None else in_use.latency_text(used.p50, used.p99)
    )
    cost.metric("US$ for 1,000 rows", plain(dollars(used.usd_per_1000)))


def _tables(c: Context, found: Overview, model: Model) -> None:
    money = dict.fromkeys(("US$", "US$ for 1,000", "US$ for 1,000, never idle"), MONEY)
    rates = dict.fromkeys(("rows/s", "J for 1,000", "p50", "p95", "p99", "up"), "%.3g")
    table("Requests and costs by version (times in seconds)", in_use.use_rows(found), {**money, **rates}, expanded=True)
    table("Against the dev set", in_use.drift_rows(model), {"value": "%.3f", "threshold": "%.3f"})
    others = in_use.rival_rows(c.results, c.view, model)
    if others:
        st.markdown("##### Against the other members, at the load that came")
        st.caption(plain(in_use.rival_text(c.view, model)))
        table("What they would cost", others, {c.view.maximize: SHORT, **money}, expanded=True)


def _folder(c: Context) -> Path:
    """Where the logs are: beside the ledger, or in this folder where that is in a database server."""
    path = sqlite_path(c.url)
    return history.FOLDER if path is None else path.parent / history.FOLDER


def _logs(c: Context) -> Sequence[Path]:
    return history.logs(_folder(c))


def _version(file: Path) -> tuple[str, int, int]:
    """Changes when a file does."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return str(file), 0, 0
    return str(file), found.st_size, found.st_mtime_ns


def _read(file: Path) -> History:
    known, version = _histories(), _version(file)
    if (last := known.get(str(file))) is None or last[0] != version:
        with st.spinner("Reading the log …"):
            last = known[str(file)] = version, history.read(file)
    return last[1]


@st.cache_resource(show_spinner=False)
def _histories() -> dict[str, tuple[tuple[str, int, int], History]]:
    """What each log held when it was read last: one of a server that answers changes all the time, and readings would pile up."""
    return {}


@st.cache_resource(max_entries=16, show_spinner=False)
def _found(offer: str, version: Any, answers: Any, _c: Context, _read: History, _file: Path) -> Overview:
    return overview(_read, feedback.load(_file).quality, _c.view.offer)
