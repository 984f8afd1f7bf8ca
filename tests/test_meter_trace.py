"""Recorded traces replayed through the real bindings: what the meter makes of a training run's hour on a card."""

import itertools
import random

import pynvml
import pytest

from workbench.meter import Meter
from workbench.testing import FakeGpu, FakeNvml, ManualClock
from workbench.testing.nvml import TraceRow

IDLE_W, GIB = 62.0, 1 << 30
COUNTER, INSTANT = "nvmlDeviceGetTotalEnergyConsumption", "NVML_FI_DEV_POWER_INSTANT"
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")


def tuning(seed, *, epochs=3, steps=60, events=()):
    """Rows of a tuning run: load, then epochs of steps of about 0.9 s at a noisy plateau, each with an evaluation and a pause.

    Above 330 W the power cap holds the clocks down. `events` are `(epoch, event)`, at an epoch's start.
    """
    chance, at = random.Random(seed), 0.0
    rows = [TraceRow(0.0, IDLE_W, 0, GIB, pynvml.nvmlClocksEventReasonGpuIdle)]
    at += 4.0
    rows.append(TraceRow(at, 110.0, 7, 9 * GIB))
    at += 6.5
    for epoch in range(epochs):
        for step in range(steps):
            watts = min(345.0, chance.gauss(318.0, 14.0))
            reasons = pynvml.nvmlClocksEventReasonSwPowerCap if watts > 330 else 0
            event = next((name for when, name in events if when == epoch and step == 0), "")
            rows.append(TraceRow(at, watts, chance.randint(92, 100), 31 * GIB, reasons, event))
            at += chance.uniform(0.7, 1.1)
        rows.append(TraceRow(at, 205.0, 64, 33 * GIB))
        at += 7.3
        rows.append(TraceRow(at, IDLE_W + chance.uniform(0, 4), 0, 31 * GIB, pynvml.nvmlClocksEventReasonGpuIdle))
        at += 2.2
    return [*rows, TraceRow(at, IDLE_W, 0, GIB, pynvml.nvmlClocksEventReasonGpuIdle)]


def drawn(rows, until=None):
    """Joules of a trace by its own rows."""
    ends = [row.seconds for row in rows[1:]] + [rows[-1].seconds]
    return sum(row.watts * (end - row.seconds) for row, end in zip(rows, ends, strict=True) if until is None or end <= until)


def replay(gpu, rows, *others, visible=None):
    """Follow a trace at 1 Hz to its end; the usage of the whole."""
    clock = ManualClock(1000.0)
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with (
        FakeNvml([gpu, *others], clock=clock).installed(),
        Meter(clock=clock, sample_interval_seconds=None, environ=environ) as meter,
    ):
        gpu.follow(rows)
        with meter.window() as window:
            while clock() < 1000.0 + rows[-1].seconds:
                clock.advance(min(1.0, 1000.0 + rows[-1].seconds - clock()))
                meter.sample()
    return window.usage


@pytest.mark.parametrize("seed", range(3))
def test_by_counter_the_energy_is_right_to_a_step(seed):
    rows = tuning(seed)
    usage = replay(FakeGpu(power_w=IDLE_W), rows)
    assert usage.gpu_board_energy_j == pytest.approx(drawn(rows), abs=2 * 0.1 * 345)
    assert usage.devices[0].energy_source == "counter"
    assert usage.gpu_peak_memory_bytes == 33 * GIB
    capped = sum(b.seconds - a.seconds for a, b in itertools.pairwise(rows) if a.reasons & 4)
    assert capped > 10
    assert usage.gpu_throttled_seconds == pytest.approx(capped, rel=0.35), "a sample a second of states that last about one"


@pytest.mark.parametrize(("missing", "way"), [({COUNTER}, "instant_power"), ({COUNTER, INSTANT}, "average_power")])
def test_without_the_counter_power_once_a_second_is_within_its_stated_error(missing, way):
    rows = tuning(7)
    usage = replay(FakeGpu(power_w=IDLE_W, unsupported=missing), rows)
    assert usage.devices[0].energy_source == way
    assert usage.gpu_board_energy_j == pytest.approx(drawn(rows), rel=usage.errors["gpu_board_energy_j"])


def test_a_model_is_within_its_stated_error():
    rows = tuning(7)
    gpu = FakeGpu(power_w=IDLE_W, power_limit_w=350, unsupported={COUNTER, "nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage"})
    usage = replay(gpu, rows)
    assert usage.devices[0].energy_source == "model"
    assert usage.gpu_board_energy_j == pytest.approx(drawn(rows), rel=usage.errors["gpu_board_energy_j"])


def test_a_driver_reload_and_a_counter_that_goes_away_are_bridged_by_power():
    rows = tuning(11, events=((1, "reset"), (2, COUNTER)))
    usage = replay(FakeGpu(power_w=IDLE_W), rows)
    assert usage.devices[0].energy_source == "counter + instant_power"
    assert usage.gpu_board_energy_j == pytest.approx(drawn(rows), rel=0.02)
    assert 0.05 < usage.errors["gpu_board_energy_j"] < 0.1
    assert not usage.partial


def test_a_metric_that_goes_away_is_dropped_alone():
    rows = tuning(13, events=((1, REASONS[0]), (2, REASONS[1])))
    usage = replay(FakeGpu(power_w=IDLE_W), rows)
    assert usage.gpu_throttled_seconds is None
    assert usage.gpu_board_energy_j == pytest.approx(drawn(rows), abs=2 * 0.1 * 345)
    assert usage.gpu_busy_seconds is not None


def test_a_card_that_falls_off_the_bus_makes_the_window_partial():
    rows = tuning(17, events=((2, "lost"),))
    usage = replay(FakeGpu(power_w=IDLE_W), rows)
    assert usage.partial
    assert (usage.gpu_board_energy_j, usage.gpu_busy_seconds) == (None, None)
    assert usage.gpu_seconds == pytest.approx(rows[-1].seconds)


def test_a_slice_of_a_card_gets_its_share_of_the_trace():
    rows = tuning(19)
    board = FakeGpu(uuid="GPU-a", power_w=IDLE_W, memory_bytes=80 * GIB)
    mig = FakeGpu(uuid="MIG-1", memory_bytes=20 * GIB, parent=board, unsupported={"nvmlDeviceGetUtilizationRates", *REASONS})
    usage = replay(board, rows, mig, visible="MIG-1")
    assert usage.gpu_board_energy_j == pytest.approx(drawn(rows) / 4, abs=2 * 0.1 * 345)
    assert (usage.devices[0].energy_source, usage.gpu_busy_seconds) == ("model", None)
