"""The dashboard: `workbench dashboard` serves it. Here are its pages, its menu, and what is shown where there is nothing to show.

Each run of the script reads the ledger once, takes the choices of the sidebar, and hands both to one page as a `Context`.
"""

import importlib
from collections.abc import Callable

import streamlit as st
from context import open_context

# Title and icon of every page, by the name of its file in views/, in the order of the menu. (A folder called pages/ would be taken
# for an app of another kind: scripts of their own, each a page.)
PAGES = {
    "front": ("Front", ":material/trending_up:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "prices": ("Prices", ":material/sell:"),
    "curves": ("Curves", ":material/show_chart:"),
    "matters": ("What matters", ":material/tune:"),
    "data_size": ("Data size", ":material/database:"),
    "data_card": ("Data", ":material/fact_check:"),
    "progress": ("Progress", ":material/progress_activity:"),
    "runs": ("Runs", ":material/table_rows:"),
    "serving": ("Serving", ":material/cloud_done:"),
    "failures": ("Failures", ":material/error:"),
    "run": ("Run", ":material/science:"),
}

# Pages that are reached by links alone.
HIDDEN = ("run",)


def _opener(name: str) -> Callable[[], None]:
    def show() -> None:
        # Imported when it is opened, so that the first page does not wait for what the others
        # need. `context` is set below: Streamlit runs this whole file anew at each rerun.
        importlib.import_module(f"views.{name}").show(context)

    return show


# A diamond on a staircase, drawn here: an icon by name would be fetched from another machine.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M3 27h9v-9h9V9h8" fill="none" stroke="#808080"
stroke-width="3"/><path d="M12 9l6 7-6 7-6-7z" fill="#0072B2"/></svg>"""

st.set_page_config(page_title="workbench", page_icon=ICON, layout="wide")
# A figure in large print is read, not cut: where its column is narrow it takes a second line.
st.html(
    "<style>[data-testid=stMainBlockContainer] {padding: 3rem 2.5rem}"
    "[data-testid=stMarkdownContainer] :is(td, th) {font-size: 0.9rem; padding: 0.3rem 0.5rem}"
    "[data-testid=stMarkdownContainer] :is(td, th):first-child {white-space: nowrap}"
    "[data-testid=stMetricValue], [data-testid=stMetricValue] * {font-size: 1.7rem; white-space: normal}</style>"
)
pages = {
    name: st.Page(
        _opener(name),
        title=PAGES[name][0],
        icon=PAGES[name][1],
        url_path=name,
        default=name == "front",
        visibility="hidden" if name in HIDDEN else "visible",
    )
    for name in PAGES
}
page = st.navigation(list(pages.values()), expanded=True)
# Not in the page: choices that are made here stay as they are, and in the URL, when another page is opened.
context = open_context(pages)
if context is not None:
    page.run()
