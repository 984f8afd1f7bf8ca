"""The front: what to choose, and what it costs."""

from __future__ import annotations

import streamlit as st
from context import Context

from workbench import figures, report


def show(c: Context) -> None:
    """The home page."""
    st.title("Front")
    answer = report.answer(c.results, c.view)
    st.markdown(answer)
    st.plotly_chart(figures.front(c.results, c.view), alt=answer)
