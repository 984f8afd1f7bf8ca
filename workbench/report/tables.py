"""Rows of plain data for tables: the front with marginal prices, runs, the best under each budget, what differs between runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.front.objectives import View
from workbench.front.points import Points, marginal
from workbench.report.axes import AXES, in_unit
from workbench.report.columns import values
from workbench.report.records import last_word
from workbench.report.text import peak_memory, settings_text
from workbench.result import Result, by_run, furthest, spent_usd
from workbench.study.record import flat

_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


def front_rows(points: Points) -> list[dict[str, Any]]:
    """Return the members of the front, cheapest first: what each is, reaches and costs, and its marginal price.

    Costs are in the units of `AXES`. `marginal` is in the unit of the first cost, see `workbench.front.points.marginal`.
    """
    view, rows = points.view, []
    for r, more in zip(points.members, marginal(points), strict=True):
        known = points.confirmed.get(r.recipe_id)
        row: dict[str, Any] = {
            **values(r, view, "number", "trial", "method"),
            "settings": settings_text(r),
            **values(r, view, "model", "labels", "epochs"),
            view.maximize: points.score(r),
            "low": None if known is None else known.score.low,
            "high": None if known is None else known.score.high,
            "new_seeds": None if known is None else known.seeds,
            "contended": "contended" if r.contended else None,
        }
        row |= {name: r.scores.get(name) for name in view.require if name not in row}
        row |= {name: in_unit(view, r, name) for name in view.minimize}
        row["marginal"] = None if more is None else more / AXES[view.minimize[0]].per_unit
        row |= {name: in_unit(view, r, name) for name in ("seconds", "energy_j", "grams_co2e") if name not in view.minimize}
        rows.append(row)
    return rows


def run_rows(results: Sequence[Result], view: View, mlflow_runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for each run, in the order in which they began: its last Result, and its furthest checkpoint.

    It has fewer figures than `runs_record`, which works out serving, carbon and bands for every run: ten thousand runs are
    done in a second.
    """
    rows = []
    for segments in by_run(results).values():
        last = last_word(segments)
        point = furthest(segments)
        rows.append(
            {
                **values(last, view, "trial", "status", "reason", "method"),
                "settings": settings_text(last),
                **values(last, view, "model"),
                **values(point or last, view, "labels", "epochs"),
                **values(last, view, "seed"),
                view.maximize: None if point is None else point.scores.get(view.maximize),
                **{name: None if point is None else in_unit(view, point, name) for name in ("usd", "usd_compute", "seconds")},
                "energy_j": None if point is None else in_unit(view, point, "energy_j"),
                "usd_spent": spent_usd(segments, view.offer, 0.0),
                "peak_memory_mib": None if point is None or (peak := peak_memory(point.cold)) is None else peak / 2**20,
                "contended": None if point is None else point.contended,
                "replicate_of": last.replicate_of or "",
                "outdated": ", ".join(last.outdated),
                **values(last, view, "run_id"),
                "mlflow_run_id": mlflow_runs.get(last.run_id),
            }
        )
    return rows


def ladder(low: float, high: float) -> list[float]:
    """Return round amounts from the decade of `low` to that of `high`, ten a decade: the stops of a slider for budgets."""
    if not 0 < low <= high < math.inf:
        return []
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [*(step * 10.0**power for power in powers for step in _STEPS), 10.0 ** (powers[-1] + 1)]


def best_within(points: Points) -> list[tuple[float, dict[str, Result]]]:
    """Return the best point of every method within each of a few budgets, leaving out budgets that buy nothing.

    Points with new seeds have their mean score over them. The budgets are 1, 2 and 5 times the powers of ten that the
    points span, in the unit of the view's first cost.
    """
    view = points.view
    name = view.minimize[0]
    unit = AXES[name].per_unit
    # The third part is left out of the key: Results have no order, and two equal costs would raise.
    priced = sorted(((cost, r.number or 0, r) for r in points.found if (cost := view.cost(r, name))), key=lambda p: p[:2])
    if not priced:
        return []
    # Round in the unit that people read, such as kWh, not in the stored joules.
    stops = [x * unit for x in ladder(priced[0][0] / unit, priced[-1][0] / unit) if _leading(x) in (1, 2, 5)]
    found: list[tuple[float, dict[str, Result]]] = []
    best: dict[str, Result] = {}
    i = 0
    for stop in stops:
        while i < len(priced) and priced[i][0] <= stop:
            r = priced[i][2]
            if r.method not in best or points.score(r) > points.score(best[r.method]):
                best[r.method] = r
            i += 1
        if best and (not found or found[-1][1] != best):
            found.append((stop, dict(best)))
    return found


def budgets_text(points: Points) -> str:
    """Say what a few budgets buy; budgets that buy nothing better than a smaller one are left out. Empty for one budget.

    `Within $0.20: 23.2 (lora on minilm-l3); $0.50: 56.4 (full on minilm-l3).`
    """
    unit, told, best = AXES[points.view.minimize[0]], list[str](), -math.inf
    for budget, of_method in best_within(points):
        leader = max(of_method.values(), key=points.score)
        if points.score(leader) > best:
            best = points.score(leader)
            told.append(f"{unit.text(budget)}: {best:.1f} ({leader.method} on {leader.model})")
    return f"Within {'; '.join(told)}." if len(told) > 1 else ""


def sample_rows(result: Result) -> list[dict[str, str]]:
    """Return a Result's samples as rows: the prediction, then the fields of each example, the longest last, without ids."""
    said = [{name: str(value) for name, value in flat(sample["example"]) if name != "id"} for sample in result.samples]
    names = sorted(
        dict.fromkeys(name for each in said for name in each), key=lambda name: sum(len(each.get(name, "")) for each in said)
    )
    found = zip(result.samples, said, strict=True)
    return [{"prediction": str(sample["prediction"])} | {name: each.get(name, "") for name in names} for sample, each in found]


def differing(runs: Sequence[Result]) -> dict[str, list[Any]]:
    """Return the settings that differ between a few points, by dotted name; the value is None where a point has no such setting."""
    records = [dict(recipe_items(r.recipe)) for r in runs]
    names = dict.fromkeys(name for record in records for name in record)
    # By `repr`, since settings may be lists, which have no hash.
    return {name: values for name in names if len(set(map(repr, values := [record.get(name) for record in records]))) > 1}


def recipe_items(recipe: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return a recipe's record as pairs of dotted names and values. Names of types are left out."""
    return [(name, value) for name, value in flat(recipe) if name.rpartition(".")[2] != "type"]


def _leading(x: float) -> float:
    return round(x / 10.0 ** math.floor(math.log10(x) + 1e-9), 3)
