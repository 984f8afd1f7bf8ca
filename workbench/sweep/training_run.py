"""One run at work: it is trained from its last state, and each checkpoint is recorded as soon as it
is evaluated.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench import training
from workbench.data import fingerprints
from workbench.errors import DataError, EnvironmentFault, Infeasible, StudyError, UsageError, WorkbenchError
from workbench.result import Cause, Result, labels_by_order, originals
from workbench.sweep.actions import Claim, Continue, Decision, Release, Switch
from workbench.sweep.current_work import CurrentWork
from workbench.sweep.grading import Grading
from workbench.sweep.job import Context
from workbench.sweep.lease_taking import Decider
from workbench.sweep.recording import Recorder

if TYPE_CHECKING:
    from workbench.study import Recipe
    from workbench.training import Checkpoint


class TrainingRun:
    """Carries out claims, one run at a time.

    Args:
        context: What the worker works with.
        work: What it is making.
        recorder: Writes Results.
        grading: What checkpoints are graded on beside the dev set.
        decider: Says at each checkpoint that was aimed at what comes next.
    """

    def __init__(self, context: Context, work: CurrentWork, recorder: Recorder, grading: Grading, decider: Decider) -> None:
        self._context, self._work, self._recorder = context, work, recorder
        self._grading, self._decider = grading, decider

    def take(self, claim: Claim) -> Decision:
        """Carry out a claim, and those after it that go on with the same run.

        Returns:
            The decision that ended it.

        Raises:
            KeyboardInterrupt: The work is to end now. What was consumed is on record.
            DataError, StudyError: The study's data, or a user's own task, cannot be used, which
                concerns every recipe.
            Exception: A bug, or a fault of the machine; the run is recorded as interrupted first.
        """
        context, run = self._context, claim.run
        self._tell(claim)
        status = "KILLED"
        try:
            decision = self._train(claim)
            # After a Switch the lease in hand is that of the next run already.
            if not isinstance(decision, Switch) and self._work.held is not None and self._work.lease is not None:
                self._decider.settle()
                context.ledger.release(self._work.lease)  # all of it was there already
            status = "FINISHED"
        except Infeasible as error:
            self._recorder.end("infeasible", Cause(error.reason), error.detail)
            decision, status = Release(), "FAILED"
        except KeyboardInterrupt:
            self._recorder.cut()
            raise
        except UsageError as error:
            if isinstance(error, (DataError, StudyError)):  # is about no one recipe
                self._recorder.broke(Cause.FAULT, str(error))
                raise
            self._recorder.end("infeasible", Cause.FAULT, " ".join(str(error).split()))
            decision, status = Release(), "FAILED"
        except WorkbenchError as error:
            self._recorder.broke(Cause.FAULT, str(error))
            raise
        except Exception as error:
            self._recorder.broke(Cause.BUG, f"{type(error).__name__}: {error}")
            raise
        finally:
            self._work.progress = None
            context.notebook.finished(run.run_id, status)
        return decision

    def drop(self) -> Decision:
        """Leave what was claimed before any of it has begun. What was consumed until now is on record."""
        self._recorder.cut()
        return Release()

    def _tell(self, claim: Claim) -> None:
        """Say that a run begins, or goes on."""
        run = claim.run
        done = [r.epochs for r in claim.results if r.run_id == run.run_id and r.status == "complete"]
        self._context.observer.started(
            claim.lease,
            len({r.run_id for r in originals(claim.results)} | {run.run_id}),
            claim.proposal.target.epochs,
            whole=run.epochs,
            since=max(done, default=0.0),
        )
        self._context.notebook.running(claim.lease.result)

    def _train(self, claim: Claim) -> Decision:
        """Train from the cached state, and record each checkpoint, until something else is decided
        than to go on.
        """
        context, recipe = self._context, claim.run.recipe
        self._grading.before(claim)
        if claim.run.graded_only:
            self._recorder.graded()
            return Release()
        context.observer.doing("Preparing data and model")
        with context.bill.phase("provision"), context.interruptions.breakable():
            # The recipe's id holds the content of the model's files: were they
            # edited since, this Result would stand under the id of another model.
            fingerprints.check_model(recipe.origin)
            training.warm_up(recipe)
        _leave_imports_out_of_collections()
        earlier = [r for r in claim.results if r.run_id == recipe.run_id]
        done = {r.recipe_id for r in earlier if r.status == "complete"}
        # A state is that of a shorter recipe of the same run: the schedule has no length, so that
        # going on from it gives the numbers of a run that never stopped. One that is as long as the
        # run, or longer, is of no use to it.
        state = context.checkpoints.state(recipe.run_id) if earlier else None
        resume = state if state and state.epochs < recipe.epochs else None
        self._work.progress = training.Progress(
            dict(labels_by_order(r for r in earlier if r.status != "running")),
            runs_ahead=_runs_ahead(context, claim.results, recipe),
            compiling=_found_about_compiling(context, claim.results),
        )
        anything_new = False
        train = training.train if context.shards is None else context.shards.train
        segments = train(recipe, resume, meter=context.holder, progress=self._work.progress)
        with contextlib.closing(segments):  # type: ignore[type-var]
            while True:
                context.observer.doing("Training")
                with context.interruptions.breakable(self._work.progress.ask_to_leave):
                    checkpoint = next(segments, None)
                if checkpoint is None:
                    if self._work.progress.left is not None:  # the machine is taken away: nothing that it has done is lost
                        with context.bill.phase("checkpoint"):
                            context.checkpoints.save_state(self._work.progress.left)
                        raise KeyboardInterrupt
                    if not anything_new:
                        # Whoever asked for it did not know that all of it was there, and would ask again for ever.
                        self._decider.leave(recipe.run_id)
                    return Release()
                if checkpoint.recipe.id in done:  # its state was dropped and had to be made again: dearer, and nothing new
                    context.bill.add(checkpoint.spent)
                    continue
                anything_new = True
                decision = self._pass(claim, checkpoint)
                if not isinstance(decision, Continue):
                    return decision
                claim = decision.claim

    def _pass(self, claim: Claim, checkpoint: Checkpoint) -> Decision:
        """Record a checkpoint where that is wanted, and say whether the run goes on or something
        else is done.
        """
        if claim.run.wants(checkpoint.recipe.id):
            return self._record(claim, checkpoint)
        self._context.bill.add(checkpoint.spent)  # no member of the front: nobody asks for another seed of it
        with self._context.bill.phase("checkpoint"):
            self._context.checkpoints.save_state(checkpoint.resume_state())
        return Continue(claim)

    def _record(self, claim: Claim, checkpoint: Checkpoint) -> Decision:
        """Record a checkpoint, and take the lease of what comes next: the run goes on to its
        target, or the planner is asked.
        """
        context, work = self._context, self._work
        result = self._recorder.checkpoint(claim.run, checkpoint)
        # Weights before the Result, state after it: a kill in between leaves neither a member of
        # the front that cannot be deployed nor a run continued past a checkpoint that was never
        # recorded. By what was read last: the ledger is asked nothing before it has the Result, or
        # the Result would be lost with the answer.
        if result.recipe_id in self._recorder.members([*work.results, result]):
            with context.bill.phase("checkpoint"):
                context.checkpoints.save_weights(result.recipe_id, checkpoint.weights())
        with context.lock.taken():  # nobody takes the run up before its state is there
            with self._state_kept(checkpoint):
                results = self._recorder.write(result, checkpoint.spent)
            if not any(r.recipe_id == result.recipe_id and r.status == "complete" for r in results):
                return Release()  # another worker has taken the run up while this one was silent
            work.recorded()
            # Judged after the Result is written: the
            # checkpoint at hand is paid for and stays a point.
            dear = "" if checkpoint.next_step is None else context.account.overrun(result, checkpoint)
            # Asked once: who presses Ctrl-C from here on has the run go on to its next checkpoint.
            ending = context.interruptions.requested and not context.interruptions.at_once
            on_the_way = checkpoint.next_step is not None and not dear and _is_on_the_way(claim, result, ending)
            if on_the_way:
                with self._state_kept(checkpoint), context.bill.settling:
                    work.lease = self._decider.lease_on(replace(claim.stub, started=time.time()))
            self._keep(checkpoint, results)
            if on_the_way and ending:  # whole or nothing: it is interrupted, and the next start finishes it
                self._recorder.cut()
                return Release()
            if on_the_way:
                # No lease: a worker on another machine took the run up in the meantime.
                return Continue(claim) if work.lease is not None else Release()
            if dear:
                self._decider.leave(result.run_id)
            if checkpoint.next_step is None or dear:
                return Release()
            decision = self._decider.decide(result.run_id)
        if isinstance(decision, Continue):
            context.observer.continuing(decision.claim.proposal.target.epochs)
        return decision

    def _keep(self, checkpoint: Checkpoint, results: list[Result]) -> None:
        """Keep the state to go on from, and the weights of the front alone."""
        with self._context.bill.phase("checkpoint"):
            self._context.checkpoints.save_state(checkpoint.resume_state())
            members = self._recorder.members(results)
            self._context.checkpoints.keep_weights(members)
        self._context.notebook.front({r.run_id for r in results if r.recipe_id in members})

    @contextlib.contextmanager
    def _state_kept(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Keep the state of a checkpoint where its Result is safe but the work ends here, so
        that the run can go on from there.
        """
        try:
            yield
        except (EnvironmentFault, KeyboardInterrupt, SystemExit, OSError):  # the last two: nobody reads what it says any more
            if self._work.lease is not None and self._work.lease.finished:
                self._context.checkpoints.save_state(checkpoint.resume_state())
            raise


def _is_on_the_way(claim: Claim, result: Result, ending: bool) -> bool:
    """Whether the checkpoint that was aimed at is still to come.

    A run that may be left at any checkpoint (`until` is set) is left as soon as an end was asked
    for.
    """
    until = claim.proposal.until
    return until is None or (result.epochs < until and not ending)


def _runs_ahead(context: Context, results: Sequence[Result], recipe: Recipe) -> float:
    """How many more runs of a recipe's model and method this worker is likely to make: its part of those that may still be started,
    by the share that such runs have had so far.
    """
    starts = context.job.limits.starts_left(results) or 0
    made = {r.run_id: (r.model, r.method) for r in originals(results)}
    share = (sum(each == (recipe.model_name, recipe.method.name) for each in made.values()) + 1) / (len(made) + 1)
    return starts / max(1, context.job.workers) * min(1.0, share)


def _found_about_compiling(context: Context, results: Sequence[Result]) -> dict[str, Mapping[str, Any]]:
    """What was found about compiling on this machine with these versions, by family."""
    own = {name: context.provenance[name] for name in ("versions", "host")}
    found: dict[str, Mapping[str, Any]] = {}
    for r in results:
        if (verdict := r.provenance.get("compiling")) and all(r.provenance.get(name) == value for name, value in own.items()):
            found[verdict["family"]] = verdict
    return found


@functools.cache  # once a process; to ask gc whether it was done takes 0.05 s
def _leave_imports_out_of_collections() -> None:
    """Keep the garbage collector from walking all imported modules, since each run ends with a
    collection. It takes 0.36 s with them and 0.004 s without.
    """
    gc.freeze()
