"""What is known of the MLflow run that mirrors a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.result import Result
from workbench.tracking import tags_and_metrics

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass
class ChildRun:
    """A child run, as a session found it or has written it since.

    Attributes:
        id: MLflow's id of it.
        status: MLflow's status of it.
        sweep: The sweep that wrote to it last.
        results: How many Results it says it has.
        prepared: Whether all that is written once is there.
        best: The best score that it shows; None where it shows none.
        on_front: What it says of the front; None where it says nothing.
        marks: (step, milliseconds) of each Result that it has; None until they were read.
    """

    id: str
    status: str = "RUNNING"
    sweep: str = ""
    results: int = 0
    prepared: bool = False
    best: float | None = None
    on_front: bool | None = None
    marks: set[tuple[int, int]] | None = None

    @classmethod
    def of(cls, run: Run, maximize: str) -> ChildRun:
        """What MLflow says of a run of a study that maximises this score."""
        tags = run.data.tags
        return cls(
            id=run.info.run_id,
            status=run.info.status,
            sweep=tags.get("workbench.sweep", ""),
            results=int(tags.get("workbench.results", 0)),
            prepared="workbench.prepared" in tags,
            best=run.data.metrics.get(f"best/{tags_and_metrics.key(maximize)}"),
            on_front=None if tags_and_metrics.ON_FRONT not in tags else tags[tags_and_metrics.ON_FRONT] == "true",
        )

    def outdone_by(self, result: Result, maximize: str) -> bool:
        """Whether this Result of the run is better than the best that is shown."""
        scored = tags_and_metrics.best((result,), maximize)
        return scored is not None and (self.best is None or scored.scores[maximize] > self.best)
