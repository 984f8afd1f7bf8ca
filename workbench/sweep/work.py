"""The loop of a sweep, and one run of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench import search, training
from workbench.data import fingerprints
from workbench.errors import DataError, EnvironmentFault, Infeasible, Refused, UsageError, WorkbenchError
from workbench.forecast import Forecaster
from workbench.forecast.pairs import methods_of
from workbench.front.members import pareto_front
from workbench.front.view import View
from workbench.ledger import AWAY_SECONDS, Lease, Ledger, Patience
from workbench.meter import Meter, Tenant, Window
from workbench.prices import Offer
from workbench.quantities import dollars, duration
from workbench.result import Cause, Result, Spending, by_run, cost, current, offer_record, originals
from workbench.result.outdated import outdated_text
from workbench.search import Step
from workbench.space import Value
from workbench.study import Recipe, Study
from workbench.sweep import provenance
from workbench.sweep.account import Account
from workbench.sweep.accumulator import UsageAccumulator
from workbench.sweep.budget import Budget, watch
from workbench.sweep.chooser import Chooser
from workbench.sweep.disturbance import lookout
from workbench.sweep.file_lock import FileLock
from workbench.sweep.heart import heart
from workbench.sweep.interruptions import Interruptions
from workbench.sweep.limits import TO_COME, Limits, promised
from workbench.sweep.observer import Observer, Outcome
from workbench.sweep.shelf import Shelf
from workbench.sweep.unwritten import Unwritten
from workbench.tracking import MlflowTracker
from workbench.usage import Usage, Work

if TYPE_CHECKING:
    from workbench.training import Checkpoint, Progress

LOOKS_PER_READING = 4
"""The watch reads what others have spent at every fourth look, once a second: it is they who say it so often."""

SILENT_SECONDS = 3.0
"""After so long without a reading of the ledger, what others spend meanwhile is reckoned."""

WAIT_SECONDS = 0.5
"""How often a worker that waits for others looks whether they have recorded something."""


@dataclass(frozen=True)
class Chosen:
    """A step, and all that is needed to take it: the recipe at its longest, the Result to be made, its lease, what was known."""

    step: Step
    recipe: Recipe
    stub: Result
    lease: Lease
    results: Sequence[Result]

    @property
    def target(self) -> float:
        return float(self.recipe.epochs if self.step.until is None else self.step.until)


def sweep(
    study: Study,
    *,
    ledger: Ledger,
    notebook: MlflowTracker,
    offer: Offer,
    label_usd: float,
    limits: Limits,
    folder: Path,
    sampler: str = search.DEFAULT,
    seed: int = 0,
    observer: Observer | None = None,
    meter: Meter | None = None,
    holder: Tenant | None = None,
    window: Window | None = None,
    before: Usage | None = None,
    forecaster: Forecaster | None = None,
    workers: int = 1,
    joined: bool = False,
    apart: bool = False,
    log_samples: int = 0,
) -> Outcome:
    """Run recipes of the study until a limit is reached, a person stops it, or the space is exhausted.

    Args:
        study: The study.
        ledger: Where its Results are and go.
        notebook: Mirrors them; never waited for.
        offer: What prices compute.
        label_usd: What a label costs, in US$.
        limits: When to stop.
        folder: Where states and weights are kept.
        sampler: Who decides; see `workbench.search.decide`.
        seed: Of the decisions.
        observer: Is told what happens.
        meter: Measures; a new one when not given.
        holder: The meter's, whose windows are the bill: where others use the GPU too, its share; a new one when not given.
        window: One of the holder's, opened when the work began: what was consumed since is charged to the first Result.
        before: What was consumed before that window, and is charged with it.
        forecaster: Says what a run will take, so that none is started that does not fit a budget; a new one when not given.
        workers: How many sweeps of this study work at once on this machine, this one included.
        joined: It is one worker of a sweep whose beginning and end somebody else notes; while it waits, it is charged nothing.
        apart: Such a one with a GPU to itself, for which nobody is charged then: it may wait where that is wise. On a machine
            that workers share the others are charged for all of it.
        log_samples: So many examples of the dev set, the first, are put on record with each checkpoint's predictions.

    Raises:
        EnvironmentFault: The ledger can no longer be written, or has been away for ten minutes; what it lacks then is kept in the
            folder, and written when the sweep is begun again.
        Exception: A bug, with its traceback; the run is recorded as interrupted first.
    """
    observer = observer or Observer()
    with contextlib.ExitStack() as stack:
        meter = meter or stack.enter_context(Meter())
        interruptions = stack.enter_context(Interruptions(observer.stopping))
        holder = holder or stack.enter_context(meter.hold(name=study.name))
        budget = Budget(limits, offer, label_usd, gpus=len(meter.devices))
        account = Account(budget, forecaster or Forecaster(study))
        shelf = Shelf(folder, observer.note)
        ledger = ledger.patient(Patience(AWAY_SECONDS, observer.note, shelf.make_room, interruptions.check))
        chooser = Chooser(study, account, shelf, sampler, seed, ledger.description.get("reference"), may_wait=joined and apart)
        work = Sweeping(
            study, ledger, notebook, account, shelf, chooser, FileLock(folder, observer.note), observer, meter, holder,
            interruptions, UsageAccumulator(holder, window, before), Unwritten(folder), joined, workers, log_samples,
        )  # fmt: skip
        stack.enter_context(heart(ledger, work.pulse))
        stack.enter_context(watch(budget, work.spent_now, interruptions.explain))
        stack.enter_context(lookout(holder, observer.note))
        return work.work()


@dataclass
class Sweeping:
    """A sweep at work.

    Attributes:
        what: What it is called.
        joined: It is one worker of several, and charged nothing while it waits.
        workers: How many sweeps of this study work at once on this machine.
        log_samples: So many dev examples are put on record with each checkpoint's predictions.
        lease: Of the Result that is being made, or was made last.
        progress: Of the training at hand.
        reason: Why it ends; empty while it goes on.
        stopped: It ends because a person said so.
    """

    what: ClassVar[str] = "sweep"

    study: Study
    ledger: Ledger
    notebook: MlflowTracker
    account: Account
    shelf: Shelf
    chooser: Chooser
    turn: FileLock
    observer: Observer
    meter: Meter
    holder: Tenant
    interruptions: Interruptions
    bill: UsageAccumulator
    unwritten: Unwritten
    joined: bool = False
    workers: int = 1
    log_samples: int = 0
    lease: Lease | None = None
    progress: Progress | None = None
    reason: str = ""
    stopped: bool = False

    def __post_init__(self) -> None:
        self.provenance = provenance.of(self.study, self.meter)
        self.offer, self.label_usd = self.account.budget.offer, self.account.budget.label_usd
        self.reader = self.ledger.reader()  # the watch's: it looks from another thread
        self.looks = 0
        self.others = 0  # at work when the ledger was last read
        self.read_at = time.monotonic()
        self.results: Sequence[Result] = ()  # finished ones, as they were last read

    def pulse(self) -> tuple[Lease | None, Mapping[str, Usage], int]:
        """The lease now held, what was consumed since the last Result, and the labels that its run has used.

        Called by the heart while the main thread writes a Result, then opens a new bill, then takes the next lease. Read
        in the other order here, a new bill can only meet an old lease, which is finished and takes no beat.
        """
        lease = self.lease
        return lease, {"train": self.bill.consumed()}, self.progress.labels if self.progress else 0

    def spent_now(self) -> Spending:
        """What is spent until now, the work under way and that of other sweeps on this ledger included. For the watch.

        While the ledger is away others are taken to go on: a budget is not passed because nobody can say what they spend.
        """
        before = self._held()
        results = self._looked() if self.looks % LOOKS_PER_READING == 0 else None
        self.looks += 1
        with self.bill.settling:
            held, progress = self._held(), self.progress
            if results is not None and held == before:  # else they are of before what we have written since: they are read again
                others = [r for r in results if r.number != held]  # what we have consumed is read from the meter
                self.account.note(others)
                self.others, self.read_at = sum(r.status == "running" for r in others), time.monotonic()
            making = self.lease.result if self.lease is not None and held is not None else None
            spent = self.account.with_work(self.bill.consumed(), making, progress.labels if progress else 0)
            silent = time.monotonic() - self.read_at
            return spent + self.account.unseen(silent, self.others) if silent > SILENT_SECONDS and self.others else spent

    def _held(self) -> int | None:
        """The trial of the lease that is held."""
        lease = self.lease
        return None if lease is None or lease.finished else lease.number

    def _looked(self) -> list[Result] | None:
        try:
            return self.reader.results(running=True)
        except EnvironmentFault:
            return None

    def work(self) -> Outcome:
        try:
            self._begin()
            chosen = self._choose()
            while chosen is not None:
                chosen = self._run(chosen) or (None if self.reason else self._choose())
        except KeyboardInterrupt:
            self.reason = self.interruptions.reason or f"{self.interruptions.by} stopped it at once"
            self.stopped = not self.interruptions.reason
        finally:
            self.bill.close()
        try:
            if not self.joined:
                self.ledger.note_end(self.reason, interrupted=self.stopped, what=self.what)
            self.results = self.ledger.results()
        except (EnvironmentFault, KeyboardInterrupt):  # it stays away, or a person does not wait for it
            self.observer.note("The ledger is away: what it holds is told as it was last read.")
        return Outcome(list(self.results), self.reason, self.stopped)

    def _known(self) -> list[Result]:
        """All Results, those that others are making included; the account is brought up to date by them."""
        results = self.ledger.results(running=True)
        self.account.note(results)
        self.others = sum(r.status == "running" and r.number != self._held() for r in results)
        self.read_at = time.monotonic()
        self.results = [r for r in results if r.status != "running"]
        return results

    def _reconcile(self) -> bool:
        """Put right what dead workers left, and say so; whether there was any."""
        mended = self.ledger.reconcile(self.study, self.offer)
        for result in mended:
            if result.status != "interrupted":
                self.observer.note(f"Trial {result.trial} was killed while its last result was written: it is whole now.")
                continue
            self.observer.note(
                f"Trial {result.trial} was interrupted: {result.detail}. Charged "
                f"{duration(result.consumed.seconds)} of work; its finished checkpoints are kept, and it can be continued."
            )
        return bool(mended)

    def _catch_up(self) -> None:
        """Write what the ledger lacks of earlier starts, which it was away for."""
        with self.turn.taken():
            for result in self.unwritten.write(self.ledger, self.study, self.offer):
                self.observer.note(
                    f"Trial {result.trial}: a result that could not be written when it was made is in the ledger now."
                )

    def _begin(self) -> None:
        self._catch_up()
        mended = self._reconcile()
        results = self._known()
        others = len({r.run_id for r in results if r.status == "running"})
        if others:
            self.observer.note(f"Another sweep of this study is at work ({_runs(others)} now): sharing the ledger with it.")
        finished = [r for r in results if r.status != "running"]
        if finished:
            spent = dollars(self.account.budget.spent(finished).usd)
            self.observer.note(f"Continuing: {_runs(len(by_run(finished)))} in the ledger, {spent} spent so far.")
        if outdated := outdated_text(finished):
            self.observer.note(outdated)
        self.observer.doing("Starting MLflow")
        if self.joined:
            self.notebook.join()
            if mended:
                self.notebook.catch_up(results)
        else:
            self.ledger.note_begin(dataclasses.asdict(self.account.budget.limits))
            provenance.note_start(
                self.notebook, self.study, self.provenance, self.offer, self.label_usd, self.account.budget.limits, results,
                sampler=self.chooser.sampler, seed=self.chooser.seed, workers=self.workers,
            )  # fmt: skip
        self.bill.add({"provision": self.bill.consumed()})  # the start of the program, its checks, and MLflow's

    # Choosing

    def _choose(self, current: str | None = None) -> Chosen | None:
        """The next step, its lease taken; None when the sweep ends, and `reason` says why.

        With `current`, the run in memory, None also where it is to be let go first.
        """
        while True:
            results = self._known()
            if self._anyone_else(results) and self._reconcile():
                results = self._known()
                self.notebook.catch_up(results)  # they could not tell it of their last Results themselves
            self._look_for_an_end(results)
            if self.reason:
                return None
            self.observer.doing("Choosing what is next")
            with self.bill.phase("decide"), self.turn.taken():
                results = self._known()  # the ledger is never broken into: a lock of a library's that is torn open stays shut
                with self.interruptions.breakable():
                    step = self.chooser.step(results, current)
                chosen = self._leased(step, results) if step.settings is not None else None
            if chosen is not None:
                return chosen
            if step.action == "stop":
                self.reason = self.chooser.why(step, results)
                return None
            if current is not None:
                return None
            if step.action == "wait":
                self._wait(results)

    def _anyone_else(self, results: Sequence[Result]) -> bool:
        """Whether somebody else seems to be at work: it may have died since."""
        return any(r.status == "running" and r.number != self._held() for r in results)

    def _look_for_an_end(self, results: Sequence[Result]) -> None:
        self.reason = self.chooser.over(results) or self._nothing_works(results)
        if not self.reason and self.interruptions.requested:
            self.reason = self.interruptions.reason or f"{self.interruptions.by} stopped it"
            self.stopped = not self.interruptions.reason

    def _nothing_works(self, results: Sequence[Result]) -> str:
        """That every model failed with every method, and nothing was ever completed; empty where there is hope."""
        results = current(results)  # what failed of another model says nothing of this one
        faults = [r for r in results if r.status == "infeasible" and r.cause is Cause.FAULT]
        if not faults or any(r.status == "complete" for r in results):
            return ""
        pairs = {(model, method.name) for model, method in methods_of(self.study)}
        if not pairs <= {(r.model, r.method) for r in faults}:
            return ""
        return f"no model could be trained with any method; last: {faults[-1].detail}"

    def _leased(self, step: Step, results: Sequence[Result]) -> Chosen | None:
        """The step with the lease of its Result; None when another machine's worker was quicker."""
        assert step.settings is not None
        recipe = self.study.resolve(step.settings)
        target = recipe if step.until is None else recipe.with_epochs(step.until)
        epochs = {"epochs": target.epochs} if "epochs" in step.settings else {}
        return self._lease(step, recipe, self._stub(target, {**step.settings, **epochs}, results), results)

    def _lease(self, step: Step, recipe: Recipe, stub: Result, results: Sequence[Result]) -> Chosen | None:
        with self.bill.settling:
            lease = self.ledger.lease(self.study, stub, {"train": self.bill.consumed()})
            if lease is not None and not self._within_limits(lease, results):
                self.ledger.release(lease)
                lease = None
            if lease is None:
                return None
            self.lease = lease
        return Chosen(step, recipe, replace(stub, trial=lease.result.trial), lease, results)

    def _within_limits(self, lease: Lease, results: Sequence[Result]) -> bool:
        """Whether the limits are kept with what other machines' workers have taken since `results` were read, and before us."""
        known = {r.number for r in results} | {lease.number}
        now = self.ledger.results(running=True)
        if all(r.number in known for r in now):
            return True
        others = [r for r in now if r.number != lease.number]
        return self.account.budget.limits.admit(lease.result, promised(lease.result), others)

    def _wait(self, known: Sequence[Result]) -> None:
        """Until another worker has recorded something, or is gone, or an end was asked for."""
        self.observer.doing("Waiting for the other workers")
        before = [(r.number, r.status) for r in known]
        with self._at_rest():
            while not self.interruptions.requested:
                with self.interruptions.breakable():
                    time.sleep(WAIT_SECONDS)
                if self._reconcile():
                    self.notebook.catch_up(self._known())  # they could not tell it of their last Results themselves
                if [(r.number, r.status) for r in self._known()] != before:
                    return

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Of several workers one that waits leaves the machine to the others."""
        if not self.joined:
            yield
            return
        with self.bill.rest():
            self.observer.waiting(True)
            try:
                yield
            finally:
                self.observer.waiting(False)

    # One run

    def _run(self, chosen: Chosen) -> Chosen | None:
        """Take a step, and those after it that go on with the same run; gives the one that leads to another, if that was chosen."""
        run_id = chosen.recipe.run_id
        done = [r.epochs for r in chosen.results if r.run_id == run_id and r.status == "complete"]
        self.observer.started(
            chosen.lease,
            len({r.run_id for r in originals(chosen.results)} | {run_id}),
            chosen.target,
            whole=float(chosen.recipe.epochs),
            since=max(done, default=0.0),
        )
        self.notebook.running(chosen.lease.result)
        status, following = "KILLED", None
        try:
            following = self._train(chosen)
            if following is None and self.lease is not None and not self.lease.finished:  # all of it was there already
                self.ledger.release(self.lease)
            status = "FINISHED"
        except Infeasible as error:
            self._end("infeasible", Cause(error.reason), error.detail)
            status = "FAILED"
        except KeyboardInterrupt:
            self._cut()
            raise
        except UsageError as error:
            if isinstance(error, DataError):  # is about no one recipe
                self._interrupt(Cause.FAULT, str(error))
                raise
            self._end("infeasible", Cause.FAULT, " ".join(str(error).split()))
            status = "FAILED"
        except Exception as error:
            if isinstance(error, WorkbenchError):
                self._interrupt(Cause.FAULT, str(error))
            else:
                self._interrupt(Cause.BUG, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.progress = None
            self.notebook.finished(run_id, status)
        return following

    def _train(self, chosen: Chosen) -> Chosen | None:
        """Train the recipe from its cached state, and record each checkpoint, until another step is chosen than to go on."""
        recipe = chosen.recipe
        self.observer.doing("Preparing data and model")
        with self.bill.phase("provision"), self.interruptions.breakable():
            fingerprints.check_model(recipe.model)
            training.warm_up(recipe)
        _leave_imports_out_of_collections()
        earlier = [r for r in chosen.results if r.run_id == recipe.run_id]
        done = {r.recipe_id for r in earlier if r.status == "complete"}
        prefix = self.shelf.state(recipe.run_id) if earlier else None
        resume = prefix if prefix and prefix.epochs < recipe.epochs else None
        self.progress = training.Progress(labels=max((r.labels for r in earlier), default=0))
        segments = training.train(recipe, resume, meter=self.holder, progress=self.progress)
        following: Chosen | None = chosen
        with contextlib.closing(segments):  # type: ignore[type-var]
            while following is not None and following.recipe.run_id == recipe.run_id:
                self.observer.doing("Training")
                with self.interruptions.breakable():
                    checkpoint = next(segments, None)
                if checkpoint is None:
                    return None
                if checkpoint.recipe.id in done:  # its state was dropped and had to be made again: dearer, and nothing new
                    self.bill.add(checkpoint.spent)
                    continue
                following = self._checkpoint(following, checkpoint)
        return following

    def _checkpoint(self, chosen: Chosen, checkpoint: Checkpoint) -> Chosen | None:
        """Record a checkpoint, and take the lease of what comes next: the run goes on to its target, or the search is asked.

        None when nothing does before the run is let go.
        """
        assert self.lease is not None
        result = self._result(self.lease.result, checkpoint)
        # Weights before the Result, state after it: a kill in between leaves neither a member of the front that cannot be
        # deployed nor a run continued past a checkpoint that was never recorded.
        # By what was read last: the ledger is asked nothing before it has the Result, or the Result would be lost with the answer.
        if result.recipe_id in self._members([*self.results, result]):
            with self.bill.phase("checkpoint"):
                self.shelf.save_weights(result.recipe_id, checkpoint.weights())
        with self.turn.taken():  # nobody takes the run up before its state is there
            with self._state_kept(checkpoint):
                results = self._write(result, checkpoint.spent)
            if self.progress is not None:
                self.progress.work = Work()  # it is on record: a stop from here on must not count it again
            last = checkpoint.next_step is None
            dear = "" if last else self.account.overrun(result, checkpoint)
            on_the_way = not last and not dear and (chosen.step.until is None or result.epochs < chosen.step.until)
            enough = self.interruptions.requested and not self.interruptions.at_once
            if enough and chosen.step.until is not None:
                on_the_way = False  # the search can leave a run anywhere; one that is whole or nothing is interrupted, below
            if on_the_way:
                with self._state_kept(checkpoint), self.bill.settling:
                    self.lease = self.ledger.lease(self.study, replace(chosen.stub, started=time.time()))
            with self.bill.phase("checkpoint"):
                self.shelf.save_state(checkpoint.prefix())
                members = self._members(results)
                self.shelf.keep_weights(members)
            self.notebook.front({r.run_id for r in results if r.recipe_id in members})
            if on_the_way and enough:
                self._cut()
                return None
            if on_the_way:
                return chosen if self.lease is not None else None
            if dear:
                self.chooser.too_dear.add(result.run_id)
            if last or dear:
                return None
            following = self._choose(result.run_id)
        if following is not None and following.recipe.run_id == result.run_id:
            self.observer.continuing(following.target)
        return following

    @contextlib.contextmanager
    def _state_kept(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Where the ledger stays away, the state of a checkpoint that is written, or kept to be, is kept too, to go on from."""
        try:
            yield
        except (EnvironmentFault, KeyboardInterrupt):
            if self.lease is not None and self.lease.finished:
                self.shelf.save_state(checkpoint.prefix())
            raise

    def _stub(self, recipe: Recipe, settings: Mapping[str, Value], results: Sequence[Result]) -> Result:
        """The Result to be made, as far as it is known before."""
        run_id = recipe.run_id
        return Result(
            recipe_id=recipe.id,
            run_id=run_id,
            recipe=recipe.to_json(),
            settings=dict(settings),
            status="running",
            inputs=recipe.inputs,
            provenance=self.provenance | {"data_digest": recipe.inputs["data"], TO_COME: self.account.labels_to_come(recipe)},
            offer=offer_record(self.offer),
            label_usd=self.label_usd,
            started=time.time(),
            trial=min((r.trial for r in results if r.run_id == run_id and r.trial is not None), default=None),
        )

    def _result(self, stub: Result, checkpoint: Checkpoint) -> Result:
        """A checkpoint's Result."""
        epochs = {"epochs": checkpoint.recipe.epochs} if "epochs" in stub.settings else {}
        result = replace(
            stub,
            provenance=_made(stub),
            recipe_id=checkpoint.recipe.id,
            recipe=checkpoint.recipe.to_json(),
            settings={**stub.settings, **epochs},
            status="complete",
            scores=checkpoint.scores,
            usage=checkpoint.usage,
            labels=checkpoint.labels,
            step=checkpoint.step,
            examples=checkpoint.examples,
            tokens=checkpoint.tokens,
            trainable_parameters=checkpoint.trainable_parameters,
            serving=checkpoint.serving,
            samples=self._samples(checkpoint),
            finished=time.time(),
        )
        for name in self.study.costs:
            if cost(result, name, self.offer, self.label_usd) is None:
                raise Refused(
                    f"{name} cannot be measured on this machine, and the study minimises it. Minimise another cost, e.g. 'seconds'."
                )
        return result

    def _samples(self, checkpoint: Checkpoint) -> list[dict[str, Any]]:
        if not self.log_samples:  # nothing of the data is put on record unasked
            return []
        pairs = zip(checkpoint.recipe.task.splits().dev, checkpoint.predictions, strict=True)
        return [{"example": dict(e), "prediction": p} for e, p in itertools.islice(pairs, self.log_samples)]

    def _cut(self) -> None:
        """Write that the run was stopped on its way; it can go on from its last state."""
        self._end("interrupted", self.interruptions.cause, self.interruptions.detail)

    def _interrupt(self, cause: Cause, detail: str) -> None:
        """Write that an error ended the run, and the sweep with it."""
        with contextlib.suppress(EnvironmentFault):  # a ledger that cannot be written is the first error already
            self._end("interrupted", cause, detail)

    def _end(self, status: str, cause: Cause, detail: str) -> None:
        """Write how a run ended without a checkpoint; what it consumed goes under training."""
        if self.lease is None or self.lease.finished:
            return
        spent = self.bill.unaccounted()
        labels = 0
        if self.progress is not None:
            spent, labels = spent.doing(self.progress.work), self.progress.labels
        usage = {} if status == "interrupted" else {"train": spent}
        known = replace(self.lease.result, provenance=_made(self.lease.result))
        known = replace(known, status=status, cause=cause, reason=cause.reason(detail))
        ended = replace(known, usage=usage, labels=labels, finished=time.time())
        self._write(ended, {"train": spent})

    def _write(self, result: Result, phases: Mapping[str, Usage]) -> list[Result]:
        """Write a Result, with all that was consumed since the one before, in the place of the lease."""
        with self.bill.settling:
            with self.bill.settled(phases) as spent:
                written = self._finish(replace(result, spent=dict(spent)))
            results = [r for r in self._known() if r.status != "running"]
        self.notebook.record(written)
        self.observer.recorded(written, results)
        return results

    def _finish(self, result: Result) -> Result:
        assert self.lease is not None
        try:
            return self.ledger.finish(self.lease, result, self.study, self.offer)
        except (EnvironmentFault, KeyboardInterrupt):
            if self.unwritten.keep(self.lease, result):
                self.lease.finished = True  # nothing else is to be written in its place
                self.observer.note("The ledger could not be written: the result is kept here, and written when the sweep goes on.")
            raise

    def _members(self, results: Sequence[Result]) -> set[str]:
        view = View(self.study.maximize, self.study.costs, {}, self.offer, self.label_usd)
        return {r.recipe_id for r in pareto_front(results, view)}


def _made(stub: Result) -> Mapping[str, Any]:
    """The provenance of a Result that is to come no more."""
    return {name: value for name, value in stub.provenance.items() if name != TO_COME}


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


@functools.cache  # once a process; to ask gc whether it was done takes 0.05 s
def _leave_imports_out_of_collections() -> None:
    """Each run ends with a collection of garbage: 0.36 s through all that was imported, 0.004 s without."""
    gc.freeze()
