"""`workbench sweep --workers N|auto` and `--ray`: the worker's side of the command, and the supervisor's."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.printing import messages
from workbench.cli.progress import Progress
from workbench.errors import EnvironmentFault
from workbench.meter import Meter, number_gpus_as_nvml
from workbench.sweep import Autoscaler, Job, Launcher, Orders, Outcome, Pace, Supervisor
from workbench.usage import Usage

if TYPE_CHECKING:
    from workbench.result import Result

_telling = threading.Lock()


class Reporting(Progress):
    """A worker's observer: lines for people on standard error, and what the supervisor must know on standard output."""

    def stopping(self, text: str) -> None:
        """Say nothing: the supervisor says it once for all workers."""

    def waiting(self, begins: bool) -> None:
        """Tell the supervisor that the worker waits, or is at work again."""
        tell(waiting=begins)

    def paced(self, pace: Pace | None) -> None:
        """Tell the supervisor how far the training is."""
        tell(pace=None if pace is None else pace._asdict())

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """Tell the supervisor that a Result is in the ledger."""
        tell(recorded=result.number)
        super().recorded(result, results)


def tell(**said: Any) -> None:
    """Write one line of JSON to the supervisor."""
    with _telling:  # how far the training is comes from another thread, and two lines must not be mixed
        click.echo(json.dumps(said))


def new_sweep() -> str:
    """An id for a sweep that several processes are part of."""
    return uuid.uuid4().hex


def worker_words(words: Sequence[str]) -> list[str]:
    """The command line of a worker, from that of its sweep: the same words."""
    at = next(i for i, word in enumerate(words) if word in ("sweep", "worker"))  # before it stand flags alone
    return [*words[:at], "worker", *words[at + 1 :], "--supervised"]


def supervise(
    job: Job, sweep: str, launcher: Launcher, *, ends: bool = True, autoscaler: Autoscaler | None = None
) -> tuple[Outcome, int]:
    """Have the workers of a job do it.

    Args:
        job: The sweep, whose notebook has been started. The first worker charges what was consumed
            `before`.
        sweep: The id of the sweep that the workers are part of.
        launcher: Starts them.
        ends: Whether the sweep ends with them: not where other machines work on it too.
        autoscaler: Says how many there are to be on each GPU; None: as many as the launcher has places.

    Returns:
        How it ended, and the exit code of a worker that failed, or 0.
    """
    orders = Orders(job.workers, sweep, job.before or Usage())
    supervisor = Supervisor(
        # Told as a number: by a forecast of its own a worker might find another.
        [*worker_words(sys.argv[1:]), "--devices", str(job.devices)],
        orders,
        launcher,
        job,
        told=lambda index, text: messages.print(f"worker {index}: {text}", markup=False, highlight=False),
        autoscaler=autoscaler,
    )
    outcome = supervisor.run()
    with contextlib.suppress(EnvironmentFault):  # it is away, and was waited for
        if ends:
            job.ledger.note_end(outcome.reason, interrupted=outcome.interrupted)
    return outcome, supervisor.failure


def visible() -> list[str]:
    """Return the visible GPUs, as `CUDA_VISIBLE_DEVICES` names them."""
    # By default CUDA numbers the fastest GPU first and NVML goes by the
    # bus: a worker would train on one GPU and be billed for another.
    number_gpus_as_nvml()
    with Meter(sample_interval_seconds=None) as meter:
        return named(meter, os.environ.get("CUDA_VISIBLE_DEVICES"))


def together(gpus: Sequence[str], count: int) -> list[str]:
    """GPUs in groups of so many, as `CUDA_VISIBLE_DEVICES` names them; what is left over stays unused."""
    return [",".join(gpus[i : i + count]) for i in range(0, len(gpus) - count + 1, count)]


def named(meter: Meter, visible: str | None) -> list[str]:
    """Return a meter's GPUs by the names in `visible`, or by number where it has none for them."""
    # A scheduler may have given this job GPUs 4 to 7: workers need those names, not numbers from 0.
    names = [name.strip() for name in visible.split(",")] if visible else []
    return [names[i] if i < len(names) else str(i) for i in range(len(meter.devices))]
