"""The real command, killed, interrupted, doubled and starved: nothing that was finished or spent is lost.

`WORKBENCH_KILLS=20 pytest tests/test_kills.py -k random` makes as many kills as you like.
"""

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stores
from places import Place

from workbench.ledger import Ledger, default_url
from workbench.result import by_run
from workbench.tracking import store
from workbench.usage import total

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no such signals"),
    pytest.mark.timeout(1800),
]

KILLS = int(os.environ.get("WORKBENCH_KILLS", "3"))


def spent(results):
    return total(r.consumed for r in results).seconds


def assert_whole(place, results):
    """Every finished Result is in the ledger once, and in MLflow once: one run per run, one value per step."""
    recipes = [r.recipe_id for r in results if r.status == "complete"]
    assert sorted(set(recipes)) == sorted(recipes)
    mirrored = place.mlflow()
    assert sorted(run_id for run_id, *_ in mirrored) == sorted({r.run_id for r in results})
    for run_id, _status, steps in mirrored:
        assert sorted(steps) == [r.step for r in results if r.run_id == run_id and r.status == "complete"]


def test_kills_at_random_moments_lose_nothing(tmp_path, tiny, capsys):
    place = Place(tmp_path, tiny, train=256, epochs=8)
    rng = random.Random(KILLS)
    kept, walls, leased = {}, 0.0, 0
    before = 0.0
    for kill in range(KILLS):
        began = time.monotonic()
        process = place.start("--trials", "100000")
        if kill % 3:  # every third kill is at any moment, its start included, and the others while it trains
            place.until("] trial ", process)
        time.sleep(rng.uniform(0.1, 10) if KILLS > 3 else rng.uniform(0.5, 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        walls += time.monotonic() - began
        assert "Traceback" not in place.said
        results = place.results()
        assert {n: r for n, r in kept.items() if r not in results} == {}  # what was finished is there still, unchanged
        kept |= {r.number: r for r in results}
        known = place.results(running=True)
        assert spent(known) >= before
        before = spent(known)
        leased = sum(r.status == "running" for r in known)
    count = len(by_run(place.results()))
    printed = place.finish("--trials", str(count + 2))
    results = place.results(running=True)
    assert {n: r for n, r in kept.items() if r not in results} == {}
    assert {r.status for r in results} <= {"complete", "interrupted"}
    assert spent(results) >= before
    assert_whole(place, results)
    if leased:
        assert re.search(r"Trial \d+ was interrupted: its worker .* is gone\. Charged", printed)
    assert "Continuing: " in printed or not kept
    stops = [r for r in results if r.status == "interrupted"]
    assert all(r.consumed.seconds >= 1.0 for r in stops)
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: {len(kept)} results seen finished before a kill, {len(results)} at the end, 0 lost, 0 twice; "
            f"{len(stops)} interrupted and charged {spent(stops):.1f} s; killed processes lived {walls:.1f} s, "
            f"the ledger held {before:.1f} s of it before the last start, {spent(results):.1f} s after"
        )


def test_ctrl_c_once_goes_on_to_the_next_checkpoint_and_prints_the_front(tmp_path, tiny):
    place = Place(tmp_path, tiny, train=256, epochs=16)
    process = place.start()
    place.until("[1/16] trial", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert "Press Ctrl-C again to stop now" in place.said
    assert "The sweep ended: you stopped it." in place.said
    assert "The best is" in place.said
    results = place.results()
    assert len(by_run(results)) == 1
    at, of = re.findall(r" at ([\d.]+) of ([\d.]+) epoch", place.said)[-1]
    assert results[-1].epochs == float(at) <= float(of)
    assert len(results) == 1  # the first checkpoint after it was asked for
    assert [status for _, status, _ in place.mlflow()] == ["FINISHED"]


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_stopped_at_once_it_says_so_everywhere_and_goes_on(tmp_path, tiny, signals):
    place = Place(tmp_path, tiny, train=1024, epochs=64, methods="bitfit(learning_rate=1e-3)")
    process = place.start("--trials", "1", "--sampler", "optuna:TPESampler")
    place.until("at 4 of 64 epochs", process)  # the next checkpoint is seconds away
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - began < 30
    assert f"{'SIGTERM' if signal.SIGTERM in signals else 'you'} stopped it at once" in place.said
    first = place.results(running=True)
    assert [r.status for r in first] == ["complete"] * (len(first) - 1) + ["interrupted"]
    assert first[-1].consumed.seconds > 0
    assert [status for _, status, _ in place.mlflow()] == ["KILLED"]
    if len(signals) == 2:  # once is enough for what follows
        return
    again = place.start("--trials", "1", "--sampler", "optuna:TPESampler")
    place.until("of 64 epochs", again)
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=60) == 130
    assert "Continuing: 1 run in the ledger" in place.said
    results = place.results()
    assert results[: len(first)] == first
    assert results[len(first)].epochs == 2 * first[-2].epochs  # from where it stood
    assert len({r.run_id for r in results}) == 1
    assert_whole(place, results)


def test_two_live_sweeps_share_the_work(tmp_path, tiny):
    place = Place(tmp_path, tiny, train=128)
    workers = [(place.start("--trials", "4"), place.log) for _ in range(2)]
    for process, log in workers:
        assert process.wait(timeout=240) == 0, log.read_text()
    results = place.results(running=True)
    assert {r.status for r in results} == {"complete"}
    assert len(by_run(results)) == 4
    assert_whole(place, results)
    assert all(re.search(r"\[\d/4\] trial", log.read_text()) for _, log in workers)  # both worked


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 12 MiB, all that a sweep writes included."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def test_a_full_disk_ends_it_with_a_clear_error_and_it_goes_on_when_there_is_room(small_disk, tmp_path, tiny, monkeypatch):
    place = Place(small_disk, tiny)
    monkeypatch.setattr(Place, "log", property(lambda self: tmp_path / f"{self.logs}.log"))
    filler = small_disk / "filler"
    process = place.start("--trials", "100000")
    place.until("[2/100000] trial", process)
    with filler.open("ab", buffering=0) as file:  # whatever is freed is taken at once
        while process.poll() is None:
            with contextlib.suppress(OSError):
                file.write(b"x" * 4096)
                continue
            time.sleep(0.01)
    assert process.returncode == 4, place.said
    assert re.search(r"Error: .*full.*Free some disk space", place.said), place.said
    assert "Traceback" not in place.said
    full = place.start("--trials", "100000")  # begun on a full disk
    assert full.wait(timeout=120) == 4
    assert "Traceback" not in place.said
    assert len([line for line in place.said.splitlines() if line.startswith("Error: ")]) == 1
    filler.unlink()
    before = place.results()
    assert before
    place.finish("--trials", str(len(by_run(place.results(running=True))) + 1))
    results = place.results(running=True)
    assert results[: len(before)] == before
    assert {r.status for r in results} <= {"complete", "interrupted"}
    assert_whole(place, results)
    assert json.dumps([r.to_json() for r in results])


def fill(file):
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def assert_sound(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_mlflows_store_for_which_there_is_no_room_is_not_made_and_is_made_later(small_disk, monkeypatch):
    monkeypatch.delenv(stores.EMPTY)
    store.load()
    path, filler = small_disk / "mlflow.db", small_disk / "filler"
    filler.write_bytes(bytes(12 * 2**20 - 256 * 2**10))
    with pytest.raises(Exception, match="full"):
        store._create(path)
    assert not path.exists()
    filler.unlink()
    store._create(path)
    assert_sound(path)


def test_mlflows_store_is_sound_where_the_disk_is_full_as_its_making_ends(small_disk, monkeypatch):
    monkeypatch.delenv(stores.EMPTY)
    store.load()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    make = SqlAlchemyStore.__init__

    def make_and_fill(self, *arguments):
        make(self, *arguments)
        fill(small_disk / "filler")

    monkeypatch.setattr(SqlAlchemyStore, "__init__", make_and_fill)
    store._create(small_disk / "mlflow.db")
    (small_disk / "filler").unlink()
    assert_sound(small_disk / "mlflow.db")


# Several workers


def leases(place):
    with contextlib.suppress(Exception):  # no ledger yet
        return Ledger.find(None, default_url(place.folder)).leases()
    return []


def at_work(place, process, count):
    """Wait until so many workers hold a lease; their process ids."""
    deadline = time.monotonic() + 300
    while len(pids := {record["pid"] for _, record in leases(place)}) < count:
        assert process.poll() is None, place.said
        assert time.monotonic() < deadline, place.said
        time.sleep(0.02)
    return sorted(pids)


def sweeps(place):
    """MLflow's parent runs of this study."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.folder / 'mlflow.db'}")
    ids = [e.experiment_id for e in client.search_experiments() if e.name.startswith("tiny-")]
    return client.search_runs(ids, "tags.`workbench.kind` = 'sweep'")


def test_a_worker_that_is_killed_loses_its_segment_alone_and_is_started_again(tmp_path, tiny):
    place = Place(tmp_path, tiny, train=1024, epochs=8)
    process = place.start("--trials", "5", "--workers", "2", before=None)  # its workers are started from nothing, as users' are
    at_work(place, process, 2)
    kept = place.results()
    _, last = max(leases(place), key=lambda held: held[0].trial_id)  # it has only begun: nothing is finished before the kill
    os.kill(last["pid"], signal.SIGKILL)
    assert process.wait(timeout=240) == 0, place.said
    results = place.results(running=True)
    assert {n.number for n in kept} <= {r.number for r in results}
    assert all(r in results for r in kept)
    assert {r.status for r in results} == {"complete", "interrupted"}
    (lost,) = [r for r in results if r.status == "interrupted"]
    assert lost.reason.startswith(f"died: its worker (process {last['pid']} ")
    assert lost.consumed.seconds > 0
    assert len(by_run(results)) == 5
    assert re.search(r"Worker \d was killed \(signal 9\); it is started again\.", place.said)
    assert {line[:9] for line in place.said.splitlines() if line.startswith("worker ")} == {"worker 0:", "worker 1:"}
    assert place.said.count("The sweep ended: 5 of 5 trials are done.") == 1
    assert_whole(place, results)
    assert {status for _, status, _ in place.mlflow()} <= {"FINISHED", "KILLED"}
    (sweep,) = sweeps(place)
    assert (sweep.info.status, sweep.data.tags["workbench.ended"]) == ("FINISHED", "5 of 5 trials are done")
    assert leases(place) == []


def test_workers_buy_nothing_twice_and_end_together(tmp_path, tiny):
    """A small space, so that they meet at every run of it."""
    place = Place(
        tmp_path, tiny, epochs=4, methods="full(learning_rate=1e-3), bitfit(learning_rate=1e-3), head(learning_rate=1e-3)"
    )
    place.finish("--workers", "2")
    assert "The sweep ended: every configuration of the space has been run." in place.said
    results = place.results(running=True)
    assert sorted((r.method, r.epochs) for r in results) == [(m, e) for m in ("bitfit", "full", "head") for e in (0.5, 1, 2, 4)]
    assert {r.status for r in results} == {"complete"}
    assert_whole(place, results)
    # A machine that two hold is paid for once.
    assert sum(r.consumed.others_seconds for r in results) > 0


def test_one_ctrl_c_reaches_all_workers_and_a_second_stops_them_at_once(tmp_path, tiny):
    for signals in ((signal.SIGINT,), (signal.SIGINT, signal.SIGINT)):
        place = Place(tmp_path, tiny, train=2048, epochs=64)
        process = place.start("--trials", "1000", "--workers", "2")
        at_work(place, process, 2)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)
        assert process.wait(timeout=120) == 130, place.said
        assert place.said.count("Press Ctrl-C again to stop now") == 1
        assert place.said.count("The sweep ended: you stopped it") == 1
        last = place.results(running=True)
        assert "running" not in {r.status for r in last}
        assert ("interrupted" in {r.status for r in last}) == (len(signals) == 2)


def test_workers_end_when_their_supervisor_is_gone(tmp_path, tiny):
    place = Place(tmp_path, tiny, train=2048, epochs=64)
    process = place.start("--trials", "1000", "--workers", "2")
    pids = at_work(place, process, 2)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    results = place.results(running=True)
    assert {r.status for r in results if r.status != "complete"} == {"interrupted"}
