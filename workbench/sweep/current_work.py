"""What a worker is making now, and what it knows of all that is made: read by its main thread and
by two others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench import process
from workbench.errors import EnvironmentFault
from workbench.ledger import Away, Lease, Ledger, Worker
from workbench.result import Result, Spending
from workbench.sweep.device_sharing import Pace
from workbench.sweep.job import Context
from workbench.usage import Usage, Work

if TYPE_CHECKING:
    from workbench.training import Progress

READING_SECONDS = 1.0
"""The watch reads the ledger no more often: the others write what they have spent once a second."""

OTHERS_A_SECOND = 16
"""Leases of others that the watch reads in a second at most. Were all read each second, what a ledger has to answer would grow
with the square of the workers. Between two readings the others are taken to work all the time."""

READING_SHARE = 0.02
"""The share of its time that the watch reads at most: reading a large ledger anew takes as long as there are Results."""

SILENT_SECONDS = 3.0
"""After so many seconds without a reading of the ledger, the spending of the others is
estimated.
"""

SETTLING_SECONDS = 1.0
"""How long the watch waits for what is on its way into the ledger: a write takes milliseconds."""

SEEN_SECONDS = 60.0
"""So long after it held a lease a worker is still taken to be at work while the ledger is away: it may be between two."""


class CurrentWork:
    """The work at hand, as the heartbeat tells it and the budget's watch counts it.

    Args:
        context: What the worker works with.

    Attributes:
        lease: Of the Result that is being made, or was made last.
        progress: Of the training at hand.
        results: All finished Results, as the main thread has read them last.
    """

    def __init__(self, context: Context) -> None:
        self.lease: Lease | None = None
        self.progress: Progress | None = None
        self.results: Sequence[Result] = ()
        self._context = context
        self._reader = context.ledger.reader()  # the watch's: it looks from another thread
        self._due = 0.0  # when the watch reads again
        self._trained = Work()  # before what `progress` tells
        self._others: Sequence[Result] = ()  # what the others at work were making when they held a lease last
        self._seen: dict[Worker, tuple[float, Result]] = {}  # when each of them did, and what it was making
        self._read_at = time.monotonic()

    @property
    def held(self) -> int | None:
        """The trial of the lease that is held; None while none is."""
        lease = self.lease
        return None if lease is None or lease.finished else lease.number

    def read(self, *, hurried: bool = False) -> list[Result]:
        """All Results, those that others are making included, and those that wait for the ledger; the account is brought up to
        date by them.

        Where it is `hurried` a ledger that is away is not waited for: what it held last is taken.
        """
        ledger, unwritten = self._context.ledger, self._context.unwritten
        written = unwritten.written()
        try:
            with ledger.patience.hurried() if hurried else contextlib.nullcontext():
                results = ledger.results(running=True)
        except Away:
            if not hurried:
                raise
            results = unwritten.overlaid(ledger.known(running=True))
        else:
            unwritten.forget(written)
            results = unwritten.overlaid(results)
            self._heard(ledger, [r for r in results if r.number != self.held])
        self._context.account.note(results)
        self.results = [r for r in results if r.status != "running"]
        return results

    def someone_else(self, results: Sequence[Result]) -> bool:
        """Whether another worker seems to be at work: it may have died since."""
        return any(r.status == "running" and r.number != self.held for r in results)

    def pulse(self) -> tuple[Lease | None, Mapping[str, Usage], int]:
        """The lease now held, what was consumed since the last Result, and the labels that its run
        has used.

        Called by the heartbeat while the main thread writes a Result, then opens a new bill, then
        takes the next lease. Read in this order, a new bill can only meet an old lease, which is
        finished and takes no beat. Read in the other, the old bill could meet the new lease, and a
        kill then charged the same work twice.
        """
        lease = self.lease
        return lease, {"train": self._context.bill.consumed()}, self.progress.labels if self.progress else 0

    def recorded(self) -> None:
        """Note that the training until now is on record: a stop from here on must not count it again."""
        if self.progress is not None:
            self._trained, self.progress.work = self._trained + self.progress.work, Work()

    def pace(self) -> Pace | None:
        """How far the training is, over all runs of this worker; None while no run is in hand. For the supervisor."""
        lease, progress = self.lease, self.progress
        if lease is None or lease.finished or progress is None:
            return None
        result, work = lease.result, self._trained + progress.work
        family = f"{result.model}, {result.method}, batches of {result.recipe['batch_size']}"
        return Pace(time.monotonic(), family, work.tokens, work.steps)

    def spent_now(self) -> Spending:
        """What is spent until now, the work under way and that of other sweeps on this ledger
        included. For the watch.

        While the ledger is away others are taken to go on: a budget is not passed because nobody
        can say what they spend.
        """
        spent = self._reckoned(time.monotonic() >= self._due)
        # No sweep ends by what the others may have spent while the ledger can say what they did.
        if self._others and self._read_at < time.monotonic() - READING_SECONDS and self._context.budget.exhausted(spent):
            spent = self._reckoned(True)
        return spent

    def _reckoned(self, anew: bool) -> Spending:
        """What is spent until now; `anew` reads the ledger first."""
        account, bill = self._context.account, self._context.bill
        before = self.held
        results = self._look() if anew else None
        # A Result on its way into the ledger is on the meter's bill and in the ledger at once: counted then, it counts twice.
        # One that is on its way for long waits for a ledger that is away, and in what was read last it is not.
        settled = bill.settling.acquire(timeout=SETTLING_SECONDS)
        try:
            held, progress = self.held, self.progress
            # Else they are of before what we have written since: they are read again.
            if settled and results is not None and held == before:
                others = [r for r in results if r.number != held]  # what we have consumed is read from the meter
                account.note(others)
                self._heard(self._reader, others)
            labels = dict(progress.by_order) if progress and held is not None else {}
            spent = account.with_work(bill.consumed(), labels)
            silent = time.monotonic() - self._read_at
            return spent + account.unseen(silent, self._others) if silent > SILENT_SECONDS else spent
        finally:
            if settled:
                bill.settling.release()

    def _look(self) -> list[Result] | None:
        began = time.monotonic()
        try:
            return self._context.unwritten.overlaid(self._reader.results(running=True))
        # The watch must go on: it estimates what the others spend until the ledger is back.
        except EnvironmentFault:
            return None
        finally:
            took = time.monotonic() - began
            self._due = began + max(READING_SECONDS, len(self._others) / OTHERS_A_SECOND, took / READING_SHARE)

    def _heard(self, ledger: Ledger, others: Sequence[Result]) -> None:
        """Note who is at work: the ledger has just been read, and `others` are its Results that are not being made here."""
        now, held, here = time.monotonic(), ledger.at_work, Worker.of(process.this_process())
        seen = self._seen | {worker: (now, making) for worker, making in held.items() if worker != here}
        # Never changed in place: the watch and the main thread both come here.
        self._seen = {worker: known for worker, known in seen.items() if now - known[0] < SEEN_SECONDS}
        # Who is between two leases spends as well, and nobody else can say what; of those on this host it is known who is gone.
        between = [making for w, (_, making) in self._seen.items() if w not in held and process.lives(w._asdict()) is not False]
        self._others, self._read_at = [*(r for r in others if r.status == "running"), *between], now
