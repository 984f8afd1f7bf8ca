"""Usage is a sum type of physics: what holds for every pair of windows."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.usage import PHASES, DeviceUsage, Usage, Work, add_phases, total

KNOWN = st.integers(0, 2**40).map(lambda n: n / 1024)  # exact in binary, so sums are too
AMOUNTS = st.one_of(st.none(), KNOWN)
COUNTS = st.one_of(st.none(), st.integers(0, 2**50))
WORKS = st.builds(
    Work,
    steps=st.integers(0, 2**30),
    examples=st.integers(0, 2**30),
    tokens=st.integers(0, 2**40),
    padded_tokens=st.integers(0, 2**40),
    flops=AMOUNTS,
    formula=st.sampled_from(["", "f-1"]),
)
DEVICES = st.builds(
    DeviceUsage,
    uuid=st.sampled_from(["GPU-a", "GPU-b"]),
    name=st.just("L40S"),
    seconds=KNOWN,
    gpu_board_energy_j=AMOUNTS,
    busy_seconds=AMOUNTS,
    throttled_seconds=AMOUNTS,
    peak_memory_bytes=COUNTS,
    energy_source=st.sampled_from(["counter", "model"]),
    energy_error=st.sampled_from([None, 0.25, 0.5]),
    shared_by=st.sampled_from(["", "equal"]),
    partial=st.booleans(),
)
USAGES = st.builds(
    Usage,
    others_seconds=KNOWN,
    gpu_throttled_seconds=AMOUNTS,
    io_read_bytes=COUNTS,
    io_write_bytes=COUNTS,
    devices=st.lists(DEVICES, max_size=2, unique_by=lambda d: d.uuid).map(tuple),
    work=WORKS,
    partial=st.booleans(),
    seconds=KNOWN,
    cpu_seconds=AMOUNTS,
    cpu_energy_j=AMOUNTS,
    peak_memory_bytes=COUNTS,
    gpu_seconds=AMOUNTS,
    gpu_board_energy_j=AMOUNTS,
    gpu_busy_seconds=AMOUNTS,
    gpu_peak_memory_bytes=COUNTS,
    sources=st.dictionaries(st.sampled_from(["cpu_energy_j", "cpu_seconds"]), st.sampled_from(["rapl", "estimated", "unknown"])),
    errors=st.dictionaries(st.just("cpu_energy_j"), st.sampled_from([0.25, 0.5])),
).map(lambda usage: dataclasses.replace(usage, errors={}) if usage.cpu_energy_j is None else usage)
NUMBERS = [f.name for f in dataclasses.fields(Usage) if f.name not in ("sources", "errors", "devices", "work", "partial")]
quick = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
PEAKS = {"peak_memory_bytes", "gpu_peak_memory_bytes"}


def numbers(usage):
    return {name: getattr(usage, name) for name in NUMBERS}


@quick
@given(USAGES, USAGES)
def test_addition_commutes(a, b):
    assert numbers(a + b) == numbers(b + a)


@quick
@given(USAGES, USAGES, USAGES)
def test_addition_is_associative(a, b, c):
    assert numbers((a + b) + c) == numbers(a + (b + c))


@quick
@given(USAGES)
def test_the_empty_window_adds_nothing(a):
    assert Usage() + a == a + Usage() == a


@quick
@given(USAGES, USAGES)
def test_unknown_stays_unknown_peaks_are_maxima_and_the_rest_sums(a, b):
    for name in NUMBERS:
        x, y, both = getattr(a, name), getattr(b, name), getattr(a + b, name)
        if x is None or y is None:
            assert both is None
        else:
            assert both == (max(x, y) if name in PEAKS else x + y)


@quick
@given(USAGES, USAGES)
def test_taking_a_part_out_leaves_the_rest(a, b):
    for name in NUMBERS:
        x, y, rest = getattr(a, name), getattr(b, name), getattr(a + b - b, name)
        if name not in PEAKS:
            assert rest == (None if x is None or y is None else x)


@quick
@given(USAGES)
def test_json_and_back(a):
    record = json.loads(json.dumps(a.to_json()))
    assert Usage.from_json(record) == a
    assert Usage.from_json(record | {"a_later_field": 1}) == a


def test_a_field_that_an_older_record_lacks_is_unknown():
    assert Usage.from_json({"seconds": 1.0}).cpu_energy_j is None


@quick
@given(st.lists(USAGES, max_size=4))
def test_total_is_the_sum(windows):
    result = Usage()
    for window in windows:
        result = result + window
    whole = total(windows)
    assert dataclasses.replace(whole, errors={}, devices=()) == dataclasses.replace(result, errors={}, devices=())
    assert whole.errors == pytest.approx(result.errors)
    for one, other in zip(whole.devices, result.devices, strict=True):
        assert one == dataclasses.replace(other, energy_error=one.energy_error)
        assert one.energy_error == pytest.approx(other.energy_error)


@quick
@given(st.dictionaries(st.sampled_from(PHASES), USAGES), st.dictionaries(st.sampled_from(PHASES), USAGES))
def test_phases_add_name_by_name(a, b):
    both = add_phases(a, b)
    assert set(both) == set(a) | set(b)
    assert list(both) == [name for name in PHASES if name in both]
    assert numbers(total(both.values())) == numbers(total([*a.values(), *b.values()]))


@quick
@given(USAGES, USAGES)
def test_sources_name_each_way_once_however_often_windows_are_summed(a, b):
    once, often = a + b, total([a + b] * 3)
    assert often.sources == once.sources


@quick
@given(USAGES)
def test_energy_is_unknown_when_a_part_is(a):
    parts = (a.cpu_energy_j, a.gpu_board_energy_j)
    assert a.energy_j == (None if None in parts else sum(parts))


def test_usage_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Usage().seconds = 1.0


@quick
@given(USAGES, USAGES)
def test_an_error_of_a_sum_lies_between_those_of_its_parts(a, b):
    both = (a + b).errors.get("cpu_energy_j")
    if both is not None:
        parts = [u.errors.get("cpu_energy_j", 0.0) for u in (a, b)]
        assert min(parts) - 1e-12 <= both <= max(parts) + 1e-12
        assert both * (a + b).cpu_energy_j == pytest.approx(
            sum(u.cpu_energy_j * e for u, e in zip((a, b), parts, strict=True)), abs=1e-6 if not (a + b).cpu_energy_j else None
        )


def test_a_device_keeps_its_own_sum_and_says_how_it_was_got():
    first = DeviceUsage("GPU-a", "L40S", 10.0, 1000.0, 5.0, 0.0, 7, "counter", 0.05)
    second = DeviceUsage("GPU-a", "L40S", 10.0, 3000.0, 6.0, 1.0, 5, "instant_power", 0.09, "equal", partial=True)
    (both,) = (Usage(devices=(first,)) + Usage(devices=(second,))).devices
    assert (both.seconds, both.gpu_board_energy_j, both.busy_seconds, both.peak_memory_bytes) == (20.0, 4000.0, 11.0, 7)
    assert (both.energy_source, both.shared_by, both.partial) == ("counter + instant_power", "equal", True)
    assert both.energy_error == pytest.approx((1000 * 0.05 + 3000 * 0.09) / 4000)
    assert (first + DeviceUsage("GPU-a", gpu_board_energy_j=None)).gpu_board_energy_j is None


def test_what_is_known_of_a_window_that_nobody_measured_is_its_length():
    usage = Usage.unknown(3.0, "its worker died")
    assert (usage.seconds, usage.held_seconds) == (3.0, 3.0)
    assert all(getattr(usage, name) is None for name in NUMBERS if name not in ("seconds", "others_seconds"))
    assert (usage + Usage(1.0)).cpu_seconds is None


def test_work_divides_into_speed():
    done = Usage(4.0).doing(Work(steps=2, flops=8e9, formula="f"))
    assert done.flops_per_second == 2e9
    assert Usage(4.0).flops_per_second is None
    assert (done + Usage(4.0)).flops_per_second == 1e9
    assert (Work(2, 16, 100, 120, 5.0, "f") - Work(1, 8, 40, 50, 2.0, "f")) == Work(1, 8, 60, 70, 3.0, "f")
    assert (Work(flops=None) + Work(flops=1.0)).flops is None


def test_a_window_that_nobody_measured_goes_on_at_the_rate_before():
    before = Usage(10.0, 20.0, 300.0, 7, gpu_seconds=10.0, io_read_bytes=100, sources={"cpu_energy_j": "rapl"}, work=Work(steps=3))
    after = before.at_this_rate(1.0, "its worker died")
    assert (after.seconds, after.cpu_seconds, after.cpu_energy_j, after.gpu_seconds) == (1.0, 2.0, 30.0, 1.0)
    assert (after.peak_memory_bytes, after.io_read_bytes, after.work) == (7, 10, Work())
    assert after.sources["cpu_energy_j"] == "estimated: its worker died"
    assert Usage(10.0, cpu_energy_j=None).at_this_rate(1.0, "x").cpu_energy_j is None
    assert Usage().at_this_rate(1.0, "x") == Usage.unknown(1.0, "x")
