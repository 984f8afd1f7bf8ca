"""The page Curves: how the score grows as runs go on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import states
import streamlit as st
from context import Context
from parts import SHORT, chart, looks, table
from words import plain

from workbench import figures
from workbench.front.curves import ALONG, SHOWN, Curve, chosen, curves
from workbench.quantities import many
from workbench.report.axes import AXES, axes
from workbench.report.curves import curves_text
from workbench.report.text import describe

MOST = 100


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("Curves", anchor=False)
    if not any(r.status == "complete" for r in c.results):
        states.nothing(c)
        return
    # The sentence stands above the choice that it depends on, so its place is taken first.
    place = st.container()
    axis = _axis(c)
    known = _known(c.key, c, axis)
    place.markdown(plain(curves_text(known, c.view)))
    if not known:
        st.info("There are checkpoints, but none is known on this axis. Choose another one.")
        return
    shown = _selected(known)
    if not shown:
        st.info("No run is selected.")
        return
    chart(figures.curves(shown, c.view, axis, looks(c)), _alt(c, shown, len(known)), "curves_figure")
    st.caption(f"{len(shown):,} of {many(len(known), 'run')}. Thick lines and large marks: on the front.")
    table(
        "The curves as a table",
        [_row(c, curve, i, axis) for curve in shown for i in range(len(curve.points))],
        {c.view.maximize: SHORT},
    )


def _axis(c: Context) -> str:
    known = [*ALONG, *(name for name in axes(c.results, c.view) if name != "labels")]

    def title(name: str) -> str:
        return ALONG[name] if name in ALONG else AXES[name].title

    return str(st.selectbox("Along", known, format_func=title, key="curves_axis", bind="query-params"))


@st.cache_resource(max_entries=8, show_spinner=False)
def _known(key: tuple[Any, ...], _c: Context, axis: str) -> Sequence[Curve]:
    return curves(_c.results, _c.view, axis)


def _selected(known: Sequence[Curve]) -> list[Curve]:
    """Return the curves that the reader wants to see."""
    methods, models = (sorted({getattr(curve.last, name) for curve in known}) for name in ("method", "model"))
    columns = st.columns(4)
    of_methods = columns[0].multiselect("Methods", methods, key="curves_methods", bind="query-params", placeholder="all")
    of_models = columns[1].multiselect("Models", models, key="curves_models", bind="query-params", placeholder="all")
    wanted = columns[2].text_input("Trials", key="curves_trials", bind="query-params", placeholder="all, or for example 3, 14")
    most = min(MOST, len(known))
    # Streamlit refuses a slider whose two ends are equal.
    count = (
        most if most < 2 else columns[3].slider("Runs shown", 1, most, min(most, SHOWN), key="curves_count", bind="query-params")
    )
    trials = set(re.findall(r"\d+", wanted))
    kept = [
        curve
        for curve in known
        if (not of_methods or curve.last.method in of_methods)
        and (not of_models or curve.last.model in of_models)
        and (not trials or str(curve.last.trial) in trials)
    ]
    return chosen(kept, int(count))


def _alt(c: Context, shown: Sequence[Curve], of: int) -> str:
    best = max(shown, key=lambda curve: max(curve.scores))
    ends = f"{best.scores[0]:.1f} to {best.scores[-1]:.1f}"
    what = f"Lines of {len(shown)} of {of} runs, {c.view.maximize} against how far they had come."
    return f"{what} The best one, trial {best.last.trial}, goes from {ends}: {describe(best.last)}."


def _row(c: Context, curve: Curve, i: int, axis: str) -> dict[str, Any]:
    r, cost = curve.points[i], AXES.get(axis)
    return {
        "trial": r.trial,
        "run": describe(r),
        ALONG.get(axis, cost.unit if cost else axis): curve.x[i] / (cost.per_unit if cost else 1.0),
        c.view.maximize: curve.scores[i],
        "on the front": curve.on_front[i],
    }
