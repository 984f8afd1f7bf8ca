"""The dashboard: `workbench dashboard` serves it. Here are its pages, its menu, and what is shown where there is nothing to show.

Each run of the script reads the ledger once, takes the choices of the sidebar, and hands both to one page as a `Context`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

import streamlit as st
from context import open_context

# File, title and icon of every page, in the order of the menu; one whose file is not there is not in it.
PAGES = {
    "front": ("Front", ":material/trending_up:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "prices": ("Prices", ":material/sell:"),
    "curves": ("Curves", ":material/show_chart:"),
    "matters": ("What matters", ":material/tune:"),
    "data_size": ("Data size", ":material/database:"),
    "progress": ("Progress", ":material/progress_activity:"),
    "runs": ("Runs", ":material/table_rows:"),
    "failures": ("Failures", ":material/error:"),
    "run": ("Run", ":material/science:"),
}

# Pages that are reached by links alone.
HIDDEN = ("run",)


def _opener(name: str) -> Callable[[], None]:
    def show() -> None:
        context = open_context(pages)
        if context is not None:
            importlib.import_module(f"pages.{name}").show(context)

    return show


st.set_page_config(page_title="workbench", page_icon=":material/savings:", layout="wide")
there = [name for name in PAGES if (Path(__file__).parent / "pages" / f"{name}.py").is_file()]
pages = {
    name: st.Page(
        _opener(name),
        title=PAGES[name][0],
        icon=PAGES[name][1],
        url_path=name,
        default=name == "front",
        visibility="hidden" if name in HIDDEN else "visible",
    )
    for name in there
}
st.navigation(list(pages.values()), expanded=True).run()
