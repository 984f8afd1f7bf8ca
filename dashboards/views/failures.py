"""The page Failures: what failed and where, what did not fit into memory, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from context import Context
from parts import SHORT, chart, table
from words import plain

from workbench import figures
from workbench.quantities import dollars, duration
from workbench.report.failures import Failure, failures, failures_text, memory_map, memory_text, waste
from workbench.report.text import describe_plan


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Failures", anchor=False)
    text = failures_text(c.results, c.view)
    st.markdown(plain(text))
    known = failures(c.results, c.view)
    if known:
        _wasted(c, known, text)
    fits = memory_map(c.results)
    st.markdown("##### What fits into memory")
    st.markdown(plain(memory_text(fits)))
    if fits:
        chart(figures.memory(fits), memory_text(fits), "failures_memory")
        st.caption("How many runs of those tried, and the highest memory of those that fitted: of a GPU, or of the process.")


def _wasted(c: Context, known: Sequence[Failure], text: str) -> None:
    lost = waste(c.results, c.view)
    columns = st.columns(3)
    columns[0].metric("Spent on no model", dollars(lost.usd))
    columns[1].metric("Share of all compute", "unknown" if lost.share is None else f"{lost.share:.1%}")
    columns[2].metric("Time", duration(lost.seconds))
    st.markdown("##### By type and phase")
    chart(figures.failures(known), text, "failures_figure")
    table("By type and phase as a table", [row for failure in known for row in _by_phase(failure)], {"seconds": SHORT})
    rows = [_row(failure, r.trial, r.reason, describe_plan(r), r) for failure in known for r in failure.segments]
    table(f"All {len(rows):,} failures and what they said", rows, {"seconds": SHORT}, expanded=len(rows) <= 20)


def _by_phase(failure: Failure) -> list[dict[str, Any]]:
    return [
        {"type": failure.kind, "status": failure.status, "runs": failure.runs, "phase": phase, "seconds": usage.seconds}
        for phase, usage in failure.phases.items()
    ]


def _row(failure: Failure, trial: int | None, reason: str, what: str, r: Any) -> dict[str, Any]:
    return {"trial": trial, "type": failure.kind, "said": reason, "run": what, "seconds": r.consumed.seconds}
