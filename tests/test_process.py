"""Which process lives: told by number and start, on this host only; and a lock that dies with its process."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from workbench import process


def test_this_process_lives():
    assert process.lives(process.this_process()) is True


def test_a_dead_process_does_not():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record = {"host": process.host(), "pid": child.pid, "process_started": process._started(child.pid)}
    assert process.lives(record) is True
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process.lives(record) and time.monotonic() < deadline:  # a zombie until we wait for it, and dead all the same
        time.sleep(0.01)
    assert process.lives(record) is False
    child.wait()
    assert process.lives(record) is False


def test_a_number_used_again_is_another_process():
    record = process.this_process()
    assert process.lives({**record, "process_started": record["process_started"] - 100}) is False


def test_of_another_host_nothing_is_known():
    assert process.lives({**process.this_process(), "host": "elsewhere"}) is None


def test_records_may_hold_text():
    assert process.lives({name: str(value) for name, value in process.this_process().items()}) is True


@pytest.mark.skipif(sys.platform == "win32", reason="no lock on a folder there")
def test_exclusive_keeps_others_out_and_dies_with_its_process(tmp_path):
    code = (
        "import time; from pathlib import Path; from workbench.process import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})):\n print('in', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "in\n"
    entered = threading.Event()

    def enter():
        with process.exclusive(tmp_path):
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert not entered.wait(0.3)
    child.kill()
    child.wait()
    assert entered.wait(10)


@pytest.mark.skipif(sys.platform == "win32", reason="no lock on a folder there")
def test_the_lock_is_on_a_file_that_is_open_for_writing_as_nfs_needs_it(tmp_path, monkeypatch):
    import fcntl

    modes = []
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: modes.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE))
    with process.exclusive(tmp_path):
        assert modes == [os.O_RDWR]


@pytest.mark.skipif(sys.platform == "win32", reason="no lock on a folder there")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_locked_holds_nobody_back_and_says_why(tmp_path, monkeypatch, number):
    import fcntl

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    told = []
    with process.exclusive(tmp_path, told.append):
        assert told == [os.strerror(number)]
    with pytest.raises(FileNotFoundError), process.exclusive(tmp_path / "none"):
        pass


def test_a_draft_is_left_over_when_its_process_of_this_host_is_gone_or_after_a_day(tmp_path, monkeypatch):
    now = time.time()

    def drafted(*, pid=None, host=None):
        with monkeypatch.context() as patch:
            patch.setattr(process.os, "getpid", lambda: pid or os.getppid())
            patch.setattr(process, "_host_id", lambda: host or "here")
            path = process.draft(tmp_path / "run.safetensors")
        path.write_text("")
        return path

    monkeypatch.setattr(process, "_host_id", lambda: "here")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    mine, dead, theirs = drafted(), drafted(pid=child.pid), drafted(pid=child.pid, host="there")
    older = tmp_path / f"run.{child.pid}.tmp"  # of a version that did not name the host
    older.write_text("")
    assert len({mine, dead, theirs, older}) == 4
    assert [process.is_left(path, now) for path in (mine, dead, theirs, older)] == [False, True, False, False]
    assert [process.is_left(path, now + 90_000) for path in (mine, theirs, older)] == [True, True, True]
