"""The log of a server: what a kill, a full disk or a reader in the middle of a change of files leaves of it."""

import itertools
import json
import logging
import resource
import threading
from pathlib import Path

import pytest

from workbench.process import this_process
from workbench.serving.log import Entry, Log
from workbench.tasks import request
from workbench.watching import history

MODEL = {"model": "m", "version": 1, "model_id": "m-1"}
ASKED = {"words": request.NUMBERS}


def opened(file: Path, most_bytes: int = 10**6) -> Log:
    log = Log(file, MODEL, ASKED, most_bytes=most_bytes)
    log.event("start", process=this_process(), evidence={})
    return log


def answer(log: Log, name: str) -> None:
    log.write(Entry(tokens=3, scores=[0.5], labels=["x"]), 200, 0.01, [{"words": [8], "id": name}])


def ids(file: Path) -> list[str]:
    return [row.id for row in history.read(file).rows]


def test_a_line_that_a_kill_broke_off_takes_no_other_with_it(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    log = opened(file)
    answer(log, "one")
    log.close()
    with file.open("ab") as torn:
        torn.write(b'{"time": 1.0, "model": "m", "serv')
    log = opened(file)  # its first line would be lost, and with it all that this server has done
    answer(log, "two")
    log.close()
    assert ids(file) == ["one", "two"]
    assert len(history.read(file).servers) == 2
    assert b"\n\n" not in file.read_bytes()


def test_a_disk_that_is_full_keeps_nobody_from_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.jsonl"
    log = opened(file)
    answer(log, "one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.ERROR, "workbench.serving"):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 30, hard))  # a part of a line fits in
            for name in ("lost", "lost, too"):
                answer(log, name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    answer(log, "two")
    log.close()
    assert ids(file) == ["one", "two"]
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [f"the log {file} cannot be written"]


def test_a_log_that_is_put_aside_while_it_is_read_has_each_line_once(tmp_path: Path) -> None:
    file, enough = tmp_path / "a.jsonl", threading.Event()
    log = opened(file, most_bytes=100_000)

    def write() -> None:
        for number in itertools.count():
            answer(log, str(number))
            if number > 4000 and enough.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            found = [int(name) for name in ids(file)]
            assert found == ([*range(found[0], found[-1] + 1)] if found else [])
    finally:
        enough.set()
        writer.join()
    log.close()
    assert history.parts(file)


def test_lines_of_something_else_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    log = opened(file)
    answer(log, "one")
    log.close()
    with file.open("a") as other:
        other.writelines(json.dumps(each) + "\n" for each in (5, [], {"time": 1.0, "server": "a"}, {"status": 200}))
    assert ids(file) == ["one"]
    assert len(history.read(file).servers) == 1


def test_a_model_from_before_the_study_was_edited_is_one_of_the_study(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.jsonl", MODEL, ASKED)
    log.event("start", process=this_process(), evidence={"study": "my-news-0123abcd"})
    log.close()
    found = history.read(tmp_path / "a.jsonl")
    assert [found.is_of(name) for name in ("my-news-0123abcd", "my-news-4567cdef", "my-0123abcd")] == [True, True, False]
