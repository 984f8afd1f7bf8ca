"""The home page: what to choose, and what it costs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import states
import streamlit as st
from context import Context, read
from links import to_mlflow, to_run
from parts import COUNT, MONEY, SHORT
from words import plain

from workbench import figures
from workbench.front.points import Points, stopped
from workbench.quantities import dollars, many
from workbench.report.answers import (
    Pick,
    answer,
    contended_text,
    cost_text,
    guesses_text,
    held_out_text,
    intervals_text,
    picks,
    score_text,
    ties_text,
)
from workbench.report.axes import AXES
from workbench.report.caveats import doubts
from workbench.report.tables import budgets_text, front_rows, ladder
from workbench.report.text import describe
from workbench.result import Axis, Result


@dataclass(frozen=True)
class Asked:
    """What the reader asks of the front, and what answers it.

    Attributes:
        budget: What a point may cost, in units of the view's first cost; None for no limit.
        target: The score that it must reach; None for none.
        picks: The points that the answer names, the one to take first.
        sentence: The answer.
    """

    budget: float | None
    target: float | None
    picks: Sequence[Pick]
    sentence: str


def show(c: Context) -> None:
    """Show the answer, the figure with the point to take beside it, and the front as a table."""
    st.subheader(c.description.get("question") or c.name, anchor=False)
    if states.nothing(c):
        return
    st.caption(states.status(c))
    with st.sidebar:
        hide = st.toggle(
            "Hide stopped runs",
            key="hide_stopped",
            bind="query-params",
            help="Leave out dominated points of runs that were not continued to the longest number of epochs.",
        )
    _answers(c, hide)
    if c.running:
        _watch(c)


@st.fragment(run_every=10)
def _watch(c: Context) -> None:
    """While a sweep works, look every ten seconds whether there is a new Result."""
    if len(read(c.url, c.name).results) != len(c.results):
        # Within a fragment too, this runs the whole script:
        # the new point concerns every part of the page.
        st.rerun()


@st.fragment
def _answers(c: Context, hide: bool) -> None:
    """Show all that a slider changes. The ledger is not read again for it."""
    points = c.points
    # The answer stands above the sliders that it depends on, so its place is taken first.
    top = st.container(border=True)
    budget, target = _sliders(c, points)
    asked = Asked(
        budget,
        target,
        picks(points, budget=budget, target=target),
        answer(points, budget=budget, target=target),
    )
    with top:
        _answer(c, points, asked)
    drawing, panel = st.columns([63, 37], gap="medium")
    chosen = _chosen(points)
    with drawing:
        _figure(c, points, hide, chosen, asked)
    with panel:
        shown = chosen or (asked.picks[0].point if asked.picks else None)
        if shown is not None:
            _panel(c, points, shown, "The point you chose" if chosen else _first_title(points, shown))
    _table(c, points)


def _first_title(points: Points, first: Result) -> str:
    """Return what stands above the point that the answer names."""
    return "The highest so far" if points.by_chance(first) else "Take this one"


def _sliders(c: Context, points: Points) -> tuple[float | None, float | None]:
    """Return budget and target; None for one whose slider is at its end."""
    view, axis = c.view, AXES[c.cost]
    left, right = st.columns(2, gap="medium")
    costs = [cost / axis.per_unit for r in points.found if (cost := view.cost(r, c.cost))]
    stops = [*ladder(min(costs, default=1.0), max(costs, default=1.0)), math.inf]
    budget = left.select_slider(
        f"Budget for one model, {axis.unit}",
        stops,
        value=math.inf,
        format_func=lambda stop: "no limit" if math.isinf(stop) else axis.text(stop * axis.per_unit),
        # Each cost has stops of its own, and a stop kept from another would be none of them.
        key=f"budget_{c.cost}",
        bind="query-params",
    )
    # Some scores are shares of 1, others per cent.
    small = max((r.scores[view.maximize] for r in points.found), default=0.0) <= 1.0
    target = right.slider(
        f"Quality it must reach, {view.maximize}",
        0.0,
        1.0 if small else 100.0,
        0.0,
        0.01 if small else 1.0,
        format="%.2f" if small else "%.0f",
        key="target",
        bind="query-params",
    )
    # A target of 0 is the slider's end, and asks for nothing.
    return None if math.isinf(budget) else budget * axis.per_unit, target or None


def _answer(c: Context, points: Points, asked: Asked) -> None:
    """Show the answer, and its figures in large print."""
    if asked.picks and not points.view.by_chance(asked.picks[0].point):
        pick = asked.picks[0].point
        what, quality, cost, time = st.columns([5, 2, 3, 3], vertical_alignment="center")
        what.markdown(f"##### Take {pick.method} on {pick.model}\n{describe(pick)}")
        quality.metric(c.view.maximize, f"{points.score(pick):.1f}")
        cost.metric(AXES[c.cost].unit, cost_text(c.view, pick, c.cost))
        time.metric("time to make it", cost_text(c.view, pick, "seconds"))
    st.markdown(plain(asked.sentence))
    # What was noted of how points are graded is of the study's own score, and a reader may have chosen another.
    grading = c.description.get("grading", {}) if c.view.maximize == c.description["maximize"] else {}
    for doubt in doubts(c.results, c.view, grading):
        st.caption(plain(doubt))
    if asked.budget is None and asked.target is None and (text := _budgets(c.key, points)):
        st.caption(plain(text))


def _figure(c: Context, points: Points, hide: bool, chosen: Result | None, asked: Asked) -> None:
    # `cache_data` hands out a copy, which `mark` may change.
    drawn = _drawn(c.key, hide, points)
    drawn = figures.mark(drawn, points, budget=asked.budget, target=asked.target, picks=asked.picks, chosen=chosen)
    alt = f"{AXES[c.cost].title} against {c.view.maximize}. {asked.sentence}"
    flat = st.container()
    if len(c.view.minimize) > 1:
        flat, solid = st.tabs(["Cost and quality", "Three axes"])
        with solid:
            st.plotly_chart(figures.front_3d(points), width="stretch", key="front_3d", alt=alt, config=_CONFIG)
    with flat:
        st.plotly_chart(
            drawn,
            width="stretch",
            height=560,
            key="front_chart",
            on_select=_clicked,
            selection_mode="points",
            alt=alt,
            config=_CONFIG,
        )


@st.cache_data(show_spinner=False, max_entries=16)
def _budgets(key: tuple[Any, ...], _points: Points) -> str:
    return budgets_text(_points)


# A click chooses a point. A box or a lasso would choose many, which nothing here can show.
_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


@st.cache_data(show_spinner=False, max_entries=16)
def _drawn(key: tuple[Any, ...], hide: bool, _points: Points) -> Any:
    """Return the figure without what the sliders add: it is the same until the ledger or the prices change."""
    drawn = figures.front(_points, hidden=stopped(_points) if hide else ())
    # The label of a point on top of the figure reaches a few pixels above its axis: the legend stands clear of it.
    legend = {"orientation": "h", "x": 0, "y": 1.07, "yanchor": "bottom"}
    return drawn.update_layout(width=None, height=None, legend=legend, margin={"t": 85, "r": 40})


def _clicked() -> None:
    """Put the number of a clicked point of the figure into the URL; a click beside all points takes it out again."""
    picked = [p["customdata"] for p in st.session_state["front_chart"]["selection"]["points"] if p.get("customdata") is not None]
    _choose(picked[0] if picked else None)


def _choose(number: Any) -> None:
    if isinstance(number, list):
        number = number[0]
    if number is None:
        st.query_params.pop("point", None)
    else:
        st.query_params["point"] = str(int(number))


def _chosen(points: Points) -> Result | None:
    wanted = st.query_params.get("point")
    return next((r for r in points.found if str(r.number) == wanted), None)


def _panel(c: Context, points: Points, r: Result, title: str) -> None:
    """Show what a point is and costs, and links to its run."""
    view = c.view
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.markdown(describe(r))
        known = points.confirmed.get(r.recipe_id)
        facts = {
            "compute (C)": cost_text(view, r, "usd_compute", band=True),
            "labels (D)": f"{dollars(view.cost(r, 'usd_labels'))}, {many(r.labels, 'label')}",
            "C + D": cost_text(view, r, "usd", band=True),
            "time": cost_text(view, r, "seconds", band=True),
            "energy": cost_text(view, r, "energy_j"),
            "CO2e": cost_text(view, r, "grams_co2e"),
        }
        score = score_text(r.scores[view.maximize], known)
        st.markdown(
            "\n".join(
                [f"| {view.maximize} | {score} |", "|---|---|", *(f"| {name} | {plain(text)} |" for name, text in facts.items())]
            )
        )
        to_run(c, r)
        to_mlflow(c, r)


def _table(c: Context, points: Points) -> None:
    """Show the front as a table, in which a row can be chosen with the keyboard."""
    st.markdown("##### The front, cheapest first")
    axis = AXES[c.cost]
    # Columns that no point fills are left out, such as `contended` where nothing disturbed them.
    table = pd.DataFrame(front_rows(points)).dropna(axis="columns", how="all")
    score = st.column_config.NumberColumn(c.view.maximize, format="%.1f")
    shown = table.drop(columns=[name for name in ("low", "high", "new_seeds") if name in table])
    if points.confirmed:
        place = list(shown.columns).index(c.view.maximize) + 1
        shown.insert(place, "95 % interval", [_interval(points, r) for r in points.members])
    st.dataframe(
        shown,
        hide_index=True,
        key="front_table",
        # Streamlit would write None into empty cells.
        placeholder="",
        # Called before the next run of the script: the row must be looked up in
        # the table that was clicked, as a Result added since may move the rows.
        on_select=functools.partial(_row_chosen, list(table["number"])),
        selection_mode="single-row",
        column_config={
            "number": None,
            c.view.maximize: score,
            **{name: _cost_column(name) for name in AXES if name in table},
            "marginal": st.column_config.NumberColumn(
                f"{axis.unit} a point more",
                format=SHORT if axis.counted else _format(axis),
                help=f"What one more point of {c.view.maximize} costs, coming from the next cheaper row.",
            ),
        },
    )
    if text := contended_text(points.members):
        st.caption(plain(text))
    for text in filter(None, (guesses_text(points), intervals_text(points), ties_text(points.best, points.view))):
        st.caption(plain(text))
    st.download_button(
        "Download as CSV",
        table.to_csv(index=False),
        file_name=f"{c.name}-front.csv",
        mime="text/csv",
        icon=":material/download:",
        # The file is there already: without this a download would run the page anew.
        on_click="ignore",
    )


def _interval(points: Points, r: Result) -> str:
    """Write what new seeds say of a point's score."""
    known = points.confirmed.get(r.recipe_id)
    if known is None:
        return "no better than chance" if points.view.by_chance(r) else "not confirmed"
    if not known.seeds:
        return f"no seed changes it; on the test split {held_out_text(known)}" if known.test else "no seed changes it"
    ends = "" if known.score.low is None or known.score.high is None else f"{known.score.low:.1f} to {known.score.high:.1f}, "
    return f"{ends}{many(known.seeds, 'new seed')}"


def _cost_column(name: str) -> Any:
    axis = AXES[name]
    return st.column_config.NumberColumn(axis.unit if axis.money else axis.title, format=_format(axis))


def _format(axis: Axis) -> str:
    return MONEY if axis.money else COUNT if axis.counted else "%.3g"


def _row_chosen(numbers: Sequence[int]) -> None:
    """Put the number of the chosen row into the URL, or take it out. `numbers` are those of the table's rows."""
    rows = st.session_state["front_table"]["selection"]["rows"]
    _choose(numbers[rows[0]] if rows else None)
