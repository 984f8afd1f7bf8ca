"""The runs of a study as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from workbench.report.confirmed import standing
from workbench.report.records import runs_record
from workbench.report.view import View
from workbench.result import Result

_COLUMNS = (
    *("trial", "status", "reason", "model", "method", "seed", "labels", "epochs", "step", "score"),
    *("usd", "usd_compute", "usd_labels", "seconds", "usd_spent", "replicate_of", "run_id", "recipe_id"),
)


def runs_csv(results: Sequence[Result], view: View) -> str:
    """One line per run as `workbench runs --json` tells it, every setting and score in a column of its own.

    `on_front` says whether one of the run's checkpoints is a point of the front as it stands. What is unknown is empty.
    """
    members = {r.run_id for r in standing(results, view)}
    entries = runs_record(results, view, {})
    settings = list(dict.fromkeys(name for e in entries for name in e["settings"] if name not in _COLUMNS))
    scores = list(dict.fromkeys(name for e in entries for name in e["scores"]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_COLUMNS, "on_front", *settings, *(f"score.{name}" for name in scores)])
    for e in entries:
        values = [e[name] for name in _COLUMNS]
        values += [str(e["run_id"] in members).lower()]
        values += [e["settings"].get(name) for name in settings] + [e["scores"].get(name) for name in scores]
        table.writerow(["" if value is None else value for value in values])
    return text.getvalue()
