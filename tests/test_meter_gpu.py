"""GPU windows: the real bindings over a library that does not exist."""

import os
import re
import sys
import types
from pathlib import Path

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.meter import Meter, training_meter, visible_gpus
from workbench.meter import gpu_energy as gpu_module
from workbench.meter.visible_gpus import visible
from workbench.testing import FakeGpu, FakeNvml, ManualClock
from workbench.testing.nvml import _OF_DEVICE
from workbench.usage import total

ENERGY, POWER = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"
INSTANT, LIMIT = "NVML_FI_DEV_POWER_INSTANT", "nvmlDeviceGetEnforcedPowerLimit"
FIELDS, REASONS = "nvmlDeviceGetFieldValues", "nvmlDeviceGetCurrentClocksEventReasons"
UTILISATION, MEMORY = "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"


class Bench:
    """A meter on fake GPUs and a clock moved by hand."""

    def __init__(self, *gpus, visible=None, **library):
        self.clock = ManualClock()
        self.gpus = gpus
        self.fake = FakeNvml(gpus, clock=self.clock, **library)
        self.environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    def __enter__(self):
        self.installed = self.fake.installed()
        self.installed.__enter__()
        self.meter = Meter(clock=self.clock, sample_interval_seconds=None, environ=self.environ)
        return self

    def __exit__(self, *error):
        self.meter.close()
        self.installed.__exit__(None, None, None)

    def pass_time(self, seconds, hz=1):
        for _ in range(round(seconds * hz)):
            self.clock.advance(1 / hz)
            self.meter.sample()


def test_energy_by_counter():
    with Bench(FakeGpu(power_w=300)) as bench, bench.meter.window() as window:
        bench.pass_time(10)
    assert window.usage.gpu_board_energy_j == pytest.approx(3000, abs=0.01)
    assert window.usage.sources["gpu_board_energy_j"] == "nvml total energy counter"
    assert (window.usage.gpu_seconds, window.usage.gpu_busy_seconds) == (10, 5)


def test_the_counter_sees_what_samples_miss():
    with Bench(gpu := FakeGpu(power_w=100)) as bench, bench.meter.window() as window:
        bench.clock.advance(4)
        gpu.set_power(600)
        bench.clock.advance(2)
        gpu.set_power(100)
        bench.clock.advance(4)
    assert window.usage.gpu_board_energy_j == pytest.approx(8 * 100 + 2 * 600, abs=0.01)


def test_a_short_window_is_flagged():
    with Bench(FakeGpu()) as bench, bench.meter.window() as window:
        bench.clock.advance(0.55)
    assert window.usage.gpu_board_energy_j == pytest.approx(50)  # the counter stood at 0.5 s
    assert window.usage.sources["gpu_board_energy_j"] == "nvml total energy counter (window under 5 s, counter steps of 100 ms)"


@pytest.mark.parametrize(
    ("missing", "way", "error"),
    [(set(), "instant_power", 0.1), ({INSTANT}, "average_power", 0.15), ({FIELDS}, "average_power", 0.15)],
)
def test_energy_by_power_where_there_is_no_counter(missing, way, error):
    with Bench(gpu := FakeGpu(power_w=100, unsupported={ENERGY} | missing)) as bench, bench.meter.window() as window:
        bench.pass_time(5)
        gpu.set_power(300)
        bench.pass_time(5)
    assert window.usage.gpu_board_energy_j == pytest.approx(5 * 100 + 200 + 4 * 300)  # the trapezoid halves the step
    assert window.usage.sources["gpu_board_energy_j"] == f"nvml {way.replace('_', ' ')} integrated, sampled at the edges"
    (device,) = window.usage.devices
    assert (device.energy_source, device.energy_error, window.usage.errors["gpu_board_energy_j"]) == (way, error, error)


def test_energy_is_modelled_by_utilisation_where_only_the_power_limit_is_known():
    gpu = FakeGpu(power_limit_w=400, utilisation=75, unsupported={ENERGY, FIELDS, POWER})
    with Bench(gpu) as bench, bench.meter.window() as window:
        bench.pass_time(10)
    idle_w = 0.115 * 400
    (device,) = window.usage.devices
    assert device.gpu_board_energy_j == pytest.approx(10 * (idle_w + 0.75 * (400 - idle_w)))
    assert (device.energy_source, device.energy_error) == ("model", 0.5)
    assert window.usage.sources["gpu_board_energy_j"].startswith("modelled: utilisation x (power limit - idle power)")


@pytest.mark.parametrize("more", [{LIMIT}, {UTILISATION}])
def test_energy_is_unknown_when_the_last_step_of_the_ladder_breaks(more):
    with Bench(FakeGpu(unsupported={ENERGY, FIELDS, POWER} | more)) as bench, bench.meter.window() as window:
        bench.pass_time(3)
    usage = window.usage
    assert (usage.gpu_board_energy_j, usage.energy_j) == (None, None)
    assert usage.sources["gpu_board_energy_j"].startswith("unknown: ")
    assert (usage.devices[0].energy_source, usage.devices[0].energy_error) == ("unknown", None)
    assert "gpu_board_energy_j" not in usage.errors
    assert (usage.gpu_seconds, usage.gpu_peak_memory_bytes) == (3, 1 << 30)


@pytest.mark.parametrize(("seconds", "error"), [(0.5, 0.25), (4.0, 0.075), (10.0, 0.05)])
def test_a_short_windows_energy_is_less_certain_by_the_counters_step(seconds, error):
    with Bench(FakeGpu()) as bench, bench.meter.window() as window:
        bench.clock.advance(seconds)
    assert window.usage.errors["gpu_board_energy_j"] == window.usage.devices[0].energy_error == pytest.approx(error)


def test_the_errors_of_devices_and_ways_are_weighted_by_joules():
    with Bench(FakeGpu(power_w=300), FakeGpu(power_w=100, unsupported={ENERGY})) as bench, bench.meter.window() as window:
        bench.pass_time(10)
    assert window.usage.errors["gpu_board_energy_j"] == pytest.approx((300 * 0.05 + 100 * 0.1) / 400)


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [
        (pynvml.nvmlClocksEventReasonGpuIdle, False),
        (pynvml.nvmlClocksEventReasonApplicationsClocksSetting | pynvml.nvmlClocksEventReasonSyncBoost, False),
        (pynvml.nvmlClocksEventReasonSwPowerCap, True),
        (pynvml.nvmlClocksEventReasonHwSlowdown, True),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksEventReasonGpuIdle, True),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, True),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, True),
    ],
)
def test_time_with_the_clocks_held_down(reasons, throttled):
    with Bench(gpu := FakeGpu()) as bench, bench.meter.window() as window:
        bench.pass_time(3)
        gpu.reasons = reasons
        bench.pass_time(4)
    assert window.usage.gpu_throttled_seconds == window.usage.devices[0].throttled_seconds == 4 * throttled


def test_throttling_by_the_functions_older_name():
    with Bench(FakeGpu(reasons=4)) as bench:
        pynvml._nvmlGetFunctionPointer_cache.clear()
        bench.fake.missing = {REASONS}
        with bench.meter.window() as window:
            bench.pass_time(2)
    assert window.usage.gpu_throttled_seconds == 2


def test_a_counter_reset_costs_one_interval_which_power_fills():
    with Bench(gpu := FakeGpu(power_w=200)) as bench, bench.meter.window() as window:
        bench.pass_time(6)
        gpu.reset_counter()
        bench.pass_time(6)
    assert window.usage.gpu_board_energy_j == pytest.approx(12 * 200, abs=0.01)
    assert window.usage.sources["gpu_board_energy_j"] == (
        "nvml total energy counter + nvml instant power integrated, sampled at the edges"
    )
    assert window.usage.devices[0].energy_source == "counter + instant_power"


def test_a_counter_reset_without_power_is_unknown_in_the_windows_around_it_only():
    with Bench(gpu := FakeGpu(unsupported={POWER, FIELDS})) as bench:
        with bench.meter.window() as hit:
            bench.pass_time(1)
            gpu.reset_counter()
            bench.pass_time(1)
        with bench.meter.window() as after:
            bench.pass_time(10)
    assert hit.usage.gpu_board_energy_j is None
    assert after.usage.gpu_board_energy_j == pytest.approx(1000, abs=0.01)


def test_utilisation_is_weighted_by_time():
    with Bench(gpu := FakeGpu(utilisation=100)) as bench, bench.meter.window() as window:
        bench.pass_time(3)
        gpu.utilisation = 20
        bench.pass_time(5)
    assert window.usage.gpu_busy_seconds == pytest.approx(3 + 1)


def test_a_lost_gpu_ends_what_is_known_but_not_the_window():
    with Bench(FakeGpu(uuid="GPU-a"), gpu := FakeGpu(uuid="GPU-b")) as bench:
        with bench.meter.window() as before:
            bench.pass_time(10)
        with bench.meter.window() as during:
            bench.pass_time(1)
            gpu.lose()
            bench.pass_time(1)
        with bench.meter.window() as after:
            bench.pass_time(1)
    assert before.usage.gpu_board_energy_j == pytest.approx(2000, abs=0.01)
    for usage in (during.usage, after.usage):
        assert (usage.gpu_board_energy_j, usage.gpu_busy_seconds, usage.gpu_peak_memory_bytes) == (None, None, None)
        assert "unknown: GPU-b is lost" in usage.sources["gpu_board_energy_j"]
        assert usage.gpu_seconds == 2 * usage.seconds  # it is still paid for
        assert usage.cpu_seconds is not None
        assert usage.partial
        assert [(device.uuid, device.partial) for device in usage.devices] == [("GPU-a", False), ("GPU-b", True)]
        assert usage.devices[0].gpu_board_energy_j == pytest.approx(100 * usage.seconds, abs=0.01)
    assert not before.usage.partial


@pytest.mark.parametrize(
    ("name", "field"),
    [(UTILISATION, "gpu_busy_seconds"), (MEMORY, "gpu_peak_memory_bytes"), (REASONS, "gpu_throttled_seconds")],
)
def test_an_unsupported_metric_is_dropped_alone(name, field):
    fields = {"gpu_seconds", "gpu_board_energy_j", "gpu_busy_seconds", "gpu_peak_memory_bytes", "gpu_throttled_seconds"}
    older = {"nvmlDeviceGetCurrentClocksThrottleReasons"} if name == REASONS else set()
    with Bench(FakeGpu(unsupported={name} | older)) as bench, bench.meter.window() as window:
        bench.pass_time(2)
    assert {f for f in fields if getattr(window.usage, f) is None} == {field}
    assert window.usage.sources[field].startswith("unknown: ")


def test_a_library_too_old_for_a_function_is_like_a_device_without_it():
    with Bench(FakeGpu()) as bench:
        pynvml._nvmlGetFunctionPointer_cache.clear()
        bench.fake.missing = {ENERGY, PROCESSES}
        with bench.meter.window() as window:
            bench.pass_time(2)
    assert window.usage.sources["gpu_board_energy_j"].startswith("nvml instant power integrated")
    assert window.usage.gpu_board_energy_j == pytest.approx(200)


def test_memory_is_that_of_our_processes_where_nvml_knows_them():
    gpu = FakeGpu(used_bytes=30 << 30, processes={os.getpid(): 2 << 30, 999_999: 28 << 30})
    with Bench(gpu) as bench, bench.meter.window() as window:
        bench.pass_time(1)
        gpu.processes[os.getpid()] = 5 << 30
        bench.pass_time(1)
        gpu.processes[os.getpid()] = 1 << 30
    assert window.usage.gpu_peak_memory_bytes == 5 << 30
    assert window.usage.sources["gpu_peak_memory_bytes"].startswith("nvml memory of our processes")


@pytest.mark.parametrize("processes", [{}, {999_999: 1 << 30}, {os.getpid(): None}])
def test_memory_is_that_of_the_device_where_ours_cannot_be_told_apart(processes):
    with Bench(FakeGpu(used_bytes=3 << 30, processes=processes)) as bench, bench.meter.window() as window:
        bench.pass_time(1)
    assert window.usage.gpu_peak_memory_bytes == 3 << 30
    assert "ours not told apart" in window.usage.sources["gpu_peak_memory_bytes"]


def test_memory_is_the_highest_on_one_gpu_and_a_peak_belongs_to_its_window():
    with Bench(a := FakeGpu(used_bytes=1), b := FakeGpu(used_bytes=2)) as bench:
        with bench.meter.window() as window:
            b.used_bytes = 9
            bench.pass_time(1)
            a.used_bytes, b.used_bytes = 4, 3
            bench.pass_time(1)
        with bench.meter.window() as later:
            pass
    assert (window.usage.gpu_peak_memory_bytes, later.usage.gpu_peak_memory_bytes) == (9, 4)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(0.01, 3), st.floats(20, 700), st.booleans()), min_size=1, max_size=12))
def test_any_course_of_power_is_counted_to_within_a_step_of_the_counter(course):
    with Bench(gpu := FakeGpu(power_w=50)) as bench, bench.meter.window() as outer:
        drawn, parts = 0.0, []
        for seconds, watts, edge in course:
            gpu.set_power(watts)
            part = bench.meter.window()
            bench.clock.advance(seconds)
            drawn += seconds * watts
            if edge:
                bench.meter.sample()
            parts.append(part.close())
    assert outer.usage.gpu_board_energy_j == pytest.approx(drawn, abs=0.1 * 700 + 0.01)
    assert total(parts).gpu_board_energy_j == pytest.approx(outer.usage.gpu_board_energy_j)
    assert total(parts).seconds == pytest.approx(outer.usage.seconds)


def test_devices_are_described():
    with Bench(FakeGpu(name="NVIDIA H200", memory_bytes=141 << 30), driver="1.2.3") as bench:
        (device,) = bench.meter.devices
        description = bench.meter.description
    assert (device.index, device.name, device.memory_bytes) == (0, "NVIDIA H200", 141 << 30)
    assert description["gpus"][0]["uuid"] == device.uuid
    assert (description["gpu_driver"], description["gpu_absence"]) == ("1.2.3", None)


UUIDS = ("GPU-1aa", "GPU-1ab", "GPU-2cc", "MIG-7dd")


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        (None, ["GPU-1aa", "GPU-1ab", "GPU-2cc"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", ["GPU-1ab"]),
        (" 2 , 0", ["GPU-2cc", "GPU-1aa"]),
        ("0,9,1", ["GPU-1aa"]),
        ("0,-1,1", ["GPU-1aa"]),
        ("0,0", []),
        ("GPU-2", ["GPU-2cc"]),
        ("GPU-1", []),
        ("GPU-1ab,0", ["GPU-1ab", "GPU-1aa"]),
        ("GPU-1ab,1", []),
        ("MIG-7dd", ["MIG-7dd"]),
    ],
)
def test_visible_devices_are_cudas(setting, seen):
    assert visible(setting, UUIDS[:3]) == seen


def test_only_visible_gpus_are_billed_under_cudas_numbers():
    gpus = [FakeGpu(uuid="GPU-a", power_w=100), FakeGpu(uuid="GPU-b", power_w=10), FakeGpu(uuid="GPU-c", power_w=1)]
    with Bench(*gpus, visible="2,GPU-b") as bench, bench.meter.window() as window:
        bench.pass_time(10)
    assert [(device.index, device.uuid) for device in bench.meter.devices] == [(0, "GPU-c"), (1, "GPU-b")]
    assert window.usage.gpu_board_energy_j == pytest.approx(110, abs=0.01)
    assert window.usage.gpu_seconds == 20


MIG_CANNOT = {ENERGY, FIELDS, POWER, UTILISATION, REASONS, "nvmlDeviceGetCurrentClocksThrottleReasons"}


@pytest.mark.parametrize("board_cannot", [set(), {ENERGY}, {ENERGY, INSTANT}])
def test_a_slices_energy_is_its_share_of_the_boards_by_memory_and_says_so(board_cannot):
    board = FakeGpu(uuid="GPU-a", memory_bytes=80 << 30, power_w=300, unsupported=board_cannot)
    mig = FakeGpu(uuid="MIG-7dd", name="A100 3g.40gb", memory_bytes=40 << 30, parent=board, unsupported=MIG_CANNOT)
    with Bench(board, mig, visible="MIG-7dd,MIG-nowhere") as bench, bench.meter.window() as window:
        bench.pass_time(10)
    assert [device.uuid for device in bench.meter.devices] == ["MIG-7dd"]
    (device,) = window.usage.devices
    assert (device.uuid, device.energy_source, device.energy_error) == ("MIG-7dd", "model", 0.5)
    assert device.gpu_board_energy_j == pytest.approx(1500, abs=0.01)
    assert window.usage.sources["gpu_board_energy_j"].startswith("modelled: the slice's share of its board's memory")
    assert (device.busy_seconds, device.throttled_seconds) == (None, None)
    assert window.usage.gpu_peak_memory_bytes == 1 << 30


def test_a_slice_whose_board_is_not_told_has_no_energy():
    mig = FakeGpu(uuid="MIG-7dd", unsupported=MIG_CANNOT)
    with Bench(FakeGpu(uuid="GPU-a"), mig, visible="MIG-7dd") as bench, bench.meter.window() as window:
        bench.pass_time(1)
    assert (window.usage.gpu_board_energy_j, window.usage.gpu_busy_seconds) == (None, None)


@pytest.mark.parametrize("setting", ["", " ", "-1"])
def test_hidden_gpus_cost_nothing(setting):
    with Bench(FakeGpu(), visible=setting) as bench, bench.meter.window() as window:
        bench.pass_time(1)
    assert bench.meter.devices == ()
    assert window.usage.gpu_board_energy_j == 0
    assert "CUDA_VISIBLE_DEVICES" in window.usage.sources["gpu_seconds"]


def test_no_driver_is_no_gpu():
    with Bench(init_code=pynvml.NVML_ERROR_DRIVER_NOT_LOADED) as bench, bench.meter.window() as window:
        bench.pass_time(1)
    assert window.usage.gpu_seconds == 0
    assert window.usage.sources["gpu_seconds"] == "no GPU (NVML: Driver Not Loaded)"


def test_a_gpu_lost_before_the_start_is_not_there():
    with Bench(FakeGpu(uuid="GPU-a"), FakeGpu(uuid="GPU-b", lost=True)) as bench:
        assert [device.uuid for device in bench.meter.devices] == ["GPU-a"]


def test_nvml_is_let_go_and_started_anew_after_a_fork():
    with Bench(FakeGpu()) as bench:
        assert bench.fake.users == 1
        bench.meter._nvml._pid = -1  # as if this were a child of the process that started it
        with bench.meter.window() as window:
            bench.pass_time(10)
        assert bench.fake.users == 2
        assert window.usage.gpu_board_energy_j == pytest.approx(1000, abs=0.01)
        bench.meter.close()
        assert bench.fake.users == 1


def test_a_reading_costs_seven_calls_a_device_and_its_time_is_recorded():
    with Bench(FakeGpu(processes={os.getpid(): 1})) as bench, bench.meter.window():
        bench.fake.calls.clear()
        bench.meter.sample()
        assert bench.fake.calls == {ENERGY: 1, FIELDS: 1, UTILISATION: 1, REASONS: 1, MEMORY: 1, PROCESSES: 2}
        assert bench.meter.description["reading_seconds"] == 0, "by the clock that stood still"


def test_the_training_meter_bills_the_first_visible_gpus_alone(monkeypatch):
    fake = FakeNvml([FakeGpu(uuid=f"GPU-{i}") for i in range(3)], clock=ManualClock())
    with fake.installed():
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with training_meter() as meter:
            assert [d.uuid for d in meter.devices] == ["GPU-0"]
        with training_meter(2) as meter:
            assert [d.uuid for d in meter.devices] == ["GPU-0", "GPU-1"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1")
        with training_meter() as meter:
            assert [d.uuid for d in meter.devices] == ["GPU-2"]
        with training_meter(2) as meter:
            assert [d.uuid for d in meter.devices] == ["GPU-2", "GPU-1"], "those that hold a run together"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with training_meter() as meter:
            assert meter.devices == ()


# Other bindings than those asked for: the package pynvml up to 11.5 hides nvidia-ml-py

USED = sorted(
    set(re.findall(r'nvml\("(\w+)"', "".join(Path(module.__file__).read_text() for module in (gpu_module, visible_gpus))))
)


def functions(library):
    """Exported names of all that the library offers of a device."""
    return {name for name in library if name.startswith("nvmlDeviceGet") and "Handle" not in name and "UUID" not in name}


@pytest.mark.parametrize("name", [*USED, "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_NOT_SUPPORTED"])
def test_bindings_that_lack_a_name_cost_a_figure_at_most(monkeypatch, name):
    monkeypatch.delattr(pynvml, name)
    if name == "NVMLError":  # these must raise something of their own then
        return
    with Bench(FakeGpu(power_w=300), FakeGpu()) as bench, bench.meter.window() as window:
        bench.pass_time(3)
    assert window.usage.seconds == 3


def test_old_bindings_on_a_gpu_that_can_say_nothing(monkeypatch):
    for name in ("NVMLLibraryMismatchError", "NVML_ERROR_RESET_REQUIRED", "nvmlDeviceGetCurrentClocksEventReasons"):
        monkeypatch.delattr(pynvml, name)
    with Bench(FakeGpu(unsupported=functions(_OF_DEVICE))) as bench, bench.meter.window() as window:
        bench.pass_time(3)
    assert window.usage.gpu_board_energy_j is None
    assert window.usage.gpu_seconds == 3
    with Bench(gpu := FakeGpu()) as bench, bench.meter.window() as window:
        bench.pass_time(1)
        gpu.lose()
        bench.pass_time(1)
    assert window.usage.gpu_seconds == 2


def test_names_in_bytes_are_read_as_text(monkeypatch):
    """As bindings before 11.5 give them, and ask for them."""
    name, uuid, find = pynvml.nvmlDeviceGetName, pynvml.nvmlDeviceGetUUID, pynvml.nvmlDeviceGetHandleByUUID

    def by_bytes(wanted):
        if not isinstance(wanted, bytes):
            raise TypeError("bytes or integer address expected instead of str instance")
        return find(wanted.decode())

    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: name(handle).encode())
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: uuid(handle).encode())
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_bytes)
    with Bench(FakeGpu(name="Tesla T4")) as bench:
        (device,) = bench.meter.devices
    assert (device.name, device.uuid[:4]) == ("Tesla T4", "GPU-")


def test_a_module_of_that_name_that_is_none_of_nvml_s_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", types.ModuleType("pynvml"))
    with Meter(sample_interval_seconds=None) as meter:
        assert not meter.devices
    monkeypatch.setitem(sys.modules, "pynvml", None)  # it cannot be imported
    with Meter(sample_interval_seconds=None) as meter:
        assert not meter.devices
