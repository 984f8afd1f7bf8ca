"""The page Progress: what a sweep has spent of its budgets, how fast, and for what."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st
from context import Context, read
from parts import MONEY, SHORT, chart, efficiency, table
from words import plain

from workbench import figures
from workbench.errors import WorkbenchError
from workbench.front.trajectory import Stage, trajectory
from workbench.quantities import dollars, duration, number
from workbench.report.progress import Progress, Settled, progress
from workbench.report.text import describe
from workbench.report.trajectory import course_text

REFRESH_SECONDS = 2.0
"""Seconds between two readings while somebody works."""

IDLE_SECONDS = 10.0
"""Seconds between two readings where nobody works and no sweep has said that it ended: one may
begin again.
"""

FORMATS = {"US$ spent": MONEY, "seconds of work": SHORT, "hypervolume": SHORT}


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Progress", anchor=False)
    state = _now(c).state
    every = {**dict.fromkeys(("working", "starting", "choosing"), REFRESH_SECONDS), "ended": None}.get(state, IDLE_SECONDS)
    # Not a decorator, since the interval depends on the state: an ended sweep is not read again.
    st.fragment(_strip, run_every=every)(c, state)
    _bought(c)
    efficiency(c, c.results)


def _bought(c: Context) -> None:
    """Show the hypervolume over what was spent."""
    st.markdown("##### What the money has bought")
    if not c.view.reference.keys() >= {c.view.maximize, *c.view.minimize}:
        st.markdown("The study has no reference point for these objectives: no hypervolume can be given.")
        return
    stages = _course(c.key, c)
    text = course_text(stages)
    st.markdown(plain(text))
    if any(stage.hypervolume for stage in stages):
        chart(figures.course(stages), text, "progress_figure")
        if c.points.confirmed:
            st.caption("With scores as they were found; the hypervolume above is with those that new seeds gave.")
        table(
            "The steps as a table",
            [_row(s) for i, s in enumerate(stages) if not i or s.hypervolume > stages[i - 1].hypervolume],
            FORMATS,
        )


def _now(c: Context) -> Progress:
    limits, sharing = c.description.get("limits"), c.description.get("sharing", ())
    return progress(_settled(c.key, c), c.leases, c.ended, c.view, now=time.time(), limits=limits, sharing=sharing)


@st.cache_resource(max_entries=4, show_spinner=False)
def _settled(key: tuple[Any, ...], _c: Context) -> Settled:
    return Settled.of(_c.results, _c.view)


def _strip(c: Context, state: str) -> None:
    """Show the live part, which is read again on its own. The page follows when a Result is added, or a sweep begins or ends."""
    try:
        reading = read(c.url, c.name)
    except WorkbenchError as error:
        st.warning(plain(f"The ledger cannot be read now: {error}"))
        return
    if len(reading.results) != len(c.results):
        st.rerun()
    now = replace(c, leases=[record for _, record in reading.leases], ended=reading.ended, description=reading.description)
    found = _now(now)
    # The interval belongs to the old state, so the page has to be run anew.
    if found.state != state:
        st.rerun()
    headline, *_ = sentences = found.sentences()
    st.markdown(plain(headline))
    if len(sentences) == 1:
        return
    _figures(found)
    if len(found.machines) > 1:
        _machines(found)
    at_devices = len(found.sharing) + len(found.workers)
    st.markdown("\n".join(f"- {plain(sentence)}" for sentence in sentences[len(sentences) - at_devices :]))


def _machines(found: Progress) -> None:
    """Show a row for each machine."""
    rows = [
        {
            "machine": machine.host or "-",
            "device": machine.device or "-",
            "offer": machine.offer or "-",
            "US$/h": machine.usd_per_hour,
            "at work": machine.workers,
            "silent": ", ".join(map(duration, machine.silent_seconds)) or "-",
            "results": machine.results,
            "results/h": machine.results_per_hour,
            "tokens/s": machine.tokens_per_second,
            "US$ spent": machine.usd,
        }
        for machine in found.machines
    ]
    formats = {"US$/h": "$%.3g", "results/h": "%.0f", "tokens/s": "%.0f", "US$ spent": "$%.3g"}
    columns = {name: st.column_config.NumberColumn(name, format=text) for name, text in formats.items()}
    st.dataframe(rows, hide_index=True, width="stretch", column_config=columns)


def _figures(found: Progress) -> None:
    """Show spend, rate, time left and the front as figures, and budgets as bars."""
    columns = st.columns(5)
    columns[0].metric("Spent", dollars(found.spent.usd), help="Compute and labels of all starts, what is under way included.")
    columns[1].metric("Work", duration(found.spent.seconds), help="Seconds of all workers together.")
    columns[2].metric("Burn rate", "-" if found.usd_per_hour is None else f"{dollars(found.usd_per_hour)}/h")
    columns[3].metric("About left", "-" if found.seconds_left is None else duration(found.seconds_left))
    volume = "unknown" if found.hypervolume is None else number(float(found.hypervolume))
    columns[4].metric("Hypervolume", volume, help=f"Of the front's {found.front} points, in score x decades of cost.")
    for bound in found.bounds:
        # A budget may be passed by a second or two of work, and Streamlit refuses shares above 1.
        st.progress(min(1.0, bound.share or 0.0), text=plain(str(bound)))
    if found.trials:
        st.progress(min(1.0, found.runs / found.trials), text=f"{found.runs:,} of {found.trials:,} runs begun")


@st.cache_resource(max_entries=4, show_spinner=False)
def _course(key: tuple[Any, ...], _c: Context) -> Sequence[Stage]:
    return trajectory(_c.results, _c.view)


def _row(stage: Stage) -> dict[str, Any]:
    return {
        "trial": stage.result.trial,
        "US$ spent": stage.usd,
        "seconds of work": stage.seconds,
        "hypervolume": stage.hypervolume,
        "result": describe(stage.result),
    }
