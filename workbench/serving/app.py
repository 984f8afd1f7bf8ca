"""MLflow's scoring server behind the checks of a request: who asks, how much, and whether it can be
answered. It runs in a process of its own, which `workbench.serving.server` starts.

    GET  /ping, /health, /version   as MLflow has them
    POST /invocations               rows in, predictions out, as MLflow has it

Errors are `{"error": "…"}`. They tell nothing of this machine. An answer's head has `X-Request-Id`, by
which its line in the log is found.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import process
from workbench.serving import bundle
from workbench.serving.log import CURRENT, Entry, Log
from workbench.serving.metering import Metering
from workbench.serving.requests import Limits, Refusal, rows_of
from workbench.serving.shadow import Shadow
from workbench.watching.reference import Reference

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

CONFIG, TOKEN = "WORKBENCH_SERVING", "WORKBENCH_TOKEN"
"""Variables of the environment: what `create` reads, and the token that requests must bring."""

OPEN = ("/ping", "/health")
"""Paths that need no token: a load balancer asks there whether the server lives."""

BODY_SECONDS = 30.0
"""How long the body of a request may take to arrive."""


@dataclass(frozen=True)
class _Answer:
    """What the server behind gave."""

    status: int
    body: bytes


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
        shadow: A second model that sees requests after they were answered; None: there is none.
        on_stop: Called when the server ends.
    """

    def __init__(self, app: Asgi, asked: dict[str, str], limits: Limits, log: Log, token: str = "") -> None:
        self._app, self._asked, self._limits, self._log = app, asked, limits, log
        self._token = token.encode()
        self._waiting = 0
        self.requests = 0
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
            self._admit(scope)
            if not is_prediction:
                await self._app(scope, receive, send)
                return
            _check_kind(scope)
            rows = rows_of(await _body(scope, receive, self._limits), self._asked, self._limits)
            answer = await self._answered(scope, rows, entry)
        except Refusal as error:
            answer = _Answer(error.status, json.dumps({"error": str(error)}).encode())
        if is_prediction:
            # Before it is sent: whoever has an answer finds it in the log.
            self._log.write(entry, answer.status, time.perf_counter() - began, rows, answer.body)
        await _send(send, answer, entry.id)
        if self.shadow is not None and is_prediction and answer.status == 200:
            self.shadow.offer(entry.id, rows, answer.body)

    async def _stopping(self, send: Send, message: Message) -> None:
        """Do what is to be done at the end before it is told: nobody waits for more."""
        if message["type"] == "lifespan.shutdown.complete":
            for call in self.on_stop:
                await asyncio.to_thread(call)
        await send(message)

    def _admit(self, scope: Message) -> None:
        """Raise Refusal where whoever asks may not, or asks for what there is not."""
        path, method = scope["path"], scope["method"]
        if self._token and path not in OPEN:
            given = _header(scope, b"authorization")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise Refusal(401, "this server needs a token. Send the header `Authorization: Bearer TOKEN`.")
        if path not in (*OPEN, "/version", "/invocations"):
            raise Refusal(404, "there is nothing here. Send rows to /invocations.")
        wanted = "POST" if path == "/invocations" else "GET"
        if method != wanted:
            raise Refusal(405, f"{path} takes {wanted}.")

    async def _answered(self, scope: Message, rows: list[dict[str, Any]], entry: Entry) -> _Answer:
        """MLflow's answer to rows that were checked."""
        if self._waiting >= self._limits.queue:
            raise Refusal(503, f"{self._waiting} requests are waiting already. Send it again in a second.")
        self._waiting += 1
        token = CURRENT.set(entry)
        try:
            body = json.dumps({"dataframe_records": rows}).encode()
            answer = await _called(self._app, scope, body)
        finally:
            CURRENT.reset(token)
            self._waiting -= 1
        return answer if answer.status == 200 else _told(answer)


def create() -> Asgi:
    """The server, by what the environment says. Called by uvicorn."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    config = json.loads(os.environ[CONFIG])
    model = mlflow.pyfunc.load_model(config["folder"])
    files = bundle.inside(Path(config["folder"]))
    asked, known = bundle.asked(files), bundle.reference(files)
    log = Log(Path(config["log"]) if config["log"] else None, config["model"], asked, inputs=config["inputs"], edges=known.edges)
    app: Asgi = scoring_server.init(model)
    guard = Guard(app, asked, Limits(**config["limits"]), log, os.environ.get(TOKEN, ""))
    if log.is_kept:
        _watch(guard, log, known, config, bundle.evidence(files))
    return guard


def _watch(guard: Guard, log: Log, known: Reference, config: dict[str, Any], evidence: dict[str, Any]) -> None:
    """Have the log say what is served, and what that consumes."""
    about = {"process": process.this_process(), "evidence": evidence, "reference": known.to_json()}
    second = config["shadow"]
    named = None if second is None else {name: second[name] for name in ("model", "version", "model_id", "share")}
    log.event("start", **about, inputs=config["inputs"], url=config["url"], shadow=named)
    if second is not None:
        guard.shadow = Shadow(second, log, str(config["model"]["model_id"]))
        guard.on_stop.append(guard.shadow.close)
    meter = Metering(log, lambda: guard.requests, lambda: {"shadow_dropped": guard.shadow.dropped} if guard.shadow else {})
    meter.start()
    guard.on_stop += [meter.close, lambda: log.event("stop")]


def _header(scope: Message, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _check_kind(scope: Message) -> None:
    """Raise Refusal unless JSON is sent. Other kinds would also let any web page ask a server on this machine."""
    kind, _, more = _header(scope, b"content-type").decode("latin-1").lower().partition(";")
    charset = more.strip().removeprefix("charset=").strip('"')
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise Refusal(415, "send JSON in UTF-8, with the header `Content-Type: application/json`.")


async def _body(scope: Message, receive: Receive, limits: Limits) -> bytes:
    """The body of a request, of which never more than the limit is held. Raises Refusal."""
    stated = _header(scope, b"content-length")
    too_large = Refusal(413, f"the request is larger than {limits.megabytes:g} MB. Send the rows in parts.")
    if stated.isdigit() and int(stated[:20]) > limits.bytes:
        raise too_large
    held = bytearray()

    async def read() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "the request broke off.")
            held.extend(message.get("body", b""))
            if len(held) > limits.bytes:
                raise too_large
            if not message.get("more_body"):
                return

    try:
        await asyncio.wait_for(read(), BODY_SECONDS)
    except TimeoutError:
        raise Refusal(408, f"the request did not arrive within {BODY_SECONDS:g} seconds.") from None
    return bytes(held)


async def _called(app: Asgi, scope: Message, body: bytes) -> _Answer:
    """The answer of another ASGI application to a body."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    sent, status, parts = False, 500, bytearray()

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()  # who waits for a disconnection waits on
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = int(message["status"])
        elif message["type"] == "http.response.body":
            parts.extend(message.get("body", b""))

    await app({**scope, "headers": headers}, receive, send)
    return _Answer(status, bytes(parts))


def _told(answer: _Answer) -> _Answer:
    """An error of MLflow's, without the rows and the traceback that it repeats."""
    try:
        found = json.loads(answer.body)
        text, trace = str(found.get("message", "")), found.get("stack_trace")
    except (ValueError, AttributeError):
        text, trace = answer.body.decode(errors="replace"), None
    if trace:
        logging.getLogger("workbench.serving").error("%s", trace)
        text = "the model failed with these rows."
    return _Answer(answer.status, json.dumps({"error": text.rpartition("\nError: ")[2][:1000]}).encode())


async def _send(send: Send, answer: _Answer, request_id: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
    headers.append((b"x-request-id", request_id.encode()))
    if answer.status == 503:
        headers.append((b"retry-after", b"1"))
    if answer.status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
