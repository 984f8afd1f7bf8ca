"""Results as rows of a table: one for each, every figure in a column of its own, with its unit in the name."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.front.confirmed import confirmed_front
from workbench.front.objectives import View
from workbench.front.serving import serving
from workbench.report.columns import values
from workbench.result import Result, spent_usd

_COLD = (
    *("usd", "usd_compute", "usd_labels", "seconds", "energy_j", "grams_co2e"),
    *("gpu_seconds", "contended", "seconds_measured", "stalled_seconds", "peak_memory_bytes"),
)
"""Columns of what making a point alone from cold would have cost."""


def result_rows(results: Sequence[Result], view: View, mlflow_runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one row for each Result, in the order given. All rows have the same columns; what is unknown is None.

    Args:
        results: All Results, with or without those being made.
        view: The prices.
        mlflow_runs: MLflow's run id by run id (`Ledger.mlflow_runs`).
    """
    members = {id(r) for r in confirmed_front(results, view)}
    rows = [
        (
            _identity(r, view, id(r) in members),
            _scores(r),
            _cold(r, view),
            _phases(r),
            _spent(r, view, mlflow_runs),
            _settings(r),
        )
        for r in results
    ]
    # Scores, phases and settings that only some rows have stand together, not where the first row that has them came.
    columns = [name for parts in zip(*rows, strict=True) for name in dict.fromkeys(name for part in parts for name in part)]
    whole = [{name: value for part in row for name, value in part.items()} for row in rows]
    return [{name: row.get(name) for name in columns} for row in whole]


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the rows of `result_rows` as comma-separated values under the names of their columns; unknown cells are empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _identity(r: Result, view: View, on_front: bool) -> dict[str, Any]:
    return {
        **values(r, view, "number", "trial", "run_id", "recipe_id", "status"),
        "reason": r.reason or None,
        "on_front": on_front,
        **values(r, view, "replicate_of"),
        "outdated": "+".join(r.outdated) or None,
        **values(r, view, "model", "method", "seed", "epochs", "step", "examples", "tokens", "labels"),
        **values(r, view, "trainable_parameters"),
    }


def _scores(r: Result) -> dict[str, Any]:
    tested = r.test_scores.get(r.recipe_id, {})
    return {f"score_{name}": value for name, value in r.scores.items()} | {f"test_score_{name}": v for name, v in tested.items()}


def _cold(r: Result, view: View) -> dict[str, Any]:
    """Return what making the point alone from cold would have cost; None in each column where the Result is no point."""
    # The columns stay, empty: 0 would read as free.
    if r.status != "complete":
        return dict.fromkeys((*_COLD, "flops"))
    return values(r, view, *_COLD) | {"flops": r.cold.work.flops or None}


def _phases(r: Result) -> dict[str, Any]:
    return {f"{phase}_seconds": usage.seconds for phase, usage in r.usage.items()} if r.status == "complete" else {}


def _spent(r: Result, view: View, mlflow_runs: Mapping[str, str]) -> dict[str, Any]:
    served = serving(r, view)
    return {
        "spent_usd_compute": spent_usd([r], view.offer, 0.0),
        "spent_seconds": r.consumed.seconds,
        "spent_energy_j": r.consumed.energy_j,
        "latency_seconds": None if served is None else served.latency_seconds,
        "predictions_per_second": None if served is None else served.predictions_per_second.value,
        "offer": view.offer.name,
        "offer_usd_per_hour": float(view.offer.usd_per_hour),
        "usd_per_label": view.label_usd,
        "gpu": r.device,
        "started_unix_seconds": r.started,
        "finished_unix_seconds": r.finished,
        "git_commit": r.provenance.get("git_commit"),
        "mlflow_run_id": mlflow_runs.get(r.run_id),
    }


def _settings(r: Result) -> dict[str, Any]:
    return {f"setting_{name}": value for name, value in r.settings.items()}
