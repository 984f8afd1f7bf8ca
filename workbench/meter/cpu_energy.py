"""Joules of the processors: read from RAPL where the kernel lets us, else estimated by a stated linear model."""

from __future__ import annotations

from pathlib import Path

from workbench.meter.processors import AVERAGE, CpuPower

RAPL_ERROR = 0.1
"""Relative uncertainty of our share of the packages' energy. The readings themselves follow plug power closely from Haswell on
(Khan et al., "RAPL in Action", ACM TOMPECS 3(2), 2018); the 10 % are our allowance for sharing by CPU time, as if a
CPU second of every process drew the same."""


def estimated_joules(seconds: float, cpu_seconds: float, cpus: float, watts: CpuPower = AVERAGE) -> float:
    """Energy of `cpus` logical CPUs held for `seconds`, of which `cpu_seconds` were busy.

    joules = seconds x cpus x idle_w + cpu_seconds x (busy_w - idle_w), the methodology's
    `Min Watts + utilisation x (Max Watts - Min Watts)` times time. All idle power of the CPUs we may
    use is charged, used or not: they are ours while the window is open.
    """
    return seconds * cpus * watts.idle_w + cpu_seconds * (watts.busy_w - watts.idle_w)


def estimate_source(cpus: float, model: str, watts: CpuPower = AVERAGE) -> str:
    """How `estimated_joules` got its number, for `Usage.sources`."""
    return (
        f"estimated: {cpus:g} logical CPUs of {model!r} at {watts.busy_w} W busy, {watts.idle_w} W idle each, idle charged "
        f"(cloud-vcpu-linear, {watts.basis})"
    )


class Rapl:
    """Energy counters of the processor packages, under `/sys/class/powercap`.

    Only top-level zones named `package-N` are added up: core, uncore and dram lie inside or beside
    them, psys holds them, and `intel-rapl-mmio` shows the same package a second time.
    Reading them needs root on most kernels since 2020 (CVE-2020-8694).
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._joules = 0.0
        self._last: dict[Path, int] = {}
        for zone in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
            if zone.name.count(":") == 1 and _text(zone / "name").startswith("package"):
                value = _number(zone / "energy_uj")
                if value is not None:
                    self._last[zone] = value

    @property
    def zones(self) -> tuple[str, ...]:
        """Names of the readable packages, e.g. `("package-0",)`; empty where there is none."""
        return tuple(_text(zone / "name") for zone in self._last)

    def read(self) -> float | None:
        """Joules of all packages since this object was made; None without a zone or where one cannot be read now.

        A counter that fell has wrapped once at its `max_energy_range_uj`. That takes minutes at
        full power (262 kJ: 15 minutes at 300 W), so a reading a second misses no second turn.
        """
        now = {zone: _number(zone / "energy_uj") for zone in self._last}
        if not now or None in now.values():
            return None
        for zone, value in now.items():
            assert value is not None
            grown = value - self._last[zone]
            # A counter that seems to fall has wrapped; one without a known range counts as not having moved.
            if grown < 0:
                grown += _number(zone / "max_energy_range_uj") or -grown
            self._joules += grown / 1e6
            self._last[zone] = value
        return self._joules

    @property
    def source(self) -> str:
        """How `cpu_energy_j` is got from these zones, for `Usage.sources`."""
        return f"rapl {'+'.join(self.zones)}, our share by CPU time of all processes on the host"


def shared_joules(package_j: float, ours_s: float, host_s: float, held: float = 1.0) -> float:
    """Our part of the packages' energy: our CPU seconds over those of all processes on the host, at most all of it.

    So an idle host's standing power falls on whoever computes, and the shares of all processes sum to the whole.
    Without any CPU second on the host to share by, ours is `held`, the share of the host that we hold (0 to 1).
    """
    return package_j * min(1.0, ours_s / host_s) if host_s > 0 else package_j * held


def _text(path: Path) -> str:
    """Text of a small system file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    """The whole number in a small system file, or None."""
    text = _text(path)
    return int(text) if text.isdigit() else None
