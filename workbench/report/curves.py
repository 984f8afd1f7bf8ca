"""Whether longer training still pays, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.front.curves import Curve, rise
from workbench.front.objectives import View
from workbench.quantities import many, number


def curves_text(known: Sequence[Curve], view: View) -> str:
    """Say whether longer training still pays."""
    if not known:
        return "No run has a checkpoint that can be drawn yet."
    # Judged by doublings of the steps: a further epoch means little to a run that has made many.
    found = rise(known)
    if found.gain is None:
        return (
            f"{many(len(known), 'run')}, none with a second checkpoint at twice the steps: whether longer training pays is unknown."
        )
    share = f"{found.best_at_end:,} of {many(found.runs, 'run')} scored best at the last checkpoint"
    amount = f"the last doubling of steps changed {view.maximize} by {_signed(found.gain)} in the median"
    says = (
        # The gain alone would hold for runs that rose over a doubling but had peaked in between.
        "Longer training still pays" if found.gain > 0 and 2 * found.best_at_end > found.runs else "Longer training no longer pays"
    )
    return f"{says}: {share}, and {amount}."


def _signed(value: float) -> str:
    """Write a number with its sign: `+8.1`, `-0.3`."""
    return f"{value:+.1f}" if abs(value) >= 0.05 or value == 0 else f"{'+' if value > 0 else '-'}{number(abs(value))}"
