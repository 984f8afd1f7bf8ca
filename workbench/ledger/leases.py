"""A lease is the right of one worker to make one Result: its record, its heartbeat, and whether its holder lives."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from workbench import process
from workbench.ledger.trials import is_result
from workbench.result import Result
from workbench.usage import Usage

HEARTBEAT_SECONDS = 1.0
"""Seconds between two beats of a worker; what a dead worker may have spent unseen is charged for as long."""

SILENCE_SECONDS = 60.0
"""How long a worker of another host may be silent before it is held dead: beats come every second, and a host may be busy."""


def new_token() -> str:
    """A name for one attempt to make a trial, which no other attempt has."""
    return uuid.uuid4().hex


@dataclass
class Lease:
    """The right to make one Result.

    Attributes:
        trial_id: Optuna's id of the RUNNING trial that stands for it; None while the ledger is away and does not know of it yet.
        result: The Result to be made, as far as it is known.
        finished: Whether the Result was written, or the lease given back.
        token: Stands in the trial's attributes, so that an attempt whose answer was lost can be recognised.
        after: Where the ledger did not know of it at first, the token of the last lease of the same run that it knew before.
    """

    trial_id: int | None
    result: Result
    finished: bool = False
    token: str = field(default_factory=new_token)
    after: str | None = None

    @property
    def known(self) -> bool:
        """Whether the ledger knows of it."""
        return self.trial_id is not None

    @property
    def trial(self) -> int:
        """Optuna's id of its trial, which is there."""
        assert self.trial_id is not None
        return self.trial_id

    @property
    def number(self) -> int:
        """Number of the trial in its study."""
        assert self.result.number is not None
        return self.result.number


def lease_record(result: Result, spent: Mapping[str, Usage]) -> dict[str, Any]:
    """What a worker notes of itself and of the Result it is making."""
    return beat_record(spent, result.labels) | {"result": result.to_json(compact=True)}


def beat_record(spent: Mapping[str, Usage], labels: int = 0) -> dict[str, Any]:
    """The part of a lease's record that a worker says anew at each beat."""
    phases = {name: usage.to_json() for name, usage in spent.items()}
    return {**process.this_process(), "beat": time.time(), "spent": phases, "labels": labels}


def of_lease(record: Mapping[str, Any], number: int) -> Result:
    """The Result being made, as it stood at the last beat."""
    result = Result.from_json(record["result"])
    spent = {name: Usage.from_json(usage) for name, usage in record["spent"].items()}
    trial = number if result.trial is None else result.trial
    labels = int(record.get("labels", result.labels))  # older versions say it in the Result alone
    return replace(result, status="running", spent=spent, labels=labels, finished=record["beat"], trial=trial, number=number)


def lives(record: Mapping[str, Any]) -> bool | None:
    """Whether the worker of a lease still lives, by this host's processes; None where they do not tell: it is on another host.

    One that beat last before this host's last start is gone with it.
    """
    return False if process.is_before_start(str(record["host"]), float(record["beat"])) else process.lives(record)


def alive(record: Mapping[str, Any], now: float | None = None) -> bool:
    """Whether the worker of a lease seems to live, for people to read: on another host, whether it has beaten lately.

    That is by its clock and by this host's, which can be apart; `now` is in seconds since 1970. What is decided by it is decided
    by `Ledger.reconcile`, which trusts no other clock.
    """
    by_host = lives(record)
    return (time.time() if now is None else now) - float(record["beat"]) < SILENCE_SECONDS if by_host is None else by_host


class Worker(NamedTuple):
    """Tells a worker from all others: its host, its process, and when that was started, as `process.this_process` has them."""

    host: str
    pid: int
    process_started: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Worker:
        """That of a lease's record, or of a process's."""
        return cls(*(record[name] for name in cls._fields))


def is_own(record: Mapping[str, Any]) -> bool:
    """Whether a lease's record was written by this process."""
    return all(record.get(name) == value for name, value in process.this_process().items())


def is_lease(record: object) -> bool:
    """Whether a record is that of a lease, and not something that another program has put in its place."""
    return (
        isinstance(record, dict)
        and is_result(record.get("result"))
        and isinstance(record.get("host"), str)
        and isinstance(record.get("spent"), dict)
        and all(isinstance(record.get(name), (int, float)) for name in ("pid", "process_started", "beat"))
    )
