"""The tracker as the sweep sees it: calls that return at once, and a thread that writes them down."""

from __future__ import annotations

import contextlib
import functools
import textwrap
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import EnvironmentFault
from workbench.prices import Prices
from workbench.process import without_secrets
from workbench.result import Result, by_run
from workbench.study import Study
from workbench.tracking import store, tags_and_metrics
from workbench.tracking.mirror import Mirror
from workbench.tracking.retry_queue import Job, RetryQueue


@dataclass(frozen=True)
class Listener:
    """Who is told what the tracker does; both are called from its thread.

    Attributes:
        on_problem: Called with one sentence when MLflow cannot be reached, answers again, or refuses a record.
        on_run: Called with run_id and MLflow's run id, once for each child run that was created or continued.
    """

    on_problem: Callable[[str], None] = lambda message: None
    on_run: Callable[[str, str], None] = lambda run_id, mlflow_run_id: None


class MlflowTracker:
    """Mirrors a sweep in MLflow: experiment = study, one parent run per sweep, one child run per run.

    Every method returns at once and none raises over MLflow; a daemon thread writes, and retries what fails.

    Args:
        study: The study; its name is the experiment's.
        tracking_uri: The store: `sqlite:////…/mlflow.db`, another database, or a server's address. Raises UsageError where
            it leads elsewhere than it looks: see `store.sqlite_path`.
        prices: Prices at which costs are shown.
        listener: Who is told of problems and of runs; None: nobody.
        sweep: Id of the sweep, where several processes are part of one; a new one when not given.
        pause_seconds: Pause before the first retry; it doubles up to a minute.
    """

    def __init__(
        self,
        study: Study,
        tracking_uri: str,
        prices: Prices,
        *,
        listener: Listener | None = None,
        sweep: str | None = None,
        pause_seconds: float = 1.0,
    ) -> None:
        self.study = study
        self.tracking_uri = store.absolute(tracking_uri)
        self._where = store.named(self.tracking_uri)
        self._listener = listener or Listener()
        self._mirror = Mirror(study, self.tracking_uri, prices, self._tell, sweep)
        self._front: frozenset[str] | None = None
        self._writer = RetryQueue(self._mirror.connect, self._away, self._back, self._refused, pause_seconds)

    def start(
        self,
        parent: Mapping[str, Any],
        known: Sequence[Result],
        *,
        front: Collection[str] | None = None,
        artifacts: Mapping[str, str] | None = None,
    ) -> None:
        """Open the sweep's parent run, and queue what MLflow lacks of `known`.

        Call it before the first trial: mlflow is imported here, in 2 to 4 seconds, because two threads that import
        large packages at once can meet each other's half-made modules.

        Args:
            parent: What the sweep is: `question`, `command`, `limits`, `git`, `versions`, …; plain data, nested at will.
            known: All Results of the study's ledger, those of live runs (`running`) included.
            front: Ids of the runs that hold a point of the front of `known`; None leaves what is said of them.
            artifacts: Texts to keep with the sweep beside the study's file, by file name.
        """
        self._load()
        path, running = self.study.path, any(result.status == "running" for result in known)
        texts = {tags_and_metrics.file_name(path.name): path.read_text(encoding="utf-8")} if path and path.is_file() else {}
        self._put("the sweep", self._mirror.open_sweep, dict(parent), texts | dict(artifacts or {}), time.time(), running)
        runs = self._catch_up(known)
        self._put("runs left open", self._mirror.end_orphans, runs)
        if front is not None:
            self.front(front)

    def missing(self, known: Sequence[Result]) -> int:
        """How many runs of `known` MLflow lacks something of. It is asked now, and waited for; call it before all else.

        Runs that somebody works on are not counted: who does writes them.

        Raises:
            EnvironmentFault: MLflow cannot be reached, or its store cannot be used.
        """
        self._load()
        try:
            self._mirror.connect()
            runs = [run for run in _oldest_first(known).values() if all(result.status != "running" for result in run)]
            return sum(map(self._mirror.lacks, runs))
        except Exception as error:  # whatever MLflow and its many stores raise
            raise EnvironmentFault(self._absence(error)) from error

    def join(self) -> None:
        """Write under the parent run of the same sweep that another process has started, or is about to start."""
        self._load()
        self._put("the sweep", self._mirror.join_sweep, time.time())

    def catch_up(self, known: Sequence[Result]) -> None:
        """Write what MLflow lacks of `known`, as in `start`: a worker that was killed could not tell MLflow of its last Results."""
        self._put("a look at the runs", self._mirror.connect)  # other workers may have written to them since
        self._catch_up(known)

    def front(self, run_ids: Collection[str]) -> None:
        """Say of every run whether it holds a point of the front now: these do, all others do not."""
        if (members := frozenset(run_ids)) != self._front:
            self._front = members
            self._put("the front", self._mirror.mark_front, members)

    def running(self, result: Result) -> None:
        """A run, or its next segment, has begun."""
        self._put("the start of a run", self._mirror.begin, result)

    def record(self, result: Result) -> None:
        """Mirror a Result. A checkpoint becomes a step; an infeasible or interrupted one ends the run with its reason."""
        self._put("a result", self._mirror.record, result, results=[result])

    def finished(self, run_id: str, status: str) -> None:
        """A run has ended: `FINISHED`, `FAILED` (infeasible) or `KILLED` (interrupted)."""
        self._put("the end of a run", self._mirror.finish, run_id, status, time.time())

    def end(
        self,
        metrics: Mapping[str, float | None],
        front_markdown: str,
        status: str = "FINISHED",
        artifacts: Mapping[str, str] | None = None,
        reason: str = "",
        front: Collection[str] | None = None,
    ) -> None:
        """The sweep has ended.

        Args:
            metrics: Its summary (spend, front size, hypervolume, best score), units in the names; unknown is left out.
            front_markdown: The front as a table: the artifact `front.md`, and part of the parent's description.
            status: `FINISHED`, `FAILED` or `KILLED`.
            artifacts: Other texts to keep with it, by file name.
            reason: Why it ended, in words: the tag `workbench.ended`.
            front: Ids of the runs that hold a point of the front; None leaves what is said of them.
        """
        if front is not None:
            self._put("a look at the runs", self._mirror.connect)  # other workers may have said otherwise
            self._put("the front", self._mirror.mark_front, frozenset(front))
        texts = {"front.md": front_markdown, **(artifacts or {})}
        self._put("the sweep's summary", self._mirror.end_sweep, dict(metrics), texts, status, time.time(), reason)

    def close(self, timeout_seconds: float) -> int:
        """Wait at most so long for the writer; return how many Results are not known to be in MLflow.

        They are safe in the ledger, and the next sweep's `start` writes them. A store that is away is not waited for.
        """
        return self._writer.close(timeout_seconds)

    def _load(self) -> None:
        with contextlib.suppress(Exception):  # the writer meets the same error, and reports it
            store.load()

    def _catch_up(self, history: Sequence[Result]) -> frozenset[str]:
        """Queue what MLflow lacks of each run; their ids."""
        runs = _oldest_first(history)
        for results in runs.values():
            done = [result for result in results if result.status != "running"]
            self._put("earlier results", self._mirror.catch_up, results, results=done)
        return frozenset(runs)

    def _put(self, what: str, write: Callable[..., None], *arguments: Any, results: Iterable[Result] = ()) -> None:
        ids = frozenset((r.run_id, r.step, r.status, r.finished) for r in results)
        self._writer.put(Job(what, functools.partial(write, *arguments), ids))

    def _tell(self, run_id: str, mlflow_run_id: str) -> None:
        try:
            self._listener.on_run(run_id, mlflow_run_id)
        except Exception as error:  # the caller's trouble is no reason to keep the run out of MLflow
            self._listener.on_problem(f"the MLflow run {mlflow_run_id} of the run {run_id} could not be noted ({_reason(error)}).")

    def _away(self, error: Exception) -> None:
        self._listener.on_problem(self._absence(error))

    def _absence(self, error: Exception) -> str:
        """A sentence that says that MLflow cannot be written to, and why."""
        if isinstance(error, EnvironmentFault):  # no waiting mends it
            kept = "The runs are safe in the ledger; the next sweep writes them once that is mended."
            return f"MLflow cannot be written to. {error} {kept}"
        where = f"MLflow at {self._where} cannot be reached"
        reason = _reason(error)
        mend = "are written when it can be"
        if any(words in reason for words in _DAMAGED):
            mend = "the next sweep writes them anew once the file is moved away"
        return f"{where} ({reason}); the runs are safe in the ledger, and {mend}."

    def _back(self) -> None:
        self._listener.on_problem(f"MLflow at {self._where} answers again; what it missed is being written.")

    def _refused(self, job: Job, error: Exception) -> None:
        self._listener.on_problem(f"MLflow refused {job.what} ({_reason(error)}); the ledger has it.")


def _oldest_first(results: Sequence[Result]) -> Mapping[str, list[Result]]:
    """The Results of each run, by its id, oldest first."""
    return by_run(sorted(results, key=lambda r: (r.finished or r.started, r.step)))


_DAMAGED = ("is malformed", "not a database")
"""What SQLite says of a file that no waiting will mend."""


def _reason(error: Exception) -> str:
    """The first line of what was wrong."""
    lines = str(error).strip().splitlines()
    return textwrap.shorten(without_secrets(lines[0]), 500, placeholder=" …") if lines else type(error).__name__
