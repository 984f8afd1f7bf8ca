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
