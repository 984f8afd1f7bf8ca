"""Windows on the real meter of this machine: processor time, memory, nesting, forks."""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from workbench.meter import Meter
from workbench.meter.processors import cpu_power
from workbench.testing import ManualClock

BURN = "import time\nwhile time.process_time() < {}: pass"
HOLD = "import sys; block = bytearray({} << 20); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def meter():
    """A meter without thread or GPU, on a clock moved by hand."""
    clock = ManualClock()
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False) as meter:
        meter.clock = clock
        yield meter


def cpu_of(who=resource.RUSAGE_SELF):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_cpu_seconds_of_this_process_are_those_of_getrusage(meter):
    before = cpu_of()
    with meter.window() as window:
        burn(0.3)
    assert window.usage.cpu_seconds == pytest.approx(cpu_of() - before, rel=0.02, abs=0.02)


def test_cpu_seconds_of_a_child_that_was_waited_for(meter):
    before = cpu_of() + cpu_of(resource.RUSAGE_CHILDREN)
    with meter.window() as window:
        subprocess.run([sys.executable, "-c", BURN.format(0.4)], check=True)
    assert window.usage.cpu_seconds == pytest.approx(cpu_of() + cpu_of(resource.RUSAGE_CHILDREN) - before, rel=0.02, abs=0.02)
    assert window.usage.cpu_seconds > 0.4


def test_a_child_counts_once_while_it_lives_when_it_dies_and_after_it_was_waited_for(meter):
    before = cpu_of(resource.RUSAGE_CHILDREN)
    with meter.window() as window:
        child = subprocess.Popen([sys.executable, "-c", BURN.format(0.4)])
        seen = []
        while not seen or child.poll() is None:
            seen.append(window.read().cpu_seconds)
            time.sleep(0.02)
        seen.append(window.read().cpu_seconds)
    assert seen == sorted(seen), "CPU time must never fall"
    assert len(set(seen)) > 3, "a living child must be seen at work"
    assert window.usage.cpu_seconds >= cpu_of(resource.RUSAGE_CHILDREN) - before - 1e-6
    assert window.usage.cpu_seconds < 2 * (cpu_of(resource.RUSAGE_CHILDREN) - before), "counted twice"


def test_an_orphan_of_the_tree_stays_ours(meter):
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN.format(5)!r}]); sys.stdin.read()"
    with meter.window() as window:
        others = set(meter._tree.pids)  # this process, and what other tests may have left running
        parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
        while not (grandchildren := meter._tree.pids - others - {parent.pid}):
            meter.sample()
            time.sleep(0.01)
        (orphan,) = grandchildren
        parent.communicate()
        while window.read().cpu_seconds < 0.3 and orphan in meter._tree.pids:
            time.sleep(0.01)
        os.kill(orphan, signal.SIGKILL)
    assert window.usage.cpu_seconds >= 0.3


def test_time_used_between_windows_is_in_neither(meter):
    with meter.window() as first:
        pass
    burn(0.2)
    with meter.window() as second:
        pass
    assert first.usage.cpu_seconds + second.usage.cpu_seconds < 0.1


def test_nested_windows_add_up_and_overlapping_ones_do_not_mind(meter):
    outer = meter.window()
    with meter.window() as a:
        meter.clock.advance(2)
    late = meter.window()
    with meter.window() as b:
        meter.clock.advance(3)
    outer.close()
    meter.clock.advance(1)
    late.close()
    assert (a.usage.seconds, b.usage.seconds, outer.usage.seconds, late.usage.seconds) == (2, 3, 5, 4)
    assert a.usage.cpu_seconds + b.usage.cpu_seconds <= outer.usage.cpu_seconds


def test_reading_leaves_open_closing_is_final(meter):
    window = meter.window()
    meter.clock.advance(1)
    assert window.read().seconds == window.usage.seconds == 1
    meter.clock.advance(1)
    final = window.close()
    meter.clock.advance(1)
    assert window.close() is window.read() is window.usage is final
    assert final.seconds == 2


def test_an_exception_closes_the_window_and_passes(meter):
    window = meter.window()
    with pytest.raises(KeyError), window:
        meter.clock.advance(int({}["no such key"]))
    meter.clock.advance(1)
    assert window.usage.seconds == 0


def test_closing_the_meter_closes_its_windows(meter):
    window = meter.window()
    meter.clock.advance(1)
    meter.close()
    meter.close()
    meter.clock.advance(1)
    assert window.usage.seconds == 1


def test_memory_of_a_child_is_in_the_peak_only_while_it_lived(meter):
    with meter.window() as before:
        pass
    outer = meter.window()
    child = subprocess.Popen([sys.executable, "-c", HOLD.format(64)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    meter.sample()
    child.communicate()
    with meter.window() as after:
        pass
    outer.close()
    assert outer.usage.peak_memory_bytes > before.usage.peak_memory_bytes + (64 << 20)
    assert after.usage.peak_memory_bytes < outer.usage.peak_memory_bytes - (50 << 20)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell memory so")
def test_a_peak_between_two_samples_is_seen_by_the_high_water_mark(meter):
    top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    size = top - resident + (64 << 20)  # more than was ever resident
    with meter.window() as window:
        block = bytearray(size)
        block[::4096] = b"\1" * len(block[::4096])
        del block
    assert window.usage.peak_memory_bytes >= top + (48 << 20)


def test_the_estimate_charges_idle_and_busy_power(meter):
    with meter.window() as window:
        meter.clock.advance(100)
    usage, cpus, watts = window.usage, meter.description["cpus_held"], cpu_power(meter.description["cpu"])
    idle_j, dynamic_j = 100 * cpus * watts.idle_w, usage.cpu_seconds * (watts.busy_w - watts.idle_w)
    assert usage.cpu_energy_j == pytest.approx(idle_j + dynamic_j)
    assert usage.errors["cpu_energy_j"] == watts.error
    assert usage.sources["cpu_energy_j"].startswith("estimated: ")
    assert "Cloud Carbon Footprint" in usage.sources["cpu_energy_j"]


WRITE = "import os; f = open({!r}, 'wb'); f.write(bytes({} << 20)); f.flush(); os.fsync(f.fileno()); f.close()"


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not tell bytes moved")
def test_bytes_written_by_us_and_by_a_child_count_once(meter, tmp_path):
    with meter.window() as window:
        exec(WRITE.format(str(tmp_path / "ours"), 8))
        child = subprocess.Popen(
            [sys.executable, "-c", WRITE.format(str(tmp_path / "child"), 16) + "; input()"], stdin=subprocess.PIPE
        )
        until = time.monotonic() + 60
        while window.read().io_write_bytes < 24 << 20 and time.monotonic() < until:
            time.sleep(0.01)
        child.communicate(b"\n")
    if window.usage.io_write_bytes == 0:
        pytest.skip("the file system under tmp_path is not counted as storage")
    assert 24 << 20 <= window.usage.io_write_bytes < 30 << 20
    with meter.window() as after:
        pass
    assert after.usage.io_write_bytes == 0
    assert after.usage.sources["io_write_bytes"] == "kernel accounts of the process tree"


def test_where_the_system_tells_no_bytes_they_are_unknown(monkeypatch):
    monkeypatch.setattr("workbench.meter.host._HAS_IO", False)
    with Meter(sample_interval_seconds=None, gpu=False) as meter, meter.hold() as tenant, tenant.window() as window:
        pass
    assert (window.usage.io_read_bytes, window.usage.io_write_bytes) == (None, None)
    assert window.usage.sources["io_read_bytes"].startswith("unknown: ")


@pytest.fixture
def cgroup():
    """A CPU-accounting cgroup of our own, and where it tells its time."""
    for base, file in (("cpuacct", "cpuacct.usage"), ("", "cpu.stat")):
        folder = Path("/sys/fs/cgroup", base, f"workbench-test-{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / file).exists():
            yield folder, file
            folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("no cgroup of our own can be made here")


def test_a_tree_that_has_a_cgroup_to_itself_used_what_the_cgroup_says(meter, cgroup):
    folder, file = cgroup
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN.format(0.5)!r}]); {BURN.format(0.5)}"
    script = f"open({str(folder / 'cgroup.procs')!r}, 'w').write('0'); exec({inner!r}); print('done', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with meter.hold(pid=child.pid) as tenant, tenant.window() as window:
        assert child.stdout.readline() == b"done\n"
        usage, text = window.read(), (folder / file).read_text().split()
        child.communicate(b"\n")
    used = int(text[0]) / 1e9 if len(text) == 1 else int(text[1]) / 1e6
    assert used > 0.8
    assert usage.cpu_seconds == pytest.approx(used, abs=0.1), "start-up before the cgroup and the hold is in one of them only"


def test_the_cost_of_a_reading_is_recorded():
    with Meter(sample_interval_seconds=None, gpu=False) as meter:
        assert meter.description["reading_seconds"] is None
        meter.window().close()
        assert 0 < meter.description["reading_seconds"] < 10


def test_without_a_gpu_its_fields_are_known_to_be_0(meter):
    with meter.window() as window:
        meter.clock.advance(1)
    usage = window.usage
    assert (usage.gpu_seconds, usage.gpu_board_energy_j, usage.gpu_busy_seconds, usage.gpu_peak_memory_bytes) == (0, 0, 0, 0)
    assert usage.sources["gpu_seconds"] == "no GPU (none asked for)"


def test_description_is_json(meter):
    text = json.dumps(meter.description)
    assert json.loads(text)["memory_bytes"] > 1 << 20


def test_the_thread_samples_while_a_window_is_open_and_ends_with_the_meter():
    with Meter(sample_interval_seconds=0.005, gpu=False) as meter:
        assert meter._thread is None, "no window, no thread"
        with meter.window():
            seen = threading.Event()
            meter._windows[0].peaks.note = lambda reading: seen.set()
            assert seen.wait(10)
        thread = meter._thread
    assert not thread.is_alive()


def test_a_forgotten_meter_is_collected_and_its_thread_ends():
    meter = Meter(sample_interval_seconds=0.005, gpu=False)
    meter.window().close()
    thread, ref = meter._thread, weakref.ref(meter)
    del meter
    gc.collect()
    thread.join(10)
    assert ref() is None
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_measures_itself():
    with Meter(sample_interval_seconds=0.01, gpu=False) as meter, meter.window() as window:
        burn(0.3)
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            with meter.window() as own:
                burn(0.1)
            os.write(write, json.dumps(own.usage.to_json()).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        child = json.loads(os.read(read, 10_000))
    assert 0.1 <= child["cpu_seconds"] < 0.2, "the parent's time is none of the child's"
    assert window.usage.cpu_seconds >= 0.4
