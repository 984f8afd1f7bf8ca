"""Results that could not be written into the ledger when they were made: kept in the sweep's folder until they can be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from workbench import process
from workbench.ledger import Lease, Ledger
from workbench.prices import Offer
from workbench.result import Result
from workbench.study import Study


class Unwritten:
    """A folder below `folder`, with a file for each Result and the token of its lease."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "unwritten"

    def __bool__(self) -> bool:
        return any(self._folder.glob("*.json"))

    def keep(self, lease: Lease, result: Result) -> bool:
        """Keep a Result that was to be written in place of a lease; whether that could be done."""
        record = {"token": lease.token, "lease": lease.result.to_json(), "result": result.to_json()}
        path = self._folder / f"{lease.token}.json"
        draft = process.draft(path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(record), encoding="utf-8")
            # Written whole or not at all: a kill in the middle
            # leaves no half record to be read as a Result.
            draft.replace(path)
        except OSError:
            return False
        return True

    def write(self, ledger: Ledger, study: Study, offer: Offer) -> Iterator[Result]:
        """Write the Results whose leases the ledger knows, once each, and yield them as they were
        written.

        Files of another store, and files that cannot be read, are left where they are.
        """
        for path in sorted(self._folder.glob("*.json")):
            found = None
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                record = json.loads(path.read_text(encoding="utf-8"))
                found = str(record["token"]), Result.from_json(record["lease"]), Result.from_json(record["result"])
            lease = ledger.lease_of(found[0], found[1]) if found else None
            if found and lease:
                # The token finds an attempt that reached the ledger after all, so writing again
                # adds no second Result. The file goes last: a kill before that repeats the write.
                written = ledger.finish(lease, found[2], study, offer)
                path.unlink(missing_ok=True)
                yield written
