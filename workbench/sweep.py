"""The sweep: propose, train under the meter, record; again until a limit is reached. Running again is resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from workbench import report, search
from workbench.errors import EnvironmentFault, Infeasible, Refused, WorkbenchError
from workbench.ledger import HEARTBEAT_SECONDS, Ledger, Lease
from workbench.meter import Meter
from workbench.prices import Offer
from workbench.result import Result, cost, spent_usd
from workbench.space import Value
from workbench.study import Recipe, Study
from workbench.tracking import Notebook
from workbench.usage import Usage, add_phases, total

MAX_INTERRUPTIONS = 3
"""A run whose worker died so often is left alone: it may be what kills it."""


@dataclass(frozen=True)
class Limits:
    """When a sweep ends. Each counts all starts of the study together; None is no bound.

    Attributes:
        trials: Runs, finished or infeasible.
        max_hours: Hours of work.
        max_usd: US$ spent on compute, at the sweep's offer, and on labels, each label once.
    """

    trials: int | None = None
    max_hours: float | None = None
    max_usd: float | None = None

    def reached(self, results: Sequence[Result], offer: Offer, label_usd: float) -> str:
        """Which limit has been reached, in words; empty when none."""
        return self._runs(results) or self.spent(results, offer, label_usd)

    def spent(self, results: Sequence[Result], offer: Offer, label_usd: float) -> str:
        """As `reached`, for the limits that can end a run at a checkpoint."""
        usd = spent_usd(list(results), offer, label_usd)
        hours = total(r.consumed for r in results).seconds / 3600
        if self.max_usd is not None and usd >= self.max_usd:
            return f"the budget of {report.dollars(self.max_usd)} is spent ({report.dollars(usd)})"
        if self.max_hours is not None and hours >= self.max_hours:
            return f"{self.max_hours:g} hours have been worked"
        return ""

    def _runs(self, results: Sequence[Result]) -> str:
        done = {r.run_id for r in results if r.status != "interrupted"} - {r.run_id for r in _unfinished(results)}
        return f"{len(done)} of {self.trials} trials are done" if self.trials is not None and len(done) >= self.trials else ""


def check_offer(offer: Offer, meter: Meter) -> None:
    """Raise Refused when the offer is not the price of this machine: a GPU is never billed as a desktop."""
    if meter.devices and offer.gpus == 0:
        gpu = meter.devices[0].name
        raise Refused(
            f"this machine has a {gpu}, and {offer.name!r} prices a machine without a GPU. Name what it costs, e.g. --platform vast or "
            "--platform aws:g6.xlarge; or hide the GPU with CUDA_VISIBLE_DEVICES= to train on the CPU."
        )


class Observer:
    """What a sweep tells while it works. This one listens to nothing; the command line's prints."""

    def note(self, text: str) -> None:
        """Something a person should read."""

    def started(self, lease: Lease, run: int, target: float) -> None:
        """Run number `run` (from 1) of the study begins, or goes on, towards `target` epochs."""

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """A Result is in the ledger; `results` are all of the study."""

    def beat(self, result: Result, seconds: float) -> None:
        """About once a second: the Result being made, and how long already."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended: all Results, the reason in words, and whether a person stopped it."""

    results: list[Result]
    reason: str
    interrupted: bool = False
    mlflow_behind: int = 0


class Interruptions:
    """Ctrl-C once: stop after this run. Twice, or SIGTERM: stop now, but never in the middle of a write."""

    def __init__(self, note: Any) -> None:
        self.requested = False
        self._now = False
        self._guarded = 0
        self._note = note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """What must not be torn apart: an interruption waits for its end."""
        self._guarded += 1
        try:
            yield
        finally:
            self._guarded -= 1
        if self._now and not self._guarded:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self.requested:
            self.requested = True
            self._note("Stopping after this run. Press Ctrl-C again to stop now.")
            return
        self.requested = self._now = True
        if not self._guarded:
            raise KeyboardInterrupt


def sweep(
    study: Study,
    *,
    ledger: Ledger,
    notebook: Notebook,
    offer: Offer,
    label_usd: float,
    limits: Limits,
    folder: Path,
    sampler: str = search.DEFAULT,
    seed: int = 0,
    observer: Observer | None = None,
    meter: Meter | None = None,
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
        sampler: Who proposes; see `workbench.search.propose`.
        seed: Of the proposals.
        observer: Is told what happens.
        meter: Measures; a new one when not given.

    Raises:
        EnvironmentFault: The ledger can no longer be written.
        Exception: A bug, with its traceback; the run is recorded as interrupted first.
    """
    own = None if meter else Meter()
    observer = observer or Observer()
    try:
        with Interruptions(observer.note) as interruptions:
            return _Sweep(study, ledger, notebook, offer, label_usd, limits, folder, sampler, seed, observer, meter or own, interruptions).work()  # type: ignore[arg-type]
    finally:
        if own:
            own.close()


@dataclass
class _Sweep:
    study: Study
    ledger: Ledger
    notebook: Notebook
    offer: Offer
    label_usd: float
    limits: Limits
    folder: Path
    sampler: str
    seed: int
    observer: Observer
    meter: Meter
    interruptions: Interruptions

    def work(self) -> Outcome:
        # One window is always open, from one Result to the next: all time is in the bill, wherever it went.
        self._window = self.meter.window()
        self._extra: dict[str, Usage] = {}
        results = self._begin()
        reason, interrupted = "", False
        try:
            while not reason:
                results = self.ledger.results(running=True)
                reason = self.limits.reached(results, self.offer, self.label_usd)
                if not reason and self.interruptions.requested:
                    reason, interrupted = "you stopped it", True
                if not reason and not self._next(results):
                    reason = "every configuration of the space has been run"
        except KeyboardInterrupt:
            reason, interrupted = "you stopped it at once", True
        self._window.close()
        return Outcome(self.ledger.results(), reason, interrupted)

    def _begin(self) -> list[Result]:
        for result in self.ledger.reconcile(self.study, self.offer):
            self.observer.note(
                f"Trial {result.trial} was interrupted: {result.reason}. Charged {report.duration(result.consumed.seconds)} of work; "
                "its finished checkpoints are kept, and it will be continued."
            )
        results = self.ledger.results(running=True)
        others = [r for r in results if r.status == "running"]
        if others:
            self.observer.note(f"Another sweep of this study is at work ({len(others)} running): sharing the ledger with it.")
        finished = [r for r in results if r.status != "running"]
        if finished:
            spent = spent_usd(finished, self.offer, self.label_usd)
            self.observer.note(f"Continuing: {len(report.by_run(finished))} runs in the ledger, {report.dollars(spent)} spent so far.")
        about = {
            "question": self.study.question,
            "command": shlex.join(["workbench", *sys.argv[1:]]),
            "git": _git_commit(self.study.path),
            "versions": _versions(),
            "limits": dataclasses.asdict(self.limits),
            "sampler": self.sampler,
            "seed": self.seed,
            "offer": {"id": self.offer.id, "name": self.offer.name, "usd_per_hour": str(self.offer.usd_per_hour), "date": self.offer.date},
        }
        self.notebook.start(about, results)
        return results

    def _next(self, results: Sequence[Result]) -> bool:
        """Do one run. False when there is none left to do."""
        unfinished = _unfinished(results)
        if unfinished:
            settings: Mapping[str, Value] | None = unfinished[0].settings
        else:
            settings = search.propose(self.study, results, offer=self.offer, label_usd=self.label_usd, sampler=self.sampler, seed=self.seed)
        if settings is None:
            return False
        self._run(dict(settings), results)
        return True

    def _run(self, settings: dict[str, Value], results: Sequence[Result]) -> None:
        with self._billed("provision"):
            from workbench import training

            recipe = self.study.resolve(settings)
            training.provision(recipe)
        cache = training.PrefixCache(self.folder / "prefixes")
        earlier = [r for r in results if r.run_id == recipe.run_id]
        prefix = cache.find(recipe.run_id) if earlier else None
        stub = self._stub(recipe, settings, earlier)
        lease = self._lease(stub)
        if lease is None:
            return
        self.observer.started(lease, len({r.run_id for r in results} | {recipe.run_id}), float(recipe.epochs))
        self.notebook.running(lease.result)
        done = {r.recipe_id for r in earlier if r.status == "complete"}
        segments = training.train(recipe, prefix if prefix and prefix.epochs < recipe.epochs else None, meter=self.meter)
        heart = _Heart(self, lease)
        status = "KILLED"
        try:
            for checkpoint in segments:
                if checkpoint.recipe.id in done:  # its state was dropped and had to be made again: dearer, and nothing new
                    self._extra = add_phases(self._extra, checkpoint.spent)
                    continue
                heart.stop()
                results = self._record(lease, checkpoint, settings)
                if checkpoint.recipe.id == recipe.id or self.limits.spent(results, self.offer, self.label_usd):
                    self._keep(cache, checkpoint, results)
                    break
                lease = self._lease(replace(stub, trial=lease.result.trial, started=time.time())) or lease
                if lease.finished:  # another worker has the run now
                    break
                heart = _Heart(self, lease)
                self._keep(cache, checkpoint, results)
            status = "FINISHED"
        except Infeasible as error:
            heart.stop()
            status = "FAILED"
            self._end(lease, "infeasible", f"{error.reason}: {error.detail}")
        except KeyboardInterrupt:
            heart.stop()
            with contextlib.suppress(KeyboardInterrupt):
                if lease.finished and lease.result.run_id == recipe.run_id:
                    lease = self._lease(replace(stub, trial=lease.result.trial)) or lease
                self._end(lease, "interrupted", "stopped by a person")
            raise
        except Exception as error:
            heart.stop()
            with contextlib.suppress(EnvironmentFault):  # a ledger that cannot be written is the first error already
                self._end(lease, "interrupted", str(error) if isinstance(error, WorkbenchError) else f"a bug: {type(error).__name__}: {error}")
            raise
        finally:
            heart.stop()
            segments.close()  # type: ignore[attr-defined]
            self.notebook.finished(recipe.run_id, status)

    def _lease(self, stub: Result) -> Lease | None:
        with self.interruptions.guard():
            return self.ledger.lease(self.study, stub)

    def _stub(self, recipe: Recipe, settings: Mapping[str, Value], earlier: Sequence[Result]) -> Result:
        """The Result to be made, as far as it is known before."""
        return Result(
            recipe_id=recipe.id,
            run_id=recipe.run_id,
            recipe=recipe.to_json(),
            settings=settings,
            status="running",
            provenance=_provenance(self.study, recipe, self.meter),
            offer={"id": self.offer.id, "name": self.offer.name, "usd_per_hour": str(self.offer.usd_per_hour), "date": self.offer.date},
            label_usd=self.label_usd,
            started=time.time(),
            trial=min((r.trial for r in earlier if r.trial is not None), default=None),
        )

    def _record(self, lease: Lease, checkpoint: Any, settings: Mapping[str, Value]) -> list[Result]:
        """Write a checkpoint's Result, then tell of it."""
        epochs = {"epochs": checkpoint.recipe.epochs} if "epochs" in settings else {}
        result = replace(
            lease.result,
            recipe_id=checkpoint.recipe.id,
            recipe=checkpoint.recipe.to_json(),
            settings={**settings, **epochs},
            status="complete",
            scores=checkpoint.scores,
            usage=checkpoint.usage,
            labels=checkpoint.labels,
            step=checkpoint.step,
            examples=checkpoint.examples,
            tokens=checkpoint.tokens,
            trainable_parameters=checkpoint.trainable_parameters,
            finished=time.time(),
        )
        for name in self.study.costs:
            if cost(result, name, self.offer, self.label_usd) is None:
                raise Refused(f"{name} cannot be measured on this machine, and the study minimises it. Minimise another cost, e.g. 'seconds'.")
        return self._write(lease, result, checkpoint.spent)

    def _end(self, lease: Lease, status: str, reason: str) -> None:
        """Write how a run ended without a checkpoint; what it consumed goes under training."""
        if lease.finished:
            return
        spent = self._window.read() - total(self._extra.values())
        usage = {} if status == "interrupted" else {"train": spent}
        self._write(lease, replace(lease.result, status=status, reason=reason, usage=usage, finished=time.time()), {"train": spent})

    def _write(self, lease: Lease, result: Result, phases: Mapping[str, Usage]) -> list[Result]:
        with self.interruptions.guard():
            whole = self._window.close()
            self._window = self.meter.window()
            known = add_phases(phases, self._extra)
            self._extra = {}
            spent = add_phases(known, {"idle": whole - total(known.values())})
            written = self._finish(lease, replace(result, spent=spent))
            self.notebook.record(written)
            results = self.ledger.results()
            self.observer.recorded(written, results)
            return results

    def _finish(self, lease: Lease, result: Result) -> Result:
        try:
            return self.ledger.finish(lease, result, self.study, self.offer)
        except EnvironmentFault:
            # A full disk, perhaps: states of runs can be made again, a result cannot.
            for path in (self.folder / "prefixes").glob("*.safetensors"):
                path.unlink(missing_ok=True)
            return self.ledger.finish(lease, result, self.study, self.offer)

    def _keep(self, cache: Any, checkpoint: Any, results: Sequence[Result]) -> None:
        """Save the run's state, and the weights of the front's members; a disk that is full costs no result."""
        from safetensors.torch import save_file

        view = report.View(self.study.maximize, self.study.costs, {}, self.offer, self.label_usd)
        members = {r.recipe_id for r in report.front(results, view)}
        weights = self.folder / "weights"
        with self._billed("checkpoint"):
            try:
                cache.save(checkpoint.prefix())
                weights.mkdir(parents=True, exist_ok=True)
                for path in weights.glob("*.safetensors"):
                    if path.stem not in members:
                        path.unlink()
                if checkpoint.recipe.id in members:
                    temporary = weights / f"{checkpoint.recipe.id}.tmp"
                    save_file(checkpoint.weights(), temporary)
                    temporary.replace(weights / f"{checkpoint.recipe.id}.safetensors")
            except OSError as error:
                self.observer.note(f"The state of this run could not be saved ({error}): it can be continued only from its start.")

    @contextlib.contextmanager
    def _billed(self, phase: str) -> Iterator[None]:
        with self.meter.window() as window:
            yield
        self._extra = add_phases(self._extra, {phase: window.usage})

    def usage_so_far(self) -> dict[str, Usage]:
        """What has been consumed since the last Result, for the heartbeat."""
        return {"train": self._window.read()}


class _Heart:
    """A thread that beats in the ledger while a Result is made. A beat that fails is left out: the next may succeed."""

    def __init__(self, owner: _Sweep, lease: Lease) -> None:
        self._owner, self._lease = owner, lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            usage = self._owner.usage_so_far()
            with contextlib.suppress(Exception):
                self._owner.ledger.beat(self._lease, usage)
            self._owner.observer.beat(self._lease.result, total(usage.values()).seconds)

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


def _unfinished(results: Sequence[Result]) -> list[Result]:
    """Interrupted runs that should be taken up again, each as its last interruption left it."""
    found = []
    for segments in report.by_run(results):
        stops = [r for r in segments if r.status == "interrupted"]
        ended = any(r.status in ("infeasible", "running") or (r.status == "complete" and stops and r.epochs >= stops[-1].epochs) for r in segments)
        if stops and not ended and len(stops) < MAX_INTERRUPTIONS:
            found.append(stops[-1])
    return found


def _provenance(study: Study, recipe: Recipe, meter: Meter) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "versions": _versions(),
        "git_commit": _git_commit(study.path),
        "device": meter.description,
        "data_digest": recipe.task.digest(),
    }


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers", "peft", "optuna", "mlflow-skinny")}


def _git_commit(path: Path | None) -> str | None:
    """The commit of the folder that the study stands in, with `+` when it has changes; None outside a repository."""
    if path is None:
        return None
    try:
        done = subprocess.run(["git", "describe", "--always", "--abbrev=40", "--dirty=+"], cwd=path.parent, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
