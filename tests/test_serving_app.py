"""The server's checks of a request, in front of MLflow's own scoring server: bad input costs a 4xx and nothing else."""

import asyncio
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors.torch import save_file

from workbench import Recipe, full
from workbench.serving import asgi, backend, bundle, registry
from workbench.serving.backend import Backend
from workbench.serving.log import Entry, Log
from workbench.serving.metering import Parts
from workbench.serving.requests import Limits
from workbench.serving.router import Router
from workbench.tasks import request
from workbench.testing import TinyText, tiny_model
from workbench.training import train
from workbench.watching import history

JSON = {"content-type": "application/json"}


class Answered(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    guard: asgi.Asgi,
    body: bytes | Sequence[bytes] = b"",
    *,
    path: str = "/invocations",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Answered:
    """One request, as a server of ASGI makes it; a body in parts comes without its length."""
    parts = [body] if isinstance(body, bytes) else list(body)
    known = {**(JSON if headers is None else headers), **({"content-length": str(len(body))} if isinstance(body, bytes) else {})}
    pairs = [(name.encode(), value.encode()) for name, value in known.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
    }
    scope |= {
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": pairs,
        "client": ("127.0.0.1", 1),
        "server": ("", 1),
    }
    queue = [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)]
    sent: list[Any] = []

    async def receive() -> Any:
        return queue.pop(0) if queue else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await guard(scope, receive, send)
    start, *rest = sent
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answered(start["status"], b"".join(each.get("body", b"") for each in rest), found)


def asked(guard: asgi.Asgi, body: Any = b"", **more: Any) -> Answered:
    data = body if isinstance(body, (bytes, list)) else json.dumps(body).encode()
    return asyncio.run(ask(guard, data, **more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of texts, as MLflow loads it."""
    base = tmp_path_factory.mktemp("served")
    task = TinyText(train=16, dev=8)
    recipe = Recipe(task=task, model=tiny_model(base / "model"), method=full(learning_rate=3e-3), epochs=1, batch_size=8)
    *_, last = train(recipe)
    save_file(last.weights(), base / "w.safetensors")
    bundle.write(base / "bundle", recipe, base / "w.safetensors", None, {})
    registry.save(base / "served", base / "bundle", recipe)
    return base / "served"


@pytest.fixture(scope="module")
def inner(folder: Path) -> Any:
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    return scoring_server.init(mlflow.pyfunc.load_model(str(folder)))


def behind(inner: Any, tmp_path: Path, *, inputs: bool = False, **limits: Any) -> Backend:
    asked = {"words": request.NUMBERS}
    log = Log(tmp_path / "log.jsonl", {"model": "m", "version": 1, "model_id": "m-1"}, asked, inputs=inputs)
    return Backend(inner, asked, Limits(**limits), log)


def guarded(inner: Any, tmp_path: Path, *, token: str = "", inputs: bool = False, **limits: Any) -> Router:
    return Router({"m": behind(inner, tmp_path, inputs=inputs, **limits)}, Limits(**limits), token)


def lines(tmp_path: Path) -> list[Any]:
    return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


ROWS = [{"words": [8, 7, 9]}, {"words": [10, 11, 12, 13], "id": "second"}]


def test_rows_are_answered_in_every_format_of_mlflow_s(inner: Any, tmp_path: Path) -> None:
    guard = guarded(inner, tmp_path)
    found = asked(guard, {"dataframe_records": ROWS})
    assert found.status == 200
    assert found.headers["content-type"] == "application/json"
    predictions = found.json["predictions"]
    assert [set(each) for each in predictions] == [{"labels", "confidence"}] * 2
    words = [row["words"] for row in ROWS]
    for body in (
        {"dataframe_split": {"columns": ["words"], "data": [[each] for each in words]}},
        {"instances": words},
        {"inputs": {"words": words}},
    ):
        assert asked(guard, body).json["predictions"] == predictions


def test_a_request_leaves_a_line_without_its_texts_unless_asked(inner: Any, tmp_path: Path) -> None:
    asked(guarded(inner, tmp_path), {"dataframe_records": ROWS})
    asked(guarded(inner, tmp_path), {"dataframe_records": [{"words": "secret"}]})
    asked(guarded(inner, tmp_path, inputs=True), {"dataframe_records": ROWS[:1]})
    good, bad, whole = lines(tmp_path)
    assert {"model": "m", "version": 1, "status": 200, "rows": 2, "ids": [None, "second"]}.items() <= good.items()
    assert good["tokens"] >= 7
    assert all(0 <= score <= 1 for score in good["scores"])
    assert len(good["scores"]) == 2
    assert 0 < good["seconds"] < 60
    assert (bad["status"], bad["tokens"], bad["scores"]) == (400, None, [])
    assert "secret" not in json.dumps(bad)
    assert good["lengths"] == [3, 4]
    assert len(good["labels"]) == 2
    assert 0 < good["model_seconds"] <= good["seconds"]
    assert good["cpu_seconds"] > 0
    assert "asked" not in good
    assert whole["asked"] == ROWS[:1]
    assert [each["labels"] for each in whole["answers"]] == [[label] for label in whole["labels"]]


async def never(*_: Any) -> None:
    raise AssertionError("asked")


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """MLflow's server of a model with a bug."""
    await receive()
    body = json.dumps({"error_code": "BAD_REQUEST", "message": "unexpected", "stack_trace": "Traceback /somewhere/x.py"}).encode()
    await send({"type": "http.response.start", "status": 400, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "no JSON"),
        (b"null", 400, "must be an object"),
        (b"[1]", 400, "must be an object"),
        (b"\xff\xfe{", 400, "not UTF-8"),
        ('{"instances": ["a"]}'.encode("utf-16"), 400, "not UTF-8"),
        (b'{"instances": [NaN]}', 400, "NaN is no number"),
        (b'{"instances": [[Infinity]]}', 400, "Infinity is no number"),
        (b'{"instances": [[1e999]]}', 400, "words must be a list of whole numbers"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", 400, "no JSON"),
        (b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "deeply"),
        (b'{"instances": []}', 400, "no row"),
        (b'{"instances": {}}', 400, "must be a list of rows"),
        (b'{"instances": [{"words": [8]}], "inputs": []}', 400, "just one of"),
        (b'{"instances": [{"words": [8]}], "params": {"a": 1}}', 400, "just one of"),
        (b'{"rows": []}', 400, "just one of"),
        (b'{"dataframe_split": []}', 400, "must have columns"),
        (b'{"dataframe_split": {"columns": ["words"], "data": [[1, 2]]}}', 400, "a list of 1 values"),
        (b'{"inputs": {"words": [[8]], "id": []}}', 400, "lists of one length"),
        (b'{"dataframe_records": [[8]]}', 400, "row 0: must be an object with 'words'"),
        (b'{"dataframe_records": [{"words": [8]}, {"words": ["8"]}]}', 400, "row 1: words must be"),
        (json.dumps({"instances": [{"words": [8]}] * 9}).encode(), 413, "9 rows, and a request may have 8"),
        (b" " * 10_001, 413, "larger than 0.01 MB"),
    ],
)
def test_what_is_no_request_is_refused_before_the_model_hears_of_it(body: bytes, status: int, said: str, tmp_path: Path) -> None:
    for sent in (body, [body[:3], body[3:]]):
        limits = Limits(rows=8, megabytes=1 if len(body) > 10_000 and status != 413 else 0.01)
        guard = Router({"m": Backend(never, {"words": request.NUMBERS}, limits, Log(None, {}, {}))}, limits)
        found = asked(guard, sent)
        assert found.status == status
        assert said in found.json["error"]


def test_another_path_method_or_kind_of_content_is_refused(inner: Any, tmp_path: Path) -> None:
    guard = guarded(inner, tmp_path)
    assert asked(guard, path="/health", method="GET").status == 200
    assert asked(guard, path="/version", method="GET").status == 200
    for path in ("/docs", "/openapi.json", "/", "/invocations/", "/../health"):
        assert asked(guard, path=path, method="GET").status == 404
    assert asked(guard, path="/invocations", method="GET").status == 405
    assert asked(guard, path="/health").status == 405
    for kind in ("text/csv", "application/vnd.apache.parquet", "text/plain", "application/json; charset=latin-1", ""):
        assert asked(guard, {"instances": [[8]]}, headers={"content-type": kind}).status == 415
    assert asked(guard, {"instances": [[8]]}, headers={}).status == 415
    assert asked(guard, {"instances": [[8]]}, headers={"content-type": "application/json; charset=UTF-8"}).status == 200


def test_a_token_is_asked_for_everywhere_but_for_the_server_s_health(inner: Any, tmp_path: Path) -> None:
    guard = guarded(inner, tmp_path, token="a-secret-of-some-length")
    assert asked(guard, path="/health", method="GET").status == 200
    assert asked(guard, path="/version", method="GET").status == 401
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "a-secret-of-some-length"}, {"authorization": ""}):
        found = asked(guard, {"instances": [[8]]}, headers=JSON | given)
        assert found.status == 401
        assert "secret" not in found.body.decode()
    assert asked(guard, {"instances": [[8]]}, headers=JSON | {"authorization": "Bearer a-secret-of-some-length"}).status == 200


def test_more_requests_than_may_wait_are_told_to_come_again(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"predictions": []}'})

    async def all_of_them() -> list[Answered]:
        guard = guarded(slow, tmp_path, queue=2)
        waiting = [asyncio.create_task(ask(guard, b'{"instances": [[8]]}')) for _ in range(3)]
        await asyncio.sleep(0.05)
        release.set()
        found = await asyncio.gather(*waiting)
        return [*found, await ask(guard, b'{"instances": [[8]]}')]

    found = asyncio.run(all_of_them())
    assert [each.status for each in found] == [200, 200, 503, 200]
    assert found[2].headers["retry-after"] == "1"


def test_requests_that_wait_are_answered_together_each_as_it_would_be_alone(inner: Any, tmp_path: Path) -> None:
    calls: list[int] = []

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        calls.append(len(json.loads(message["body"])["dataframe_records"]))

        async def again() -> Any:
            return message

        await inner(scope, again, send)

    bodies = [{"instances": [[8 + i] * (1 + i % 5), [9]][: 1 + i % 2]} for i in range(9)]

    async def all_at_once() -> list[Answered]:
        guard = guarded(counted, tmp_path)
        return await asyncio.gather(*(ask(guard, json.dumps(body).encode()) for body in bodies))

    found = asyncio.run(all_at_once())
    assert calls == [13]
    alone = guarded(inner, tmp_path, together=1)
    for body, each in zip(bodies, found, strict=True):
        expected = asked(alone, body).json["predictions"]
        for one, other in zip(each.json["predictions"], expected, strict=True):
            assert one["labels"] == other["labels"]
            assert one["confidence"] == pytest.approx(other["confidence"], rel=1e-4)
    together, apart = lines(tmp_path)[:9], lines(tmp_path)[9:]
    told = {each["request"]: each for each in together}
    ordered = [told[each.headers["x-request-id"]] for each in found]
    assert [each["tokens"] for each in ordered] == [each["tokens"] for each in apart]
    assert [each["labels"] for each in ordered] == [each["labels"] for each in apart]
    assert all(0 < each["model_seconds"] < each["seconds"] for each in ordered)


def test_a_request_that_is_too_long_for_all_others_is_refused(tmp_path: Path) -> None:
    limits = Limits(characters=4)
    guard = Router({"m": Backend(never, {"words": request.NUMBERS}, limits, Log(None, {}, {}))}, limits)
    found = asked(guard, {"instances": [[8, 9], [8, 9, 10]]})
    assert found.status == 413
    assert found.json == {"error": "the rows have 5 characters, and a request may have 4. Send them in parts."}
    assert Limits().characters > request.MOST_CHARACTERS  # a row that may be sent may be sent alone


def test_a_request_whose_client_has_gone_is_not_computed(tmp_path: Path) -> None:
    release, calls = asyncio.Event(), list[Any]()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        rows = json.loads((await receive())["body"])["dataframe_records"]
        calls.append([row["words"][0] for row in rows])
        await release.wait()
        body = json.dumps({"predictions": [1] * len(rows)}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def leaving(guard: Router) -> list[Any]:
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": b'{"instances": [[9]]}'}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        await guard({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, receive, send)
        return sent

    async def all_of_them() -> list[Any]:
        guard = guarded(slow, tmp_path, queue=2)
        first = asyncio.create_task(ask(guard, b'{"instances": [[8]]}'))
        await asyncio.sleep(0.05)
        gone = await leaving(guard)
        last = asyncio.create_task(ask(guard, b'{"instances": [[10]]}'))  # there is room for it again
        await asyncio.sleep(0.05)
        release.set()
        return [gone, (await first).status, (await last).status]

    assert asyncio.run(all_of_them()) == [[], 200, 200]
    assert calls == [[8], [10]]
    assert sorted(line["status"] for line in lines(tmp_path)) == [200, 200, 499]


def test_a_row_that_the_model_refuses_is_no_other_request_s_fault(tmp_path: Path) -> None:
    async def picky(scope: Any, receive: Any, send: Any) -> None:
        rows = json.loads((await receive())["body"])["dataframe_records"]
        bad = any(row["words"] == [666] for row in rows)
        body = b'{"message": "no", "stack_trace": null}' if bad else json.dumps({"predictions": [1] * len(rows)}).encode()
        await send({"type": "http.response.start", "status": 400 if bad else 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def all_at_once() -> list[Answered]:
        guard = guarded(picky, tmp_path)
        return await asyncio.gather(*(ask(guard, json.dumps({"instances": [[word]]}).encode()) for word in (8, 9, 666, 10)))

    found = asyncio.run(all_at_once())
    assert [each.status for each in found] == [200, 200, 400, 200]
    assert found[2].json == {"error": "no"}


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)

    async def hanging(guard: Router) -> int:
        answered: list[int] = []

        async def send(message: Any) -> None:
            answered.append(message.get("status", 0))

        async def receive() -> Any:
            await asyncio.Event().wait()

        headers = [(b"content-type", b"application/json")]
        await guard({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, receive, send)
        return answered[0]

    assert asyncio.run(hanging(guarded(None, tmp_path))) == 408


def test_a_model_s_own_failure_is_the_server_s_fault_and_on_record(tmp_path: Path) -> None:
    for inner in (failing, never):  # told by MLflow, and a bug of our own
        found = asked(guarded(inner, tmp_path), {"instances": [[8]]})
        assert (found.status, found.json) == (500, {"error": backend.FAILED})
        assert [(line["status"], line["rows"]) for line in lines(tmp_path)[-1:]] == [(500, 1)]


def test_no_more_bodies_arrive_at_a_time_than_requests_may_wait(inner: Any, tmp_path: Path) -> None:
    async def some_that_hang() -> Answered:
        guard, headers = guarded(inner, tmp_path, queue=2), [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers}
        hanging = [asyncio.create_task(guard(scope, asyncio.Event().wait, print)) for _ in range(2)]
        await asyncio.sleep(0.05)
        found = await ask(guard, json.dumps({"instances": [[8]]}).encode())
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert (await ask(guard, json.dumps({"instances": [[8]]}).encode())).status == 200
        return found

    found = asyncio.run(some_that_hang())
    assert found.status == 503
    assert found.headers["retry-after"] == "1"
    assert "2 requests are arriving already" in found.json["error"]


def test_what_a_model_fails_with_is_told_without_a_traceback(inner: Any, tmp_path: Path) -> None:
    guard = guarded(inner, tmp_path)
    found = asked(guard, {"instances": [[8] * 9000]})  # longer than the model has places for is cut
    assert found.status == 200
    broken = backend.told(
        asgi.Answer(400, json.dumps({"message": "Failed to predict data 'mine'. \nError: why", "stack_trace": None}).encode())
    )
    assert (broken.status, json.loads(broken.body)) == (400, {"error": "why"})
    hidden = backend.told(asgi.Answer(400, json.dumps({"message": "a", "stack_trace": "Traceback /somewhere/x.py"}).encode()))
    assert (hidden.status, json.loads(hidden.body)) == (500, {"error": backend.FAILED})


def hostile(rng: random.Random) -> bytes:
    """A request that somebody means badly."""

    def value(depth: int) -> Any:
        leaves: list[Any] = [None, True, 1e308, -(2**63), 10**30, "", "\x00", "\ud800", "a" * rng.randint(1, 5000), "w4", 3.5]
        if depth > 3 or rng.random() < 0.5:
            return rng.choice(leaves)
        if rng.random() < 0.5:
            return [value(depth + 1) for _ in range(rng.randint(0, 4))]
        return {rng.choice(["words", "id", "", "__class__", "text"]): value(depth + 1) for _ in range(rng.randint(0, 3))}

    key = rng.choice(["instances", "inputs", "dataframe_records", "dataframe_split", "messages", "columns"])
    body = json.dumps({key: value(0)}).encode()
    if rng.random() < 0.3:
        cut = bytearray(body)
        for _ in range(rng.randint(1, 5)):
            cut[rng.randrange(len(cut))] = rng.randrange(256)
        body = bytes(cut)
    return body if rng.random() < 0.9 else body * rng.randint(2, 50)


def test_five_hundred_hostile_requests_cost_no_5xx_and_no_memory(inner: Any, tmp_path: Path) -> None:
    import psutil

    guard, rng = guarded(inner, tmp_path, megabytes=0.1), random.Random(0)

    def some(count: int) -> list[int]:
        return [asked(guard, hostile(rng)).status for _ in range(count)]

    found = some(100)
    before = psutil.Process(os.getpid()).memory_info().rss
    found += some(400)
    grown = psutil.Process(os.getpid()).memory_info().rss - before
    assert {*found} <= {200, 400, 413}
    assert found.count(400) > 400
    assert grown < 20 * 2**20
    assert asked(guard, {"dataframe_records": ROWS}).status == 200


def routed(inner: Any, tmp_path: Path, token: str = "") -> Router:
    (tmp_path / "b").mkdir(exist_ok=True)
    backends = {"a": behind(inner, tmp_path), "b@previous": behind(inner, tmp_path / "b")}
    return Router(backends, Limits(rows=4, megabytes=0.1), token)


def test_a_row_says_which_of_several_models_it_is_for(inner: Any, tmp_path: Path) -> None:
    router, words = routed(inner, tmp_path), [[8, 7, 9], [10], [11, 12]]
    expected = asked(guarded(inner, tmp_path), {"instances": words}).json["predictions"]
    one = asked(router, {"instances": [{"model": "b@previous", "words": each} for each in words]})
    assert one.json["predictions"] == expected
    assert len(one.headers["x-request-id"]) == 12
    names = ["a", "b@previous", "a"]
    mixed = asked(router, {"dataframe_records": [{"model": m, "words": w} for m, w in zip(names, words, strict=True)]})
    assert [each["labels"] for each in mixed.json["predictions"]] == [each["labels"] for each in expected]
    assert [line["rows"] for line in lines(tmp_path / "b")] == [3, 1]
    assert mixed.headers["x-request-id"].split(",")[1] == lines(tmp_path / "b")[1]["request"]
    assert asked(router, path="/health", method="GET").status == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"instances": [{"words": [8]}]}, 400, "row 0: model must name one of a, b@previous."),
        ({"instances": [{"model": "c", "words": [8]}]}, 400, "There is none called 'c'"),
        ({"instances": [{"model": ["a"], "words": [8]}]}, 400, "row 0: model must name one of"),
        ({"instances": [5]}, 400, "row 0: model must name one of"),
        ({"instances": []}, 400, "no row"),
        ({"instances": [{"model": "a", "words": [8]}] * 5}, 413, "5 rows, and a request may have 4"),
        ({"instances": [{"model": "a", "words": [8]}, {"model": "b@previous", "words": "x"}]}, 400, "row 1: words must be"),
        (b"{", 400, "no JSON"),
        (b" " * 200_000, 413, "larger than 0.1 MB"),
    ],
)
def test_a_row_for_no_model_is_refused_before_any_hears_of_it_and_leaves_a_line(
    body: Any, status: int, said: str, tmp_path: Path
) -> None:
    found = asked(routed(never, tmp_path), body)
    assert found.status == status
    assert said in found.json["error"]
    (line,) = lines(tmp_path)  # that of the first model
    assert (line["status"], line["rows"], line["request"]) == (status, 0, found.headers["x-request-id"])
    assert lines(tmp_path / "b") == []


def test_what_one_of_several_models_cannot_answer_is_told_with_its_name(inner: Any, tmp_path: Path) -> None:
    router = routed(inner, tmp_path)
    router._backends["b@previous"].app = failing
    found = asked(router, {"instances": [{"model": "a", "words": [8]}, {"model": "b@previous", "words": [9]}]})
    assert (found.status, found.json) == (500, {"error": f"of the rows for b@previous: {backend.FAILED}"})
    assert [line["status"] for line in (*lines(tmp_path), *lines(tmp_path / "b"))] == [200, 500]


def test_several_models_need_the_token_too(inner: Any, tmp_path: Path) -> None:
    router = routed(inner, tmp_path, token="a-secret-of-some-length")
    body = {"instances": [{"model": "a", "words": [8]}]}
    assert asked(router, body).status == 401
    assert asked(router, body, headers=JSON | {"authorization": "Bearer a-secret-of-some-length"}).status == 200
    assert asked(router, body, headers={"authorization": "Bearer a-secret-of-some-length"}).status == 415


def test_a_log_that_is_full_is_put_aside_and_read_as_one(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl", {"model": "m", "version": 1, "model_id": "m-1"}, {"words": request.NUMBERS}, most_bytes=2000)
    log.event("start", process={}, evidence={}, reference={})
    for i in range(9):
        log.write(Entry(tokens=3, scores=[0.5], labels=["x"]), 200, 0.01, [{"words": [8], "id": f"row-{i}"}])
    log.close()
    assert all(part.stat().st_size <= 2000 for part in tmp_path.iterdir())
    found = history.read(tmp_path / "log.jsonl")
    assert len(history.parts(tmp_path / "log.jsonl")) >= 1
    assert [row.id for row in found.rows] == [f"row-{i}" for i in range(9)]
    assert len(found.servers) == 1
    for _ in range(100):
        log = Log(tmp_path / "log.jsonl", {"model_id": "m-1"}, {"words": request.NUMBERS}, most_bytes=500)
        log.event("start", process={}, evidence={}, reference={})
        log.close()
    assert sorted(part.name for part in tmp_path.iterdir()) == ["log.jsonl", "log.jsonl.1", "log.jsonl.2", "log.jsonl.3"]


def test_what_a_server_consumes_is_shared_by_the_models_that_answered(tmp_path: Path) -> None:
    logs = [Log(tmp_path / name, {"model_id": name}, {}) for name in ("a", "b")]
    seconds = [0.0, 0.0]
    parts = Parts([(log, lambda i=i: seconds[i]) for i, log in enumerate(logs)])  # type: ignore[misc]
    parts.event("usage", seconds=10.0, cpu_seconds=4.0, energy_j=None, peak_memory_bytes=5)
    seconds[:] = [3.0, 1.0]
    parts.event("usage", seconds=10.0, cpu_seconds=4.0, energy_j=8.0, peak_memory_bytes=5)
    first, second = ([json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("a", "b"))
    assert [line["cpu_seconds"] for line in first] == [2.0, 3.0]
    assert [line["seconds"] for line in second] == [5.0, 2.5]
    assert [line["energy_j"] for line in second] == [None, 2.0]
    assert first[0]["peak_memory_bytes"] == 5
