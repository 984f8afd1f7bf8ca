"""The page of one run: what it is, what it cost, how it went, and how it is made again."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import streamlit as st
from context import Context
from links import to_mlflow
from parts import efficiency
from words import plain

from workbench import figures, prices
from workbench.quantities import dollars, duration, many, number
from workbench.report.answers import cost_text, score_text
from workbench.report.bill import phases_spent
from workbench.report.columns import values
from workbench.report.records import find_run
from workbench.report.reproduce import reproduce
from workbench.report.tables import recipe_items, sample_rows
from workbench.report.text import describe, usage_cells
from workbench.result import Result, carried


def show(c: Context) -> None:
    """Show the run that `?id=` names: a trial number, or the beginning of an id."""
    wanted = st.query_params.get("id", "")
    segments = find_run([*c.results, *c.running], wanted) if wanted else []
    if not segments:
        st.subheader("Run", anchor=False)
        st.warning(plain(f"{c.name} has no run {wanted!r}.") if wanted else "No run was asked for.")
        if "runs" in c.pages:
            st.page_link(c.pages["runs"], label="All runs", icon=":material/table_rows:")
        return
    points = [r for r in segments if r.status == "complete"]
    # The newest attempt says how the run stands, the furthest checkpoint what it has reached.
    last = max(segments, key=lambda r: r.number or 0)
    r = max(points, key=lambda p: p.epochs, default=last)
    st.subheader(f"Run {r.trial}", anchor=False)
    st.markdown(plain(describe(r)))
    if last.status != "complete":
        st.warning(plain(f"{last.status}: {last.reason}" if last.reason else last.status))
    if points:
        _figures(c, r)
    left, right = st.columns([65, 35], gap="medium")
    with left:
        if points:
            _checkpoints(c, segments, points)
        _bill(c, r, segments)
        efficiency(c, segments)
    with right:
        to_mlflow(c, r)
        _settings(r, min(s.started for s in segments))
    _samples(r)
    _again(c, r)


def _figures(c: Context, r: Result) -> None:
    view = c.view
    facts = {
        view.maximize: score_text(r.scores[view.maximize], None) if view.maximize in r.scores else "unknown",
        "C, compute": cost_text(view, r, "usd_compute"),
        "D, labels": dollars(view.cost(r, "usd_labels")),
        "time": cost_text(view, r, "seconds"),
        "energy": cost_text(view, r, "energy_j"),
        "CO2e": cost_text(view, r, "grams_co2e").removesuffix(" CO2e"),
    }
    for place, (name, text) in zip(st.columns([3, 5, 4, 6, 5, 5]), facts.items(), strict=True):
        place.metric(name, text)
    known = c.points.confirmed.get(r.recipe_id)
    if known is not None:
        st.markdown(f"With new seeds its {view.maximize} is {score_text(r.scores[view.maximize], known)}.")
    on_front = [p for p in c.points.members if p.run_id == r.run_id]
    if on_front:
        *others, last = on_front
        before = f"{', '.join(number(p.epochs) for p in others)} and " if others else ""
        ends = f"{before}{many(last.epochs, 'epoch')}"
        st.markdown(f":material/trending_up: On the front at {ends}.")


def _checkpoints(c: Context, segments: list[Result], points: list[Result]) -> None:
    """Show how the score grew. Each checkpoint is a model that could be deployed."""
    st.markdown("##### Checkpoints")
    best = max((p for p in points if c.view.maximize in p.scores), key=lambda p: p.scores[c.view.maximize], default=None)
    if best is not None:
        alt = f"The best checkpoint has {c.view.maximize} {best.scores[c.view.maximize]:.1f} after {best.epochs:g} epochs."
        st.plotly_chart(figures.run_curve([segments], c.view), width="stretch", key="run_curve", alt=alt)
    names = list(dict.fromkeys(name for p in points for name in p.scores))
    rows = [
        {
            **values(p, c.view, "epochs", "step", "labels"),
            **{name: p.scores.get(name) for name in names},
            "US$": c.view.cost(p, "usd"),
            "seconds": c.view.cost(p, "seconds"),
        }
        for p in points
    ]
    formats = {"US$": "$%.3g", "seconds": "%.1f"} | dict.fromkeys(names, "%.2f")
    columns = {name: st.column_config.NumberColumn(name, format=text) for name, text in formats.items()}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns)


def _bill(c: Context, r: Result, segments: list[Result]) -> None:
    """Show what each phase costs from cold, and what was really spent."""
    st.markdown("##### The bill, by phase")
    # Two sums that differ: a point alone from cold, at this offer,
    # and all that its run has really taken, broken-off work included.
    there, spent = carried(r, c.view.offer), phases_spent(segments)
    cold = there.phases if there else {}
    usd = {name: amount for name, usage in cold.items() if (amount := prices.usd(usage, c.view.offer)) is not None}
    labels = c.view.cost(r, "usd_labels")
    parts = {**usd, **({"labels": labels} if labels else {})}
    if parts:
        dearest = max(parts, key=lambda name: parts[name])
        alt = f"Of {dollars(sum(parts.values()))} most goes to {dearest}: {dollars(parts[dearest])}."
        st.plotly_chart(figures.phases(parts, unit="US$"), width="stretch", key="phases", alt=alt)
    rows = []
    for name in dict.fromkeys((*cold, *spent)):
        time, cpu, energy, peak = usage_cells(cold.get(name))
        money = dollars(usd[name]) if name in usd else ""
        really = duration(spent[name].seconds) if name in spent else ""
        rows.append(
            {
                "phase": name,
                "US$": money,
                "from cold": time,
                "CPU time": cpu,
                "energy": energy,
                "peak memory": peak,
                "spent": really,
            }
        )
    if labels:
        rows.append({"phase": "labels", "US$": dollars(labels)})
    # The row of labels has no time or energy.
    st.dataframe(pd.DataFrame(rows).fillna(""), hide_index=True)
    if there and there.note:
        st.caption(plain(f"{there.basis}: {there.note}"))


def _samples(r: Result) -> None:
    """Show the predictions on a few examples of the dev set, where the sweep kept them."""
    if not r.samples:
        return
    st.markdown("##### Predictions")
    rows = sample_rows(r)
    config = {name: st.column_config.TextColumn(width="small" if _short(name, rows) else "medium") for name in rows[0]}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=config)
    st.caption(f"The first {len(r.samples)} examples of the dev set at {many(r.epochs, 'epoch')}. A click on a cell shows it all.")


def _short(name: str, rows: list[dict[str, str]]) -> bool:
    return max(len(row[name]) for row in rows) < 16


def _settings(r: Result, began: float) -> None:
    """Show all settings of the run. `began` is its start, in seconds since 1970."""
    st.markdown("##### Configuration")
    rows = [(name, number(value)) for name, value in recipe_items(r.recipe) if value is not None]
    # In pixels, a head of 38 and rows of 35: short tables have no empty rows, long ones scroll.
    st.dataframe(pd.DataFrame(rows, columns=["setting", "value"]), hide_index=True, height=min(420, 38 + 35 * len(rows)))
    st.markdown("##### Where it comes from")
    versions = ", ".join(f"{name} {version}" for name, version in dict(r.provenance.get("versions", {})).items())
    device = dict(r.provenance.get("device", {}))
    facts = {
        "run id": r.run_id,
        "recipe id": r.recipe_id,
        "started": f"{datetime.fromtimestamp(began):%Y-%m-%d %H:%M:%S}" if began else "",
        "device": r.device or str(device.get("cpu") or ""),
        "commit": str(r.provenance.get("git_commit") or "not in a checkout"),
        "versions": versions,
        "confirms": r.replicate_of or "",
    }
    st.markdown("\n".join(f"- {name}: {plain(text)}" for name, text in facts.items() if text))


def _again(c: Context, r: Result) -> None:
    st.markdown("##### Make it again")
    command = reproduce(r, c.description)
    if command:
        st.code(command, language="bash")
        st.caption("Trains this point from nothing and prints its scores; ledger and MLflow are not touched.")
    else:
        st.markdown("It was imported: there is no study file that makes it.")
    st.caption(f"All that was recorded of it: `workbench run {r.trial} --study {c.name} --json`")
