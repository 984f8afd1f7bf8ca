"""A run on another machine: as measured where it is the same, scaled with a band where it is not, unknown where nothing tells."""

import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import prices
from workbench.prices import Offer, repricing
from workbench.usage import DeviceUsage, Usage, Work, total

L40S = prices.find("aws:g6e.xlarge")
H100 = prices.find("lambda:gpu_1x_h100_sxm5")
EIGHT = prices.find("aws:p5.48xlarge")
LOCAL = prices.find("local")
RENTED_CPU = Offer("p", "small", "", 0, "", "on_demand", Decimal("3.6"), "here", "2026-01-01")

ON_GPU = {
    "load": Usage(seconds=5.0, gpu_seconds=5.0, cpu_energy_j=50.0, gpu_board_energy_j=100.0),
    "train": Usage(
        seconds=100.0,
        gpu_seconds=100.0,
        cpu_energy_j=1000.0,
        gpu_board_energy_j=30_000.0,
        errors={"cpu_energy_j": 0.5, "gpu_board_energy_j": 0.1},
        devices=(DeviceUsage("GPU-1", "NVIDIA L40S", 100.0),),
    ),
    "evaluate": Usage(seconds=10.0, gpu_seconds=10.0, cpu_energy_j=100.0, gpu_board_energy_j=2000.0),
}
ON_CPU = {
    "load": Usage(seconds=5.0, cpu_energy_j=50.0),
    "train": Usage(seconds=1000.0, cpu_seconds=2000.0, cpu_energy_j=10_000.0, work=Work(steps=10, flops=362e12 * 0.15)),
    "evaluate": Usage(seconds=10.0, cpu_energy_j=100.0, work=Work(flops=362e12 * 0.15 * 2)),
}


def carried(*args, **kwargs):
    result = prices.carry(*args, **kwargs)
    assert result is not None
    return result


@pytest.mark.parametrize("name, offer", [("NVIDIA L40S", L40S), ("L40S", prices.find("crusoe:l40s-48gb (per GPU)"))])
def test_the_same_gpu_takes_what_was_measured(name, offer):
    result = carried(ON_GPU, name, offer)
    assert result.basis == result.seconds.basis == "measured"
    assert dict(result.phases) == ON_GPU
    assert result.seconds.low == result.seconds.value == result.seconds.high == 115
    assert result.usd.value == prices.usd(total(ON_GPU.values()), offer)


def test_joules_keep_their_own_uncertainty():
    energy = carried(ON_GPU, "NVIDIA L40S", L40S).energy_j
    assert energy.value == 33_250
    assert energy.low == pytest.approx(33_250 - 500 - 3000)
    assert energy.high == pytest.approx(33_250 + 500 + 3000)


def test_another_gpu_is_scaled_by_peak_and_bandwidth_in_a_band():
    result = carried(ON_GPU, "NVIDIA L40S", H100)
    peak, bandwidth = 362 / 989, 864 / 3350
    ratio = math.sqrt(peak * bandwidth)
    assert result.basis == "scaled"
    assert result.seconds.value == pytest.approx(5 + 110 * ratio)
    assert result.seconds.low == pytest.approx(5 + 110 * bandwidth / repricing.WIDENING)
    assert result.seconds.high == pytest.approx(5 + 110 * peak * repricing.WIDENING)
    assert result.phases["load"] == ON_GPU["load"]
    assert result.phases["train"].gpu_seconds == pytest.approx(100 * ratio)
    assert result.phases["train"].gpu_board_energy_j == pytest.approx(30_000 * ratio * 700 / 350)
    assert result.phases["train"].cpu_energy_j == pytest.approx(1000 * ratio)
    assert result.phases["train"].devices == ()
    assert result.usd.value == pytest.approx((5 + 110 * ratio) / 3600 * 4.29)
    assert result.energy_j.low < result.energy_j.value < result.energy_j.high
    assert "time x0.37 by peak, x0.26 by bandwidth" in result.note


def test_one_gpu_of_a_machine_of_eight_is_a_share_of_its_price():
    one, eight = carried(ON_GPU, "NVIDIA L40S", H100), carried(ON_GPU, "NVIDIA L40S", EIGHT)
    assert eight.seconds == one.seconds
    assert eight.usd.value == pytest.approx(one.seconds.value / 3600 * 55.04 / 8)


def test_a_figure_that_is_unknown_leaves_the_answer_unknown():
    assert prices.carry(ON_GPU, "NVIDIA L40S", replace(L40S, gpu="Radeon")) is None
    assert prices.carry(ON_GPU, "Radeon", L40S) is None
    assert carried(ON_GPU, "Radeon", replace(L40S, gpu="Radeon")).basis == "measured"
    assert prices.carry(ON_GPU, "NVIDIA L40S", LOCAL) is None
    assert carried(ON_GPU, "NVIDIA L40S", LOCAL, same_machine=True).basis == "measured"
    dark = {"train": replace(ON_GPU["train"], gpu_board_energy_j=None)}
    assert carried(dark, "NVIDIA L40S", H100).energy_j is None
    assert carried(dark, "NVIDIA L40S", H100).usd is not None


def test_a_run_on_two_gpus_is_not_carried_to_a_machine_with_one():
    two = {"train": replace(ON_GPU["train"], gpu_seconds=200.0, devices=(DeviceUsage("a"), DeviceUsage("b")))}
    assert prices.carry(two, "NVIDIA L40S", L40S) is None
    assert prices.carry(two, "NVIDIA L40S", EIGHT) is not None


def test_a_run_on_a_cpu_stands_on_ones_own_machine_and_is_a_guess_on_a_rented_one():
    assert carried(ON_CPU, None, LOCAL).basis == "measured"
    assert carried(ON_CPU, None, LOCAL).usd.value == pytest.approx(1015 / 3600 * 0.05)
    assert carried(ON_CPU, None, RENTED_CPU, same_machine=True).basis == "measured"
    rented = carried(ON_CPU, None, RENTED_CPU)
    assert rented.basis == "scaled"
    assert (rented.seconds.low, rented.seconds.value, rented.seconds.high) == pytest.approx((5 + 1010 / 3, 1015, 5 + 3030))


def test_a_run_on_a_cpu_is_carried_to_a_gpu_by_its_flops():
    result = carried(ON_CPU, None, L40S)
    assert result.basis == "scaled"
    assert result.phases["train"].seconds == result.phases["train"].gpu_seconds == pytest.approx(1.0)
    assert result.phases["evaluate"].seconds == pytest.approx(2.0)
    assert result.seconds.value == pytest.approx(8)
    assert (result.seconds.low, result.seconds.high) == pytest.approx((5 + 1, 5 + 9))
    assert result.phases["train"].gpu_board_energy_j == pytest.approx(350)
    assert result.phases["train"].cpu_energy_j == pytest.approx(10)
    assert result.phases["load"].gpu_seconds == 5
    assert result.usd.value == pytest.approx(8 / 3600 * 1.861)


def test_a_small_models_steps_do_not_become_free_on_a_large_gpu():
    tiny = {"train": replace(ON_CPU["train"], work=Work(steps=1000, flops=1e9))}
    assert carried(tiny, None, H100).seconds.value == pytest.approx(1000 * repricing.STEP_SECONDS)


def test_without_flops_a_cpus_run_tells_nothing_of_a_gpu():
    for flops in (0.0, None):
        assert prices.carry(ON_CPU | {"train": replace(ON_CPU["train"], work=Work(flops=flops))}, None, L40S) is None
    assert prices.carry(ON_CPU, None, replace(L40S, gpu="Radeon")) is None


def test_an_owner_without_joules_has_no_price():
    owned = replace(L40S, commitment="owned", usd_per_kwh=Decimal("0.3"))
    assert carried(ON_GPU, "NVIDIA L40S", owned).usd.low < carried(ON_GPU, "NVIDIA L40S", owned).usd.high
    assert carried({"train": replace(ON_GPU["train"], cpu_energy_j=None)}, "NVIDIA L40S", owned).usd is None


windows = st.builds(
    Usage,
    seconds=st.floats(0, 1e5, allow_subnormal=False),
    cpu_energy_j=st.none() | st.floats(0, 1e7),
    gpu_seconds=st.floats(0, 1e5, allow_subnormal=False),
    gpu_board_energy_j=st.none() | st.floats(0, 1e7),
    errors=st.fixed_dictionaries({}, optional={"cpu_energy_j": st.floats(0, 2)}),
    work=st.builds(Work, flops=st.floats(1, 1e18), steps=st.integers(0, 1000)),
)
phase_maps = st.dictionaries(st.sampled_from(["load", "pretrain", "train", "evaluate", "idle"]), windows, max_size=4)
names = st.sampled_from([None, *(m.name for m in prices.gpus())])
book = st.sampled_from(prices.load())


@given(phase_maps, names, book)
def test_bands_hold_their_value_and_nothing_becomes_negative(phases, name, offer):
    result = prices.carry(phases, name, offer)
    if result is None:
        assert name is not None
        assert not offer.gpus
        return
    for estimate in (result.seconds, result.usd, result.energy_j):
        if estimate is not None:
            slack = 1e-9 * estimate.value
            assert 0 <= estimate.low <= estimate.value + slack
            assert estimate.value <= estimate.high + slack
    assert result.phases.keys() == phases.keys()


@given(phase_maps, names, book, st.floats(0, 1e4))
def test_a_longer_run_is_never_cheaper_anywhere(phases, name, offer, more):
    longer = {p: replace(u, seconds=u.seconds + more, gpu_seconds=(u.gpu_seconds or 0) + more) for p, u in phases.items()}
    # What is held by the GPU counts where it was held at all, so both runs hold it.
    phases = {p: replace(u, gpu_seconds=max(u.gpu_seconds or 0, 1e-3)) for p, u in phases.items()}
    longer = {p: replace(u, gpu_seconds=max(u.gpu_seconds or 0, 1e-3)) for p, u in longer.items()}
    a, b = prices.carry(phases, name, offer), prices.carry(longer, name, offer)
    assert (a is None) == (b is None)
    if a is not None and a.usd is not None and b.usd is not None:
        assert b.usd.value >= a.usd.value * (1 - 1e-9)
        assert b.seconds.value >= a.seconds.value * (1 - 1e-9)


def test_what_others_caused_goes_along_with_the_time() -> None:
    """Stretched without its stalls, a disturbed window would look quiet on a slower machine, and worse on a quicker one."""
    one = replace(Usage(10.0, gpu_seconds=10.0), stalled_seconds=2.0, gpu_overheated_seconds=1.0, others_cpu_seconds=4.0)
    for times in (0.5, 3.0):
        there = repricing._scaled(one, times, 1.0, "")
        assert (there.seconds, there.stalled_seconds, there.gpu_overheated_seconds) == (10 * times, 2 * times, times)
        assert there.others_cpu_seconds == 4 * times
