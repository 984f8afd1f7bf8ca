"""The page Runs: all runs, to filter, to sort and to download."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from context import Context
from links import run_address

from workbench.quantities import many
from workbench.report.tables import run_rows


def show(c: Context) -> None:
    """Show the table of runs."""
    st.subheader("Runs", anchor=False)
    # Runs being made are listed but no part of the version, which counts finished Results.
    rows = _rows((*c.key, tuple(r.number for r in c.running)), c)
    if rows.empty:
        st.info("No run yet. `workbench sweep STUDY` makes some: this page shows them as they come.")
        return
    shown = _filtered(rows)
    count = f"{len(shown)} of {many(len(rows), 'run')}"
    st.caption(f"{count}. A run stands as its furthest checkpoint does. A click on a head sorts by it.")
    links = [run_address(trial) for trial in shown["trial"]]
    st.dataframe(
        shown.drop(columns="trial").assign(open=links)[["open", *(n for n in shown.columns if n != "trial")]],
        hide_index=True,
        height=min(620, 38 + 35 * len(shown)),
        column_config=_columns(c),
    )
    name = f"{c.name}-runs"
    left, right, _ = st.columns([1, 1, 4])
    left.download_button("CSV", shown.to_csv(index=False), f"{name}.csv", "text/csv", icon=":material/download:", on_click="ignore")
    right.download_button(
        "JSON",
        shown.to_json(orient="records", indent=1),
        f"{name}.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
    )


@st.cache_resource(show_spinner="Listing the runs …", max_entries=8)
def _rows(key: tuple[Any, ...], _c: Context) -> pd.DataFrame:
    return pd.DataFrame(run_rows([*_c.results, *_c.running], _c.view, _c.mlflow_runs))


def _filtered(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that the reader asks for."""
    status, method, model, words = st.columns([2, 3, 2, 3])
    for place, name in ((status, "status"), (method, "method"), (model, "model")):
        known = sorted(rows[name].unique())
        wanted = place.multiselect(name.capitalize(), known, key=f"runs_{name}", bind="query-params", placeholder="all")
        rows = rows[rows[name].isin(wanted)] if wanted else rows
    sought = words.text_input("Search in settings and reasons", key="runs_search", bind="query-params", placeholder="r=8")
    if sought:
        text = rows["settings"] + " " + rows["reason"]
        # Settings hold brackets and dots, which are to be found as they stand.
        rows = rows[text.str.contains(sought, case=False, regex=False)]
    return rows


def _columns(c: Context) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "open": st.column_config.LinkColumn("trial", display_text=r"id=(\d+)", help="Opens the run in a new tab."),
        c.view.maximize: number(c.view.maximize, format="%.1f"),
        "epochs": number("epochs", format="%.4g"),
        "usd": number("US$", format="$%.3g", help="From nothing to its furthest checkpoint, compute and labels."),
        "usd_compute": number("US$ compute", format="$%.3g"),
        "seconds": number("seconds", format="%.1f"),
        "energy_j": number("kWh", format="%.3g"),
        "usd_spent": number("US$ spent", format="$%.3g", help="What the sweep really spent on it, without labels."),
        "peak_memory_mib": number("peak MiB", format="%.0f"),
        # None hides a column; it stays in the downloads.
        "run_id": None,
        "mlflow_run_id": None,
        "replicate_of": st.column_config.TextColumn("confirms"),
    }
