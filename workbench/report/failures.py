"""What failed, and what that cost: by type and phase, which models did not fit into memory, money that bought no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.front.objectives import View
from workbench.quantities import dollars, duration, many
from workbench.report.text import peak_memory
from workbench.result import AGAIN, Cause, Result, by_run, settled, spending, spent_usd
from workbench.usage import Usage, add_phases

FAILED = ("infeasible", "interrupted")
"""Statuses of work that bought no model."""

KINDS = {
    Cause.OUT_OF_MEMORY: "out of memory",
    Cause.DIED: "worker died",
    Cause.FAULT: "fault of the machine",
}
"""The words for causes of failure where the cause's own name does not say enough."""

_MEMORY = ("method", "batch_size", "max_length", "precision")


@dataclass(frozen=True)
class Failure:
    """Work of one type that brought no model.

    Attributes:
        kind: The type, in words.
        status: `infeasible` or `interrupted`.
        segments: The Results of that type.
        runs: Number of runs that they belong to.
        phases: What they consumed, by phase.
        usd: US$ of their compute; None where unknown.
        seconds: Seconds of their work.
    """

    kind: str
    status: str
    segments: tuple[Result, ...]
    runs: int
    phases: Mapping[str, Usage]
    usd: float | None
    seconds: float


def kind(result: Result) -> str:
    """Return the type of a failure, in words."""
    if result.retry:
        return AGAIN
    cause = result.cause or Cause.UNKNOWN
    if cause is Cause.FAULT and result.status == "infeasible":
        return "fault of the model"  # of the machine it ends a sweep, and the run is interrupted
    return KINDS.get(cause, cause.word)


def failures(results: Sequence[Result], view: View) -> list[Failure]:
    """Return all failures by type, the dearest first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        if r.status in FAILED:
            groups.setdefault((r.status, kind(r)), []).append(r)
    found = []
    for (status, name), segments in groups.items():
        phases: dict[str, Usage] = {}
        for r in segments:
            phases = add_phases(phases, r.spent)
        # At no price for labels: those that were bought stay bought, and other runs use them.
        usd = spent_usd(segments, view.offer, 0.0)
        seconds = sum(r.consumed.seconds for r in segments)
        found.append(Failure(name, status, tuple(segments), len(by_run(segments)), phases, usd, seconds))
    return sorted(found, key=lambda f: (-f.seconds, f.kind))


@dataclass(frozen=True)
class Waste:
    """What failures cost.

    Attributes:
        usd: US$ of compute that brought no model; None where unknown.
        seconds: Seconds of work that brought none.
        share: Their share of all compute that was spent, 0 to 1: of US$, or of seconds where US$ are unknown. None before
            anything was spent.
    """

    usd: float | None
    seconds: float
    share: float | None


def waste(results: Sequence[Result], view: View) -> Waste:
    """Return what infeasible and interrupted work cost. Labels are left out, since those that were bought stay bought."""
    finished = [r for r in results if r.status != "running"]
    lost = [r for r in finished if r.status in FAILED]
    whole, part = (spending(each, view.offer, 0.0) for each in (finished, lost))
    share = part.seconds / whole.seconds if whole.seconds else None
    if part.usd is not None and whole.usd:
        share = part.usd / whole.usd
    return Waste(part.usd, part.seconds, share)


def failures_text(results: Sequence[Result], view: View) -> str:
    """Say how many runs failed, of what, and what that cost."""
    finished = [r for r in results if r.status != "running"]
    known = failures(finished, view)
    runs = by_run(finished)
    if not runs:
        return "No run has finished or failed yet."
    if not known:
        whole = "the one run" if len(runs) == 1 else f"all {len(runs):,} runs"
        return f"Nothing failed: {whole} went through, and no money was wasted."
    lost = {r.run_id for f in known for r in f.segments}
    without = lost - {r.run_id for r in finished if r.status == "complete"}
    parts = ", ".join(f"{f.runs:,} {f.kind}" for f in sorted(known, key=lambda f: -f.runs))
    cost = waste(finished, view)
    share = "" if cost.share is None else f" ({cost.share:.1%} of all compute)"
    money = f"{dollars(cost.usd)} and {duration(cost.seconds)}{share} bought no model"
    none = f", {len(without):,} of them without a single model" if without else ", and each has a model all the same"
    return f"{len(lost):,} of {many(len(runs), 'run')} failed at some point ({parts}){none}: {money}."


@dataclass(frozen=True)
class Fit:
    """Whether one model fits into memory with one set of the settings that decide it.

    Attributes:
        model: The model.
        settings: The settings that decide memory and differ in this study, by name.
        fitted: Number of runs that reached a checkpoint.
        out_of_memory: Number of runs that ran out of memory.
        peak_bytes: Highest peak memory of the runs that fitted; None where it was not measured.
    """

    model: str
    settings: Mapping[str, Any]
    fitted: int
    out_of_memory: int
    peak_bytes: int | None

    @property
    def rank(self) -> tuple[tuple[float, str], ...]:
        """Where its settings stand among others: words in their order, numbers by size."""
        return tuple(map(_rank, self.settings.values()))

    @property
    def verdict(self) -> str:
        """`fits`, `does not fit`, or `sometimes`."""
        return "sometimes" if self.fitted and self.out_of_memory else "fits" if self.fitted else "does not fit"


def memory_map(results: Sequence[Result]) -> list[Fit]:
    """Return which models fitted with which of the settings that decide memory: method, batch size, length, precision.

    Only what was tried is in it. Settings that are the same in all runs are left out, the method excepted.
    """
    groups: dict[tuple[Any, ...], list[list[Result]]] = {}
    for segments in by_run(results).values():
        # An interrupted run says nothing about memory, and
        # one that is to be tried again has no verdict yet.
        tried = [r for r in settled(segments) if r.status == "complete" or (r.cause is Cause.OUT_OF_MEMORY and not r.retry)]
        if tried:
            groups.setdefault((tried[0].model, *_deciding(tried[0]).values()), []).append(tried)
    # The first part of a key is the model, hence i + 1.
    differing = {name for i, name in enumerate(_MEMORY) if name == "method" or len({key[i + 1] for key in groups}) > 1}
    found = []
    for (model, *values), runs in sorted(groups.items(), key=lambda item: tuple(map(_rank, item[0]))):
        peaks = [peak for run in runs for r in run if r.status == "complete" and (peak := peak_memory(r.cold)) is not None]
        failed = sum(any(r.status != "complete" for r in run) for run in runs)
        settings = {name: value for name, value in zip(_MEMORY, values, strict=True) if name in differing}
        found.append(Fit(str(model), settings, len(runs) - failed, failed, max(peaks, default=None)))
    return found


def memory_text(known: Sequence[Fit]) -> str:
    """Say what did not fit into memory."""
    if not known:
        return "No run has shown yet whether its model fits into memory."
    lost = [fit for fit in known if fit.out_of_memory]
    if not lost:
        return "Everything that was tried fitted into memory."
    names = "; ".join(f"{fit.model} with {settings_words(fit)}" for fit in lost)
    return f"Out of memory: {names}."


def settings_words(fit: Fit) -> str:
    """Write the settings of a fit: `lora, batch size 8`."""
    return ", ".join(str(v) if name == "method" else f"{name.replace('_', ' ')} {v}" for name, v in fit.settings.items())


def _rank(value: Any) -> tuple[float, str]:
    """Numbers by size, before words in their order."""
    return (float(value), "") if isinstance(value, (int, float)) else (math.inf, str(value))


def _deciding(result: Result) -> dict[str, Any]:
    """The settings of a run's recipe that decide its memory beside the model."""
    task = result.recipe["task"]
    # The length of rows is a setting of the task, the others stand in the recipe itself.
    known = {"method": result.method, "max_length": task.get("max_length")}
    return {name: known[name] if name in known else result.recipe.get(name) for name in _MEMORY}
