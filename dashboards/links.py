"""Links from one page to another, and to the MLflow UI."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlencode, urlsplit

import streamlit as st
from context import Context

from workbench.result import Result

KEPT = ("study", "platform", "label_usd", "metric", "cost")
"""The choices in an address that count on every page."""


def run_address(trial: object) -> str:
    """Return the address of a run's page with all that was chosen, below the path at which a proxy shows this server."""
    kept = {name: value for name, value in st.query_params.to_dict().items() if name in KEPT}
    base = str(st.get_option("server.baseUrlPath")).strip("/")
    return f"{base and f'/{base}'}/run?{urlencode({**kept, 'id': trial})}"


def to_run(c: Context, result: Result) -> None:
    """Show a link to the page of a result's run, with all that was chosen."""
    if "run" in c.pages:
        # The chosen point belongs to the front alone.
        kept = {name: value for name, value in st.query_params.to_dict().items() if name != "point"}
        st.page_link(
            c.pages["run"],
            label=f"Open run {result.trial}",
            icon=":material/science:",
            query_params={**kept, "id": str(result.trial)},
        )


def to_mlflow(c: Context, result: Result) -> None:
    """Show a link to the run in MLflow where its UI answers, otherwise the command that starts the UI."""
    run_id = c.mlflow_runs.get(result.run_id)
    if run_id is None:
        return
    url = os.environ.get("WORKBENCH_MLFLOW_URL", "http://127.0.0.1:5000")
    if _answers(url):
        st.link_button("Open in MLflow", f"{url}/#/runs/{run_id}", icon=":material/open_in_new:")
    else:
        st.caption(f"In MLflow this is the run `{run_id}`: `workbench mlflow` opens it, and then this page has a link.")


@st.cache_data(ttl=5, show_spinner=False)
def _answers(url: str) -> bool:
    """Return whether something listens at an address. Only this machine is asked; other addresses are trusted."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return True
    try:
        # The page is drawn after this answer, so it waits half a second at most.
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=0.5):
            return True
    except OSError:
        return False
