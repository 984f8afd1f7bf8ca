"""When a sweep ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.errors import UsageError
from workbench.result import Result, originals
from workbench.search import begun, unfinished


@dataclass(frozen=True)
class Limits:
    """When a sweep ends. Each but the last counts all starts of the study together; None is no bound.

    Attributes:
        trials: Runs started, replicates of points left out. One that was started may still be taken further while the search
            prefers that to a new one.
        max_hours: Hours of work.
        max_usd: US$ spent on compute, at the sweep's offer, and on labels, each label once.
        max_energy_kwh: Kilowatt-hours of processors and GPU boards.
        max_labels: Distinct labels bought.
        stop_below: Least growth of the hypervolume, in score x decades of cost, that the next US$ is expected to buy.
    """

    trials: int | None = None
    max_hours: float | None = None
    max_usd: float | None = None
    max_energy_kwh: float | None = None
    max_labels: int | None = None
    stop_below: float | None = None

    def done(self, results: Sequence[Result]) -> str:
        """That all trials are done, in words; empty when they are not."""
        runs = {r.run_id for r in originals(results) if r.status != "interrupted"} - {r.run_id for r in unfinished(results)}
        return self.all_begun(len(runs)) if self.trials is not None and len(runs) >= self.trials else ""

    def starts_left(self, results: Sequence[Result]) -> int | None:
        """How many more runs may be started; None for any number."""
        return None if self.trials is None else max(0, self.trials - len(begun(results)))

    def all_begun(self, runs: int) -> str:
        """That so many runs are all that may be started, in words."""
        return f"{runs} of {self.trials} trials are done"

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
