"""The server's front: who may ask, what a request may be, and which model each row is for.

    GET  /ping, /health, /version   as MLflow has them
    POST /invocations               rows in, predictions out, as MLflow has it

Where it has several models each row names its own: `{"dataframe_records": [{"model": "qa", "question": "…"}]}`.
Each has its own queue and log. All rows of a request are checked before any model hears of one.

Errors are `{"error": "…"}`. They tell nothing of this machine. An answer's head has `X-Request-Id`, by
which its line in the log is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from workbench.errors import DataError
from workbench.serving import asgi
from workbench.serving.asgi import Answer, Message, Receive, Send
from workbench.serving.backend import Backend
from workbench.serving.log import Entry
from workbench.serving.requests import Limits, Refusal, parsed, rows_in
from workbench.tasks import request

FIELD = "model"
"""The field of a row that names its model, where there are several."""

OPEN = ("/ping", "/health")
"""Paths that need no token: a load balancer asks there whether the server lives."""

_INVOCATIONS = "/invocations"


class _Part(NamedTuple):
    """The rows of a request that are one model's, each with its place in the request."""

    backend: Backend
    places: list[int]
    rows: list[dict[str, Any]]
    entry: Entry


class Router:
    """The ASGI application in front of one model, or of several.

    Args:
        backends: The models, by the names that rows give them.
        limits: What is taken at once.
        token: What requests must bring; empty: nothing.
        on_stop: Called when the server ends.
    """

    def __init__(
        self, backends: Mapping[str, Backend], limits: Limits, token: str = "", on_stop: Sequence[Callable[[], None]] = ()
    ) -> None:
        self._backends, self._limits, self._token, self._on_stop = backends, limits, token.encode(), on_stop
        # It has what is nobody's: the other paths, and the lines of requests that name no model.
        self._first = next(iter(backends.values()))
        self._arriving = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif scope["path"] == _INVOCATIONS:
            await self._predict(scope, receive, send)
        else:
            try:
                self._admit(scope)
            except Refusal as error:
                await asgi.answer(send, asgi.error(error.status, str(error)))
                return
            await self._first.app(scope, receive, send)

    async def _predict(self, scope: Message, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            self._admit(scope)
            asgi.check_kind(scope)
            parts = self._parts(await self._body(scope, receive))
        except Refusal as error:
            entry, answer = Entry(), asgi.error(error.status, str(error))
            self._first.note(entry, answer, began)
            await asgi.answer(send, answer, entry.id)
            return
        answers = asyncio.gather(*(part.backend.answer(part.rows, part.entry, began) for part in parts.values()))
        if (found := await _unless_gone(answers, receive)) is None:
            return
        # Each model's part has a line of its own in its log: the head has the ids of all.
        await asgi.answer(send, _joined(parts, found), ",".join(part.entry.id for part in parts.values()))
        for part, answer in zip(parts.values(), found, strict=True):
            part.backend.sent(part.entry, part.rows, answer)

    def _admit(self, scope: Message) -> None:
        """Raise Refusal where whoever asks may not, or asks for what there is not."""
        path, method = scope["path"], scope["method"]
        if self._token and path not in OPEN:
            given = asgi.header(scope, b"authorization")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise Refusal(401, "this server needs a token. Send the header `Authorization: Bearer TOKEN`.")
        if path not in (*OPEN, "/version", _INVOCATIONS):
            raise Refusal(404, "there is nothing here. Send rows to /invocations.")
        wanted = "POST" if path == _INVOCATIONS else "GET"
        if method != wanted:
            raise Refusal(405, f"{path} takes {wanted}.")

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """The body of a request, of which as many may be arriving as may wait: all that is held is bounded. Raises Refusal."""
        if self._arriving >= self._limits.queue:
            raise Refusal(503, f"{self._arriving} requests are arriving already. Send it again in a second.")
        self._arriving += 1
        try:
            return await asgi.body(scope, receive, self._limits)
        finally:
            self._arriving -= 1

    def _parts(self, body: bytes) -> dict[str, _Part]:
        """The rows of each model. Raises Refusal where one of them cannot be asked."""
        alone = len(self._backends) == 1
        rows = rows_in(parsed(body), self._first.asked if alone else {})
        if not rows:
            raise Refusal(400, "there is no row to answer. Send at least one.")
        if len(rows) > self._limits.rows:
            raise Refusal(413, f"there are {len(rows):,} rows, and a request may have {self._limits.rows:,}. Send them in parts.")
        found: dict[str, _Part] = {}
        characters = 0
        for place, row in enumerate(rows):  # from 0, as ids in the log do
            name, own = (next(iter(self._backends)), row) if alone else self._named(place, row)
            part = found.setdefault(name, _Part(self._backends[name], [], [], Entry()))
            try:
                request.check_row(part.backend.asked, own)
            except DataError as error:
                raise Refusal(400, f"row {place}: {error}") from None
            characters += request.length(part.backend.asked, own)
            part.places.append(place)
            part.rows.append(own)
        if characters > (most := self._limits.characters):
            raise Refusal(413, f"the rows have {characters:,} characters, and a request may have {most:,}. Send them in parts.")
        return found

    def _named(self, place: int, row: Any) -> tuple[str, dict[str, Any]]:
        """The model that a row names, and the row without it. Raises Refusal."""
        name = row.get(FIELD) if isinstance(row, dict) else None
        if not isinstance(name, str) or name not in self._backends:
            told = "" if name is None else f" There is none called {str(name)[:40]!r}."
            raise Refusal(400, f"row {place}: {FIELD} must name one of {', '.join(self._backends)}.{told}")
        return name, {key: value for key, value in row.items() if key != FIELD}

    async def _live(self, receive: Receive, send: Send) -> None:
        """Begin and end with the server: what is to be done at the end is done before that is told, as nobody waits for more."""
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        for call in self._on_stop:
            await asyncio.to_thread(call)
        await send({"type": "lifespan.shutdown.complete"})


async def _unless_gone(answers: asyncio.Future[list[Answer]], receive: Receive) -> list[Answer] | None:
    """Answers, once they are there; None where whoever asked has gone before. What waits for a model is then left out."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(disconnected())
    either: set[asyncio.Future[Any]] = {answers, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return answers.result() if answers.done() else None
    finally:
        gone.cancel()
        answers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answers


def _joined(parts: Mapping[str, _Part], found: Sequence[Answer]) -> Answer:
    """The answer of the one model that was asked. Of several: all predictions in the order of the rows, or the first error."""
    if len(found) == 1:
        return found[0]
    for name, answer in zip(parts, found, strict=True):
        if answer.status != 200:
            return asgi.error(answer.status, f"of the rows for {name}: {json.loads(answer.body)['error']}")
    predictions: list[Any] = [None] * sum(len(part.rows) for part in parts.values())
    for part, answer in zip(parts.values(), found, strict=True):
        for place, value in zip(part.places, json.loads(answer.body)["predictions"], strict=True):
            predictions[place] = value
    return Answer(200, json.dumps({"predictions": predictions}).encode())
