"""The search of the cost-quality front: one index over new and frozen runs."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from workbench.search.arms import Arm, Decision
from workbench.space import Dimension


class FrontSearch:
    """Chooses what a free worker does next. It keeps nothing but fitted hyperparameters: the arms tell all.

    Args:
        dimensions: The space of the arms' settings.
        seed: Of all that is random here.
        least: Score of the reference point: what lies below it adds nothing; None takes the 5 % quantile of what was seen.
    """

    def __init__(
        self, dimensions: Mapping[str, Dimension], *, seed: int = 0, least: float | None = None, ablate: Collection[str] = ()
    ) -> None:
        self.dimensions, self.least = dict(dimensions), least
        self._rng = random.Random(seed)

    def decide(self, arms: Sequence[Arm], *, workers: int = 1, launch: float = 0.0) -> Decision:
        """What a free worker does next.

        Args:
            arms: All runs that exist, and those that could be started.
            workers: How many work at once.
            launch: What a start from cold costs beside the stops' costs, in the same unit.
        """
        free = [arm for arm in arms if arm.pending is None and not arm.infeasible and arm.done < len(arm.stops)]
        if not free:
            busy = any(arm.pending is not None for arm in arms)
            return Decision("wait" if busy else "stop", reason="nothing is left to run")
        arm = self._rng.choice(free)
        return Decision("continue" if arm.done else "start", arm.key, arm.done)
