"""How near to the limit of the machine a run or a sweep ran: the four factors, as plain data and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.forecast import Calibration
from workbench.forecast.machine import name_of
from workbench.result import Result
from workbench.result.efficiency import Efficiency, efficiency


def _peak_of(results: Sequence[Result], calibration: Calibration | None) -> float | None:
    """The measured peak of the machine that Results were made on, in FLOP/s; None where it was not measured, or not there."""
    machines = {name_of(r.provenance.get("device", {})) for r in results if r.spent}
    return calibration.peak_flops if calibration is not None and machines == {calibration.machine} else None


def efficiency_record(results: Sequence[Result], calibration: Calibration | None = None) -> dict[str, float | None]:
    """The four factors of what Results have consumed, their product `peak_share`, and the peak, as plain data."""
    found = efficiency(results, _peak_of(results, calibration))
    return {
        "useful_tokens": found.useful_tokens,
        "useful_work": found.useful_work,
        "execution": found.execution,
        "busy": found.busy,
        "peak_share": found.peak_share,
        "peak_flops": found.peak_flops,
    }


def efficiency_text(results: Sequence[Result], calibration: Calibration | None = None) -> str:
    """Say the same in a sentence or two; empty where nothing of it is known."""
    found = efficiency(results, _peak_of(results, calibration))
    factors = {
        "tokens that are no padding": found.useful_tokens,
        "work that was finished": found.useful_work,
        "speed while computing": found.execution,
        "time spent computing": found.busy,
    }
    if not any(value is not None for value in (found.useful_tokens, found.useful_work)):
        return ""
    told = " x ".join(f"{_percent(value)} {name}" for name, value in factors.items() if value is not None)
    if found.peak_share is not None and found.peak_flops is not None:
        return f"{_percent(found.peak_share)} of the machine's peak ({found.peak_flops / 1e9:,.0f} GFLOP/s): {told}."
    return f"{told}; {_lacking(factors, found)}."


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.3g} %"


def _lacking(factors: Mapping[str, float | None], found: Efficiency) -> str:
    """What is unknown, and what would tell it."""
    if found.peak_flops is None:
        return "how near the speed came to the machine's peak, `workbench plan STUDY --calibrate` would tell"
    return f"unknown: {', '.join(name for name, value in factors.items() if value is None)}"


def efficiency_rows(results: Sequence[Result], calibration: Calibration | None = None) -> list[dict[str, Any]]:
    """The factors as rows of a table for people: what it is, and how much."""
    found = efficiency(results, _peak_of(results, calibration))
    facts = {
        "tokens that are no padding": found.useful_tokens,
        "work that was finished": found.useful_work,
        "speed while computing, of the measured peak": found.execution,
        "time spent computing": found.busy,
        "all four: share of the peak that became results": found.peak_share,
    }
    return [{"factor": name, "share": _percent(value)} for name, value in facts.items()]
