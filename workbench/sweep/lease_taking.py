"""Turns a planner's proposal into a decision: the lease of what was proposed is taken, or nothing
is done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from workbench.forecast.starts import methods_of
from workbench.ledger import Away, Lease, new_token
from workbench.result import Cause, Result, current, offer_record
from workbench.sweep.actions import Claim, Continue, Decision, Done, Proposal, Release, Switch, Wait
from workbench.sweep.current_work import CurrentWork
from workbench.sweep.job import Context
from workbench.sweep.limits import TO_COME, promised
from workbench.sweep.planner import Planner
from workbench.sweep.recording import told_apart
from workbench.sweep.repair import Mending
from workbench.sweep.runs import RunCheckpoint

LEFT = "it has left its device to the other workers"
"""Why a worker ends that `workbench.sweep.autoscaling` lets end: the sweep goes on."""


class Decider:
    """Decides what its worker does, one worker of the folder at a time.

    Args:
        context: What the worker works with.
        work: What the worker is making.
        planner: Says what comes next.
        mending: Puts right what dead workers left.
    """

    def __init__(self, context: Context, work: CurrentWork, planner: Planner, mending: Mending) -> None:
        self._context, self._work, self._planner, self._mending = context, work, planner, mending

    def decide(self, in_memory: str | None = None) -> Decision:
        """Decide what is done next, and take the lease that it needs.

        Args:
            in_memory: The id of the run whose model is in memory; None without one.
        """
        context = self._context
        while True:
            self.settle()  # nothing is chosen without what was made last
            results = self._work.read()
            if self._work.someone_else(results) and self._mending.reconcile():
                results = self._work.read()
                context.notebook.catch_up(results)  # they could not tell it of their last Results themselves
            if (end := self._end(results)) is not None:
                return end
            context.observer.doing("Choosing what is next")
            # Reading, choosing and taking the lease are one turn under
            # the lock. Results are read again inside: those from before
            # may lack what another worker took while this one waited.
            with context.bill.phase("decide"), context.lock.taken(), context.ledger.choosing():
                results = self._work.read()  # the ledger is never broken into: a lock of a library's that is torn open stays shut
                with context.interruptions.breakable():
                    answer = self._planner.next(results, in_memory)
                claim = self._claim(answer, results) if isinstance(answer, Proposal) else None
            if claim is not None:
                return Continue(claim) if claim.run.run_id == in_memory else Switch(claim)
            if isinstance(answer, Done):
                return answer
            if in_memory is not None:  # nobody waits, or is asked a second time, with a model in memory
                return Release()
            if isinstance(answer, Wait):
                return answer

    def lease_on(self, stub: Result) -> Lease | None:
        """The lease of the next checkpoint of the run in memory; None where a worker on another machine has it.

        While the ledger is away the run goes on without it: the ledger hears of the lease when it is back.
        """
        context, before, token = self._context, self._work.lease, new_token()
        assert before is not None
        if context.unwritten.written():  # by the heartbeat: unread here, they would be taken for another worker's
            self._work.read(hurried=True)
        if not context.unwritten.waits and not context.unwritten.written():
            try:
                with context.ledger.patience.hurried():
                    return context.ledger.lease(context.study, stub, token=token)
            except Away:
                pass
        return context.unwritten.lease(before, stub, token)

    def settle(self) -> None:
        """Wait until the ledger knows of all that this worker has made, and of its lease."""
        if self._context.unwritten.waits:
            self._mending.write_what_is_missing()

    def leave(self, run_id: str) -> None:
        """Leave a run whose next stretch, judged by its own speed, would pass a budget."""
        self._planner.leave(run_id)

    def stopped(self, how: str = "") -> Done:
        """The end that somebody asked for. `how` is added to the reason."""
        asked = self._context.interruptions
        return Done(asked.reason or f"{asked.by} stopped it{how}", asked.cause)

    def _end(self, results: Sequence[Result]) -> Done | None:
        """The end where a limit is reached, nothing works, or somebody asked for it; None where the
        work goes on.
        """
        if (over := self._planner.over(results)) is not None:
            return over
        if reason := self._nothing_works(results):
            return Done(reason)
        if self._context.interruptions.requested:
            return self.stopped()
        return Done(LEFT) if self._context.job.standing.leaves else None

    def _nothing_works(self, results: Sequence[Result]) -> str:
        """Say that every model failed with every method and nothing was ever completed; empty where
        something may still work.
        """
        results = current(results)  # what failed of another model says nothing of this one
        faults = [r for r in results if r.status == "infeasible" and r.cause is Cause.FAULT]
        if not faults or any(r.status == "complete" for r in results):
            return ""
        # A pair that was not tried may still work, so all of them must have failed.
        pairs = {(start.name, method.name) for start, method in methods_of(self._context.study)}
        if not pairs <= {(r.model, r.method) for r in faults}:
            return ""
        return f"no model could be trained with any method; last: {faults[-1].detail}"

    def _claim(self, proposal: Proposal, results: Sequence[Result]) -> Claim | None:
        """Take the lease of a proposal's Result; None where a worker on another machine was
        quicker.
        """
        context, stub = self._context, self._stub(proposal.target, results)
        # The lease tells the ledger what is consumed already. Until it is known as ours the watch
        # would count that as somebody else's too, and end a sweep whose budget is not spent.
        with context.bill.settling:
            lease = context.ledger.lease(context.study, stub, {"train": context.bill.consumed()})
            if lease is not None and not self._within_limits(lease, results):
                context.ledger.release(lease)
                lease = None
            if lease is None:
                return None
            self._work.lease = lease
        return Claim(proposal, replace(stub, trial=lease.result.trial), lease, results)

    def _within_limits(self, lease: Lease, results: Sequence[Result]) -> bool:
        """Whether the limits still hold with the leases that workers on other machines have taken
        before ours, since `results` were read.
        """
        known = {r.number for r in results} | {lease.number}
        now = self._context.ledger.known(running=True)
        # The lock keeps workers of one folder apart. Only machines
        # that share no folder can have taken something since.
        if all(r.number in known for r in now):
            return True
        others = [r for r in now if r.number != lease.number]
        return self._context.job.limits.admit(lease.result, promised(lease.result), others)

    def _stub(self, target: RunCheckpoint, results: Sequence[Result]) -> Result:
        """The Result to be made, with all that is known before the work."""
        context, recipe = self._context, target.recipe
        to_come = {} if target.run.graded_only else context.account.labels_to_come(recipe)
        return Result(
            recipe_id=target.recipe_id,
            run_id=target.run.run_id,
            recipe=recipe.to_json(),
            settings=target.settings,
            status="running",
            inputs=recipe.inputs,
            provenance={
                **context.provenance,
                "data_digest": recipe.inputs["data"],
                **({} if (found := recipe.task.redaction()) is None else {"redaction": dict(found)}),
                TO_COME: sum(to_come.values()),
            },
            labels_by_order=told_apart(recipe.to_json(), to_come),
            offer=offer_record(context.job.offer),
            label_usd=context.job.label_usd,
            started=time.time(),
            replicate_of=target.replicate_of,
            trial=min((r.trial for r in results if r.run_id == target.run.run_id and r.trial is not None), default=None),
        )
