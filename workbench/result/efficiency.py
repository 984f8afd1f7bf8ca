"""How much of what a machine could have computed became finished models: four factors and their product."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workbench.result.record import Result
from workbench.usage import Usage, total

COMPUTING = ("pretrain", "train", "evaluate", "test")
"""Phases in which a model computes; in all others (load, data, checkpoint, decide, idle) the device waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """The factors of an efficiency, of a run or of many.

    Their product is what the useful tokens needed, as a share of what the devices could have computed in all the time that they
    were held: `floor_flops / (peak_flops x seconds)`. Every factor is None where what it is made of is unknown.

    Attributes:
        floor_flops: Floating-point operations that the useful tokens of finished work needed.
        flops: Those that the useful tokens of all work needed, broken-off work included.
        tokens: Tokens that passed a model, padding excluded.
        padded_tokens: With padding.
        busy_seconds: Device-seconds in which a model computed.
        seconds: Device-seconds held in all.
        peak_flops: What one device reaches at most, in FLOP/s, as it was measured.
    """

    floor_flops: float | None
    flops: float | None
    tokens: int
    padded_tokens: int
    busy_seconds: float | None
    seconds: float | None
    peak_flops: float | None = None

    @property
    def useful_tokens(self) -> float | None:
        """Share of the tokens processed that are no padding, 0 to 1."""
        return self.tokens / self.padded_tokens if self.tokens and self.padded_tokens else None

    @property
    def useful_work(self) -> float | None:
        """Share of the operations that belong to work that was finished, 0 to 1."""
        return None if self.floor_flops is None or not self.flops else self.floor_flops / self.flops

    @property
    def execution(self) -> float | None:
        """Operations done in the busy time, those of padding included, as a share of the peak.

        The operations of padding are taken to be in proportion to its tokens, though attention takes more of long rows.
        """
        useful = self.useful_tokens
        if not self.flops or useful is None or not self.busy_seconds or not self.peak_flops:
            return None
        return self.flops / useful / (self.busy_seconds * self.peak_flops)

    @property
    def busy(self) -> float | None:
        """Share of the time in which a model computed, 0 to 1: one minus the idle share."""
        return None if self.busy_seconds is None or not self.seconds else self.busy_seconds / self.seconds

    @property
    def peak_share(self) -> float | None:
        """The product of the four: the share of the peak that became finished work; None where any of them is unknown."""
        factors = (self.useful_tokens, self.useful_work, self.execution, self.busy)
        product = 1.0
        for factor in factors:
            if factor is None:
                return None
            product *= factor
        return product


def efficiency(results: Iterable[Result], peak_flops: float | None = None) -> Efficiency:
    """The efficiency of what Results have really consumed.

    Work that ended in a checkpoint is finished work, and everything else (infeasible, interrupted) is not. Work that is still
    running has consumed nothing yet that its record knows. What memory made the loop compute twice counts as needed.

    Args:
        results: Segments of one run, or of all runs of a study.
        peak_flops: What one device reaches at most, in FLOP/s, as it was measured where they ran; None: unknown.
    """
    known = [(r, total(usage for phase, usage in r.spent.items() if phase in COMPUTING)) for r in results if r.spent]
    computing = total(usage for _, usage in known)
    finished = total(usage for r, usage in known if r.status == "complete")
    held = total(r.consumed for r, _ in known)
    work = computing.work
    # A record from before work was counted says 0, which is unknown.
    counted = all(usage.work.padded_tokens for _, usage in known if usage.seconds > 0)
    flops = work.flops if counted and work.flops else None
    busy, seconds = _device_seconds(computing, held)
    return Efficiency(
        floor_flops=finished.work.flops if flops else None,
        flops=flops,
        tokens=work.tokens if counted else 0,
        padded_tokens=work.padded_tokens if counted else 0,
        busy_seconds=busy,
        seconds=seconds,
        peak_flops=peak_flops,
    )


def _device_seconds(computing: Usage, held: Usage) -> tuple[float | None, float | None]:
    """Device-seconds in which something computed, and those held: of GPUs where there are any, else of our share of the host."""
    if held.gpu_seconds is None:
        return None, None
    if held.gpu_seconds > 0:
        return held.gpu_busy_seconds, held.gpu_seconds
    return computing.held_seconds, held.held_seconds
