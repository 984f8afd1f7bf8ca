"""Several who hold one host and its GPUs: shares by the stated rules, which sum to the whole exactly."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.meter import Meter
from workbench.testing import FakeGpu, FakeHost, FakeMeter, FakeNvml, ManualClock

STRANGER, SECOND = 4_000_001, 4_000_002  # above Linux's largest process id, 2^22: no real process of ours
UTILISATION = "nvmlDeviceGetProcessUtilization"
BURN = "import time\nwhile time.process_time() < {}: pass\nprint('done', flush=True)\nimport sys; sys.stdin.read()"
PER_DEVICE = ("seconds", "gpu_board_energy_j", "busy_seconds", "throttled_seconds")


class Bench:
    """A meter on one fake GPU and a clock moved by hand."""

    def __init__(self, **gpu):
        self.clock, self.gpu = ManualClock(), FakeGpu(**gpu)
        self.fake = FakeNvml([self.gpu], clock=self.clock)

    def __enter__(self):
        self.installed = self.fake.installed()
        self.installed.__enter__()
        self.meter = Meter(clock=self.clock, sample_interval_seconds=None, environ={})
        return self

    def __exit__(self, *error):
        self.meter.close()
        self.installed.__exit__(None, None, None)

    def idle_then(self, watts):
        """See the board idle at 100 W, then draw `watts`."""
        self.meter.sample()
        self.gpu.set_power(watts)


@pytest.fixture(scope="module")
def child():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_one_tenant_sees_the_whole():
    with Bench(reasons=4) as bench, bench.meter.window() as whole, bench.meter.hold() as tenant, tenant.window() as window:
        bench.clock.advance(10)
    (device,) = window.usage.devices
    assert window.usage.others_seconds == 0
    assert window.usage.held_seconds == 10
    assert [getattr(device, name) for name in PER_DEVICE] == [10, 1000, 5, 10]
    assert device.shared_by == ""
    assert [getattr(whole.usage.devices[0], name) for name in PER_DEVICE] == [10, 1000, 5, 10]


def test_idle_is_shared_equally_and_use_by_work_reported():
    with Bench(power_w=100, utilisation=80, reasons=4) as bench, bench.meter.hold(name="a") as a, bench.meter.hold(name="b") as b:
        bench.idle_then(300)
        one, two = a.window(), b.window()
        for _ in range(10):
            a.work(100)
            a.work(200)
            b.work(100)
            bench.clock.advance(1)
            bench.meter.sample()
        one, two = one.close(), two.close()
    assert (one.gpu_board_energy_j, two.gpu_board_energy_j) == (500 + 1500, 500 + 500)
    assert (one.gpu_busy_seconds, two.gpu_busy_seconds) == (6, 2)
    assert (one.gpu_seconds, two.gpu_seconds) == (5, 5)
    assert (one.gpu_throttled_seconds, two.gpu_throttled_seconds) == (5, 5)
    assert (one.others_seconds, two.others_seconds, one.seconds) == (5, 5, 10)
    assert one.devices[0].shared_by == "work"
    assert one.sources["gpu_board_energy_j"].endswith(", split by work")


def test_without_work_all_is_equal_and_the_method_is_recorded():
    with Bench(power_w=300) as bench, bench.meter.hold() as a, bench.meter.hold() as b:
        one, two = a.window(), b.window()
        bench.clock.advance(3)
        bench.meter.sample()
        a.work(1)
        bench.clock.advance(3)
        one, two = one.close(), two.close()
    assert one.devices[0].shared_by == two.devices[0].shared_by == "work + equal"
    assert one.gpu_board_energy_j == two.gpu_board_energy_j == 900, "at its lowest, 300 W, the board counts as idle"


def test_use_of_two_processes_is_split_by_their_utilisation(child):
    both = {os.getpid(): 1 << 30, child: 3 << 30}
    with Bench(power_w=100, processes=both) as bench, bench.meter.hold() as a, bench.meter.hold(pid=child) as b:
        bench.idle_then(300)
        bench.gpu.process_utilisation = {os.getpid(): 20, child: 60}
        one, two = a.window(), b.window()
        a.work(1000)  # counts for nothing: NVML knows better
        bench.clock.advance(10)
        one, two = one.close(), two.close()
    assert (one.gpu_board_energy_j, two.gpu_board_energy_j) == (500 + 500, 500 + 1500)
    assert (one.gpu_busy_seconds, two.gpu_busy_seconds) == (1.25, 3.75)
    assert one.devices[0].shared_by == "process_utilisation"
    assert (one.gpu_peak_memory_bytes, two.gpu_peak_memory_bytes) == (4 << 30, 3 << 30), "ours includes our child's"


def test_two_tenants_in_one_of_two_processes_split_its_part_by_work(child):
    both = {os.getpid(): 1, child: 1}
    with Bench(power_w=100, processes=both, process_utilisation={os.getpid(): 50, child: 50}) as bench:
        a, b, c = bench.meter.hold(), bench.meter.hold(), bench.meter.hold(pid=child)
        bench.idle_then(400)
        windows = [tenant.window() for tenant in (a, b, c)]
        a.work(2)
        b.work(1)
        bench.clock.advance(10)
        joules = [window.close().gpu_board_energy_j for window in windows]
    assert joules == pytest.approx([1000 / 3 + 1000, 1000 / 3 + 500, 1000 / 3 + 1500], abs=1e-5)
    assert sum(round(each * 1e6) for each in joules) == 4_000_000_000
    assert windows[0].usage.devices[0].shared_by == "process_utilisation + work"


@pytest.mark.parametrize(
    ("processes", "joules", "shared_by"),
    [
        ({os.getpid(): 1, STRANGER: 1}, 500 + 1500, "process_utilisation"),
        ({STRANGER: 1}, 3000, ""),  # NVML does not know us: the stranger may be ourselves
        ({}, 3000, ""),
    ],
)
def test_strangers_on_the_gpu_bear_their_part_where_nvml_knows_us(processes, joules, shared_by):
    with Bench(power_w=100, processes=processes) as bench, bench.meter.window() as whole, bench.meter.hold() as tenant:
        bench.idle_then(300)
        bench.gpu.process_utilisation = {os.getpid(): 75, STRANGER: 25}
        with tenant.window() as window:
            bench.clock.advance(10)
    assert window.usage.gpu_board_energy_j == joules
    assert window.usage.gpu_seconds == 10, "it is rented whole, whoever else computes on it"
    assert window.usage.devices[0].shared_by == shared_by
    assert window.usage.others_seconds == 0, "the host is ours alone"
    assert whole.usage.gpu_board_energy_j == 3000, "the meter's own window is the whole device"


def test_beside_strangers_without_utilisation_all_are_equal():
    processes = {os.getpid(): 1, STRANGER: 1, SECOND: 1}
    with Bench(power_w=300, processes=processes, unsupported={UTILISATION}) as bench:
        tenant = bench.meter.hold()
        window = tenant.window()
        tenant.work(9)
        bench.clock.advance(9)
    assert window.usage.gpu_board_energy_j == 900
    assert window.usage.devices[0].shared_by == "equal"


def test_tenants_come_and_go_and_each_pays_for_its_time():
    with Bench(power_w=120) as bench:
        a = bench.meter.hold()
        first = a.window()
        bench.clock.advance(10)
        with bench.meter.hold() as b, b.window() as second:
            bench.clock.advance(10)
        bench.clock.advance(10)
        a.close()
        bench.clock.advance(10)  # nobody's
    assert (first.usage.seconds, first.usage.gpu_board_energy_j, first.usage.others_seconds) == (30, 1200 + 600 + 1200, 5)
    assert (second.usage.seconds, second.usage.gpu_board_energy_j, second.usage.others_seconds) == (10, 600, 5)


def test_a_closed_tenant_has_closed_its_windows_and_opens_none():
    with Bench() as bench:
        tenant = bench.meter.hold()
        window = tenant.window()
        bench.clock.advance(2)
        tenant.close()
        tenant.close()
        bench.clock.advance(2)
        assert window.usage.seconds == 2
        with pytest.raises(UsageError, match="closed"):
            tenant.window()


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_work_is_a_finite_amount(amount):
    with FakeMeter().hold() as tenant, pytest.raises(UsageError, match="finite"):
        tenant.work(amount)


def test_a_lost_gpu_is_lost_to_all_its_tenants():
    with Bench() as bench, bench.meter.hold() as a, bench.meter.hold() as b:
        one, two = a.window(), b.window()
        bench.clock.advance(2)
        bench.gpu.lose()
        bench.clock.advance(2)
        for usage in (one.close(), two.close()):
            assert (usage.gpu_board_energy_j, usage.partial, usage.gpu_seconds) == (None, True, 2)


STEPS = st.lists(
    st.tuples(
        st.floats(0.001, 3.0),  # seconds
        st.integers(0, 700),  # watts
        st.integers(0, 100),  # utilisation
        st.sampled_from(["open", "open child", "close", "sample", "reset", "throttle", "stranger"]),
        st.integers(0, 5),  # which tenant
        st.floats(0, 1e6),  # work
    ),
    min_size=1,
    max_size=14,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(STEPS, st.sets(st.sampled_from(["nvmlDeviceGetTotalEnergyConsumption", UTILISATION])))
def test_shares_sum_to_the_measured_total_exactly(child, steps, unsupported):
    """In whole microjoules and nanoseconds, whoever comes and goes; a first tenant stays, so that all time is held."""
    processes = {os.getpid(): 1, child: 1}
    with Bench(processes=processes, unsupported=unsupported) as bench, bench.meter.window() as whole:
        tenants = [bench.meter.hold()]
        windows, strangers = [tenants[0].window()], False
        for seconds, watts, percent, event, which, work in steps:
            bench.gpu.set_power(watts)
            bench.gpu.utilisation = percent
            bench.gpu.process_utilisation = {os.getpid(): percent // 2, child: percent - percent // 2}
            tenants[which % len(tenants)].work(work)
            bench.clock.advance(seconds)
            if event.startswith("open"):
                tenants.append(bench.meter.hold(pid=child if "child" in event else None))
                windows.append(tenants[-1].window())
            elif event == "close" and len(tenants) > 1:
                tenants.pop(1 + which % (len(tenants) - 1)).close()
            elif event == "sample":
                bench.meter.sample()
            elif event == "reset":
                bench.gpu.reset_counter()
            elif event == "throttle":
                bench.gpu.reasons ^= 4
            elif event == "stranger":
                strangers = True
                bench.gpu.processes[STRANGER] = 1
        for tenant in tenants[::-1]:
            tenant.close()
    total, parts = whole.usage, [window.usage for window in windows]
    held = sum(round(1e9 * (part.seconds - part.others_seconds)) for part in parts)
    assert held == pytest.approx(round(1e9 * total.seconds), abs=len(parts) + 1), "to the rounding of `seconds`, a float"
    for name in PER_DEVICE:
        scale = 1e6 if name == "gpu_board_energy_j" else 1e9
        amounts = [getattr(part.devices[0], name) for part in parts]
        sums = sum(round(amount * scale) for amount in amounts)
        assert sums <= round(getattr(total.devices[0], name) * scale) if strangers else True
        if not strangers:
            assert sums == round(getattr(total.devices[0], name) * scale), name
    cpu = sum(round(part.cpu_seconds * 1e9) for part in parts)
    assert cpu <= round(total.cpu_seconds * 1e9)
    assert sum(part.cpu_energy_j for part in parts) <= total.cpu_energy_j + 1e-6


def test_cpu_time_and_its_estimated_energy_go_by_work_within_a_process_and_sum_to_the_host():
    clock = ManualClock()
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False) as meter:
        a, b = meter.hold(), meter.hold()
        whole, one, two = meter.window(), a.window(), b.window()
        a.work(3)
        b.work(1)
        burn(0.3)
        clock.advance(10)
        meter.sample()
        parts, total = [window.close() for window in (one, two)], whole.close()
        # what was used between these closings is in the later ones only
        late = total.cpu_seconds - sum(part.cpu_seconds for part in parts)
    assert parts[0].cpu_seconds > 2.5 * parts[1].cpu_seconds
    assert 0 <= late < 0.05
    idle_j = 10 * meter.description["cpus_held"] * meter._facts.watts.idle_w
    busy_w = meter._facts.watts.busy_w - meter._facts.watts.idle_w
    assert parts[1].cpu_energy_j == pytest.approx(idle_j / 2 + parts[1].cpu_seconds * busy_w)
    assert sum(part.cpu_energy_j for part in parts) == pytest.approx(total.cpu_energy_j - late * busy_w)


def test_a_tenant_with_its_own_process_pays_for_its_tree_and_we_for_the_rest():
    clock = ManualClock()
    process = subprocess.Popen([sys.executable, "-c", BURN.format(0.4)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False) as meter:
        ours, theirs, whole = meter.hold(), meter.hold(pid=process.pid), meter.window()
        one, two = ours.window(), theirs.window()
        burn(0.2)
        assert process.stdout.readline() == b"done\n"
        clock.advance(4)
        meter.sample()
        usages = [two.close(), one.close(), whole.close()]
        process.communicate()
    theirs, ours, whole = usages
    assert 0.25 < theirs.cpu_seconds <= 0.5
    assert 0.2 <= ours.cpu_seconds < 0.3
    assert ours.cpu_seconds + theirs.cpu_seconds == pytest.approx(whole.cpu_seconds, abs=0.03)
    assert theirs.peak_memory_bytes < ours.peak_memory_bytes
    assert (ours.others_seconds, theirs.others_seconds) == (2, 2)


def test_tenants_of_a_parent_are_none_of_a_forked_child():
    clock = ManualClock()
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False) as meter:
        parents, window = meter.hold(), meter.window()
        meter._pid = -1  # as if this were a child of the process that took the hold
        with meter.hold() as own, own.window() as mine:
            clock.advance(3)
        assert mine.usage.others_seconds == 0
        parents.close()
        window.close()


def test_the_fake_meter_shares_too():
    meter = FakeMeter(4.0, host=FakeHost(gpus=1, gpu_watts=300))
    with meter.hold() as a, a.window() as alone:
        pass
    assert (alone.usage.seconds, alone.usage.others_seconds, alone.usage.gpu_board_energy_j) == (4, 0, 1200)
    with meter.hold() as a, meter.hold() as b, meter.window() as whole:
        one, two = a.window(), b.window()
        meter.clock.advance(8)
        usages = [one.close(), two.close()]
    assert [usage.others_seconds for usage in usages] == [4, 4]
    for name in ("cpu_seconds", "cpu_energy_j", "gpu_seconds", "gpu_board_energy_j", "gpu_busy_seconds"):
        assert sum(getattr(usage, name) for usage in usages) == getattr(whole.usage, name), name
