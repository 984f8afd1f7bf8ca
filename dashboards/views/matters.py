"""The page What matters: which settings decide the score and the cost, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import states
import streamlit as st
from context import Context
from parts import chart, looks, table
from words import plain

from workbench import figures
from workbench.front.importance import Effect, Importance, best_of_runs, importance, swept
from workbench.quantities import number
from workbench.report.axes import AXES
from workbench.report.importance import importance_text, short_name, slice_text, swing_text
from workbench.result import Result


def show(c: Context) -> None:
    """Show the page."""
    st.subheader("What matters", anchor=False)
    if states.nothing(c):
        return
    found = _found((*c.key, c.cost), c)
    text = importance_text(found, c.view, c.results)
    st.markdown(plain(text))
    if found is not None:
        chart(figures.importance(found, c.view), text, "matters_figure")
        st.caption(
            "A bar is how far apart a setting's best and worst value are, the others being equal, by a model that adds up one "
            "effect for each; its line is the 90 % band. Only full bars are told apart from chance: without the setting, runs are "
            "predicted worse from the others."
        )
        rows = [_row(effect, c.view.maximize, "") for effect in found.quality]
        table("The bars as a table", rows + [_row(effect, "", AXES[c.cost].unit) for effect in found.cost], {})
    names = swept(c.points.found)
    if names:
        _slices(c, names)
        _parallel(c, names)


@st.cache_resource(max_entries=8, show_spinner="Asking each run of the others …")
def _found(key: tuple[Any, ...], _c: Context) -> Importance | None:
    return importance(_c.results, _c.view, _c.cost)


@st.cache_resource(max_entries=32, show_spinner=False)
def _best(key: tuple[Any, ...], _c: Context, name: str) -> Sequence[Result]:
    return best_of_runs(_c.results, _c.view, name)


def _slices(c: Context, names: list[str]) -> None:
    st.markdown("##### Quality by one setting")
    name = st.selectbox("Setting", names, format_func=short_name, key="matters_setting", bind="query-params")
    points = _best(c.key, c, name)
    alt = slice_text(points, c.view, name)
    members = {r.recipe_id for r in c.points.members}
    chart(figures.by_setting(points, c.view, name, looks(c), members), alt, "matters_slice")
    st.caption(plain(alt))


def _parallel(c: Context, names: list[str]) -> None:
    st.markdown("##### All settings that vary")
    alt = f"One line a run across {', '.join(map(short_name, names))}, its cost and its {c.view.maximize}."
    # Every line is a run at its best checkpoint, so epochs are an outcome here and no setting.
    drawn = figures.parallel(_best(c.key, c, ""), c.view, [n for n in names if n != "epochs"], c.cost)
    chart(drawn, alt, "matters_parallel")
    st.caption("A line is a run, at its best checkpoint. Drag along an axis to keep the runs that pass there.")


def _row(effect: Effect, metric: str, cost: str) -> dict[str, Any]:
    return {
        "of": metric or cost,
        "setting": short_name(effect.name),
        "best to worst": swing_text(effect, metric),
        "best value": number(effect.best),
        "sure": "told apart from chance" if effect.sure else "could be chance",
    }
