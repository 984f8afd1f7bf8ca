"""What others who use the machine do to a measurement: how it is seen, marked, corrected and said."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import sweeps

from workbench import prices
from workbench.cli.progress import Progress
from workbench.front.members import pareto_front
from workbench.front.points import Points
from workbench.meter import Meter, contention, readings
from workbench.meter.contention import ALONE_ERROR, OwnTime, RunQueue, Thread, Waits
from workbench.meter.host import TreeReading
from workbench.meter.readings import Facts, Peaks, Reading
from workbench.report import tables
from workbench.report.answers import contended_text, cost_cells, cost_text
from workbench.report.records import front_record, runs_record
from workbench.report.rows import result_rows
from workbench.result import cost, estimate, spending
from workbench.sweep import Budget, Limits
from workbench.sweep.disturbance import SPAN_SECONDS, Disturbance
from workbench.sweep.periodic import Regularly
from workbench.tracking import tags_and_metrics
from workbench.usage import Usage, total

needs_schedstat = pytest.mark.skipif(RunQueue().read() is None, reason="the kernel does not tell how long threads wait")

SPIN = "while True: pass"


def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@pytest.fixture
def crowded():
    """This thread and another program on one and the same CPU."""
    known = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(known)})
    # It inherits the CPU, and its parent ends at once: it is no child of ours, which would count as part of our work.
    started = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c '{SPIN}' >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    try:
        time.sleep(0.2)
        yield
    finally:
        os.kill(int(started.stdout), signal.SIGKILL)
        os.sched_setaffinity(0, known)


# The kernel's counts


@needs_schedstat
def test_a_thread_that_shares_its_cpu_waits_for_all_the_time_that_it_does_not_run(crowded):
    queue = RunQueue()
    first, began, used = queue.read(), time.perf_counter(), time.process_time()
    burn(0.5)
    last, took, used = queue.read(), time.perf_counter() - began, time.process_time() - used
    assert (last.waited_ns - first.waited_ns) / 1e9 == pytest.approx(took - used, rel=0.3, abs=0.1)
    assert 0 < last.stalled_ns - first.stalled_ns <= last.waited_ns - first.waited_ns


@needs_schedstat
def test_a_window_beside_another_program_is_contended_and_knows_what_it_would_be_alone(crowded):
    with Meter(gpu=False, sample_interval_seconds=None) as meter, meter.window() as window:
        burn(0.5)
    usage = window.usage
    assert usage.contended
    assert usage.others_cpu_seconds >= usage.stalled_seconds > 0
    # A thread that only computes is as long as its CPU time when nobody disturbs it: whatever the machine does meanwhile.
    assert usage.undisturbed().seconds == pytest.approx(usage.cpu_seconds, abs=0.1)


@needs_schedstat
def test_a_clock_of_ones_own_leaves_out_what_another_program_took(crowded):
    clock = OwnTime()
    first, began, used = clock(), time.perf_counter(), time.process_time()
    burn(0.5)
    own, took, used = clock() - first, time.perf_counter() - began, time.process_time() - used
    assert own < 0.8 * took
    assert own == pytest.approx(used, rel=0.3, abs=0.1)


def test_where_the_kernel_does_not_tell_a_clock_of_ones_own_is_the_one_on_the_wall(monkeypatch):
    monkeypatch.setattr(contention, "threads", lambda pid: None)
    clock = OwnTime()
    seen = [clock() for _ in range(3)]
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(time.perf_counter(), abs=1.0)


def test_a_process_that_cannot_be_looked_at_has_unknown_waits():
    assert RunQueue(2**22 + 1).read() is None


SECOND = 10**9


def test_totals_grow_from_the_first_reading_on(monkeypatch):
    told = iter(
        [
            (0, {"1": (9, 500), "2": (9, 900)}),
            (SECOND, {"1": (SECOND // 2 + 9, SECOND // 2 + 500), "2": (9, 1000), "3": (0, 50)}),
            (SECOND + 10, {"1": (SECOND // 2 + 9, SECOND // 2 + 500), "3": (0, 10)}),
        ]
    )
    at = []
    monkeypatch.setattr(contention, "threads", lambda pid: {name: Thread(*t) for name, t in at[-1][1].items()})
    monkeypatch.setattr(contention.time, "perf_counter_ns", lambda: at.append(next(told)) or at[-1][0])
    queue = RunQueue()
    assert queue.read() == (0, 0), "what was before is nobody's"
    assert queue.read() == (SECOND // 2 + 150, SECOND // 2)
    assert queue.read() == (SECOND // 2 + 150, SECOND // 2), "a thread number that begins anew runs nothing backwards"


@pytest.mark.parametrize(
    ("grown", "expected"),
    [
        ([], 0),
        ([(100, 0)], 0),
        ([(60, 40)], 40),  # it waits whenever it does not run
        ([(60, 0), (50, 0)], 0),  # it sleeps, and nobody waits: a disk, a network
        ([(60, 30), (50, 40)], 34),  # the last tenth it would have slept at barriers anyway, but for 6 of its 60
        ([(60, 0), (20, 25)], 25),  # it sleeps while another one waits
        ([(60, 0), (20, 80)], 34),
        ([(0, 100)], 100),
    ],
)
def test_what_waits_cost_is_that_of_the_busiest_thread(grown, expected):
    assert contention.stalled(100, [Thread(*each) for each in grown]) == expected


@needs_schedstat
def test_a_forked_child_begins_at_nothing():
    queue = RunQueue()
    queue.read()
    queue._settled = queue._settled._replace(waited_ns=10**12)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_waited_in_child, (queue,)) >= 10**12


def _waited_in_child(queue):
    return queue.read().waited_ns


# From readings to a window


def window(seconds=10.0, *, gpus=None, **changes):
    """What a window says whose last reading has these totals; 2 CPUs, of which ours and others used all."""
    told = {"cpu_ns": 10**10, "waited_ns": 8 * 10**9, "stalled_ns": 5 * 10**9, "host_s": 20.0, "others_s": 10.0, "stolen_s": 0.0}
    told |= {name: changes.pop(name) for name in tuple(changes) if name in told}
    waits = Waits(told.pop("waited_ns"), told.pop("stalled_ns"))
    tree = TreeReading(told.pop("cpu_ns"), waits=None if None in waits else waits)
    facts = Facts(2.0, "x", "", "", (), "none", **changes)
    return readings.usage(Reading(0.0), Reading(seconds, tree, **told), Peaks(Reading(0.0)), facts)


def test_what_others_caused_is_what_waits_cost():
    usage = window()
    assert (usage.waited_seconds, usage.stalled_seconds, usage.others_cpu_seconds) == (8.0, 5.0, 10.0)
    assert usage.contended
    assert usage.errors["stalled_seconds"] == ALONE_ERROR
    assert "schedstat" in usage.sources["stalled_seconds"]


def test_what_our_own_threads_wait_for_each_other_is_no_disturbance():
    usage = window(others_s=0.2)
    assert usage.stalled_seconds == 0.2
    assert not usage.contended


def test_time_that_a_hypervisor_gave_away_counts_by_our_part_of_what_ran():
    usage = window(stalled_ns=0, others_s=4.0, stolen_s=4.0, host_s=10.0)
    assert usage.stalled_seconds == pytest.approx(4.0)
    side_by_side = window(stalled_ns=0, cpu_ns=16 * 10**9, others_s=4.0, stolen_s=4.0, host_s=16.0)
    assert side_by_side.stalled_seconds == pytest.approx(2.0), "two CPUs at once: each lost half of it"


@pytest.mark.parametrize("changes", [{"waited_ns": None}, {"stalled_ns": None}, {"no_waits": "unknown: a quota"}])
def test_what_the_kernel_does_not_tell_is_unknown(changes):
    usage = window(**changes)
    assert usage.stalled_seconds is usage.waited_seconds is usage.contended is None
    assert usage.sources["stalled_seconds"].startswith("unknown")
    assert usage.undisturbed() is usage


def test_a_window_is_never_shorter_than_its_work_on_all_cpus():
    usage = window(seconds=6.0, cpu_ns=4 * 10**9)
    assert usage.stalled_seconds == 4.0
    assert usage.undisturbed().seconds == pytest.approx(2.0)


def test_a_quota_makes_waits_unknown(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    with Meter(gpu=False, sample_interval_seconds=None, root=tmp_path) as meter, meter.window() as window:
        pass
    assert window.usage.stalled_seconds is None
    assert "quota" in window.usage.sources["stalled_seconds"]


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ({}, (None, 0.0)),
        ({"gpu_seconds": 10.0, "gpu_busy_seconds": 6.0, "gpu_strangers_seconds": 0.0}, (4.0, 0.0)),
        ({"gpu_seconds": 10.0, "gpu_busy_seconds": 5.0, "gpu_strangers_seconds": 5.0}, (0.0, 5.0)),
        ({"gpu_seconds": 10.0, "gpu_busy_seconds": 2.0, "gpu_strangers_seconds": 5.0}, (3.0, 2.0)),
        ({"gpu_seconds": 10.0, "gpu_busy_seconds": 2.0, "gpu_strangers_seconds": None}, (None, None)),
        ({"gpu_seconds": 10.0, "gpu_busy_seconds": None, "gpu_strangers_seconds": 5.0}, (None, None)),
        ({"gpu_seconds": 10.0, "gpu_busy_seconds": 0.0, "gpu_strangers_seconds": 10.0}, (0.0, 10.0)),
    ],
)
def test_strangers_on_a_gpu_hold_us_up_while_we_have_a_kernel_to_run(gpus, expected):
    assert readings._gpu_waits(gpus) == expected


# The estimate


BUSY = Usage(
    seconds=100.0,
    cpu_seconds=60.0,
    cpu_energy_j=300.0,
    waited_seconds=80.0,
    stalled_seconds=60.0,
    stalled_energy_j=90.0,
    others_cpu_seconds=100.0,
    others_seconds=10.0,
    errors={"stalled_seconds": 0.5},
)


def test_an_undisturbed_window_is_shorter_and_has_the_same_work():
    alone = BUSY.undisturbed()
    assert (alone.seconds, alone.cpu_seconds, alone.cpu_energy_j) == (pytest.approx(40.0), 60.0, 210.0)
    assert alone.held_seconds == pytest.approx(0.4 * BUSY.held_seconds), "our share of the host is the same"
    assert not alone.contended
    assert alone.undisturbed() is alone


def test_the_ends_of_its_band_take_more_and_less_of_it_out():
    low, high = (BUSY.undisturbed(sign).seconds for sign in (-1, 1))
    assert (low, high) == (pytest.approx(10.0), pytest.approx(70.0))


@pytest.mark.parametrize(
    ("changes", "contended"),
    [
        ({}, False),
        ({"stalled_seconds": 0.5}, False),
        ({"stalled_seconds": 0.51}, True),
        ({"stalled_seconds": None}, None),
        ({"gpu_seconds": 10.0, "gpu_overheated_seconds": 1.0}, True),
        ({"gpu_seconds": 10.0, "gpu_throttled_seconds": 9.0}, False),  # a board at its power limit is at work
        ({"gpu_seconds": 10.0, "gpu_overheated_seconds": None}, None),
        ({"stalled_seconds": None, "gpu_seconds": 10.0, "gpu_overheated_seconds": 1.0}, True),
    ],
)
def test_more_than_a_twentieth_is_contended(changes, contended):
    assert Usage(seconds=10.0, **changes).contended is contended


def test_windows_of_records_from_before_are_as_measured():
    old = {name: value for name, value in BUSY.to_json().items() if "stalled" not in name and "waited" not in name}
    usage = Usage.from_json(old)
    assert usage.contended is None
    assert usage.undisturbed() is usage


def test_waits_add_up_and_go_through_json():
    both = BUSY + BUSY
    assert (both.stalled_seconds, both.waited_seconds, both.errors["stalled_seconds"]) == (120.0, 160.0, 0.5)
    assert Usage.from_json(json.loads(json.dumps(BUSY.to_json()))) == BUSY
    assert total([BUSY, Usage(seconds=100.0)]).undisturbed().seconds == pytest.approx(140.0)


# A point


def disturbed(run="a", seconds=100.0, stalled=80.0, **changes):
    usage = {"train": replace(BUSY, seconds=seconds, stalled_seconds=stalled, others_seconds=0.0)}
    return sweeps.result(run, usage=usage, spent=usage, **changes)


def test_a_contended_point_costs_what_it_would_alone_with_a_band():
    r = disturbed()
    usd = estimate(r, "usd", sweeps.RATE, 0.0)
    assert (usd.value, usd.low, usd.high) == (pytest.approx(0.02), 0.0, pytest.approx(0.06))
    assert usd.basis == "contended"
    assert cost(r, "usd", sweeps.RATE, 0.0) == pytest.approx(0.02), "the shorter way to it tells the same"
    assert cost(r, "seconds", sweeps.RATE, 0.0) == pytest.approx(20.0)


def test_budgets_count_what_was_spent():
    assert spending([disturbed()], sweeps.RATE, 0.0).usd == pytest.approx(0.1)


def test_a_point_that_was_hardly_disturbed_is_as_measured():
    r = disturbed(stalled=4.0)
    assert estimate(r, "usd", sweeps.RATE, 0.0).low == pytest.approx(0.1)
    assert r.undisturbed is r.usage


def test_a_contended_point_is_carried_to_other_machines_as_it_would_be_alone():
    rented = replace(sweeps.RATE, platform="rented", commitment="on_demand")  # another CPU, of the same speed by the best guess
    there, as_measured = (prices.carry(disturbed().usage, None, rented, contended=contended) for contended in (True, False))
    assert there.basis == as_measured.basis == "scaled"
    assert (there.seconds.value, as_measured.seconds.value) == (pytest.approx(20.0), 100.0)
    assert there.seconds.high > 3 * there.seconds.value, "its band holds that of the estimate and that of the other machine"


def test_the_front_compares_points_by_what_they_take_alone():
    dear, cheap = disturbed("busy", f1=60.0), sweeps.result("quiet", f1=50.0, seconds=30.0)
    assert pareto_front([dear, cheap], sweeps.VIEW) == [dear]


def test_every_view_marks_it():
    results = sweeps.numbered([disturbed("busy", f1=60.0), sweeps.result("quiet", f1=70.0, seconds=30.0)])
    busy, quiet = results
    text = contended_text(results)
    assert text.startswith("1 of 2 points is contended")
    assert "1 min 40 s" in text
    assert "20 s" in text
    assert contended_text([quiet]) == ""
    assert "contended)" in cost_text(sweeps.VIEW, busy, "usd", band=True)
    cells = cost_cells(sweeps.VIEW, busy, ("usd", "seconds"))
    assert [cell.count("contended") for cell in cells] == [1, 0]
    assert cells[0] == cost_text(sweeps.VIEW, busy, "usd", band=True)
    assert cells[1] == cost_text(sweeps.VIEW, busy, "seconds", band=True).replace(", contended)", ")")
    assert " to " in cells[1]
    points = front_record("s-1", results, sweeps.VIEW)["points"]
    assert [(p["contended"], p["basis"], p["seconds"], p["seconds_measured"]) for p in points] == [
        (True, "contended", pytest.approx(20.0), 100.0),
        (False, "measured", 30.0, 30.0),
    ]
    assert [r["contended"] for r in runs_record(results, sweeps.VIEW, {})] == [True, False]
    assert [r["contended"] for r in result_rows(results, sweeps.VIEW, {})] == [True, False]
    assert [r["contended"] for r in tables.front_rows(Points.of(results, sweeps.VIEW))] == ["contended", None]
    assert [r["contended"] for r in tables.run_rows(results, sweeps.VIEW, {})] == [True, False]
    assert [tags_and_metrics.tags(r)["workbench.contended"] for r in results] == ["true", "false"]
    assert tags_and_metrics.metrics(busy, sweeps.RATE, 0.0)["cost/seconds"] == pytest.approx(20.0)
    assert tags_and_metrics.metrics(busy, sweeps.RATE, 0.0)["cost/stalled_seconds"] == 80.0


def test_the_commands_mark_it(command, tmp_path):
    sweeps.ledger_of(tmp_path, [disturbed("busy", f1=60.0), sweeps.result("quiet", f1=70.0, seconds=30.0)])
    code, out, err = command("front")
    assert code == 0
    assert "contended" in out
    assert "1 of 2 points is contended" in err
    code, out, _ = command("runs")
    assert "complete, contended" in " ".join(out.split())
    code, out, _ = command("run", "0")
    assert "contended" in out


def test_a_line_of_the_sweep_says_what_it_took(capsys):
    r = sweeps.numbered([disturbed("busy", f1=60.0)])[0]
    Progress(sweeps.VIEW, Budget(Limits(), sweeps.RATE, 0.0)).recorded(r, [r])
    assert "(contended; it took 1 min 40 s)" in " ".join(capsys.readouterr().err.split())


# While it happens


def lines(*shares, step=2.0):
    """What is said while a sweep loses these shares of its time, each for as long as it takes to be noticed."""
    said, seconds, stalled = [], 0.0, 0.0
    disturbance = Disturbance(said.append)
    disturbance.look(Usage())
    for share in shares:
        for _ in range(int(2 * SPAN_SECONDS / step)):
            seconds, stalled = seconds + step, stalled + share * step
            disturbance.look(Usage(seconds=seconds, stalled_seconds=stalled, others_cpu_seconds=seconds))
    return said


def test_one_line_as_a_disturbance_begins_and_one_as_it_ends():
    begins, ends = lines(0.0, 0.5, 0.5, 0.0)
    assert "2.0 times as long" in begins
    assert ends.startswith("The machine is quiet again, after ")


def test_a_share_between_the_bounds_says_nothing_again_and_again():
    assert len(lines(0.0, 0.3, 0.1, 0.3, 0.1, 0.3)) == 1


def test_a_machine_so_busy_that_it_is_seldom_looked_at_is_said_too():
    (begins,) = lines(0.5, step=1.1 * SPAN_SECONDS)
    assert "2.0 times as long" in begins


def test_nothing_is_said_of_a_quiet_machine_nor_where_waits_are_unknown():
    assert lines(0.0, 0.01, 0.1, 0.0) == []
    said = []
    disturbance = Disturbance(said.append)
    for i in range(20):
        disturbance.look(Usage(seconds=2.0 * i, stalled_seconds=None))
    assert said == []


def test_a_look_that_fails_is_made_again_until_it_ends_what_makes_it():
    seen, ended = [], threading.Event()

    def look():
        seen.append(1)
        if len(seen) == 3:
            looking.end()
            ended.set()
        raise OSError

    with Regularly(look, 0.001, name="looks") as looking:
        assert ended.wait(60)
    assert len(seen) == 3
    with Regularly(look, 3600, name="sleeps"):
        assert "sleeps" in {thread.name for thread in threading.enumerate()}  # by name: those of other tests come and go
    assert not {"looks", "sleeps"} & {thread.name for thread in threading.enumerate()}


# What OpenMP's threads do


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, "3000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_threads_sleep_at_barriers_unless_the_user_says_otherwise(stated, expected):
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | stated
    script = "import os, workbench; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    told = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == expected


def test_the_meter_of_this_machine_agrees_with_itself():
    with Meter(gpu=False, sample_interval_seconds=None) as meter, meter.window() as window:
        burn(0.05)
    usage = window.usage
    assert usage.stalled_seconds is None or 0 <= usage.stalled_seconds <= usage.seconds
