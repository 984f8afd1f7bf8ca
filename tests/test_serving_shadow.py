"""A second model answers a share of the requests after their answers went out, and delays nobody."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_serving_app import ROWS, folder  # noqa: F401  the model of these tests

from workbench import prices
from workbench.process import this_process
from workbench.serving import shadow
from workbench.serving.loading import same
from workbench.serving.log import Entry, Log
from workbench.serving.shadow import Shadow
from workbench.tasks import request
from workbench.watching import history
from workbench.watching.overview import overview

ABOUT = {"model": "other", "version": 3, "model_id": "m-2"}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log.jsonl", {"model": "m", "version": 1, "model_id": "m-1"}, {"words": request.NUMBERS})
    made.event("start", process=this_process(), evidence={"offer": "local"}, shadow={**ABOUT, "share": 1.0})
    yield made
    made.close()


def wait_for(file: Path, lines: int) -> history.History:
    for _ in range(3000):
        found = history.read(file)
        if len(found.shadows) >= lines:
            return found
        time.sleep(0.1)
    raise AssertionError("the second model did not answer")


@pytest.mark.slow
def test_it_answers_behind_the_first_by_the_same_ids_and_what_it_cannot_keep_up_with_is_dropped(
    folder: Path,  # noqa: F811
    log: Log,
    tmp_path: Path,
) -> None:
    second = Shadow({**ABOUT, "folder": folder, "share": 1.0}, log, "m-1")
    predictions: list[dict[str, Any]] = [{"labels": ["no"], "confidence": 0.1}, {"labels": ["never said"], "confidence": 0.1}]
    answer = json.dumps({"predictions": predictions}).encode()
    began = time.perf_counter()
    for number in range(shadow.WAITING + 20):  # while it is still loading its model
        entry = Entry(f"r{number}", 7, 0.1, 0.1, [0.1, 0.1], ["no", "never said"])
        log.write(entry, 200, 0.1, ROWS, answer)
        second.offer(entry.id, ROWS, answer)
    assert time.perf_counter() - began < 2  # its model alone takes longer to load
    assert second.dropped >= 18
    kept = shadow.WAITING + 20 - second.dropped
    found = wait_for(tmp_path / "log.jsonl", kept)
    log.event("usage", seconds=1.0, cpu_seconds=1.0, energy_j=1.0, shadow_dropped=second.dropped)
    ids = [line["request"] for line in found.shadows]
    assert ids == [f"r{number}" for number in range(kept)]
    first = found.shadows[0]
    assert first["agrees"] == [first["labels"][0] == "no", False]
    assert {"model": "other", "version": 3, "model_id": "m-2", "beside": "m-1", "rows": 2}.items() <= first.items()
    assert first["cpu_seconds"] > 0
    (told,) = overview(history.read(tmp_path / "log.jsonl"), {}, prices.find("local")).shadows
    assert (told.rows, told.dropped) == (2 * kept, second.dropped)
    assert told.agreed == sum(sum(line["agrees"]) for line in found.shadows)
    assert told.low <= (told.share or 0) <= told.high
    assert told.saves_usd_per_1000 is not None
    assert any(pair.startswith("never said → ") for pair in told.pairs)
    second.close()
    second.offer("late", ROWS, answer)  # a process that has ended stops nobody


@pytest.mark.slow
def test_one_that_dies_stops_nobody(log: Log, tmp_path: Path) -> None:
    second = Shadow({**ABOUT, "folder": tmp_path / "nothing", "share": 1.0}, log, "m-1")
    assert os.getpgid(second._child.pid) != os.getpgrp()  # Ctrl-C reaches the server alone, which ends it
    second.offer("r", ROWS, b'{"predictions": []}')
    for _ in range(3000):
        if second.dropped:
            break
        time.sleep(0.1)
    second.close()
    assert second.dropped == 1
    assert history.read(tmp_path / "log.jsonl").shadows == []


def test_what_it_cannot_answer_is_no_disagreement(log: Log, tmp_path: Path) -> None:
    known = {**ABOUT, "beside": "m-1", "shadow": True, "rows": 1}
    log.write(Entry("a", 7, 0.1, 0.1, [0.1], ["no"]), 200, 0.1, ROWS[:1])
    more = {"tokens": 7, "labels": ["no"], "scores": [0.4], "model_seconds": 0.2, "cpu_seconds": 0.2}
    log.add({**known, "request": "a", "status": 200, "agrees": [True], **more})
    log.add({**known, "request": "b", "status": 400, "agrees": [], "error": "row 0: too long"})
    (told,) = overview(history.read(tmp_path / "log.jsonl"), {}, prices.find("local")).shadows
    assert (told.rows, told.agreed) == (1, 1)
    assert told.usd_per_1000 == pytest.approx(prices.serving_usd_per_1000(prices.find("local"), 1 / 0.2))


def test_an_answer_that_was_broken_off_is_none() -> None:
    for left in (b"", b'{"agrees": [tr'):
        assert shadow._asked(io.BytesIO(), io.BytesIO(left), ROWS, b'{"predictions": []}') is None


@pytest.mark.slow
def test_one_whose_server_has_gone_ends_without_a_word(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    environment = {**os.environ, shadow.FOLDER: str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # As it is but for its priority: on a busy machine it would load for minutes.
    command = [sys.executable, "-c", "from workbench.serving import shadow; shadow.NICE = 0; shadow.main()"]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
    assert child.stdin and child.stdout and child.stderr  # noqa: PT018
    child.stdin.close()
    child.stdout.close()  # as when Ctrl-C ends a server that is still loading
    assert "Traceback" not in child.stderr.read().decode()
    assert child.wait() == 0


def test_answers_are_the_same_however_sure_the_models_are() -> None:
    assert same({"labels": ["a"], "confidence": 0.9}, {"labels": ["a"], "confidence": 0.2})
    assert not same({"labels": ["a"], "confidence": 0.9}, {"labels": ["b"], "confidence": 0.9})
    assert same("a river", "a river")
    assert not same(["B-x", "O"], ["O", "O"])
    assert same([["a", 0.9], ["b", 0.8]], [["a", 0.7], ["c", 0.6]])  # of documents the nearest
    assert not same([["a", 0.9], ["b", 0.8]], [["b", 0.9], ["a", 0.8]])
