"""Replays side by side, a process each; the same traces however many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from workbench.replay import methods
from workbench.replay.simulation import Trace, simulate
from workbench.replay.tables import Table


class Job(NamedTuple):
    """A replay.

    Attributes:
        table: The table, by index.
        method: The method, by name.
        workers: How many work at once.
        seed: Seed of the method.
        budget: What may be spent, in the table's unit.
        cold_start_cost: What a cold start costs, in the same unit.
        ends_only: Whether only finished runs are credited.
    """

    table: int
    method: str
    workers: int
    seed: int
    budget: float
    cold_start_cost: float
    ends_only: bool = False


def run(
    tables: Sequence[Table], jobs: Sequence[Job], processes: int, more: methods.Makers | None = None
) -> Iterator[tuple[Job, Trace]]:
    """Run all replays and yield each with its trace as it ends, in any order.

    Args:
        tables: The tables that jobs name by index.
        jobs: The replays.
        processes: How many run side by side, each in a new process with one thread.
        more: Makers of methods that `methods` lacks. With several processes they must be functions
            or classes of a module, as they are pickled.

    Yields:
        A job and its trace.
    """
    if processes <= 1 or len(jobs) <= 1:
        yield from ((job, _replay(tables, job, more)) for job in jobs)
        return
    # Set here, as a child reads it once while it imports numpy: threads of several processes would
    # fight for the same CPUs.
    kept = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    # Forked children would inherit the locks of threads that do not exist in them.
    context = multiprocessing.get_context("spawn")
    # Tables go to each process once, not along with every job.
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_begin, initargs=(tuple(tables), more))
    try:
        futures = {pool.submit(_in_process, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        if kept is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = kept


def _replay(tables: Sequence[Table], job: Job, more: methods.Makers | None) -> Trace:
    method = methods.make(job.method, job.seed, more)
    return simulate(
        tables[job.table],
        method,
        budget=job.budget,
        workers=job.workers,
        cold_start_cost=job.cold_start_cost,
        ends_only=job.ends_only,
    )


_tables: tuple[Table, ...] = ()
_more: methods.Makers | None = None


def _begin(tables: tuple[Table, ...], more: methods.Makers | None) -> None:
    global _tables, _more
    _tables, _more = tables, more
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all of them: this one ends without a word


def _in_process(job: Job) -> Trace:
    return _replay(_tables, job, _more)
