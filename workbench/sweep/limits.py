"""When a sweep ends, and which runs are still to be finished before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench import report
from workbench.errors import UsageError
from workbench.result import Result, originals

MAX_INTERRUPTIONS = 3
"""A run whose worker died so often without reaching another checkpoint is left alone: it may be what kills it."""


@dataclass(frozen=True)
class Limits:
    """When a sweep ends. Each counts all starts of the study together; None is no bound.

    Attributes:
        trials: Runs, finished or infeasible; replicates of points are none.
        max_hours: Hours of work.
        max_usd: US$ spent on compute, at the sweep's offer, and on labels, each label once.
        max_energy_kwh: Kilowatt-hours of processors and GPU boards.
        max_labels: Distinct labels bought.
    """

    trials: int | None = None
    max_hours: float | None = None
    max_usd: float | None = None
    max_energy_kwh: float | None = None
    max_labels: int | None = None

    def done(self, results: Sequence[Result]) -> str:
        """That all trials are done, in words; empty when they are not."""
        runs = {r.run_id for r in originals(results) if r.status != "interrupted"} - {r.run_id for r in unfinished(results)}
        return f"{len(runs)} of {self.trials} trials are done" if self.trials is not None and len(runs) >= self.trials else ""

    def keeping(self, share: float) -> Limits:
        """These limits with a share of dollars, hours and energy kept back. Raises UsageError where none of them is bounded."""
        kept = {
            name: most * (1 - share)
            for name in ("max_hours", "max_usd", "max_energy_kwh")
            if (most := getattr(self, name)) is not None
        }
        if not kept:
            raise UsageError("there is no budget to keep a share of. Set --max-usd, --max-hours or --max-energy-kwh.")
        return replace(self, **kept)


def unfinished(results: Sequence[Result]) -> list[Result]:
    """Interrupted runs that should be taken up again, each as its last interruption left it; replicates are not a sweep's to do."""
    found = []
    for segments in report.by_run(originals(results)):
        stops = [r for r in segments if r.status == "interrupted"]
        if not stops or any(r.status in ("infeasible", "running") for r in segments):
            continue
        furthest = max((r for r in segments if r.status == "complete"), key=lambda r: r.epochs, default=None)
        if furthest is not None and furthest.epochs >= stops[-1].epochs:
            continue
        since = [r for r in stops if furthest is None or (r.number or 0) > (furthest.number or 0)]
        if sum(r.reason.split(":")[0] in ("died", "bug") for r in since) < MAX_INTERRUPTIONS:
            found.append(stops[-1])
    return found
