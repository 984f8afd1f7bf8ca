"""The sweep: recipes of a study are run until a limit is reached, a person stops it, or the space
is exhausted.
"""

from __future__ import annotations

from workbench import search
from workbench.sweep.job import Job
from workbench.sweep.observer import Outcome
from workbench.sweep.planner import planner
from workbench.sweep.runner import run


def sweep(job: Job, *, sampler: str = search.DEFAULT, seed: int = 0) -> Outcome:
    """Run recipes of the study until a limit is reached, a person stops it, or the space is
    exhausted.

    Args:
        job: What the sweep works with, and its limits.
        sampler: Who decides; see `workbench.search.next_run`.
        seed: The seed of the decisions.

    Raises:
        EnvironmentFault: The ledger can no longer be written, or has been away for ten minutes;
            what it lacks then is kept in the folder, and written when the sweep is begun again.
        Exception: A bug, with its traceback; the run is recorded as interrupted first.
    """
    return run(job, lambda context: planner(context, sampler, seed))
