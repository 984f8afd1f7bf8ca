"""Several workers, on one machine or on a cluster. A supervisor starts them, tells each who else is at
work beside it, and restarts those that die.

Each worker is a process of its own and sweeps like any other: they share the ledger, take turns in
choosing, and hold one GPU each. Where they can be is a launcher's to say (`launching`). The two
sides talk in lines of JSON. To a worker go `Orders` first,
then `{"neighbours": [process ids], "apart": true or false}` whenever they change, and `{"leave": true}`
where it is to leave its device to the others; when the stream ends, the supervisor is gone. From a
worker come `{"recorded": number}`, `{"waiting": true or false}`, `{"pace": …}` (`device_sharing.Pace`),
and at last `{"ended": reason, "interrupted": true or false, "here_alone": true or false}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import FrameType
from typing import Any, TextIO

from workbench.errors import EnvironmentFault
from workbench.ledger import AWAY_SECONDS, Patience
from workbench.meter import Meter, Tenant
from workbench.result import Result
from workbench.result.sharing import sharing_text
from workbench.sweep.autoscaling import Autoscaler
from workbench.sweep.device_sharing import Pace
from workbench.sweep.job import Job, Standing
from workbench.sweep.launching import Launcher, Place, Process
from workbench.sweep.observer import Outcome
from workbench.usage import Usage

MAX_DEATHS = 3
"""A worker that died so often in a row without a Result is not started again."""

_LOOK_SECONDS = 0.1
_HEARING_SECONDS = 5.0


@dataclass(frozen=True)
class Orders:
    """What a worker is told when it is started.

    Attributes:
        workers: How many there are.
        sweep: The id of the sweep that all of them are part of, in the notebook.
        before: What was consumed before they were started, for one of them to charge.
    """

    workers: int
    sweep: str
    before: Usage = field(default_factory=Usage)

    def to_json(self) -> dict[str, Any]:
        """The orders as plain data."""
        return asdict(self) | {"before": self.before.to_json()}

    @classmethod
    def read(cls, lines: TextIO) -> Orders:
        """The first of the lines that a worker is sent."""
        record = json.loads(lines.readline())
        return cls(**record | {"before": Usage.from_json(record["before"])})


class Neighbours:
    """The worker's side: holds the machine beside the others that use it, so that each is billed for its share.

    Args:
        meter: The worker's.
        lines: What the supervisor sends; when they end, this process is told to stop, as by SIGTERM.

    Attributes:
        standing: How the worker stands beside them, by the last word of the supervisor.
    """

    def __init__(self, meter: Meter, lines: TextIO) -> None:
        self._meter, self._lines = meter, lines
        self.standing = Standing()
        self._held: dict[int, Tenant] = {}
        threading.Thread(target=self._listen, name="supervisor", daemon=True).start()

    def _listen(self) -> None:
        for line in self._lines:
            with contextlib.suppress(ValueError, KeyError):
                self.heed(json.loads(line))
        # A worker that outlived its supervisor would go on spending with nobody to stop it.
        os.kill(os.getpid(), signal.SIGTERM)

    def heed(self, said: Mapping[str, Any]) -> None:
        """Act on a line of the supervisor's. Raises KeyError where it lacks something."""
        if said.get("leave"):
            self.standing.leaves = True
            return
        self.standing.apart = bool(said["apart"])
        self.hold(said["neighbours"])

    def hold(self, pids: Sequence[int]) -> None:
        """Share the machine with these processes from now on."""
        for pid in self._held.keys() - set(pids):
            self._held.pop(pid).close()
        for pid in set(pids) - self._held.keys():
            self._held[pid] = self._meter.hold(pid, name=f"worker {pid}")


@dataclass
class _Worker:
    """One worker: its process, what it has said, how often it died since its last Result, and whether it is to leave."""

    index: int
    place: Place
    process: Process | None = None
    deaths: int = 0
    waiting: bool = True  # so is one that is being started: nothing is charged to it yet
    pace: Pace | None = None
    leaves: bool = False
    ended: Mapping[str, Any] | None = None
    listeners: Sequence[threading.Thread] = ()

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def device(self) -> str:
        """What it works with: where a cluster has chosen that, as it has."""
        return getattr(self.process, "device", "") or self.place.device


class Supervisor:
    """Runs workers until all have ended.

    Args:
        words: The command line of a worker after `workbench`; it reads `Orders` from its standard
            input.
        orders: The orders of the first worker. Only that one charges what was consumed before.
        launcher: Says where workers can be, and starts them there.
        job: The sweep that they do. Its notebook is told what a killed worker could no longer tell
            it, and its observer what the supervisor has to say.
        told: Called with a worker's number and a line that it says to people; from other threads.
        autoscaler: Says how many there are to be on each GPU; None: as many as the launcher has places.
    """

    def __init__(
        self,
        words: Sequence[str],
        orders: Orders,
        launcher: Launcher,
        job: Job,
        told: Callable[[int, str], None],
        autoscaler: Autoscaler | None = None,
    ) -> None:
        self._words, self._orders, self._job, self._told = words, orders, job, told
        self._launcher, self._autoscaler = launcher, autoscaler
        self._note = job.observer.note
        self._ledger = job.ledger.patient(Patience(AWAY_SECONDS, self._note, check=self._check))
        self._results = list(job.ledger.results())
        self._workers: list[_Worker] = []
        self._sending = threading.Lock()
        self._requested = 0  # how often an end was asked for
        self._scaled = 0  # how many of the autoscaler's decisions are noted
        self.failure = 0
        """Exit code of the first worker that ended with an error; 0 without one."""

    def run(self) -> Outcome:
        """Start the workers, and wait for their end."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._fill()
            while any(worker.process is not None for worker in self._workers):
                time.sleep(_LOOK_SECONDS)
                self._scale()
                self._fill()
                for worker in self._workers:
                    if worker.process is not None and worker.process.poll() is not None:
                        self._gone(worker, worker.process)
        finally:
            if self._autoscaler is not None:
                self._autoscaler.close()
            for worker in self._workers:
                if worker.process is not None:
                    worker.process.kill()
            self._launcher.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._outcome()

    def _fill(self) -> None:
        """Start a worker at every place that has had none: at first all, later those of machines that have come."""
        # Where all that ended did so since what is left does not fit into their machines' memory, another machine may hold it.
        ended = [w.ended for w in self._workers if w.ended is not None and not w.leaves]
        if self._requested or self.failure or not all(each.get("here_alone") for each in ended):
            return
        known = {worker.place.name for worker in self._workers}
        for place in self._launcher.places():
            if place.name not in known:
                worker = _Worker(len(self._workers), place)
                self._workers.append(worker)
                # What was consumed before the sweep is charged by the first start alone.
                self._start(worker, self._orders if worker.index == 0 else replace(self._orders, before=Usage()))

    @property
    def _ends(self) -> bool:
        """Whether the work is about to end."""
        ended = any(worker.ended is not None and not worker.leaves for worker in self._workers)
        return bool(self._requested or self.failure or ended)

    def _scale(self) -> None:
        """Have as many workers on each GPU as the autoscaler says: one more has a place by now, and of too many the last leaves."""
        if self._autoscaler is None or self._ends:
            return
        paces: dict[str, dict[int, Pace | None]] = {}
        for worker in self._workers:
            if worker.process is not None:
                paces.setdefault(worker.place.device, {})[worker.index] = worker.pace
        for device, change in self._autoscaler.look(paces):
            if change.why == "left":
                last = max((w for w in self._workers if w.process is not None and w.place.device == device), key=lambda w: w.index)
                last.leaves = True
                self._autoscaler.launcher.remove(last.place)
                self._send(last.process, {"leave": True})
        records = self._autoscaler.records
        for record in records[self._scaled :]:
            self._note(sharing_text(record))
        if len(records) > self._scaled:
            self._scaled = len(records)
            with contextlib.suppress(EnvironmentFault):  # it is away: what is decided next is noted with this
                self._ledger.note_sharing(records)

    def _outcome(self) -> Outcome:
        ends = [(worker.ended, worker.leaves) for worker in self._workers if worker.ended is not None]
        said = [ended for ended, leaves in ends if not leaves] or [ended for ended, _ in ends]
        last = next((each for each in said if each["interrupted"]), said[-1] if said else None)
        if self.failure and not self._requested:  # it was we who told the others to stop
            return Outcome(self._read(), f"a worker failed (exit code {self.failure}); what it said is above", False)
        stopped = self._requested > 0 or (last is not None and bool(last["interrupted"]))
        reason = str(last["ended"]) if last is not None else "you stopped it" if stopped else "no worker is left"
        return Outcome(self._read(), reason, stopped)

    def _read(self) -> list[Result]:
        """The finished Results, which the notebook is told of; those read last where the ledger is
        away.
        """
        with contextlib.suppress(EnvironmentFault):
            known = self._ledger.results(running=True)
            self._results = [r for r in known if r.status != "running"]
            self._job.notebook.catch_up(known)
        return self._results

    def _check(self) -> None:
        """End the wait for a ledger that is away once somebody has pressed Ctrl-C."""
        if self._requested:
            raise EnvironmentFault("the ledger is away, and is not waited for any more.")

    def _start(self, worker: _Worker, orders: Orders) -> None:
        process = self._launcher.start(worker.place, self._words)
        # Its orders are what it reads first: only then do the threads that hear from others know of it, and introduce it to them.
        self._send(process, orders.to_json())
        worker.ended, worker.waiting, worker.pace = None, True, None
        worker.process = process
        heard = ((self._hear, process.stdout), (self._overhear, process.stderr))
        worker.listeners = [threading.Thread(target=listen, args=(worker, lines), daemon=True) for listen, lines in heard]
        for listener in worker.listeners:
            listener.start()
        self._introduce()

    def _gone(self, worker: _Worker, process: Process) -> None:
        """A worker's process has ended: put right what it left, and start it again if it was killed."""
        worker.process, code = None, process.returncode or 0
        for listener in worker.listeners:
            # What it said last may still be read: unheard, a planned end would look like a death. Bounded, as a child of its own
            # that outlives it would hold the pipe open.
            listener.join(_HEARING_SECONDS)
        self._introduce()
        if worker.ended is not None and worker.ended["interrupted"] and not self._requested and not self.failure:
            worker.leaves = True  # its machine is taken away, which says nothing of the work: the others go on, and others may come
            self._note(f"Worker {worker.index} has left ({worker.ended['ended']}): the others go on.")
        if worker.ended is not None or (code == 130 and self._requested):
            return
        with contextlib.suppress(EnvironmentFault):  # it is away: the next start puts it right
            for result in self._ledger.reconcile(self._job.study, self._job.offer):
                self._note(f"Trial {result.trial} was {result.status}: what it had consumed is charged.")
        self._read()
        if code > 0:  # it has said why, and another one would say the same
            self.failure = self.failure or code
            self._signal(signal.SIGINT)
        elif not self._requested and not self.failure and not worker.leaves:
            worker.deaths += 1
            if worker.place not in self._launcher.places():
                self._note(f"Worker {worker.index} is gone with its machine ({worker.place.name}): the others go on.")
            elif worker.deaths < MAX_DEATHS:
                self._note(f"Worker {worker.index} was killed (signal {-code}); it is started again.")
                self._start(worker, replace(self._orders, before=Usage()))
            else:
                self._note(f"Worker {worker.index} was killed {worker.deaths} times in a row without a result: it is left out.")

    # What is said

    def _hear(self, worker: _Worker, lines: TextIO) -> None:
        for line in lines:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if "recorded" in said:
                    worker.deaths = 0
                elif "waiting" in said:
                    worker.waiting = bool(said["waiting"])
                    self._introduce()
                elif "pace" in said:
                    worker.pace = None if said["pace"] is None else Pace(**said["pace"])
                elif "ended" in said:
                    worker.ended = said

    def _overhear(self, worker: _Worker, lines: TextIO) -> None:
        for line in lines:
            self._told(worker.index, line.rstrip("\n"))

    def _introduce(self) -> None:
        """Tell each worker who else is at work on its device now: one that waits holds nothing."""
        for worker in self._workers:
            others = [w for w in self._workers if w is not worker and w.device == worker.device and w.pid is not None]
            self._send(worker.process, {"neighbours": [w.pid for w in others if not w.waiting], "apart": not others})

    def _send(self, process: Process | None, record: Mapping[str, Any]) -> None:
        if process is None or process.stdin is None:
            return
        # Threads that hear from workers send too, and two lines must not be mixed.
        with self._sending, contextlib.suppress(OSError, ValueError):  # it is gone: that is seen elsewhere
            process.stdin.write(json.dumps(record) + "\n")
            process.stdin.flush()

    # Ctrl-C

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._requested += 1
        if number == signal.SIGINT and self._requested == 1:
            text = "Stopping at the checkpoints that the workers are on their way to. Press Ctrl-C again to stop now."
            # A signal may come in the middle of a print, which cannot be entered twice by one thread.
            threading.Thread(target=self._note, args=(text,), daemon=True).start()
        self._signal(signal.Signals(number))

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(number)
