"""A queue that one daemon thread empties, in order, retrying what fails: whoever puts work on it never waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""Pauses between two looks at a store that is away: they begin at the first and double up to the longest."""


@dataclass(frozen=True)
class Job:
    """A piece of writing.

    Attributes:
        what: What is written, in words.
        write: Writes it; may be called again after a failure.
        results: The Results in it.
    """

    what: str
    write: Callable[[], None]
    results: frozenset[Hashable] = frozenset()


class RetryQueue:
    """Writes jobs one after another in a daemon thread, which starts with the first job.

    A job that fails is followed by `connect`. Where that fails too the store is away: the job waits, with growing pauses,
    and `on_away` is called once per outage, `on_back` at its end. Where it succeeds the job is tried once more, then
    given up through `on_refused`: one bad record must not keep the others out.
    """

    def __init__(
        self,
        connect: Callable[[], None],
        on_away: Callable[[Exception], None],
        on_back: Callable[[], None],
        on_refused: Callable[[Job, Exception], None],
        pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._connect, self._on_away, self._on_back, self._on_refused = connect, on_away, on_back, on_refused
        self._first_pause = pause_seconds
        self._jobs: deque[Job] = deque()
        self._refused: set[Hashable] = set()
        self._closing = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def unwritten(self) -> int:
        """How many Results in jobs are not known to be written, those given up included; one in several jobs counts once."""
        with self._wake:
            return len(self._refused.union(*(job.results for job in self._jobs)))

    def put(self, job: Job) -> None:
        """Queue a job; returns at once."""
        with self._wake:
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self, timeout_seconds: float) -> int:
        """Write what is queued, waiting at most so long; return how many Results are unwritten.

        A store that is away is tried once more and not waited for.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        return self.unwritten

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if not self._finish(job):
                return
            with self._wake:
                self._jobs.popleft()  # only now: a job in flight counts as unwritten

    def _next(self) -> Job | None:
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._closing)
            return self._jobs[0] if self._jobs else None

    def _finish(self, job: Job) -> bool:
        """Write one job or give it up. False when the store is away and nobody waits any more."""
        pause, away, refusals = self._first_pause, False, 0
        while True:
            failure = _attempt(job.write)
            if failure is None:
                self._refused -= job.results
                if away:
                    self._on_back()
                return True
            lost = _attempt(self._connect)
            if lost is None:
                refusals += 1
                if refusals == 2:
                    self._refused |= job.results
                    self._on_refused(job, failure)
                    return True
                continue
            if not away:
                away = True
                self._on_away(lost)
            if self._closing:
                return False
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _sleep(self, seconds: float) -> None:
        """Wait so long, or until the end is asked for."""
        until = time.monotonic() + seconds
        with self._wake:
            self._wake.wait_for(lambda: self._closing, timeout=until - time.monotonic())


def _attempt(action: Callable[[], None]) -> Exception | None:
    """Do it; return what went wrong. MLflow raises whatever its many stores raise: all of it means 'not written'."""
    try:
        action()
    except Exception as error:
        return error
    return None
