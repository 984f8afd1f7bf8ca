"""The parts of pages: a figure with its text, a table under a fold, how near work came to its machine's limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st
from context import Context
from links import run_address
from words import plain

from workbench import figures
from workbench.report.efficiency import efficiency_rows, efficiency_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.result import Result


def chart(figure: Figure, alt: str, key: str) -> None:
    """Show a figure. `alt` says what it shows to readers who cannot see it."""
    st.plotly_chart(figure, alt=alt, key=key, config={"displaylogo": False})


MONEY, SHORT, COUNT = "$%.3g", "%.1f", "%d"
"""Formats of numbers in tables. Counts are never rounded: `%.3g` would make 1020 of 1,024
labels.
"""


def table(title: str, rows: Sequence[Mapping[str, Any]], formats: Mapping[str, str], *, expanded: bool = False) -> None:
    """Show figures as a table under a fold, for readers who cannot see the figure and for those who want the numbers.

    `formats` says how columns of numbers are written. Where a row has a `trial`, that opens its run.
    """
    if not rows:
        return
    columns: dict[str, Any] = {name: st.column_config.NumberColumn(format=text) for name, text in formats.items()}
    # A cell that is a link shows what the expression finds in its address, here the trial.
    columns["trial"] = st.column_config.LinkColumn(display_text=r"id=(\d+)", help="Opens the run in a new tab.")
    shown = [{**row, **({"trial": run_address(row["trial"])} if "trial" in row else {})} for row in rows]
    with st.expander(title, expanded=expanded):
        st.dataframe(shown, hide_index=True, column_config=columns)


def looks(c: Context, by: str = "method") -> dict[str, tuple[str, str]]:
    """Return colour and symbol of each method, as on the front."""
    return figures.looks(str(getattr(r, by)) for r in c.results if r.status == "complete")


def efficiency(c: Context, results: Sequence[Result]) -> None:
    """Show how near to the limit of their machine Results were made; nothing where that is unknown."""
    if text := efficiency_text(results, c.calibration):
        st.markdown("##### Efficiency")
        st.dataframe(efficiency_rows(results, c.calibration), hide_index=True)
        st.caption(plain(text))
