"""As many workers as a machine's devices are worth: added where a GPU is measured to be idle, let go where they brought nothing."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from test_sweep import Bench, Ear, Quiet

from workbench.cli.crew import AUTO, Crew
from workbench.estimate import Estimate
from workbench.forecast import Typical
from workbench.meter import Meter
from workbench.result.sharing import sharing_text
from workbench.sweep import (
    Limits,
    LocalLauncher,
    Neighbours,
    Orders,
    Supervisor,
    autoscaling,
    device_sharing,
    most_on,
    on_processors,
)
from workbench.sweep.autoscaling import Autoscaler, room_on
from workbench.sweep.device_sharing import Change, DeviceSharing, Pace
from workbench.testing import FakeGpu, FakeMeter, FakeNvml, ManualClock

GIB = 2**30


def typical(**known):
    seconds = known.pop("seconds", 100.0)
    made = {"draws": 1, "energy_j": None, "phases": {}, "labels": 1, "peak_memory_bytes": GIB, "resident_bytes": 0}
    made |= {"memory_bytes": 8 * GIB, "gpu": None, "seconds": None if seconds is None else Estimate.exact(seconds)}
    return Typical(**made | known)


class Device:
    """A GPU and its workers in a world where time is what `run` says."""

    def __init__(self, fits=lambda workers: "", most=4):
        self.sharing, self.now, self.busy, self.paces, self.decided = DeviceSharing(fits, most), 0.0, 0.0, {0: None}, []

    def run(self, seconds, *, busy, speed, family="a", step=20.0):
        """Let that time pass with the workers that there are, each at a speed; decisions are obeyed at once."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self.busy = None if busy is None else self.busy + busy
            for worker, old in self.paces.items():
                tokens, steps = (0, 0) if old is None else (old.tokens, old.steps)
                each = speed[worker] if isinstance(speed, list) else speed
                self.paces[worker] = Pace(self.now, family, round(tokens + each), round(steps + each / step))
            change = self.sharing.look(self.busy, self.now, self.paces)
            if change is not None:
                self.decided.append(change)
                while len(self.paces) < change.workers:
                    self.paces[len(self.paces)] = None
                while len(self.paces) > change.workers:
                    self.paces.popitem()
        return self


def test_where_a_device_is_idle_another_worker_is_added_and_kept_if_all_together_do_more():
    device = Device().run(31, busy=0.31, speed=1000)
    (added,) = device.decided
    assert (added.workers, added.why, added.growth) == (2, "added", None)
    assert added.utilisation == pytest.approx(0.31)
    device.run(31, busy=0.6, speed=920)
    assert (device.decided[1].workers, device.decided[1].why) == (2, "kept")
    assert device.decided[1].growth == pytest.approx(2 * 0.92)
    assert device.decided[1].utilisation == pytest.approx(0.6)


def test_who_brought_too_little_leaves_and_nobody_comes_again():
    device = Device().run(31, busy=0.31, speed=1000).run(31, busy=0.6, speed=920).run(30, busy=0.6, speed=920)
    assert [c.workers for c in device.decided] == [2, 2, 3]
    device.run(31, busy=0.65, speed=620)
    left = device.decided[-1]
    assert (left.workers, left.why) == (2, "left")
    assert left.growth == pytest.approx(3 * 620 / (2 * 920))
    device.run(400, busy=0.2, speed=920)
    assert len(device.decided) == 4, "a device with two is as idle as before: it was tried"
    assert len(device.paces) == device.sharing.wanted == 2


def test_a_device_that_is_used_has_one_worker():
    assert Device().run(300, busy=0.85, speed=1000).decided == []


def test_nothing_is_decided_by_a_short_stretch_or_few_steps_or_a_cold_start():
    assert Device().run(29, busy=0.3, speed=1000).decided == []
    assert Device().run(60, busy=0.3, speed=10, step=10.0).decided == [], "60 steps in all, of which 16 warm up"
    assert Device().run(90, busy=0.3, speed=10, step=10.0).decided != []


def test_time_without_a_run_in_hand_is_left_out():
    device = Device()
    device.run(10, busy=0.5, speed=1000)
    for _ in range(60):  # it waits, or chooses what is next
        device.now += 1
        device.paces = {0: None}
        assert device.sharing.look(device.busy, device.now, device.paces) is None
    device.paces = {0: Pace(device.now, "a", 50_000, 1000)}
    device.run(20, busy=0.5, speed=1000)
    assert device.decided == []
    device.run(10, busy=0.5, speed=1000)
    assert device.decided[0].utilisation == pytest.approx(0.5), "the idle minute would have made it a sixth"


def test_runs_are_compared_with_those_of_their_family():
    """After the addition other models are trained, which need four times as long for a token: that is no loss."""
    device = Device().run(20, busy=0.3, speed=1000, family="small").run(12, busy=0.3, speed=250, family="large")
    assert [c.why for c in device.decided] == ["added"]
    device.run(45, busy=0.6, speed=240, family="large")
    assert device.decided[1].growth == pytest.approx(2 * 240 / 250)


def test_what_cannot_be_compared_is_not_judged():
    device = Device().run(31, busy=0.3, speed=1000, family="one").run(200, busy=0.6, speed=10_000, family="other", step=200.0)
    assert [c.why for c in device.decided] == ["added"]
    device.run(10, busy=0.6, speed=900, family="one")
    assert device.decided[1].growth == pytest.approx(1.8)


def test_near_the_end_nobody_comes():
    asked = []
    device = Device()
    device.sharing = DeviceSharing(lambda workers: "", worth=lambda saved: asked.append(saved) or len(asked) > 1)
    device.run(31, busy=0.6, speed=1000)
    assert (device.decided, asked) == ([], [pytest.approx(0.4)])
    device.run(30, busy=0.2, speed=1000)
    assert asked[1:] == [0.5], "two take at least half the time of one"
    assert [c.why for c in device.decided] == ["added"]


def test_memory_holds_no_other_and_that_is_said_once():
    device = Device(fits=lambda workers: f"{workers} would take too much").run(300, busy=0.3, speed=1000)
    assert device.decided == [Change(1, "memory", pytest.approx(0.3), detail="2 would take too much")]


def test_a_device_whose_use_cannot_be_read_has_one_worker():
    assert Device().run(300, busy=None, speed=1000).decided == [Change(1, "unreadable")]


def test_there_are_never_more_than_the_most():
    device = Device(most=2).run(31, busy=0.1, speed=1000).run(400, busy=0.2, speed=1000)
    assert [c.why for c in device.decided] == ["added", "kept"]


@pytest.mark.parametrize(
    ("cpus", "runs", "known", "workers"),
    [
        (2, 12, {}, 2),
        (1, 12, {}, 1),
        (64, 100, {"memory_bytes": 64 * GIB}, 4),
        (64, 3, {}, 3),
        (4, 12, {"memory_bytes": 3 * GIB}, 2),
        (2, 12, {"peak_memory_bytes": None}, 1),
        (2, 12, {"seconds": None}, 2),
        (2, 2, {"seconds": 10.0}, 1),  # of 20 seconds a second start takes more than it gains
        (2, 12, {"seconds": 10.0}, 2),
    ],
)
def test_processors_are_dealt_out_to_as_many_workers_as_they_memory_and_work_suffice_for(monkeypatch, cpus, runs, known, workers):
    monkeypatch.setattr(autoscaling, "whole_cpus", lambda: cpus)
    assert on_processors(typical(**known), runs) == workers


def test_a_gpu_has_no_more_workers_than_there_are_cpus_for(monkeypatch):
    monkeypatch.setattr(autoscaling, "whole_cpus", lambda: 6)
    assert [most_on(gpus) for gpus in (1, 2, 3, 8)] == [4, 3, 2, 1]


def test_what_fits_a_gpu_is_by_the_forecast_of_the_largest_run():
    why_not = room_on(typical(peak_memory_bytes=10 * GIB, gpu="L40S"), 48 * GIB)
    assert why_not(4) == ""
    assert why_not(5) == "5 would take 53.4 GiB of its 48.0 GiB"
    assert room_on(typical(peak_memory_bytes=None), 48 * GIB)(2) == "how much memory a run takes is unknown"
    assert room_on(typical(), None)(2)


def test_the_meter_is_read_through_nvml_and_places_are_added(monkeypatch):
    monkeypatch.setattr(autoscaling, "whole_cpus", lambda: 8)
    clock = ManualClock()
    gpus = [FakeGpu(utilisation=31), FakeGpu(utilisation=95)]
    with FakeNvml(gpus, clock=clock).installed():
        launcher = LocalLauncher(2, ["4", "5"], 8)
        meter = Meter(clock=clock, environ={}, sample_interval_seconds=None)
        scaler = Autoscaler(launcher, ["4", "5"], typical(gpu="L40S"), meter, clock=clock, now=lambda: 1e9 + clock.now)
        found = []
        for second in range(1, 40):
            clock.advance(1.0)
            paces = {"4": {0: Pace(second, "a", 100 * second, 10 * second)}, "5": {1: Pace(second, "a", 100 * second, 10 * second)}}
            found += scaler.look(paces)
        scaler.close()
    ((device, change),) = found
    assert (device, change.workers, change.why, change.utilisation) == ("4", 2, "added", pytest.approx(0.31))
    assert [place.device for place in launcher.places()] == ["4", "5", "4"]
    assert {place.variables["CUDA_VISIBLE_DEVICES"] for place in launcher.places()} == {"4", "5"}
    (record,) = scaler.records
    assert record["device"] == "GPU 4"
    assert record["name"] == "NVIDIA L40S"
    assert record["utilisation"] == pytest.approx(0.31)


@pytest.mark.parametrize(("left", "added"), [(None, 1), (15.0, 0), (20.0, 1)])
def test_a_start_that_cannot_be_won_back_is_not_made(left, added):
    clock = ManualClock()
    with FakeNvml([FakeGpu(utilisation=31)], clock=clock).installed():
        meter = Meter(clock=clock, environ={}, sample_interval_seconds=None)
        scaler = Autoscaler(LocalLauncher(1, ["0"], 4), ["0"], typical(), meter, seconds_left=lambda: left, clock=clock)
        for second in range(1, 40):
            clock.advance(1.0)
            scaler.look({"0": {0: Pace(second, "a", 100 * second, 10 * second)}})
        scaler.close()
    assert len(scaler.records) == added


def test_it_is_looked_at_once_a_second():
    clock = ManualClock()
    with FakeNvml([FakeGpu()], clock=clock).installed() as nvml:
        meter = Meter(clock=clock, environ={}, sample_interval_seconds=None)
        scaler = Autoscaler(LocalLauncher(1, ["0"], 4), ["0"], typical(), meter, clock=clock)
        for _ in range(100):
            clock.advance(0.1)
            scaler.look({"0": {0: None}})
        assert nvml.calls["nvmlDeviceGetUtilizationRates"] == pytest.approx(11, abs=2)
        scaler.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Change(2, "added", 0.314), "2 workers on GPU 0 from 12:03: utilisation 31 % with 1."),
        (
            Change(2, "kept", 0.6, 1.84),
            "2 workers on GPU 0 at 12:03: 1.84 times the useful tokens a second of 1, utilisation 60 %.",
        ),
        (Change(1, "left", 0.9, 1.05), "1 worker on GPU 0 from 12:03: 2 did 1.05 times the useful tokens a second of 1."),
        (
            Change(1, "memory", 0.3, detail="2 would not"),
            "1 worker on GPU 0 at 12:03: utilisation 30 %, but no other fits: 2 would not.",
        ),
        (Change(1, "unreadable"), "1 worker on GPU 0 at 12:03: its utilisation cannot be read, so none is added."),
    ],
)
def test_each_decision_is_a_sentence(change, told):
    at = time.mktime((2026, 12, 1, 12, 3, 0, 0, 0, -1))
    assert sharing_text({"at": at, "device": "GPU 0"} | change.to_json()) == told


# The supervisor

WORKER = """
import json, sys, threading, time
from pathlib import Path
orders, told = json.loads(sys.stdin.readline()), {"neighbours": []}
left = threading.Event()
def listen():
    for line in sys.stdin:
        said = json.loads(line)
        left.set() if said.get("leave") else told.update(said)
threading.Thread(target=listen, daemon=True).start()
def tell(**said):
    print(json.dumps(said), flush=True)
tell(waiting=False)
tokens = steps = 0
while not left.is_set() and not Path("stop").exists():
    tell(pace={"at": time.monotonic(), "family": "a", "tokens": round(tokens), "steps": round(steps)})
    began = time.monotonic()
    time.sleep(0.02)
    took = (time.monotonic() - began) * {0: 10000, 1: 9000, 2: 5000}[len(told["neighbours"])]
    tokens, steps = tokens + took, steps + took / 20
tell(ended="it left" if left.is_set() else "all is done", interrupted=False)
"""
"""A worker that says how fast it is: at full speed alone, at 9 tenths beside another, at half beside two."""


class Scripted(LocalLauncher):
    """Starts such workers."""

    def start(self, place, words):
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", WORKER], cwd=words[0], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_workers_come_and_go_by_what_is_measured_and_the_ledger_says_so(study_file, tmp_path, monkeypatch):
    for name, value in (("STRETCH_SECONDS", 0.5), ("STRETCH_STEPS", 8), ("WARM_STEPS", 1), ("FAMILY_SECONDS", 0.2)):
        monkeypatch.setattr(device_sharing, name, value)
    monkeypatch.setattr(autoscaling, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(autoscaling, "whole_cpus", lambda: 8)
    bench = Bench(study_file, tmp_path)
    bench.meter = FakeMeter()
    bench.ear, bench.notebook = Ear(bench.meter), Quiet()
    job = bench.job(Limits())
    job.ledger.note_begin({})

    def note(text):
        bench.ear.notes.append(text)
        if " did " in text:  # the last that there is to be decided
            (tmp_path / "stop").touch()

    monkeypatch.setattr(bench.ear, "note", note)
    with FakeNvml([FakeGpu(utilisation=31)], clock=time.monotonic).installed():
        launcher = Scripted(1, ["0"], 4)
        scaler = Autoscaler(launcher, ["0"], typical(), Meter(environ={}, sample_interval_seconds=None))
        supervisor = Supervisor([str(tmp_path)], Orders(1, "x"), launcher, job, lambda *_: None, scaler)
        outcome = supervisor.run()
    assert (outcome.reason, outcome.interrupted, supervisor.failure) == ("all is done", False, 0)
    noted = job.ledger.description["sharing"]
    assert [(r["workers"], r["why"]) for r in noted] == [(2, "added"), (2, "kept"), (3, "added"), (2, "left")]
    assert noted[0]["utilisation"] == pytest.approx(0.31, abs=0.02)
    assert noted[1]["growth"] == pytest.approx(1.8, rel=0.1)
    assert noted[3]["growth"] == pytest.approx(1.5 * 5 / 9, rel=0.15)
    assert bench.ear.notes == [sharing_text(r) for r in noted]
    assert len(launcher.places()) == 2
    job.ledger.note_begin({})
    assert job.ledger.description["sharing"] == [], "they were of the sweep before"


def test_a_worker_heeds_its_supervisor():
    held = []

    class Host:
        def hold(self, pid, name):
            held.append(pid)
            return SimpleNamespace(close=lambda: held.remove(pid))

    end, _ = os.pipe()  # its lines never end: that would be the end of the supervisor
    neighbours = Neighbours(Host(), os.fdopen(end))
    neighbours.heed({"neighbours": [], "apart": True})
    assert neighbours.standing.apart
    neighbours.heed({"neighbours": [7], "apart": False})
    assert (held, neighbours.standing.apart, neighbours.standing.leaves) == ([7], False, False)
    neighbours.heed({"leave": True})
    assert (held, neighbours.standing.leaves) == ([7], True)


# The command


def crew(monkeypatch, workers, gpus, devices=1, **setup):
    monkeypatch.setattr("workbench.cli.crew.visible", lambda: gpus)
    monkeypatch.setattr(autoscaling, "whole_cpus", lambda: 4)
    monkeypatch.setattr("workbench.cli.crew.forecast.typical", lambda forecaster: typical())
    monkeypatch.setattr("workbench.cli.crew.runs_to_come", lambda setup: 12)
    return Crew(workers, devices, SimpleNamespace(forecaster=object(), **setup))


def test_auto_begins_with_one_worker_on_each_gpu_or_with_what_the_processors_suffice_for(monkeypatch):
    on_gpus = crew(monkeypatch, AUTO, ["0", "1"])
    assert (on_gpus.count, on_gpus.grows, on_gpus.alone) == (2, True, False)
    assert crew(monkeypatch, AUTO, ["0"]).alone is False, "it may come to be more"
    on_cpus = crew(monkeypatch, AUTO, [])
    assert (on_cpus.count, on_cpus.grows, on_cpus.alone) == (4, False, False)
    whole = crew(monkeypatch, AUTO, ["0", "1", "2", "3"], devices=2)
    assert (whole.gpus, whole.count, whole.grows) == (["0,1", "2,3"], 2, False)
    assert crew(monkeypatch, AUTO, [], devices=2).count == 1, "each run has two processes already"
    assert (crew(monkeypatch, 1, ["0", "1"]).count, crew(monkeypatch, 1, ["0"]).alone) == (1, True)
    assert crew(monkeypatch, 3, ["0"]).grows is False


def test_auto_is_refused_beside_ray_and_stands_in_settings(command, study_file, tmp_path):
    code, _, err = command("sweep", study_file, "--workers", "auto", "--ray")
    assert code == 2
    assert "--workers auto is for the devices of one machine" in err
    assert command("sweep", study_file, "--workers", "many")[0] == 2
    (tmp_path / "workbench.toml").write_text('workers = "auto"\n')
    code, out, _ = command("config", "--json")
    assert code == 0
    assert {each["name"]: each["value"] for each in json.loads(out)}["workers"] == "auto"


@pytest.mark.slow
def test_a_short_sweep_on_processors_has_one_worker_and_says_as_much(command, study_file):
    code, out, err = command("sweep", study_file, "--workers", "auto", "--trials", "1")
    assert code == 0
    assert "1 worker on this machine's processors (--workers auto)." in err
    assert "worker 0:" not in err
    assert "The best is" in out
