"""What the search chooses between, in plain numbers: runs that exist or could be started, their milestones, and a decision."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.space import Value


@dataclass(frozen=True)
class Milestone:
    """A checkpoint of a run in plain numbers, passed or ahead.

    Attributes:
        progress: How much it was trained by then, above 0, in one unit for all runs (examples processed).
        labels: Distinct labelled examples used by then.
        cost: What the checkpoint costs from cold, above 0; a forecast until it was measured.
    """

    progress: float
    labels: float
    cost: float


@dataclass(frozen=True)
class Arm:
    """A run: one that exists, or one that could be started.

    Attributes:
        key: What names it, for ever.
        settings: Its settings by name; a setting that its method lacks is absent.
        milestones: Its checkpoints, shortest first.
        scores: The quality, to be maximised, at each checkpoint that it has passed: the first `len(scores)` of `milestones`. A
            score that is no finite number counts as the worst of all.
        losses: A loss at the same checkpoints, which falls before the score rises; empty where there is none. A loss that is
            no finite number counts as the worst of all.
        slacks: For each bound that is required, by how much each of these checkpoints keeps it: at least 0 where it does, and no
            finite number where that is unknown, which keeps none. Empty where nothing is required.
        pending: The milestone, by index, that a worker is taking it to now; None when nobody is.
        cached: Whether its last state is at hand: continuing it repeats nothing, and costs `resume` in the place of a cold start.
        resume: What taking it up from there costs beside the way to the next milestone: the loading of model and data.
        infeasible: Whether it ran out of memory or diverged: it is not to be tried again.
        fits: Chance that it does not run out of memory, by a forecast; 1 where nothing speaks against it.
        drawn: How often its settings were drawn from the space: a method with few settings is drawn time and again, and stands
            here once.
    """

    key: Hashable
    settings: Mapping[str, Value]
    milestones: Sequence[Milestone]
    scores: Sequence[float] = ()
    losses: Sequence[float] = ()
    slacks: Sequence[Sequence[float]] = ()
    pending: int | None = None
    cached: bool = True
    resume: float = 0.0
    infeasible: bool = False
    fits: float = 1.0
    drawn: int = 1

    @property
    def done(self) -> int:
        """How many of its checkpoints it has passed."""
        return len(self.scores)

    @property
    def kept(self) -> list[bool]:
        """Whether each of those keeps all that is required."""
        return [all(slack[k] >= 0 for slack in self.slacks) for k in range(self.done)]


@dataclass(frozen=True)
class Decision:
    """What a free worker does next.

    Attributes:
        action: `start` a run, `continue` one, `wait` until another worker has recorded something, or `stop` the search.
        key: The key of the arm; None where there is nothing to do.
        milestone: The milestone, by index, to which it is taken before the search is asked again.
        gain: Expected growth of the hypervolume, in score x natural logarithm of cost; nan where it is not known yet.
        spend: Expected cost of that, in the unit of `Milestone.cost`.
        reason: Why, in words.
    """

    action: str
    key: Hashable = None
    milestone: int = -1
    gain: float = 0.0
    spend: float = 0.0
    reason: str = ""


def finite(arms: Sequence[Arm]) -> Sequence[Arm]:
    """The same arms, with the worst of all arms in the place of scores and losses that are no finite numbers.

    A single nan would spread through the model to every belief, and the decision would be the first arm there is.
    """
    if all(math.isfinite(value) for arm in arms for value in (*arm.scores, *arm.losses, *itertools.chain(*arm.slacks))):
        return arms
    least = min((score for arm in arms for score in arm.scores if math.isfinite(score)), default=0.0)
    most = max((loss for arm in arms for loss in arm.losses if math.isfinite(loss)), default=0.0)
    # What is not known to keep a bound does not keep it.
    short = min((s for arm in arms for of in arm.slacks for s in of if math.isfinite(s) and s < 0), default=-1.0)
    # The worst of all that was seen, and not nothing: a run that diverged must not look like one that was never tried.
    return [
        replace(
            arm,
            scores=[score if math.isfinite(score) else least for score in arm.scores],
            losses=[loss if math.isfinite(loss) else most for loss in arm.losses],
            slacks=[[slack if math.isfinite(slack) else short for slack in of] for of in arm.slacks],
        )
        for arm in arms
    ]
