"""When a sweep ends, and which runs are still to be finished before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench import report
from workbench.prices import Offer
from workbench.result import Result, spent_usd
from workbench.usage import total

MAX_INTERRUPTIONS = 3
"""A run whose worker died so often without reaching another checkpoint is left alone: it may be what kills it."""


@dataclass(frozen=True)
class Limits:
    """When a sweep ends. Each counts all starts of the study together; None is no bound.

    Attributes:
        trials: Runs, finished or infeasible.
        max_hours: Hours of work.
        max_usd: US$ spent on compute, at the sweep's offer, and on labels, each label once.
    """

    trials: int | None = None
    max_hours: float | None = None
    max_usd: float | None = None

    def reached(self, results: Sequence[Result], offer: Offer, label_usd: float) -> str:
        """Which limit has been reached, in words; empty when none."""
        done = {r.run_id for r in results if r.status != "interrupted"} - {r.run_id for r in unfinished(results)}
        if self.trials is not None and len(done) >= self.trials:
            return f"{len(done)} of {self.trials} trials are done"
        return self.spent(results, offer, label_usd)

    def spent(self, results: Sequence[Result], offer: Offer, label_usd: float) -> str:
        """As `reached`, for the limits that can end a run at a checkpoint."""
        usd = spent_usd(list(results), offer, label_usd)
        hours = total(r.consumed for r in results).seconds / 3600
        if self.max_usd is not None and usd is None:
            return f"what was spent is unknown, so nothing says that the budget of {report.dollars(self.max_usd)} is kept"
        if self.max_usd is not None and usd is not None and usd >= self.max_usd:
            return f"the budget of {report.dollars(self.max_usd)} is spent ({report.dollars(usd)})"
        if self.max_hours is not None and hours >= self.max_hours:
            return f"{self.max_hours:g} hours have been worked"
        return ""


def unfinished(results: Sequence[Result]) -> list[Result]:
    """Interrupted runs that should be taken up again, each as its last interruption left it."""
    found = []
    for segments in report.by_run(results):
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
