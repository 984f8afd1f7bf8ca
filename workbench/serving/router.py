"""Several models behind one address: each row of a request names the one that it is for.

    {"dataframe_records": [{"model": "qa", "question": "…", "context": "…"}]}

Each model has its own checks, queue and log. Those on one base share its weights, and changing from one to
another is calling another object.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.serving import asgi
from workbench.serving.asgi import Answer, Asgi, Message, Receive, Send
from workbench.serving.requests import Limits, Refusal, parsed, rows_in

FIELD = "model"
"""The field of a row that names its model."""


class Router:
    """Hands each row to the guard of its model.

    Args:
        guards: The guards, by the names of their models.
        limits: What is taken at once, of all models together.
        admit: Raises Refusal where whoever asks may not, or asks for what there is not.
        on_stop: Called when the server ends.
    """

    def __init__(
        self,
        guards: Mapping[str, Asgi],
        limits: Limits,
        admit: Callable[[Message], None],
        on_stop: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._guards, self._limits, self._admit, self._on_stop = guards, limits, admit, on_stop

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http" or scope["path"] != "/invocations":
            await next(iter(self._guards.values()))(scope, receive, send)
            return
        try:
            self._admit(scope)
            asgi.check_kind(scope)
            places = self._places(await asgi.body(scope, receive, self._limits))
            answer, head = await self._answered(scope, places)
        except Refusal as error:
            await asgi.answer(send, Answer(error.status, json.dumps({"error": str(error)}).encode()))
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": answer.body})

    def _places(self, body: bytes) -> dict[str, list[tuple[int, dict[str, Any]]]]:
        """The rows of each model, each with its place in the request. Raises Refusal."""
        found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        rows = rows_in(parsed(body), {})
        if not rows:
            raise Refusal(400, "there is no row to answer. Send at least one.")
        if len(rows) > self._limits.rows:  # of the whole request, not of each model
            raise Refusal(413, f"there are {len(rows):,} rows, and a request may have {self._limits.rows:,}. Send them in parts.")
        for place, row in enumerate(rows):
            name = row.get(FIELD) if isinstance(row, dict) else None
            if not isinstance(name, str) or name not in self._guards:
                told = "" if name is None else f" There is none called {str(name)[:40]!r}."
                raise Refusal(400, f"row {place}: {FIELD} must name one of {', '.join(self._guards)}.{told}")
            found.setdefault(name, []).append((place, {key: value for key, value in row.items() if key != FIELD}))
        return found

    async def _answered(
        self, scope: Message, places: Mapping[str, Sequence[tuple[int, dict[str, Any]]]]
    ) -> tuple[Answer, list[tuple[bytes, bytes]]]:
        """The answer to a request: that of its one model, or of all models in the order of its rows."""
        asked = [
            asgi.called(self._guards[name], scope, json.dumps({"dataframe_records": [row for _, row in rows]}).encode())
            for name, rows in places.items()
        ]
        found = await asyncio.gather(*asked)
        failed = next(((answer, head) for answer, head in found if answer.status != 200), None)
        if len(found) == 1 or failed is not None:
            return failed or found[0]
        predictions: list[Any] = [None] * sum(map(len, places.values()))
        for rows, (answer, _) in zip(places.values(), found, strict=True):
            for (place, _), value in zip(rows, json.loads(answer.body)["predictions"], strict=True):
                predictions[place] = value
        whole = json.dumps({"predictions": predictions}).encode()
        # Each model's part has a request of its own in its log: the head has their ids.
        ids = b",".join(value for _, head in found for key, value in head if key == b"x-request-id")
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(whole)).encode()), (b"x-request-id", ids)]
        return Answer(200, whole), head

    async def _live(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        for call in self._on_stop:
            await asyncio.to_thread(call)
        await send({"type": "lifespan.shutdown.complete"})
