"""What a run is graded on beside the dev set: nothing while a sweep searches, the held-out test
split when it is confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.sweep.actions import Claim

if TYPE_CHECKING:
    from workbench.training import Checkpoint


class Grading:
    """The grading of a sweep: the dev set alone, so that no search ever reads the test split."""

    def before(self, claim: Claim) -> None:
        """What is to be graded before a claimed run is trained."""

    def of(self, checkpoint: Checkpoint) -> Mapping[str, float]:
        """Scores on the held-out test split; empty where it is not read."""
        return {}
