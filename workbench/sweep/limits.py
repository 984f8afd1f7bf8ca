"""The limits of a sweep, and which runs have used a start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.errors import UsageError
from workbench.result import Result, labels_bought, originals
from workbench.search import begun, left_alone, unfinished

TO_COME = "labels_to_come"
"""The key, in the provenance of a Result that is being made, of the labels that its run will have
used.
"""


def promised(result: Result) -> int:
    """How many labels a Result will have used once it is made."""
    labels = result.provenance.get(TO_COME, 0)
    return labels if result.status == "running" and isinstance(labels, int) else 0


def broken_off(results: Sequence[Result]) -> set[str]:
    """Runs that were broken off before their first checkpoint, and are to be taken up again."""
    results = originals(results)
    return {r.run_id for r in results} - begun(results) - left_alone(results)


def started(results: Sequence[Result]) -> set[str]:
    """Runs that have used a start: those that have a checkpoint, failed, are being made, or are to
    be taken up again.
    """
    return begun(results) | broken_off(results)


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
        """Say that all trials are done; empty when they are not."""
        # Interrupted runs are taken up again, so they are not done, though they have used a start.
        runs = {r.run_id for r in originals(results) if r.status != "interrupted"} - {r.run_id for r in unfinished(results)}
        return self.all_begun(len(runs)) if self.trials is not None and len(runs) >= self.trials else ""

    def starts_left(self, results: Sequence[Result]) -> int | None:
        """How many more runs may be started; None for any number."""
        return None if self.trials is None else max(0, self.trials - len(started(results)))

    def admit(self, lease: Result, labels: int, others: Sequence[Result]) -> bool:
        """Whether a lease keeps to the limits where several workers chose at the same moment.

        The order of trials decides, which all of them see alike: the first keeps what it took.

        Args:
            lease: The Result to be made.
            labels: How many its run will have used.
            others: All Results known by now, those that are being made included.
        """
        # Of two workers that took the last start at once, exactly one must yield.
        # Both see the same numbers, which the database gives in one order.
        before = [r for r in others if r.status != "running" or (r.number or 0) < (lease.number or 0)]
        runs = started(before)
        if self.trials is not None and lease.replicate_of is None and lease.run_id not in runs and len(runs) >= self.trials:
            return False
        bought = labels_bought([*(replace(r, labels=max(r.labels, promised(r))) for r in before), replace(lease, labels=labels)])
        return self.max_labels is None or sum(bought.values()) <= self.max_labels

    def all_begun(self, runs: int) -> str:
        """Say that so many runs are all that may be started."""
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
