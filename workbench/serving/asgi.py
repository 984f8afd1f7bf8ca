"""What a server of ASGI needs of a request and of an answer: the body within its bounds, and the head."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from workbench.serving.requests import Limits, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_SECONDS = 30.0
"""How long the body of a request may take to arrive."""


class Answer(NamedTuple):
    """An answer to a request.

    Attributes:
        status: Of HTTP.
        body: JSON.
    """

    status: int
    body: bytes


def error(status: int, text: str) -> Answer:
    """An answer that says what is wrong."""
    return Answer(status, json.dumps({"error": text}).encode())


def header(scope: Message, name: bytes) -> bytes:
    """A field of a request's head; empty where it has none."""
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def check_kind(scope: Message) -> None:
    """Raise Refusal unless JSON is sent. Other kinds would also let any web page ask a server on this machine."""
    kind, _, more = header(scope, b"content-type").decode("latin-1").lower().partition(";")
    charset = more.strip().removeprefix("charset=").strip('"')
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise Refusal(415, "send JSON in UTF-8, with the header `Content-Type: application/json`.")


async def body(scope: Message, receive: Receive, limits: Limits) -> bytes:
    """The body of a request, of which never more than the limit is held. Raises Refusal."""
    stated = header(scope, b"content-length")
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


async def called(app: Asgi, scope: Message, content: bytes) -> Answer:
    """The answer of another ASGI application to a body.

    Args:
        app: The application.
        scope: Of the request; the length of its body is put right.
        content: The body.
    """
    kept = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    sent, status, parts = False, 500, bytearray()

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()  # who waits for a disconnection waits on
        sent = True
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = int(message["status"])
        elif message["type"] == "http.response.body":
            parts.extend(message.get("body", b""))

    await app({**scope, "headers": [*kept, (b"content-length", str(len(content)).encode())]}, receive, send)
    return Answer(status, bytes(parts))


async def answer(send: Send, given: Answer, request_id: str = "") -> None:
    """Send an answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(given.body)).encode())]
    if request_id:
        headers.append((b"x-request-id", request_id.encode()))
    if given.status == 503:
        headers.append((b"retry-after", b"1"))
    if given.status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})
