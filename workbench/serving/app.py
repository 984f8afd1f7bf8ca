"""MLflow's scoring server behind the checks of a request: who asks, how much, and whether it can be
answered. It runs in a process of its own, which `workbench.serving.server` starts.

    GET  /ping, /health, /version   as MLflow has them
    POST /invocations               rows in, predictions out, as MLflow has it

Errors are `{"error": "…"}`. They tell nothing of this machine. An answer's head has `X-Request-Id`, by
which its line in the log is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench import process
from workbench.serving import asgi, bundle, loading
from workbench.serving.asgi import Answer, Asgi, Message, Receive, Send
from workbench.serving.batching import Batches
from workbench.serving.log import CURRENT, Entry, Log
from workbench.serving.metering import Metering, Parts
from workbench.serving.requests import Limits, Refusal, rows_of
from workbench.serving.router import Router
from workbench.serving.shadow import Shadow

CONFIG, TOKEN = "WORKBENCH_SERVING", "WORKBENCH_TOKEN"
"""Variables of the environment: what `create` reads, and the token that requests must bring."""

OPEN = ("/ping", "/health")
"""Paths that need no token: a load balancer asks there whether the server lives."""


class Guard:
    """Checks requests, bounds how many wait, and writes the log.

    Args:
        app: MLflow's server.
        asked: What the task is asked with.
        limits: What is taken at once.
        log: Gets a line a request.
        token: What requests must bring; empty: nothing.

    Attributes:
        requests: How many requests for predictions have come.
        model_seconds: Seconds that the model has answered for.
        shadow: A second model that sees requests after they were answered; None: there is none.
        log: Gets a line a request.
        on_stop: Called when the server ends.
    """

    def __init__(self, app: Asgi, asked: dict[str, str], limits: Limits, log: Log, token: str = "") -> None:
        self._app, self._asked, self._limits, self.log = app, asked, limits, log
        self._token = token.encode()
        self._waiting = 0
        self._batches = Batches(self._asked_of_mlflow, limits.together)
        self.requests = 0
        self.model_seconds = 0.0
        self.shadow: Shadow | None = None
        self.on_stop: list[Callable[[], None]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, functools.partial(self._stopping, send))
            return
        began, entry, rows = time.perf_counter(), Entry(), list[Any]()
        is_prediction = scope["path"] == "/invocations"
        self.requests += is_prediction
        try:
            self.admit(scope)
            if not is_prediction:
                await self._app(scope, receive, send)
                return
            asgi.check_kind(scope)
            rows = rows_of(await asgi.body(scope, receive, self._limits), self._asked, self._limits)
            answer = await self._answered(rows, entry)
        except Refusal as error:
            answer = Answer(error.status, json.dumps({"error": str(error)}).encode())
        self.model_seconds += entry.model_seconds or 0.0
        if is_prediction:
            # Before it is sent: whoever has an answer finds it in the log.
            self.log.write(entry, answer.status, time.perf_counter() - began, rows, answer.body)
        await asgi.answer(send, answer, entry.id)
        if self.shadow is not None and is_prediction and answer.status == 200:
            self.shadow.offer(entry.id, rows, answer.body)

    async def _stopping(self, send: Send, message: Message) -> None:
        """Do what is to be done at the end before it is told: nobody waits for more."""
        if message["type"] == "lifespan.shutdown.complete":
            for call in self.on_stop:
                await asyncio.to_thread(call)
        await send(message)

    def admit(self, scope: Message) -> None:
        """Raise Refusal where whoever asks may not, or asks for what there is not."""
        path, method = scope["path"], scope["method"]
        if self._token and path not in OPEN:
            given = asgi.header(scope, b"authorization")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise Refusal(401, "this server needs a token. Send the header `Authorization: Bearer TOKEN`.")
        if path not in (*OPEN, "/version", "/invocations"):
            raise Refusal(404, "there is nothing here. Send rows to /invocations.")
        wanted = "POST" if path == "/invocations" else "GET"
        if method != wanted:
            raise Refusal(405, f"{path} takes {wanted}.")

    async def _answered(self, rows: list[dict[str, Any]], entry: Entry) -> Answer:
        """MLflow's answer to rows that were checked."""
        if self._waiting >= self._limits.queue:
            raise Refusal(503, f"{self._waiting} requests are waiting already. Send it again in a second.")
        self._waiting += 1
        try:
            answer = await self._batches.answered(rows, entry)
        finally:
            self._waiting -= 1
        return answer if answer.status == 200 else _told(answer)

    async def _asked_of_mlflow(self, rows: Sequence[Any], entry: Entry) -> Answer:
        token = CURRENT.set(entry)
        try:
            answer, _ = await asgi.called(self._app, _SCOPE, json.dumps({"dataframe_records": rows}).encode())
            return answer
        finally:
            CURRENT.reset(token)


def create() -> Asgi:
    """The server, by what the environment says. Called by uvicorn."""
    config = json.loads(os.environ[CONFIG])
    threading.Thread(target=_end_with_parent, name="workbench-parent", daemon=True).start()
    several = len(config["models"]) > 1
    with loading.sharing() if several else contextlib.nullcontext():
        guards = {each["name"]: _guard(each, config) for each in config["models"]}
    first, *_ = guards.values()
    watched = [guard for guard in guards.values() if guard.log.is_kept]
    if watched:
        if config["shadow"] is not None:
            first.shadow = Shadow(config["shadow"], first.log, str(config["models"][0]["model"]["model_id"]))
            first.on_stop.append(first.shadow.close)
        first.on_stop += _metered(watched)
    return Router(guards, Limits(**config["limits"]), first.admit, first.on_stop) if several else first


def _guard(about: dict[str, Any], config: dict[str, Any]) -> Guard:
    """A model that is loaded, behind the checks of its requests."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(about["folder"])
    files = bundle.inside(Path(about["folder"]))
    asked, known = bundle.asked(files), bundle.reference(files)
    log = Log(Path(about["log"]) if about["log"] else None, about["model"], asked, inputs=config["inputs"], edges=known.edges)
    if log.is_kept:
        second = config["shadow"]
        named = None if second is None else {name: second[name] for name in ("model", "version", "model_id", "share")}
        log.event(
            "start",
            process=process.this_process(),
            evidence=bundle.evidence(files),
            reference=known.to_json(),
            inputs=config["inputs"],
            url=config["url"],
            shadow=named,
        )
    return Guard(scoring_server.init(model), asked, Limits(**config["limits"]), log, os.environ.get(TOKEN, ""))


def _metered(guards: Sequence[Guard]) -> list[Callable[[], None]]:
    """Have logs say what the server consumes, each its model's part; what is to be called when the server ends."""
    first = guards[0]
    to = Parts([(guard.log, lambda guard=guard: guard.model_seconds) for guard in guards])  # type: ignore[misc]
    more = lambda: {"shadow_dropped": first.shadow.dropped} if first.shadow else {}  # noqa: E731
    meter = Metering(to, lambda: sum(guard.requests for guard in guards), more)
    meter.start()
    return [meter.close, *(lambda log=guard.log: log.event("stop") for guard in guards)]


def _end_with_parent() -> None:
    """End this process when the one that started it has gone, however that ended: its end of our standard input is closed then."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


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


def _told(answer: Answer) -> Answer:
    """An error of MLflow's, without the rows and the traceback that it repeats."""
    try:
        found = json.loads(answer.body)
        text, trace = str(found.get("message", "")), found.get("stack_trace")
    except (ValueError, AttributeError):
        text, trace = answer.body.decode(errors="replace"), None
    if trace:
        logging.getLogger("workbench.serving").error("%s", trace)
        text = "the model failed with these rows."
    return Answer(answer.status, json.dumps({"error": text.rpartition("\nError: ")[2][:1000]}).encode())
