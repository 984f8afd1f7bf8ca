"""What the last half of a sweep's spend has brought, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.front.trajectory import Stage
from workbench.quantities import dollars, many, number


def course_text(stages: Sequence[Stage]) -> str:
    """Say how much of the hypervolume the last half of the spend has brought: whether going on still pays."""
    scored = [stage for stage in stages if stage.hypervolume > 0]
    if not scored:
        return "Nothing is known to be on the front at these prices." if stages else "Nothing is on the front yet."
    last = stages[-1]
    # Halved by seconds of work, which are always known; US$ may not be.
    half = next(stage for stage in reversed([stages[0], *stages]) if stage is stages[0] or stage.seconds <= last.seconds / 2)
    # A first Result that already took more than half of the time leaves nothing for the first half.
    before = half.hypervolume if half.seconds <= last.seconds / 2 else 0.0
    grown = (last.hypervolume - before) / last.hypervolume
    money = f"{dollars(last.usd)} spent" if last.usd is not None else f"{many(len(stages), 'result')} recorded"
    return f"{money}; the second half of it brought {grown:.0%} of the hypervolume of {number(float(last.hypervolume))}."
