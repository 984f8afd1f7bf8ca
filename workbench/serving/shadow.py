"""A second model that answers a share of the requests unseen: after the answer went out, in a process of its own.

It takes nothing from the one that is served but processor time that nobody wants: on a CPU it has the lowest
priority and one thread. Few requests wait for it. Those that come while it is busy are dropped and counted. The
log has its answers under the ids of the requests, and whether they were the same.

    parent -> child   {"rows": [...], "predictions": [...]}, a line each
    child -> parent   {"ready": true}, then {"agrees": [...], "labels": [...], …} or {"error": "…"} for each
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from workbench.errors import Infeasible, WorkbenchError
from workbench.serving import bundle
from workbench.serving.loading import Deployed, plain, same
from workbench.serving.log import CURRENT, Entry, Log

FOLDER = "WORKBENCH_SHADOW"
"""Variable of the child's environment: the folder of its model."""

WAITING = 32
"""Requests that may wait for the second model."""

NICE = 19
"""The lowest priority there is."""


class Shadow:
    """The second model, as the server sees it.

    Args:
        about: `folder` of the model as MLflow loads it; `share` of the requests that it sees, above 0, at most 1, which are
            drawn; `model`, `version` and `model_id` for the log.
        log: Where its answers go.
        beside: MLflow's id of the model that is served.
    """

    def __init__(self, about: Mapping[str, Any], log: Log, beside: str) -> None:
        self._about = {name: about[name] for name in ("model", "version", "model_id")} | {"beside": beside, "shadow": True}
        self._share, self._log, self._drawn = float(about["share"]), log, random.Random(0)
        self._passed = self._unanswered = 0  # each counted by one thread
        self._queue: queue.Queue[tuple[str, Sequence[Any], bytes] | None] = queue.Queue(WAITING)
        # Its threads would compete with those of the model that is served.
        environment = {**os.environ, FOLDER: str(about["folder"]), "OMP_NUM_THREADS": "1"}
        environment.pop("WORKBENCH_TOKEN", None)
        command = [sys.executable, "-P", "-m", "workbench.serving.shadow"]
        # In a group of its own: Ctrl-C is for the server, which ends it. Without a server it ends by its closed standard input.
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, process_group=0)
        self._thread = threading.Thread(target=self._feed, name="workbench-shadow", daemon=True)
        self._thread.start()

    def offer(self, request_id: str, rows: Sequence[Any], answer: bytes) -> None:
        """Show it a request that was answered, if it is drawn and there is room. This returns at once."""
        if self._drawn.random() >= self._share:
            return
        try:
            self._queue.put_nowait((request_id, rows, answer))
        except queue.Full:
            self._passed += 1

    @property
    def dropped(self) -> int:
        """How many requests it should have seen and did not, as it was busy, or had ended."""
        return self._passed + self._unanswered

    def close(self) -> None:
        """End it, with what waits for it."""
        self._child.kill()
        self._child.wait()
        while True:
            try:
                self._queue.put_nowait(None)
                break
            except queue.Full:
                self._queue.get_nowait()
                self._passed += 1
        self._thread.join()

    def _feed(self) -> None:
        """Hand over one request after another: each is answered before the next one goes."""
        child_in, child_out = self._child.stdin, self._child.stdout
        assert child_in is not None
        assert child_out is not None
        alive = bool(child_out.readline())
        while (item := self._queue.get()) is not None:
            request_id, rows, answer = item
            found = _asked(child_in, child_out, rows, answer) if alive else None
            if found is None:
                alive = False
                self._unanswered += 1
            else:
                self._log.add({**self._about, "request": request_id, "rows": len(rows), **found})


def _asked(child_in: IO[bytes], child_out: IO[bytes], rows: Sequence[Any], answer: bytes) -> dict[str, Any] | None:
    """What the child says of a request; None where it has ended."""
    try:
        told = json.dumps({"rows": rows, "predictions": json.loads(answer).get("predictions", [])})
        child_in.write(told.encode() + b"\n")
        child_in.flush()
        return dict(json.loads(child_out.readline()))
    except (OSError, ValueError):  # it was ended, maybe in the middle of a line
        return None


def main() -> None:
    """The child: answers lines until there are no more."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "nice"):
        os.nice(NICE)
    model = Deployed(bundle.inside(Path(os.environ[FOLDER])))
    with contextlib.suppress(BrokenPipeError):  # the server has gone, in whatever way
        out.write(b'{"ready": true}\n')
        for line in sys.stdin.buffer:
            asked = json.loads(line)
            out.write(json.dumps(_answer(model, asked["rows"], asked["predictions"])).encode() + b"\n")


def _answer(model: Deployed, rows: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
    entry = Entry()
    token = CURRENT.set(entry)
    try:
        found = [json.loads(json.dumps(plain(each))) for each in model.predictions(rows)]
    except (WorkbenchError, Infeasible) as error:
        return {"status": 400 if isinstance(error, WorkbenchError) else 500, "agrees": [], "error": str(error)[:200]}
    finally:
        CURRENT.reset(token)
    known: dict[str, Any] = {"tokens": entry.tokens, "labels": entry.labels, "scores": entry.scores}
    known |= {"model_seconds": entry.model_seconds, "cpu_seconds": entry.cpu_seconds}
    return {"status": 200, "agrees": [same(a, b) for a, b in zip(found, predictions, strict=True)], **known}


if __name__ == "__main__":
    main()
