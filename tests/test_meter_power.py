"""Processor energy and limits, from system files written for the test."""

import os

import pytest

from workbench.cgroups import available_bytes, cpus_held, memory_bytes, threads_within_quota
from workbench.meter import Meter
from workbench.meter.cpu_energy import Rapl, estimated_joules, shared_joules
from workbench.meter.host import CpuTime, cpu_model
from workbench.meter.processors import AVERAGE, WATTS, cpu_power
from workbench.testing import ManualClock


def write(root, path, value):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{value}\n")
    return file


def zone(root, number, name, microjoules, wrap=262_143_328_850):
    folder = f"sys/class/powercap/{number}"
    write(root, f"{folder}/name", name)
    write(root, f"{folder}/max_energy_range_uj", wrap)
    return write(root, f"{folder}/energy_uj", microjoules)


def test_packages_are_summed_and_other_zones_left_out(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:2", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    rapl = Rapl(tmp_path)
    assert (rapl.zones, rapl.read()) == (("package-0", "package-1"), 0)
    for file, value in [(first, 8_000_000), (second, 4_000_000), *((file, 99_000_000) for file in others)]:
        file.write_text(f"{value}\n")
    assert rapl.read() == 7.0


def test_a_counter_that_wrapped(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, wrap=10_000_000)
    rapl = Rapl(tmp_path)
    for value in (9_500_000, 1_500_000, 2_500_000):
        file.write_text(str(value))
        joules = rapl.read()
    assert joules == pytest.approx(3.5)


def test_no_zone_or_one_that_went_away_is_unknown(tmp_path):
    assert Rapl(tmp_path).read() is None
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    rapl = Rapl(tmp_path)
    file.unlink()
    assert rapl.read() is None


def test_a_window_shares_the_package_and_falls_back_to_the_estimate(tmp_path, monkeypatch):
    file, clock, host_s = zone(tmp_path, "intel-rapl:0", "package-0", 0), ManualClock(), iter((0.0, 1e9, 1e9))
    monkeypatch.setattr("workbench.meter.host.cpu_time", lambda: CpuTime(next(host_s)))
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False, root=tmp_path) as meter:
        with meter.window() as window:
            file.write_text("50000000")
            clock.advance(10)
        assert 0 < window.usage.cpu_energy_j < 1e-3, "next to nothing of the host's time was ours"
        assert window.usage.sources["cpu_energy_j"].startswith("rapl package-0, our share by CPU time")
        assert meter.description["cpu_energy_source"] == window.usage.sources["cpu_energy_j"]
        file.unlink()
        host_s = iter((0.0, 1.0))
        with meter.window() as window:
            clock.advance(10)
        assert window.usage.sources["cpu_energy_j"].startswith("estimated: ")
        assert window.usage.cpu_energy_j >= 7.4 * meter.description["cpus_held"], "a processor without a name draws the average"
        assert window.usage.errors["cpu_energy_j"] == 0.5


def test_shares_never_exceed_the_whole():
    assert shared_joules(100, 1, 4) == 25
    assert shared_joules(100, 4.01, 4) == 100  # host seconds are counted in ticks
    assert shared_joules(100, 0, 0) == 100
    assert shared_joules(100, 0, 0, held=0.25) == 25


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        ("AMD EPYC 7R32", "EPYC 2nd Gen"),
        ("AMD EPYC 7B12", "EPYC 2nd Gen"),
        ("AMD EPYC 7763 64-Core Processor", "EPYC 3rd Gen"),
        ("AMD EPYC 7V73X 64-Core Processor", "EPYC 3rd Gen"),
        ("AMD EPYC-Milan Processor", "EPYC 3rd Gen"),
        ("AMD EPYC 7551P 32-Core Processor", "EPYC 1st Gen"),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "Cascade Lake"),
        ("Intel Xeon Processor (Cascadelake)", "Cascade Lake"),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", "Skylake"),
        ("Intel(R) Xeon(R) Gold 6138 CPU @ 2.00GHz", "Skylake"),
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "Broadwell"),
        ("Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz", "Haswell"),
        ("Intel(R) Xeon(R) CPU E5-2670 v2 @ 2.50GHz", "Ivy Bridge"),
        ("Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz", "Sandy Bridge"),
    ],
)
def test_a_processor_is_known_by_its_name(model, architecture):
    found = cpu_power(model)
    assert (found.idle_w, found.busy_w) == WATTS[architecture]
    assert architecture in found.basis


@pytest.mark.parametrize(
    "model",
    [
        "AMD EPYC",
        "AMD EPYC 9R14",
        "AMD EPYC 9654 96-Core Processor",
        "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz",
        "Intel(R) Xeon(R) Platinum 8481C",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz",
        "Apple M2",
        "",
    ],
)
def test_a_processor_that_is_in_no_table_gets_the_average(model):
    assert cpu_power(model) is AVERAGE


def test_a_known_processors_watts_are_used_and_named(tmp_path):
    write(tmp_path, "proc/cpuinfo", "model name\t: AMD EPYC 7R32")
    clock = ManualClock()
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False, root=tmp_path) as meter, meter.window() as window:
        clock.advance(1000)
    cpus = meter.description["cpus_held"]
    assert window.usage.cpu_energy_j == pytest.approx(1000 * cpus * 0.474 + window.usage.cpu_seconds * (1.693 - 0.474))
    assert "Cloud Carbon Footprint's EPYC 2nd Gen" in window.usage.sources["cpu_energy_j"]
    assert window.usage.errors["cpu_energy_j"] == 0.3
    assert meter.description["cpu_energy_source"] == window.usage.sources["cpu_energy_j"]


def test_tenants_share_the_package_between_their_own_ends(tmp_path, monkeypatch):
    file, clock = zone(tmp_path, "intel-rapl:0", "package-0", 0), ManualClock()
    monkeypatch.setattr("workbench.meter.host.cpu_time", CpuTime)
    with Meter(clock=clock, sample_interval_seconds=None, gpu=False, root=tmp_path) as meter:
        a, b = meter.hold(), meter.hold()
        one, two = a.window(), b.window()
        clock.advance(10)
        file.write_text("60000000")
        assert (one.read().cpu_energy_j, two.read().cpu_energy_j) == (30, 30), "without CPU time to share by, equally"
        assert one.read().errors["cpu_energy_j"] == 0.1


def test_the_estimate_at_its_ends():
    assert estimated_joules(3600, 0, 2) == pytest.approx(3600 * 2 * 0.74)
    assert estimated_joules(3600, 2 * 3600, 2) == pytest.approx(3600 * 2 * 3.5)


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b", {"a/cpu.max": "10000 100000", "a/b/cpu.max": "max 100000"}, 0.1),
        ("0::/hidden", {"cpu.max": "25000 100000"}, 0.25),
        ("4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": 30000, "cpu/a/cpu.cfs_period_us": 100000}, 0.3),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, None),
        ("4:cpuset:/", {"cpuset/cpu.max": "1 100000"}, None),
    ],
)
def test_the_cgroup_limits_the_cpus_we_hold(tmp_path, cgroup, files, limit):
    free = cpus_held(tmp_path)
    assert free >= 1
    write(tmp_path, "proc/self/cgroup", cgroup)
    for name, value in files.items():
        write(tmp_path, f"sys/fs/cgroup/{name}", value)
    assert cpus_held(tmp_path) == (limit or free)


def test_the_cgroup_limits_memory(tmp_path):
    free = memory_bytes(tmp_path)
    write(tmp_path, "proc/self/cgroup", "4:memory:/a")
    write(tmp_path, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", 1 << 20)
    assert memory_bytes(tmp_path) == 1 << 20 < free


@pytest.mark.parametrize(
    ("cgroup", "files", "left"),
    [
        ("0::/a", {"a/memory.max": "max", "a/memory.current": "5"}, None),
        ("0::/a/b", {"a/memory.max": "1000", "a/memory.current": "900", "a/memory.stat": "anon 7\ninactive_file 300"}, 400),
        ("0::/hidden", {"memory.max": "1000", "memory.current": "2000"}, 0),
        (
            "4:memory:/a",
            {
                "memory/a/memory.limit_in_bytes": 1000,
                "memory/a/memory.usage_in_bytes": 600,
                "memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 200",
            },
            600,
        ),
    ],
)
def test_memory_that_is_left_is_the_cgroups_and_files_that_can_be_dropped_count_as_free(tmp_path, cgroup, files, left):
    write(tmp_path, "proc/self/cgroup", cgroup)
    for name, value in files.items():
        write(tmp_path, f"sys/fs/cgroup/{name}", value)
    found = available_bytes(tmp_path)
    assert found == left if left is not None else found > 1 << 20


@pytest.mark.parametrize(
    ("quota", "said", "threads"), [("50000 100000", None, "1"), ("max 100000", None, None), ("50000 100000", "7", "7")]
)
def test_a_quota_bounds_the_threads_unless_the_user_has_said_how_many(tmp_path, monkeypatch, quota, said, threads):
    write(tmp_path, "proc/self/cgroup", "0::/")
    write(tmp_path, "sys/fs/cgroup/cpu.max", quota)
    monkeypatch.setenv("OMP_NUM_THREADS", said or "")
    if not said:
        monkeypatch.delenv("OMP_NUM_THREADS")
    threads_within_quota(tmp_path)
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_the_processor_has_a_name(tmp_path):
    write(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name\t: Some CPU @ 2.0GHz")
    assert cpu_model(tmp_path) == "Some CPU @ 2.0GHz"
    assert isinstance(cpu_model(tmp_path / "nowhere"), str)
