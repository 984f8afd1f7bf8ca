"""What a worker does next, as values.

A planner answers with a `Proposal`, `Wait` or `Done`. The decider takes the lease of what was
proposed, and what follows is one of five decisions. `TrainingRun`, which has the run in memory, acts
on `Continue` itself; the others are the runner's:

    Continue    the run in memory goes on
    Switch      another run is taken up; what is in memory is let go first
    Release     the run in memory is let go, and the planner is asked again
    Wait        nothing can be done until another worker has recorded something
    Done        the work ends
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.ledger import Lease
from workbench.result import Cause, Result
from workbench.sweep.runs import LongestRun, RunCheckpoint


@dataclass(frozen=True)
class Proposal:
    """A run that a planner wants to be taken further.

    Attributes:
        run: The run to its longest.
        until: Epochs of the checkpoint after which the planner is asked again; None where the run
            is made whole or not at all.
    """

    run: LongestRun
    until: float | None = None

    @property
    def target(self) -> RunCheckpoint:
        """The checkpoint that the run is taken to."""
        return self.run.at(self.until)


@dataclass(frozen=True)
class Claim:
    """A proposal, with the right to carry it out.

    Attributes:
        proposal: What is to be done.
        stub: The Result to be made, with all that is known before the work.
        lease: The right to make it.
        results: All Results when it was chosen, those being made included.
    """

    proposal: Proposal
    stub: Result
    lease: Lease
    results: Sequence[Result]

    @property
    def run(self) -> LongestRun:
        """The run that is taken further."""
        return self.proposal.run


@dataclass(frozen=True)
class Continue:
    """The run in memory goes on."""

    claim: Claim


@dataclass(frozen=True)
class Switch:
    """Another run is taken up."""

    claim: Claim


@dataclass(frozen=True)
class Release:
    """The run in memory is let go, and the planner is asked again: what comes next may need the
    memory, or time.
    """


@dataclass(frozen=True)
class Wait:
    """Nothing can be done until another worker has recorded something.

    Attributes:
        known: All Results when this was decided.
        again_seconds: After so many seconds it is asked again all the same; None: only then.
    """

    known: Sequence[Result] = ()
    again_seconds: float | None = None


@dataclass(frozen=True)
class Done:
    """The work ends.

    Attributes:
        reason: Why, in words.
        cause: Who stopped it on the way; None where it came to its own end.
        here_alone: Whether a machine with more memory might go on.
    """

    reason: str
    cause: Cause | None = None
    here_alone: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether a person or a signal from outside ended it. A budget is a planned end."""
        return self.cause in (Cause.STOPPED_BY_PERSON, Cause.STOPPED_BY_SIGNAL)


def done_for(reason: str, *, here_alone: bool = False) -> Done | None:
    """The end for a reason in words; None where that is empty."""
    return Done(reason, here_alone=here_alone) if reason else None


Answer = Proposal | Wait | Done
"""What a planner answers."""

Decision = Continue | Switch | Release | Wait | Done
"""What a worker does."""
