"""The MLflow notebook of a command that trains: opened for it, and ended with what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench import figures, process
from workbench.cli.printing import messages, waiting
from workbench.errors import EnvironmentFault
from workbench.front.hypervolume import hypervolume
from workbench.front.objectives import View
from workbench.front.points import Points
from workbench.prices import Prices
from workbench.quantities import many
from workbench.report.records import front_markdown
from workbench.report.rows import result_rows, rows_csv
from workbench.result import by_run, originals, spent_usd
from workbench.sweep import Outcome
from workbench.tracking import Listener, MlflowTracker, default_uri

if TYPE_CHECKING:
    from workbench.ledger import Ledger
    from workbench.prices import Offer
    from workbench.study import Study

MLFLOW_PATIENCE_SECONDS = 20.0
"""How long the end of a command waits for MLflow; what is missing then is written at the next start."""


def open_notebook(
    study: Study, ledger: Ledger, offer: Offer, label_usd: float, tracking_uri: str | None, *, sweep: str | None = None
) -> MlflowTracker:
    """The notebook at this URI, else in this folder. `sweep` is the id of a sweep that several processes are part of."""
    listener = Listener(lambda text: messages.print(text, style="yellow", markup=False), ledger.note_mlflow_run)
    uri = tracking_uri or default_uri(Path.cwd())
    return MlflowTracker(study, uri, Prices(offer, label_usd), listener=listener, sweep=sweep)


def catch_up(study: Study, ledger: Ledger, offer: Offer, label_usd: float, tracking_uri: str | None) -> tuple[int, int]:
    """Write to MLflow what it lacks of a study, under an entry of its own; nothing where it lacks nothing.

    Returns:
        How many runs it lacked something of, and how many records are still not there.

    Raises:
        EnvironmentFault: MLflow cannot be reached, or its store cannot be used.
    """
    results, view = ledger.results(running=True), View.of(ledger.description, offer, label_usd)
    if not results:
        return 0, 0
    notebook = open_notebook(study, ledger, offer, label_usd, tracking_uri)
    with waiting("Looking for what MLflow lacks …"):
        missing = notebook.missing(results)
    if not missing:
        return 0, 0
    notebook.start({"question": study.question, "command": process.command_line(), "sampler": "catch-up"}, results)
    finished = [result for result in results if result.status != "running"]
    return missing, end_notebook(notebook, Outcome(finished, "what MLflow lacked is written"), view)


def catch_up_first(study: Study, ledger: Ledger, offer: Offer, label_usd: float, tracking_uri: str | None) -> None:
    """Catch up before a command says that there is nothing to do. An MLflow that is away is told,
    and is no error.
    """
    try:
        written, _ = catch_up(study, ledger, offer, label_usd, tracking_uri)
    except EnvironmentFault as error:
        messages.print(str(error), style="yellow", markup=False)
    else:
        if written:
            messages.print(f"MLflow lacked {many(written, 'run')}: caught up.")


def end_notebook(notebook: MlflowTracker, outcome: Outcome, view: View) -> int:
    """Write to MLflow how the work ended, and say what is missing there. Return how many records
    are.
    """
    results = outcome.results
    points = Points.of(results, view)
    # The summary tells what stands after a confirmation, so scores are the means over new seeds.
    best = max(points.members, key=points.score, default=None)
    with waiting("Bringing MLflow up to date …"):
        notebook.end(
            {
                "spent/usd": spent_usd(results, view.offer, view.label_usd),
                "spent/runs": float(len(by_run(originals(results)))),
                "front/size": float(len(points.members)),
                "front/hypervolume": hypervolume(points.candidates, view),
                f"best/{view.maximize}": None if best is None else points.score(best),
                "best/usd": None if best is None else view.cost(best, "usd"),
            },
            front_markdown(results, view),
            "KILLED" if outcome.interrupted else "FINISHED",
            artifacts=_artifacts(notebook.study, outcome, points),
            reason=outcome.reason,
            front={r.run_id for r in points.members},
        )
        # MLflow is a copy of the ledger. A server that is down must not hold up the end of a sweep.
        behind = notebook.close(MLFLOW_PATIENCE_SECONDS)
    if behind:
        messages.print(
            f"MLflow is {many(behind, 'record')} behind; the next `workbench sweep` writes what is missing, and so does "
            "`workbench mlflow STUDY --catch-up`. Nothing is missing in the ledger.",
            style="yellow",
        )
    return behind


def _artifacts(study: Study, outcome: Outcome, points: Points) -> dict[str, str]:
    """The front as a page that needs nothing else, and the runs as a table."""
    page = figures.html(figures.front(points, title=study.question))
    return {"front.html": page, "runs.csv": rows_csv(result_rows(outcome.results, points.view, {}))}
