"""The page Compare: methods and runs beside each other."""

from __future__ import annotations

import pandas as pd
import states
import streamlit as st
from context import Context
from links import to_run
from words import plain

from workbench import figures
from workbench.front.points import Points
from workbench.quantities import number
from workbench.report import tables
from workbench.report.answers import cost_text, picks
from workbench.report.axes import AXES
from workbench.report.tables import best_within, recipe_items
from workbench.report.text import describe
from workbench.result import Result

MOST = 4


def show(c: Context) -> None:
    """Show what each method reaches within a budget, and two to four runs with the settings that differ between them."""
    st.subheader("Compare", anchor=False)
    if states.nothing(c):
        return
    _methods(c, c.points)
    _runs(c, c.points)


def _methods(c: Context, points: Points) -> None:
    """Show the best point of each method within each budget."""
    view, axis = c.view, AXES[c.cost]
    found = best_within(points)
    st.markdown(f"##### The best {view.maximize} under each budget, by method")
    if not found:
        st.info(f"No point has a {axis.unit} above 0: there is no budget to draw.")
        return
    largest, best = found[-1]
    leader = max(best.values(), key=points.score)
    score = f"{view.maximize} {points.score(leader):.1f}"
    alt = f"With {axis.text(largest)} the best method is {leader.method}: {describe(leader)}, {score}."
    st.plotly_chart(figures.by_method(points), width="stretch", key="by_method", alt=alt)
    methods = sorted({r.method for r in points.found})
    rows = [{"budget": axis.text(budget)} | {m: _cell(c, points, best.get(m), best) for m in methods} for budget, best in found]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    # A confirmed mean is lower than a lucky score:
    # without a word the two would be compared as equals.
    mixed = " Points with new seeds stand at their mean, others at one lucky or unlucky score." if points.confirmed else ""
    st.caption(f"★ is the best of a row. A row that would say the same as the one above is left out.{mixed}")


def _cell(c: Context, points: Points, r: Result | None, best: dict[str, Result]) -> str:
    if r is None:
        return "nothing"
    star = "★ " if points.score(r) == max(map(points.score, best.values())) else ""
    return f"{star}{points.score(r):.1f} for {cost_text(c.view, r, c.cost)}"


def _runs(c: Context, points: Points) -> None:
    """Show two to four points beside each other."""
    st.markdown("##### Two to four runs, and what differs between them")
    # In order of epochs, so that the last entry of a trial is its furthest checkpoint.
    furthest = {str(r.trial): r for r in sorted(points.found, key=lambda r: r.epochs)}
    names = sorted(furthest, key=int)
    default = list(dict.fromkeys(str(p.point.trial) for p in picks(points)))[:MOST]
    # One point may answer everything, and one run cannot be compared.
    if len(default) < 2:
        default = list(dict.fromkeys([*default, *(str(r.trial) for r in reversed(points.members))]))[:2]
    # An address may be old, or of another study: runs that are not here are passed over.
    asked = [name for name in st.query_params.get("runs", "").split(",") if name in furthest]
    chosen = st.multiselect(
        "Runs",
        names,
        default=asked[:MOST] or default,
        max_selections=MOST,
        format_func=lambda name: f"{name}: {describe(furthest[name])}",
        key="compare",
        on_change=_remember,
        help="Each stands as its furthest checkpoint does.",
    )
    runs = [furthest[name] for name in chosen]
    if len(runs) < 2:
        st.info("Choose at least two runs.")
        return
    heads = [f"run {r.trial}" for r in runs]
    left, right = st.columns([6, 4], gap="medium")
    with left:
        st.dataframe(pd.DataFrame(_rows(c, runs), columns=["", *heads]), hide_index=True)
        st.caption(plain(_same(runs)))
    with right:
        segments = [[r for r in points.found if r.run_id == run.run_id] for run in runs]
        ends = ", ".join(f"run {r.trial} ends at {points.score(r):.1f}" for r in runs)
        st.plotly_chart(
            figures.run_curve(segments, c.view), width="stretch", key="compare_curve", alt=f"{c.view.maximize} by epochs: {ends}."
        )
    for place, r in zip(st.columns(MOST), runs, strict=False):
        with place:
            to_run(c, r)


def _remember() -> None:
    st.query_params["runs"] = ",".join(st.session_state["compare"])


def _rows(c: Context, runs: list[Result]) -> list[list[str]]:
    """Return what the runs came to, then the settings that differ between them."""
    view = c.view
    outcomes: dict[str, list[str]] = {
        name: [f"{r.scores[name]:.2f}" if name in r.scores else "" for r in runs]
        for name in dict.fromkeys(n for r in runs for n in r.scores)
    }
    for name in dict.fromkeys((c.cost, "usd_compute", "seconds", "energy_j", "grams_co2e")):
        outcomes[AXES[name].title] = [cost_text(view, r, name) for r in runs]
    outcomes["tuned numbers"] = [f"{r.trainable_parameters:,}" if r.trainable_parameters else "unknown" for r in runs]
    outcomes["predictions a second"] = [number(r.serving["predictions_per_second"]) if r.serving else "unknown" for r in runs]
    rows = {name: cells for name, cells in outcomes.items() if len(set(cells)) > 1}
    for name, values in tables.differing(runs).items():
        rows[name] = ["" if value is None else number(value) for value in values]
    return [[name, *cells] for name, cells in rows.items()]


def _same(runs: list[Result]) -> str:
    differing = tables.differing(runs)
    same = {name: value for name, value in recipe_items(runs[0].recipe) if name not in differing and value not in (None, "", {})}
    return "The same in all: " + ", ".join(f"{name} {number(value)}" for name, value in same.items()) + "."
