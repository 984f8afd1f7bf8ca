"""A model behind the server's front: so many requests wait for it, those that wait are answered together, and each
leaves a line in its log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.serving import asgi
from workbench.serving.asgi import Answer, Asgi, Message
from workbench.serving.batching import Batches
from workbench.serving.log import CURRENT, Entry, Log
from workbench.serving.requests import Limits
from workbench.serving.shadow import Shadow


class Backend:
    """A model that answers rows.

    Args:
        app: MLflow's server of it.
        asked: What the task is asked with.
        limits: What is taken at once.
        log: Gets a line a request.

    Attributes:
        app: MLflow's server of it.
        asked: What the task is asked with.
        log: Gets a line a request.
        requests: How many requests have come.
        model_seconds: Seconds that the model has answered for.
        shadow: A second model that sees requests after they were answered; None: there is none.
    """

    def __init__(self, app: Asgi, asked: Mapping[str, str], limits: Limits, log: Log) -> None:
        self.app, self.asked, self.log, self._limits = app, asked, log, limits
        self._waiting = 0
        self._batches = Batches(self._asked_of_mlflow, limits.together)
        self.requests = 0
        self.model_seconds = 0.0
        self.shadow: Shadow | None = None

    async def answer(self, rows: Sequence[Mapping[str, Any]], entry: Entry, began: float) -> Answer:
        """The answer to rows that were checked, once it stands in the log: whoever has an answer finds it there.

        Args:
            rows: The rows.
            entry: What is noted of the request.
            began: When it came, by `perf_counter`.
        """
        if self._waiting >= self._limits.queue:
            answer = asgi.error(503, f"{self._waiting} requests are waiting already. Send it again in a second.")
        else:
            try:
                answer = await self._answered(rows, entry)
            except asyncio.CancelledError:
                self.note(entry, asgi.error(GONE, "whoever asked did not wait for the answer."), began)
                raise
        self.model_seconds += entry.model_seconds or 0.0
        self.note(entry, answer, began, rows)
        return answer

    def note(self, entry: Entry, answer: Answer, began: float, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Put a request on record; one that was refused before any model heard of it has no rows."""
        self.requests += 1
        self.log.write(entry, answer.status, time.perf_counter() - began, rows, answer.body)

    def sent(self, entry: Entry, rows: Sequence[Mapping[str, Any]], answer: Answer) -> None:
        """To be called when an answer went out: a second model may see the request now."""
        if self.shadow is not None and answer.status == 200:
            self.shadow.offer(entry.id, rows, answer.body)

    async def _answered(self, rows: Sequence[Mapping[str, Any]], entry: Entry) -> Answer:
        self._waiting += 1
        try:
            answer = await self._batches.answered(rows, entry)
        except Exception:
            logging.getLogger("workbench.serving").exception("a request could not be answered")
            return asgi.error(500, FAILED)
        finally:
            self._waiting -= 1
        return answer if answer.status == 200 else told(answer)

    async def _asked_of_mlflow(self, rows: Sequence[Any], entry: Entry) -> Answer:
        token = CURRENT.set(entry)
        try:
            return await asgi.called(self.app, _SCOPE, json.dumps({"dataframe_records": rows}).encode())
        finally:
            CURRENT.reset(token)


GONE = 499
"""The status in the log of a request that nobody waited for: nginx's, as HTTP has none."""

FAILED = "the model failed with these rows. What happened stands in the server's own output."


def told(answer: Answer) -> Answer:
    """An error of MLflow's, without the rows and the traceback that it repeats.

    MLflow tells a model's own failure as a mistake of who asked (400); here it is the server's (500).
    """
    try:
        found = json.loads(answer.body)
        text, trace = str(found.get("message", "")), found.get("stack_trace")
    except (ValueError, AttributeError):
        text, trace = answer.body.decode(errors="replace"), None
    if trace:
        logging.getLogger("workbench.serving").error("%s", trace)
        return asgi.error(500, FAILED)
    return asgi.error(answer.status, text.rpartition("\nError: ")[2][:1000])


_SCOPE: Message = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/invocations",
    "headers": [(b"content-type", b"application/json")],
    "raw_path": b"/invocations",
    "query_string": b"",
    "root_path": "",
    "client": ("127.0.0.1", 0),
    "server": ("127.0.0.1", 0),
}
"""Of a request to MLflow's server: several may be behind it, and nothing of theirs but their rows goes there."""
