"""What the search chooses between, in plain numbers: runs that exist or could be started, their milestones, and a decision."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

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
    losses: Sequence[float] = field(default=())
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
