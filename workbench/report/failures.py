"""What failed, and what that cost: by type and phase, which models did not fit into memory, money that bought no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.front.view import View
from workbench.quantities import dollars, duration, many
from workbench.report.text import peak_memory
from workbench.result import Result, by_run, spending, spent_usd
from workbench.usage import Usage, add_phases

FAILED = ("infeasible", "interrupted")
"""Statuses of work that bought no model."""

KINDS = {
    "out_of_memory": "out of memory",
    "diverged": "diverged",
    "died": "worker died",
    "stopped": "stopped",
    "fault": "fault of the machine",
    "bug": "bug",
}
"""What the first word of a reason means."""

_MEMORY = ("method", "batch_size", "max_length", "precision")


@dataclass(frozen=True)
class Failure:
    """Work of one type that bought no model.

    Attributes:
        kind: One of the values of `KINDS`, or a reason's own first word.
        status: `infeasible` or `interrupted`.
        segments: Its Results.
        runs: How many runs they are of.
        phases: What they consumed, by phase.
        usd: US$ of compute; None where unknown.
        seconds: Seconds of work.
    """

    kind: str
    status: str
    segments: tuple[Result, ...]
    runs: int
    phases: Mapping[str, Usage]
    usd: float | None
    seconds: float


def kind(result: Result) -> str:
    """The type of a failure, in words."""
    word = result.reason.split(":")[0].strip()
    if word == "fault" and result.status == "infeasible":
        return "fault of the model"  # of the machine it ends a sweep, and the run is interrupted
    return KINDS.get(word, word or "unknown")


def failures(results: Sequence[Result], view: View) -> list[Failure]:
    """All failures by type, the dearest first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        if r.status in FAILED:
            groups.setdefault((r.status, kind(r)), []).append(r)
    found = []
    for (status, name), segments in groups.items():
        phases: dict[str, Usage] = {}
        for r in segments:
            phases = add_phases(phases, r.spent)
        usd = spent_usd(segments, view.offer, 0.0)
        seconds = sum(r.consumed.seconds for r in segments)
        found.append(Failure(name, status, tuple(segments), len(by_run(segments)), phases, usd, seconds))
    return sorted(found, key=lambda f: (-f.seconds, f.kind))


@dataclass(frozen=True)
class Waste:
    """What failures cost.

    Attributes:
        usd: US$ of compute that bought no model; None where unknown.
        seconds: Seconds of work.
        share: Of all compute that was spent, 0 to 1: in US$, in seconds where these are unknown; None before anything was.
    """

    usd: float | None
    seconds: float
    share: float | None


def waste(results: Sequence[Result], view: View) -> Waste:
    """What infeasible and interrupted work cost; labels are left out: those that were bought stay bought."""
    finished = [r for r in results if r.status != "running"]
    lost = [r for r in finished if r.status in FAILED]
    whole, part = (spending(each, view.offer, 0.0) for each in (finished, lost))
    share = part.seconds / whole.seconds if whole.seconds else None
    if part.usd is not None and whole.usd:
        share = part.usd / whole.usd
    return Waste(part.usd, part.seconds, share)


def failures_text(results: Sequence[Result], view: View) -> str:
    """The sentence above the failures: how many runs failed, of what, and what that cost."""
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
        fitted: Runs that reached a checkpoint.
        out_of_memory: Runs that ran out of it.
        peak_bytes: Highest memory of those that fitted; None where not measured.
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
    """Which models fitted with which of the settings that decide memory, as far as it was tried: method, batch size, …

    Settings that are the same in all runs are left out, but for the method.
    """
    groups: dict[tuple[Any, ...], list[list[Result]]] = {}
    for segments in by_run(results).values():
        tried = [r for r in segments if r.status == "complete" or kind(r) == KINDS["out_of_memory"]]
        if tried:
            groups.setdefault((tried[0].model, *_deciding(tried[0]).values()), []).append(tried)
    differing = {name for i, name in enumerate(_MEMORY) if name == "method" or len({key[i + 1] for key in groups}) > 1}
    found = []
    for (model, *values), runs in sorted(groups.items(), key=lambda item: tuple(map(_rank, item[0]))):
        peaks = [peak for run in runs for r in run if r.status == "complete" and (peak := peak_memory(r.cold)) is not None]
        failed = sum(any(r.status != "complete" for r in run) for run in runs)
        settings = {name: value for name, value in zip(_MEMORY, values, strict=True) if name in differing}
        found.append(Fit(str(model), settings, len(runs) - failed, failed, max(peaks, default=None)))
    return found


def memory_text(known: Sequence[Fit]) -> str:
    """The sentence above the map: what did not fit."""
    if not known:
        return "No run has shown yet whether its model fits into memory."
    lost = [fit for fit in known if fit.out_of_memory]
    if not lost:
        return "Everything that was tried fitted into memory."
    names = "; ".join(f"{fit.model} with {settings_words(fit)}" for fit in lost)
    return f"Out of memory: {names}."


def settings_words(fit: Fit) -> str:
    """`lora, batch size 8`."""
    return ", ".join(str(v) if name == "method" else f"{name.replace('_', ' ')} {v}" for name, v in fit.settings.items())


def _rank(value: Any) -> tuple[float, str]:
    """Numbers by size, before words in their order."""
    return (float(value), "") if isinstance(value, (int, float)) else (math.inf, str(value))


def _deciding(result: Result) -> dict[str, Any]:
    """The settings of a run's recipe that decide its memory beside the model."""
    task = result.recipe["task"]
    known = {"method": result.method, "max_length": task.get("max_length")}
    return {name: known[name] if name in known else result.recipe.get(name) for name in _MEMORY}
