"""The fake meter: deterministic, and a meter in every other way."""

import json

import pytest

from workbench.meter import Meter
from workbench.testing import FakeHost, FakeMeter, ManualClock


def test_every_window_lasts_its_scripted_seconds():
    meter = FakeMeter([1.0, 2.5])
    with meter.window() as a:
        pass
    b = meter.window()
    assert (a.usage.seconds, b.read().seconds, b.close().seconds) == (1.0, 0.0, 2.5)
    with pytest.raises(AssertionError, match="run out"):
        meter.window().close()


def test_a_window_around_others_lasts_as_long_as_they():
    meter = FakeMeter(2)
    with meter.window() as run:
        with meter.window():
            pass
        with meter.window():
            pass
    assert run.usage.seconds == meter.clock() == 4


def test_a_clock_moved_by_hand_overrides_the_script():
    clock = ManualClock(100)
    with FakeMeter(1, clock=clock) as meter, meter.window() as window:
        clock.advance(7)
    assert window.usage.seconds == 7


def test_figures_follow_from_the_seconds():
    with FakeMeter(10, host=FakeHost(cpus=4, watts=20, memory_bytes=5, gpus=2, gpu_watts=300)).window() as window:
        pass
    usage = window.usage
    assert (usage.cpu_seconds, usage.cpu_energy_j, usage.peak_memory_bytes) == (40, 200, 5)
    assert (usage.gpu_seconds, usage.gpu_board_energy_j, usage.gpu_busy_seconds) == (20, 6000, 10)
    assert set(usage.sources.values()) == {"fake"}


def test_what_it_cannot_measure_is_unknown():
    with FakeMeter(unknown=["cpu_energy_j"]).window() as window:
        pass
    assert (window.usage.cpu_energy_j, window.usage.energy_j) == (None, None)
    assert window.usage.sources["cpu_energy_j"].startswith("unknown")


def test_it_is_described_as_a_real_one():
    meter = FakeMeter(host=FakeHost(gpus=2))
    assert len(meter.devices) == 2
    assert json.loads(json.dumps(meter.description)).keys() == Meter(gpu=False).description.keys()


def test_time_runs_forwards():
    with pytest.raises(ValueError, match="forwards"):
        ManualClock().advance(-1)
