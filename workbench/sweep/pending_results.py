"""The write-ahead files: what could not be written into the ledger when it was made, kept in the sweep's folder until it can be.

While the ledger is away a run goes on to the checkpoint that it was taken up for. Its Results wait here, each in a file with the
token of its lease, and so does the last word of the worker at work. They are written by the worker's own heartbeat as soon as
the ledger is back; where the worker was killed meanwhile, by the next one that starts in the folder. The tokens make sure that
nothing is written twice, and the ledger decides whose a Result is where another worker has taken the run up.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench import process
from workbench.ledger import HEARTBEAT_SECONDS, Lease, Ledger, new_token
from workbench.prices import Offer
from workbench.result import Cause, Result
from workbench.study import Study
from workbench.usage import Usage, add_phases, total


@dataclass
class _Waiting:
    """A Result of this process that waits, or was written since its worker has read the ledger last."""

    lease: Lease
    result: Result
    is_written: bool = False


class Unwritten:
    """A folder below `folder`, with a file for each Result that waits. Several threads of a worker may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "unwritten"
        self._turn = threading.RLock()
        self._waiting: list[_Waiting] = []
        self._ahead: Lease | None = None  # the lease in hand that the ledger does not know yet

    def __bool__(self) -> bool:
        return any(self._folder.glob("*.json"))

    @property
    def waits(self) -> bool:
        """Whether the ledger lacks a Result, or the lease in hand, of this process."""
        with self._turn:
            return self._is_ahead or any(not each.is_written for each in self._waiting)

    @property
    def _is_ahead(self) -> bool:
        return self._ahead is not None and not self._ahead.known and not self._ahead.finished

    # While it is away

    def keep(self, lease: Lease, result: Result) -> bool:
        """Keep a Result that was to be written in place of a lease; whether that could be done."""
        record = {"token": lease.token, "after": lease.after, "lease": lease.result.to_json(), "result": result.to_json()}
        with self._turn:
            if not self._put(f"{lease.token}.json", record):
                return False
            lease.finished = True  # nothing else is to be written in its place
            self._waiting.append(_Waiting(lease, replace(result, trial=lease.result.trial, number=lease.result.number)))
            self.heard(lease)
        return True

    def lease(self, before: Lease, result: Result, token: str | None = None) -> Lease:
        """A lease for what comes after a Result in the same run, which the ledger is told of when it is back.

        Args:
            before: The lease of that Result.
            result: What is to be made.
            token: That of an attempt to take it in the ledger, whose answer may have been lost.
        """
        with self._turn:
            # Below all numbers that a ledger gives.
            number = min([0, *(each.lease.result.number or 0 for each in self._waiting)]) - 1
            stub = replace(result, trial=before.result.trial, number=number)
            self._ahead = Lease(None, stub, token=token or new_token(), after=before.after or before.token)
            return self._ahead

    def beat(self, lease: Lease, spent: Mapping[str, Usage], labels: int) -> None:
        """Keep what the worker of a lease has consumed: it is charged should it be killed before the ledger is back."""
        with self._turn:
            if lease.finished:
                return
            phases = {name: usage.to_json() for name, usage in spent.items()}
            known = {"token": lease.token, "after": lease.after, "lease": lease.result.to_json()}
            self._put(
                f"{lease.token}.beat", known | {"spent": phases, "labels": labels, "at": time.time(), **process.this_process()}
            )

    def heard(self, lease: Lease) -> None:
        """The ledger has heard of what the worker of a lease consumes, or its Result is kept."""
        with contextlib.suppress(OSError):
            (self._folder / f"{lease.token}.beat").unlink(missing_ok=True)

    def overlaid(self, results: Sequence[Result]) -> list[Result]:
        """Results as the ledger has them, with those that it lacks."""
        with self._turn:
            own = {each.lease.result.number for each in self._waiting}
            return [r for r in results if r.number not in own] + [each.result for each in self._waiting]

    def written(self) -> list[object]:
        """Those that a reading of the ledger that begins now will have."""
        with self._turn:
            return [each for each in self._waiting if each.is_written]

    def forget(self, written: Sequence[object]) -> None:
        """Forget those that were read in the ledger."""
        with self._turn:
            self._waiting = [each for each in self._waiting if each not in written]

    # When it is back

    def write(self, ledger: Ledger, study: Study, offer: Offer) -> list[Result]:
        """Write the Results whose leases the ledger knows, once each; as they were written.

        Files of another store, and files that cannot be read, are left where they are. What dead workers had consumed when
        they were heard here last is charged.
        """
        if not self and not self.waits and not self._files("beat"):
            return []
        with self._turn, self._alone():
            # The lease in hand first: at no moment does the run look as if nobody were at it.
            if self._is_ahead and self._ahead is not None and ledger.lease_of(self._ahead.after, self._ahead.result):
                ledger.enter(self._ahead, study)
            made: list[Result] = []
            while more := [each for record in self._records() if (each := self._write(record, ledger, study, offer))]:
                made += more  # a lease may be known once the Result before it is there
            for path in self._files("beat"):
                made += self._charge(path, ledger, study, offer)
            return made

    def _records(self) -> list[dict[str, Any]]:
        """What waits: that of this process, whose files another worker may have taken up, and what others have left."""
        own = {each.lease.token: each for each in self._waiting}
        mine = [
            {"token": token, "after": each.lease.after, "lease": each.lease.result, "result": each.result}
            for token, each in own.items()
            if not each.is_written
        ]
        others = [record for path in self._files("json") if (record := _read(path)) and "result" in record]
        return mine + [record for record in others if record["token"] not in own or own[record["token"]].is_written]

    def _write(self, known: Mapping[str, Any], ledger: Ledger, study: Study, offer: Offer) -> Result | None:
        lease = _entered(known, ledger, study)
        if lease is None:
            return None
        # The token finds an attempt that reached the ledger after all, so writing again
        # adds no second Result. The file goes last: a kill before that repeats the write.
        written = ledger.finish(lease, known["result"], study, offer)
        (self._folder / f"{known['token']}.json").unlink(missing_ok=True)
        for each in self._waiting:
            if each.lease.token == known["token"]:
                each.lease.result = replace(each.lease.result, number=written.number)
                each.result, each.is_written = written, True
        if written.status == "interrupted" != known["result"].status and self._ahead is not None and self._ahead.known:
            ledger.release(self._ahead)  # another worker has the run: what is made further is charged, and no Result
            self._ahead.finished = False
        return written

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Of the workers of a folder one at a time writes what waits in it."""
        return process.exclusive(self._folder) if self._folder.is_dir() else contextlib.nullcontext()

    def _charge(self, path: Path, ledger: Ledger, study: Study, offer: Offer) -> list[Result]:
        """Charge what a worker had consumed when it was killed while the ledger was away."""
        known = _read(path)
        if known is None or process.lives(known) is not False:
            return []
        lease = _entered(known, ledger, study)
        if lease is None:
            return []
        spent = {name: Usage.from_json(usage) for name, usage in known["spent"].items()}
        last = total(spent.values()).at_this_rate(HEARTBEAT_SECONDS, "its worker died: at the rate until then")
        reason = Cause.DIED.reason(f"its worker (process {known['pid']}) was killed while the ledger was away")
        died = replace(lease.result, status="interrupted", cause=Cause.DIED, reason=reason, labels=known["labels"])
        died = replace(died, spent=add_phases(spent, {"idle": last}), finished=known["at"])
        written = ledger.finish(lease, died, study, offer)
        path.unlink(missing_ok=True)
        return [written]

    def _files(self, kind: str) -> list[Path]:
        return sorted(self._folder.glob(f"*.{kind}"))

    def _put(self, name: str, record: Mapping[str, Any]) -> bool:
        path = self._folder / name
        draft = process.draft(path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as file:
                file.write(json.dumps(record))
                file.flush()
                if name.endswith(".json"):
                    os.fsync(file.fileno())
            # Written whole or not at all: a kill in the middle
            # leaves no half record to be read as a Result.
            draft.replace(path)
        except OSError:
            return False
        return True


def _read(path: Path) -> dict[str, Any] | None:
    """A file's record with its Results made; None where it is none of ours."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        made = {name: Result.from_json(record[name]) for name in ("lease", "result") if name in record}
        return {"after": None, **record, **made, "token": str(record["token"])} if "lease" in made else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _entered(known: Mapping[str, Any], ledger: Ledger, study: Study) -> Lease | None:
    """The lease of a file's record, entered into the ledger where that lacks it; None where the ledger is another one."""
    token, after, stub = known["token"], known["after"], known["lease"]
    lease = ledger.lease_of(token, stub)
    if lease is None and after is not None and ledger.lease_of(after, stub) is not None:
        lease = Lease(None, stub, token=token, after=after)
        ledger.enter(lease, study)
    return lease
