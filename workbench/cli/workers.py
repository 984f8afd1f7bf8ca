"""`workbench sweep --workers N`: the worker's side of the command, and the supervisor's."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.common import messages
from workbench.cli.progress import Progress
from workbench.errors import EnvironmentFault
from workbench.meter import Meter, number_gpus_as_nvml
from workbench.sweep import Observer, Orders, Outcome, Supervisor

if TYPE_CHECKING:
    from workbench.ledger import Ledger
    from workbench.prices import Offer
    from workbench.result import Result
    from workbench.study import Study
    from workbench.tracking import MlflowTracker
    from workbench.usage import Usage


class Reporting(Progress):
    """A worker's observer: lines for people on standard error, and what the supervisor must know on standard output."""

    def stopping(self, text: str) -> None:
        """The supervisor says so, once for all."""

    def waiting(self, begins: bool) -> None:
        """It waits, or is at work again."""
        tell(waiting=begins)

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """A result is in the ledger."""
        tell(recorded=result.number)
        super().recorded(result, results)


def tell(**said: Any) -> None:
    """Tell the supervisor."""
    click.echo(json.dumps(said))


def new_sweep() -> str:
    """An id for a sweep that several processes are part of."""
    return uuid.uuid4().hex


def supervise(
    workers: int,
    sweep: str,
    before: Usage,
    *,
    ledger: Ledger,
    study: Study,
    offer: Offer,
    notebook: MlflowTracker,
    observer: Observer,
) -> tuple[Outcome, int]:
    """Have so many workers do what this command was asked for; how it ended, and the exit code of one that failed, or 0.

    Args:
        workers: How many.
        sweep: The id of the sweep that they are part of.
        before: What was consumed until now: the first of them charges it.
        ledger: The study's.
        study: The study.
        offer: What prices compute.
        notebook: The sweep's, begun.
        observer: Is told what the supervisor has to say.
    """
    gpus = devices()
    first = Orders(workers, sweep, before, apart=len(gpus) >= workers)
    orders = [first, *[dataclasses.replace(first, before=type(before)())] * (workers - 1)]
    command = [sys.executable, "-m", "workbench", *sys.argv[1:], "--as-worker"]
    supervisor = Supervisor(
        command,
        orders,
        gpus,
        ledger=ledger,
        study=study,
        offer=offer,
        notebook=notebook,
        told=lambda index, text: messages.print(f"worker {index}: {text}", markup=False, highlight=False),
        note=observer.note,
    )
    outcome = supervisor.run()
    with contextlib.suppress(EnvironmentFault):  # it is away, and was waited for
        ledger.note_end(outcome.reason, interrupted=outcome.interrupted)
    return outcome, supervisor.failure


def devices() -> list[str]:
    """The visible GPUs, as `CUDA_VISIBLE_DEVICES` names them."""
    number_gpus_as_nvml()
    with Meter(sample_interval_seconds=None) as meter:
        return named(meter, os.environ.get("CUDA_VISIBLE_DEVICES"))


def named(meter: Meter, visible: str | None) -> list[str]:
    """The GPUs of a meter by the names that were used of them, or by number."""
    names = [name.strip() for name in visible.split(",")] if visible else []
    return [names[i] if i < len(names) else str(i) for i in range(len(meter.devices))]
