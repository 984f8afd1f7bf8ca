"""What is said of Results whose inputs have changed since, which are on the bill and no points; and of those on an earlier bill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.quantities import many
from workbench.result import Result, by_run, inputs

_WORDS = {
    "data": "the data changed",
    "model": "the model's files changed",
    "code": "the task's code changed",
    "parents": "what the model starts from changed",
    "also": "other tasks that grade changed",
    "method": "workbench applies their method in another way since",
}


def kinds(results: Iterable[Result]) -> list[str]:
    """Which inputs of Results have changed, out of `workbench.result.inputs.KINDS`, in its order."""
    found = {kind for r in results for kind in r.outdated}
    return [kind for kind in inputs.KINDS if kind in found]


def changes(kinds: Iterable[str]) -> str:
    """Changes in words: `the data changed, the task's code changed`."""
    return ", ".join(_WORDS[kind] for kind in kinds)


def outdated_text(results: Sequence[Result]) -> str:
    """Write in a sentence how many Results have other inputs than the study, and which changed;
    empty for none.
    """
    return text_of(sum(bool(r.outdated) for r in results), kinds(results))


def text_of(count: int, changed: Iterable[str]) -> str:
    """Write the sentence of `outdated_text` from a number of Results and the changed inputs."""
    if not count:
        return ""
    are, they = ("is", "it") if count == 1 else ("are", "they")
    return (
        f"{many(count, 'result')} {are} of other inputs ({changes(changed)}) and left off the front; what {they} cost stays "
        "on the bill."
    )


def earlier_bill_text(results: Iterable[Result]) -> str:
    """Say how many of the runs were made before the study was edited, to be appended: they count as trials, and are on the bill of
    the study as it was. Empty for none.
    """
    runs = len(by_run(r for r in results if r.taken_over))
    return f"; on the bill from before the study was edited: {many(runs, 'run')}" if runs else ""


def outdated_record(results: Sequence[Result]) -> dict[str, object]:
    """Return what `outdated_text` tells, as plain data."""
    return {"results": sum(bool(r.outdated) for r in results), "changed": kinds(results)}
