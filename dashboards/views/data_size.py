"""The page Data size: the score against the number of labels, and what more of them would add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import states
import streamlit as st
from context import Context
from parts import SHORT, chart, looks, table
from words import plain

from workbench import figures
from workbench.front.label_curve import Best, best_by_labels, line
from workbench.report.labels import labels_text
from workbench.report.text import describe


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Data size", anchor=False)
    if not any(r.status == "complete" for r in c.results):
        states.nothing(c)
        return
    # Grouped by nothing: one group of all points.
    whole = _best(c.key, c, "").get("", [])
    text = labels_text(whole, c.view)
    st.markdown(plain(text))
    if not whole:
        return
    by = st.radio("A line for each", ["method", "model"], horizontal=True, key="data_size_by", bind="query-params")
    groups = _best(c.key, c, str(by))
    chart(figures.labels(groups, line(whole), c.view, looks(c, by)), text, "data_size_figure")
    st.caption("The best of many runs is higher than the best of few: look at how many each mark is the best of.")
    table(
        "The marks as a table",
        [_row(name, best, c) for name, bests in groups.items() for best in bests],
        {f"best {c.view.maximize}": SHORT},
        expanded=True,
    )


@st.cache_resource(max_entries=8, show_spinner=False)
def _best(key: tuple[Any, ...], _c: Context, by: str) -> Mapping[str, Sequence[Best]]:
    return best_by_labels(_c.results, _c.view, by=by)


def _row(name: str, best: Best, c: Context) -> dict[str, Any]:
    return {
        "": name,
        "labels": best.labels,
        f"best {c.view.maximize}": best.score,
        "the best of": best.points,
        "trial": best.point.trial,
        "run": describe(best.point),
    }
