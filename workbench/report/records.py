"""Results as plain data for programs and as tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from workbench import carbon
from workbench.forecast import Calibration
from workbench.front.confirmed import Confirmed
from workbench.front.hypervolume import hypervolume
from workbench.front.intervals import Interval
from workbench.front.members import cheapest
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.front.serving import Load, forms_of
from workbench.report.answers import GUESS, answer, cost_text, guesses_text, intervals_text, score_text, ties_text
from workbench.report.bill import bill_record, form_records, serving_record
from workbench.report.caveats import redaction_of
from workbench.report.columns import POINT, cells, values
from workbench.report.efficiency import efficiency_record
from workbench.result import Result, by_run, furthest, originals, settled, spent_usd
from workbench.result.outdated import outdated_record
from workbench.usage import total


def front_record(
    name: str,
    results: Sequence[Result],
    view: View,
    *,
    budget_usd: float | None = None,
    target: float | None = None,
    load: Load | None = None,
    forms: Mapping[str, Mapping[str, Any]] | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """The study's points as plain data: the contract of `workbench front --json`.

    After a confirmation `on_front`, `hypervolume` and the answer are those of the scores that new seeds gave; a point's
    `score` stays the one that was measured first.

    Args:
        name: The study's full name.
        results: All Results of the study.
        view: Prices and objectives.
        budget_usd: As `answer` takes it.
        target: As `answer` takes it.
        load: At which serving is priced, and against which point break-evens are counted; None: fully used, the cheapest.
        forms: Those that models were given, as a ledger has them (`Ledger.forms`).
        calibration: What was timed on this machine: it tells the peak that `efficiency` is a share of; None: unknown.
    """
    points = Points.of(results, view)
    load = load or Load()
    load = replace(load, against=load.against or cheapest(results, view))
    return {
        "study": name,
        "maximize": view.maximize,
        "minimize": list(view.minimize),
        "answer": answer(points, budget_usd=budget_usd, target=target),
        "hypervolume": hypervolume(points.candidates, view),
        "points": [
            _point_record(r, points, load, (forms or {}).get(r.recipe_id, {})) for r in originals(results) if r.status == "complete"
        ],
        "outdated": outdated_record(results),
        "redaction": redaction_of(results),
        "require": {name: dict(bound) for name, bound in view.require.items()},
        "spent_usd": spent_usd(results, view.offer, view.label_usd),
        "efficiency": efficiency_record(results, calibration),
        "view": _view_record(view, load),
    }


def _point_record(r: Result, points: Points, load: Load, forms: Mapping[str, Any]) -> dict[str, Any]:
    view = points.view
    return {
        **values(r, view, "trial", "recipe_id", "step", "model", "method", "settings", "score"),
        **values(r, view, "usd", "usd_compute", "usd_labels", "labels", "seconds", "energy_j"),
        **values(r, view, "peak_memory_bytes"),
        "offer_id": view.offer.id,
        "price_date": view.offer.date,
        "on_front": points.on_front(r),
        "by_chance": points.by_chance(r),
        "unmet": view.unmet(r),
        **values(r, view, "epochs", "seed", "trainable_parameters"),
        "confirmed": _confirmed_record(points.confirmed.get(r.recipe_id)),
        **bill_record(r, view),
        **serving_record(r, view, load),
        "forms": form_records(r, view, load, forms_of(forms)),
        **values(r, view, "scores"),
    }


def _view_record(view: View, load: Load) -> dict[str, Any]:
    intensity = carbon.intensity(view.offer)
    return {
        "offer": view.offer.name,
        "usd_per_hour": float(view.offer.usd_per_hour),
        "label_usd": view.label_usd,
        "billed": view.billed,
        "adopted": view.adopted,
        "sweep_usd": view.sweep_usd,
        "load_per_second": load.per_second,
        "carbon_id": intensity.id,
        "g_co2e_per_kwh": intensity.g_co2e_per_kwh,
        "pue": carbon.pue(view.offer),
    }


def front_markdown(results: Sequence[Result], view: View) -> str:
    """Return the answer, and the front as a markdown table, for the notes of an MLflow run."""
    names = [*POINT, view.maximize, *view.minimize]
    points = Points.of(results, view)
    lines = [answer(points), "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for r in points.members:
        score = score_text(r.scores[view.maximize], points.confirmed.get(r.recipe_id)) + (GUESS if points.by_chance(r) else "")
        told = [*cells(r, view, *POINT), score, *(cost_text(view, r, name) for name in view.minimize)]
        lines.append(f"| {' | '.join(told)} |")
    beneath = [text for text in (guesses_text(points), intervals_text(points), ties_text(points.best, view)) if text]
    return "\n".join([*lines, *(["", *beneath] if beneath else [])]) + "\n"


def _confirmed_record(known: Confirmed | None) -> dict[str, object] | None:
    """Return what new seeds say of a point as plain data; None for a point that is not confirmed."""
    if known is None:
        return None
    test = known.test or Interval(math.nan)
    return {
        "seeds": known.seeds,
        "failed": known.failed,
        "mean": known.score.mean,
        "low": known.score.low,
        "high": known.score.high,
        "test_mean": None if known.test is None else test.mean,
        "test_low": test.low,
        "test_high": test.high,
        "test_original": known.test_original,
        "usd": known.usd,
        "tied_with": None if known.tied_with is None else list(known.tied_with),
    }


def runs_record(results: Sequence[Result], view: View, mlflow_runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one entry per run as plain data: the contract of `workbench runs --json`.

    Status and reason are those of the run's last Result (`last_word`). Scores, usage and costs are those of its furthest
    checkpoint, where it has one.
    """
    entries = []
    for segments in by_run(results).values():
        last = last_word(segments)
        point = furthest(segments) or last
        usage = point.usage or point.spent
        whole = total(usage.values())
        entries.append(
            {
                **values(last, view, "trial"),
                **values(point, view, "recipe_id"),
                **values(last, view, "status", "cause", "retry", "reason", "model", "method", "settings", "seed"),
                **values(point, view, "scores"),
                "usage": whole.to_json() | {"phases": {p: u.to_json() for p, u in usage.items()}},
                "usd": view.cost(point, "usd") if point.usage else spent_usd([point], view.offer, view.label_usd),
                "mlflow_run_id": mlflow_runs.get(last.run_id),
                "started": segments[0].started,
                "seconds": view.cost(point, "seconds") if point.usage else whole.seconds,
                **values(last, view, "run_id"),
                **values(point, view, "labels", "epochs", "step"),
                "usd_spent": spent_usd(segments, view.offer, 0.0),
                **values(point, view, "usd_compute", "usd_labels", "score", "replicate_of"),
                "outdated": list(last.outdated),
                **values(point, view, "test_scores"),
                **bill_record(point, view),
                "checkpoints": [
                    {
                        **values(r, view, "recipe_id", "number", "status", "epochs", "step", "scores"),
                        "usd": view.cost(r, "usd") if r.usage else None,
                    }
                    for r in segments
                ],
            }
        )
    return entries


def find_run(results: Sequence[Result], wanted: str) -> list[Result]:
    """Return the Results of the run that is meant by a trial number, or by the beginning of a run id or recipe id.

    There are none where no run is meant.
    """
    runs = by_run(results).values()
    # A trial number goes before an id: people type those, and an id may begin with the same digits.
    for segments in runs:
        if any(wanted in (str(r.trial), str(r.number)) for r in segments):
            return segments
    for segments in runs:
        # Fewer characters of an id would hit some run by chance.
        if len(wanted) >= 4 and any(name.startswith(wanted) for r in segments for name in (r.run_id, r.recipe_id)):
            return segments
    return []


def asked_for(segments: Sequence[Result], wanted: str) -> list[Result]:
    """Of a run that `find_run` found the one checkpoint whose own number was given, else all of it."""
    return [r for r in segments if str(r.number) == wanted and wanted != str(r.trial)] or list(segments)


def last_word(segments: Sequence[Result]) -> Result:
    """Return the Result that says what a run has come to: being made, infeasible, complete up to a checkpoint, or interrupted."""
    rank = {"running": 3, "infeasible": 2, "complete": 1, "interrupted": 0}
    segments = settled(segments)
    last = max(segments, key=lambda r: (rank[r.status], r.epochs))
    # A run that was broken off on its way beyond its last checkpoint is interrupted, not complete.
    newest = max(segments, key=lambda r: r.number or 0)
    return newest if newest.status == "interrupted" and last.status == "complete" and last.epochs < newest.epochs else last
