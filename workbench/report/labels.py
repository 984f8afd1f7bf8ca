"""What more labels would buy, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.front.label_curve import LEAST_COUNTS, MORE, Best, bent, line
from workbench.front.objectives import View
from workbench.quantities import dollars
from workbench.report.text import describe


def labels_text(best: Sequence[Best], view: View, more: int = MORE) -> str:
    """Name the best point, and say what more labels would add to its score, or why that is unknown."""
    if not best:
        return "No point with labels has a score yet."
    top = max(best, key=lambda each: (each.score, -each.labels))
    said = f"The best is {describe(top.point)}: {view.maximize} {top.score:.1f}."
    price = f" (they cost {dollars(more * view.label_usd)})" if view.label_usd else ""
    counts = ", ".join(f"{each.labels:,}" for each in best)
    # A line through scores that have stopped rising would promise
    # more than the data show, even more than a score can be.
    if len(best) >= LEAST_COUNTS and bent(best):
        more_tried = [each.labels for each in best if each.labels > top.labels]
        tried = f"{min(more_tried):,}" if len(more_tried) == 1 else f"{min(more_tried):,} to {max(more_tried):,}"
        return f"{said} {tried} labels did no better: nothing says that {more:,} more would buy anything{price}."
    found = line(best)
    if found is None:
        only = "Only one number of labels was tried" if len(best) == 1 else f"Only {len(best)} numbers of labels were tried"
        return (
            f"{said} {only} ({counts}): the data cannot tell what {more:,} more would buy{price}; it takes {LEAST_COUNTS} of them."
        )
    gain = found.gain(more)
    band = f"{gain.low:+.1f} to {gain.high:+.1f}"
    basis = f"the best at {found.counts} numbers of labels, on a line in their logarithm"
    if gain.low <= 0 <= gain.high:
        return (
            f"{said} The data cannot tell what {more:,} labels beyond {found.most:,} would buy{price}: {basis}, "
            f"give {gain.value:+.1f} {view.maximize}, and agree with anything from {band}."
        )
    return (
        f"{said} {more:,} labels beyond {found.most:,} would buy about {gain.value:+.1f} {view.maximize} ({band}, from {basis})"
        f"{price}; where the curve bends, less."
    )
