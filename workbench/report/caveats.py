"""What is to be known beside a front: scores no better than one answer to everything, a dev set too
small to tell scores apart, and data in which something was redacted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.data import redaction
from workbench.front.objectives import View
from workbench.quantities import many
from workbench.result import Result, originals

WIDE = 10.0
"""A dev set is small where the 95 % interval of a score of 50 reaches at least so many points to
either side.
"""

FEW = 100
"""A dev set with fewer examples is small where the standard error of the score is not known. A
share of so many examples would be known to about `WIDE` points, and a score that is no share is
hardly known better.
"""


def doubts(results: Sequence[Result], view: View, grading: Mapping[str, Any]) -> list[str]:
    """Return what is to be doubted of a study's points, a sentence each; none where nothing is, or no point has a score.

    Args:
        results: All Results of the study.
        view: Prices and objectives.
        grading: What grades the points, as `workbench.sweep.graded_by` tells it; empty where that is unknown.
    """
    scores = [r.scores[view.maximize] for r in originals(results) if r.status == "complete" and view.maximize in r.scores]
    constant = grading.get("constant_score")
    if not scores:
        return []
    told = []
    # On skewed data a model that always gives the commonest label
    # scores well. A front of such points has learned nothing.
    if constant is not None and max(scores) <= constant:
        told.append(
            f"No point has learned more than one answer to everything ({view.maximize} {constant:.1f}). Try more labels, more "
            "epochs, other learning rates or a larger model."
        )
    return [*told, *few_examples(grading)]


def few_examples(grading: Mapping[str, Any]) -> list[str]:
    """That the dev set is too small to tell points apart, as one sentence or two in a list; empty where it is large enough.

    It needs no result: `workbench plan` and `workbench init` say it before anything is spent.

    Args:
        grading: As `doubts` takes it. Where `dev_examples` is known, the score's standard error is that of a share at worst, and
            its figure is told; where only `graded_examples` is, no figure is claimed.
    """
    examples, graded = grading.get("dev_examples"), grading.get("graded_examples")
    # A larger `dev=` is of no use where all that there are grade already.
    more = {None: "", True: ". All that there are grade already: label others", False: ": raise dev= of the task"}
    tell = f"more dev examples tell{more[grading.get('dev_whole')]}."
    if examples and (half := half_width(examples)) >= WIDE:
        return [
            f"{many(examples, 'dev example')} grade{'s' if examples == 1 else ''} every point: a score of 50 is known to about "
            f"±{min(half, 50):.0f}. Smaller differences between points may be luck; {tell}"
        ]
    if not examples and graded and graded < FEW:
        grade = "grades" if graded == 1 else "grade"
        return [
            f"{many(graded, 'dev example')} {grade} every point, fewer than {FEW}. How far chance moves this score is not known: "
            f"differences between points may be luck; {tell}"
        ]
    return []


def redaction_of(results: Sequence[Result]) -> Mapping[str, Any] | None:
    """What was redacted in the data of the newest point, as its provenance has it; None where nothing is known of it."""
    found = [r.provenance["redaction"] for r in originals(results) if r.provenance.get("redaction") and not r.outdated]
    return found[-1] if found else None


def redaction_text(results: Sequence[Result]) -> str:
    """Say what was redacted in the data, in a sentence; empty where nothing is known of it."""
    found = redaction_of(results)
    return "" if found is None else redaction.told(found)


def half_width(examples: int) -> float:
    """Return the half-width of the 95 % interval of a score of 50, in points, where the score is a share of so many examples.

    That is where the interval is widest. `examples` is at least 1.
    """
    return 1.96 * 100 * math.sqrt(0.25 / examples)
