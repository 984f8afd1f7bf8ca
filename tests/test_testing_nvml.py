"""The fake library under the real bindings: structs, codes and errors are the bindings' own."""

import pynvml
import pytest

from workbench.testing import FakeGpu, FakeNvml, ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def fake(clock):
    with FakeNvml([FakeGpu(uuid="GPU-a"), FakeGpu(name="NVIDIA T4", uuid="GPU-b", power_w=70)], clock=clock).installed() as fake:
        pynvml.nvmlInit()
        yield fake


def test_devices_are_found_by_index_and_uuid(fake):
    assert pynvml.nvmlDeviceGetCount() == 2
    handle = pynvml.nvmlDeviceGetHandleByIndex(1)
    assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA T4"
    assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-b"
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID("GPU-a")) == "GPU-a"
    assert pynvml.nvmlSystemGetDriverVersion() == "570.86.15"
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByIndex(2)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetHandleByUUID("GPU-c")


def test_real_structs_are_filled(fake):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    assert (memory.total, memory.used, memory.free) == (48 << 30, 1 << 30, 47 << 30)
    assert pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used == 1 << 30
    assert pynvml.nvmlDeviceGetUtilizationRates(handle).gpu == 50
    assert pynvml.nvmlDeviceGetPowerUsage(handle) == 100_000
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(handle) == []
    fake.gpus[0].processes = {7: 1 << 20, 8: None}
    rows = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    assert [(row.pid, row.usedGpuMemory) for row in rows] == [(7, 1 << 20), (8, None)]


def test_the_energy_counter_follows_the_clock_in_steps(fake, clock):
    handle = pynvml.nvmlDeviceGetHandleByIndex(1)
    start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    shown = []
    for _ in range(4):
        clock.advance(0.05)
        shown.append(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start)
    assert shown == [0, 7_000, 7_000, 14_000]
    fake.gpus[1].set_power(10)
    clock.advance(10)
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start == 14_000 + 100_000
    fake.gpus[1].reset_counter()
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) == 0


def test_power_is_told_as_of_now_and_as_the_last_seconds_average(fake, clock):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    clock.advance(10)
    fake.gpus[0].set_power(300)
    clock.advance(0.25)
    fields = [pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_FI_DEV_POWER_AVERAGE, 1]
    values = pynvml.nvmlDeviceGetFieldValues(handle, fields)
    assert [value.nvmlReturn for value in values] == [0, 0, pynvml.NVML_ERROR_NOT_SUPPORTED]
    assert (values[0].value.uiVal, values[1].value.uiVal) == (300_000, 150_000)
    assert pynvml.nvmlDeviceGetPowerUsage(handle) == 150_000
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) == 350_000
    fake.gpus[0].unsupported = {"NVML_FI_DEV_POWER_INSTANT"}
    values = pynvml.nvmlDeviceGetFieldValues(handle, fields)
    assert values[0].nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert values[1].nvmlReturn == 0


def test_utilisation_by_process_is_told_once(fake, clock):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetProcessUtilization(handle, 0)
    fake.gpus[0].process_utilisation = {7: 30, 8: 50}
    clock.advance(1)
    samples = pynvml.nvmlDeviceGetProcessUtilization(handle, 0)
    assert [(sample.pid, sample.smUtil) for sample in samples] == [(7, 30), (8, 50)]
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetProcessUtilization(handle, samples[0].timeStamp)


def test_reasons_for_the_clocks_by_both_names(fake):
    handle, fake.gpus[0].reasons = pynvml.nvmlDeviceGetHandleByIndex(0), 0x24
    assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle) == 0x24
    assert pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle) == 0x24


def test_a_slice_has_a_name_and_a_parent_but_no_index(clock):
    board = FakeGpu(uuid="GPU-a")
    slices = [FakeGpu(uuid=f"MIG-{i}", memory_bytes=10 << 30, parent=board) for i in range(2)]
    with FakeNvml([slices[0], board, slices[1]], clock=clock).installed():
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 1
        assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)) == "GPU-a"
        handle = pynvml.nvmlDeviceGetHandleByUUID("MIG-1")
        assert pynvml.nvmlDeviceGetMemoryInfo(handle).total == 10 << 30
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        assert pynvml.nvmlDeviceGetUUID(parent) == "GPU-a"
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(parent)


def test_a_trace_is_followed(fake, clock):
    gpu, handle = fake.gpus[0], pynvml.nvmlDeviceGetHandleByIndex(0)
    clock.advance(100)
    start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    gpu.follow([(1, 200, 90, 5), (2, 300, 100, 6, 4), (4, 50, 0, 6, 1, "nvmlDeviceGetUtilizationRates"), (6, 50, 0, 6, 1, "lost")])
    clock.advance(1.5)
    assert pynvml.nvmlDeviceGetUtilizationRates(handle).gpu == 90
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).used == 5
    clock.advance(3.5)
    joules = 100 + 200 + 2 * 300 + 50
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start == joules * 1000, "rows count from their own moment"
    assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle) == 1
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    clock.advance(1)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetName(handle)
    with pytest.raises(ValueError, match="order"):
        gpu.follow([(2, 0, 0, 0), (1, 0, 0, 0)])


def test_errors_are_the_bindings_own(fake):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    fake.gpus[0].unsupported = {"nvmlDeviceGetPowerUsage"}
    with pytest.raises(pynvml.NVMLError_NotSupported, match="Not Supported"):
        pynvml.nvmlDeviceGetPowerUsage(handle)
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        pynvml.nvmlDeviceGetFanSpeed(handle)
    fake.gpus[0].lose()
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetName(handle)
    assert pynvml.nvmlErrorString(pynvml.NVML_ERROR_GPU_IS_LOST) == "GPU is lost"
    pynvml.nvmlShutdown()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


def test_nothing_stays_behind(clock):
    before = pynvml.nvmlLib
    with FakeNvml(clock=clock).installed() as outer:
        with FakeNvml(clock=clock, driver="1").installed():
            pynvml.nvmlInit()
            assert pynvml.nvmlSystemGetDriverVersion() == "1"
        assert pynvml.nvmlLib is outer
    assert pynvml.nvmlLib is before
    assert pynvml._nvmlGetFunctionPointer_cache == {}


def test_a_library_that_does_not_start():
    with FakeNvml(init_code=pynvml.NVML_ERROR_DRIVER_NOT_LOADED).installed(), pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlInit()
