"""The one runner: it asks what is next, and does it, until nothing is.

    planner        what comes next: the search's, Optuna's, or a confirmation's
    decider        takes the lease of what was proposed, or finds that it ends
    training run   trains one run, and records its checkpoints
    runner         acts on decisions; tells who listens how it begins, waits and ends

Of the five decisions (`workbench.sweep.actions`) four are acted on here: `Switch`, `Release`, `Wait`
and `Done`. `Continue` never arrives: at each checkpoint that was aimed at, while the run is still in
memory, `TrainingRun` asks the decider itself, and goes on by itself. What it hands back is the first
decision that is another.

A sweep and a confirmation differ in their planner and their grading alone, which are given to it.
What must hold, whatever they are, and who keeps it:

- A Result is made under a lease (`Decider` takes it, `Recorder` writes in its place), which others
  respect while its `heartbeat` goes on; one that is silent is put right by anybody (`Mending`).
- All time is on the bill of exactly one Result: what is consumed between two belongs to the second
  (`OpenBill`, which `Recorder.write` settles).
- A run is continued from the state of a checkpoint that is on record, never from a later one
  (`TrainingRun`: what is to be recorded is, before its state goes into the `CheckpointStore`); or
  from between two, where a SIGTERM left it there, and its work is on the bill of an interruption.
- A budget is watched beside the work, from another thread, and ends it as a SIGTERM does
  (`workbench.sweep.budget.watch`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

from workbench import prices
from workbench.errors import EnvironmentFault
from workbench.ledger import Away, Ledger
from workbench.quantities import dollars, duration, many
from workbench.result import Result, Spending, by_run
from workbench.result.outdated import earlier_bill_text, outdated_text
from workbench.sweep import provenance
from workbench.sweep.actions import Continue, Done, Release, Switch, Wait
from workbench.sweep.budget import watch
from workbench.sweep.current_work import CurrentWork
from workbench.sweep.disturbance import lookout
from workbench.sweep.grading import Grading
from workbench.sweep.heartbeat import heartbeat
from workbench.sweep.interruptions import notice
from workbench.sweep.job import Context, Job, opened
from workbench.sweep.lease_taking import Decider
from workbench.sweep.observer import Outcome
from workbench.sweep.periodic import Regularly
from workbench.sweep.planner import Planner
from workbench.sweep.recording import Recorder
from workbench.sweep.repair import Mending
from workbench.sweep.training_run import TrainingRun

PACE_SECONDS = 0.5
"""How often a worker says how far its training is."""

WAIT_SECONDS = 0.5
"""How often a worker that waits for others looks whether they have recorded something."""


def run(
    job: Job,
    planner_of: Callable[[Context], Planner],
    grading_of: Callable[[Context, CurrentWork], Grading] = lambda context, work: Grading(),
) -> Outcome:
    """Do a job: what the planner says, until it says that it is done.

    Raises:
        EnvironmentFault: The ledger can no longer be written, or has been away for ten minutes;
            what it lacks then is kept in the folder, and written when the job is begun again.
        Exception: A bug, with its traceback; the run is recorded as interrupted first.
    """
    with opened(job) as context:
        work = CurrentWork(context)
        runner = Runner(context, work, planner_of(context), grading_of(context, work))
        with (
            heartbeat(context.ledger, work.pulse, context.unwritten, runner.write_late),
            watch(context.budget, work.spent_now, context.interruptions.explain),
            notice(job.notice, job.observer.note),
            lookout(context.holder, job.observer.note),
            _pace(job, work),
        ):
            return runner.work()


def _pace(job: Job, work: CurrentWork) -> contextlib.AbstractContextManager[object]:
    """Tells the supervisor of a worker how far its training is while it is entered."""
    if not job.joined:
        return contextlib.nullcontext()
    return Regularly(lambda: job.observer.paced(work.pace()), PACE_SECONDS, name="pace")


class Runner:
    """A worker: it does one thing after another, of those that its planner proposes.

    Args:
        context: What it works with.
        work: What it is making, as others ask.
        planner: Says what comes next.
        grading: What checkpoints are graded on beside the dev set.
    """

    def __init__(self, context: Context, work: CurrentWork, planner: Planner, grading: Grading) -> None:
        self._context, self._work, self._planner = context, work, planner
        self._mending = Mending(context)
        self._decider = Decider(context, work, planner, self._mending)
        self._training = TrainingRun(context, work, Recorder(context, work, grading), grading, self._decider)

    def work(self) -> Outcome:
        """All of it, from the first look at the ledger to the last."""
        context = self._context
        try:
            self._begin()
            done = self._until_done()
        except KeyboardInterrupt:
            done = self._decider.stopped(" at once")
        finally:
            started = context.bill.consumed()
            context.bill.close()
        results, away = self._work.results, context.ledger.patience.is_away
        usd = prices.usd(started, context.budget.offer)
        # Where a budget ends the work, the reason counts what came after the last Result, and no Result holds it.
        held = context.budget.spent(results)
        whole = held + Spending(usd, started.seconds, started.energy_j)
        differs = dollars(whole.usd) != dollars(held.usd) and context.budget.exhausted(whole)
        if usd and (not context.bill.charged or away or differs):
            what = "What came after the last result" if context.bill.charged else "No run was begun: what the start took"
            what = "What it waited for the ledger" if context.bill.charged and away else what
            context.observer.note(f"{what} ({duration(started.seconds)}, {dollars(usd)}) is on no bill.")
        try:
            with context.interruptions.handing_in():
                self._decider.settle()
                if not context.job.joined:
                    context.ledger.note_end(done.reason, interrupted=done.interrupted, what=self._planner.what)
                results = context.ledger.results()
        except (EnvironmentFault, KeyboardInterrupt):  # it stays away, or a person does not wait for it
            context.observer.note("The ledger is away: what it holds is told as it was last read.")
        return Outcome(list(results), done.reason, done.interrupted, done.here_alone)

    def write_late(self, ledger: Ledger) -> None:
        """Write Results that wait into the ledger, which may be back: from the heartbeat's thread, so by a reader of its own."""
        context = self._context
        for result in context.unwritten.write(ledger, context.study, context.job.offer):
            context.observer.note(f"Trial {result.trial}: a result that waited for the ledger is in it now.")

    def _until_done(self) -> Done:
        """Act on one decision after another. Between two of them no run is in memory."""
        decision = self._decider.decide()
        while True:
            match decision:
                case Done():
                    return decision
                case Switch() if self._context.interruptions.requested:  # since it was decided: nothing of it has begun
                    decision = self._training.drop()
                case Switch(claim):
                    decision = self._training.take(claim)
                case Wait():
                    self._wait(decision)
                    decision = self._decider.decide()
                case Release():  # the run is let go already
                    decision = self._decider.decide()
                case Continue():
                    raise AssertionError("a run goes on within TrainingRun.take alone")

    def _begin(self) -> None:
        context = self._context
        try:
            with context.ledger.patience.hurried():
                mended, results = self._first_look()
        except Away:
            # What is left of a budget is not known yet, so no waiting can be held against it.
            with context.bill.rest():
                mended, results = self._first_look()
        others = len({r.run_id for r in results if r.status == "running"})
        if others:
            at_work = many(others, "run")
            context.observer.note(f"Another sweep of this study is at work ({at_work} now): sharing the ledger with it.")
        finished = [r for r in results if r.status != "running"]
        if finished:
            known = many(len(by_run(finished)), "run")
            spent = dollars(context.budget.spent(finished).usd)
            context.observer.note(f"Continuing: {known} in the ledger, {spent} spent so far{earlier_bill_text(finished)}.")
        if outdated := outdated_text(finished):
            context.observer.note(outdated)
        context.observer.doing("Starting MLflow")
        if context.job.joined:
            context.notebook.join()
            if mended:
                context.notebook.catch_up(results)
        else:
            context.ledger.note_begin(dataclasses.asdict(context.job.limits), context.job.sweep)
            provenance.note_start(context.job, context.provenance, results, self._planner.how)
        context.bill.add({"provision": context.bill.consumed()})  # the start of the program, its checks, and MLflow's

    def _first_look(self) -> tuple[bool, list[Result]]:
        """Write what earlier starts could not, and put right what dead workers left: whether there was any; and all Results."""
        self._mending.write_what_is_missing()
        return self._mending.reconcile(), self._work.read()

    def _wait(self, wait: Wait) -> None:
        """Until another worker has recorded something, or is gone, or an end was asked for."""
        context = self._context
        context.observer.doing("Waiting for the other workers")
        before = [(r.number, r.status) for r in wait.known]
        bounded = wait.again_seconds is not None  # for what other machines are to make, until they end the sweep
        until = math.inf if wait.again_seconds is None else time.monotonic() + wait.again_seconds
        with self._at_rest():
            while not (context.interruptions.requested or context.job.standing.leaves) and time.monotonic() < until:
                with context.interruptions.breakable():
                    time.sleep(WAIT_SECONDS)
                if self._mending.reconcile():
                    # They could not tell MLflow of their last Results themselves.
                    context.notebook.catch_up(self._work.read())
                if [(r.number, r.status) for r in self._work.read()] != before or (bounded and context.ledger.ended is not None):
                    return

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Of several workers one that waits leaves the machine to the others."""
        if not self._context.job.joined:
            yield
            return
        with self._context.bill.rest():
            self._context.observer.waiting(True)
            try:
                yield
            finally:
                self._context.observer.waiting(False)
