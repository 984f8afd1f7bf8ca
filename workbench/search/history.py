"""What is to be read from Results before anything is chosen: which runs were broken off, and which are better left alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.result import Result, by_run, furthest, originals

MAX_INTERRUPTIONS = 3
"""A run whose worker died so often without reaching another checkpoint is left alone: it may be what kills it."""


def begun(results: Iterable[Result]) -> set[str]:
    """Runs that count as started: those that were only ever broken off, before a first checkpoint, do not."""
    return {r.run_id for r in originals(results) if r.status != "interrupted"}


def left_alone(results: Iterable[Result]) -> set[str]:
    """Runs that killed their worker `MAX_INTERRUPTIONS` times since their last checkpoint."""
    return {run_id for run_id, segments in by_run(originals(results)).items() if _deaths(segments) >= MAX_INTERRUPTIONS}


def unfinished(results: Iterable[Result]) -> list[Result]:
    """Interrupted runs that should be taken up again, each as its last interruption left it."""
    broken_off = []
    for segments in by_run(originals(results)).values():
        interruptions = [r for r in segments if r.status == "interrupted"]
        if not interruptions or any(r.status in ("infeasible", "running") for r in segments):
            continue
        last = furthest(segments)
        if last is not None and last.epochs >= interruptions[-1].epochs:
            continue
        # A run that kills its worker would otherwise be taken up again at every start, and nothing else ever run.
        if _deaths(segments) < MAX_INTERRUPTIONS:
            broken_off.append(interruptions[-1])
    return broken_off


def asked_again(results: Iterable[Result]) -> list[str]:
    """Ids of the runs that a person wants tried again, and that nobody has taken up since."""
    return [run_id for run_id, segments in by_run(originals(results)).items() if segments[-1].retry]


def stopped(results: Iterable[Result]) -> dict[str, float]:
    """Epochs, by run id, that runs were going to when a person or a budget stopped them, and nobody has taken them up since."""
    last = (segments[-1] for segments in by_run(originals(results)).values())
    return {r.run_id: r.epochs for r in last if r.stopped}


def _deaths(segments: Sequence[Result]) -> int:
    """How often the worker of one run died since its furthest checkpoint."""
    last = furthest(segments)
    after = -1 if last is None else last.number or 0
    return sum(r.died for r in segments if last is None or (r.number or 0) > after)
