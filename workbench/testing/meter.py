"""A clock moved by hand, and a meter on it that gives the same `Usage` every time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

from workbench.meter import Device, Meter, Window
from workbench.meter.contention import ALONE_ERROR
from workbench.meter.host import TreeReading
from workbench.meter.readings import Peaks, Reading, others_seconds
from workbench.usage import DeviceUsage, Usage


class ManualClock:
    """Seconds that move only when told to. Call it for the time, as `time.perf_counter`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass; `seconds` >= 0."""
        if seconds < 0:
            raise ValueError(f"time runs forwards only, got {seconds}")
        self.now += seconds


@dataclass(frozen=True)
class FakeHost:
    """The machine of a `FakeMeter`.

    Attributes:
        cpus: Busy logical CPUs: cpu_seconds = seconds x cpus.
        watts: Processor power: cpu_energy_j = seconds x watts.
        memory_bytes: Peak resident memory of every window.
        gpus: GPUs held, each half busy, drawing `gpu_watts` and using `memory_bytes`.
        gpu_watts: Board power of one GPU.
    """

    cpus: float = 2.0
    watts: float = 10.0
    memory_bytes: int = 1 << 30
    gpus: int = 0
    gpu_watts: float = 300.0


class FakeMeter(Meter):
    """A `Meter` that measures nothing: closing a window makes its scripted seconds pass.

    Only a window during which the clock stood still is scripted, so a window around others lasts
    as long as they do together, and a test may also move `clock` itself. All other figures follow
    from the seconds. Windows nest, overlap and may be read while open, and several may hold the host,
    equal shares each, by the real meter's code.

    Args:
        seconds_per_window: Seconds of every window, or of one after another; the script must not run out.
        clock: The clock to move.
        host: The machine; None: one of two busy CPUs and no GPU.
        unknown: Names of `Usage` fields that this meter cannot measure: they are None.
        stalled_share: Share of each window by which others made it longer, 0 to 1; may be changed while the meter is in use.
    """

    def __init__(
        self,
        seconds_per_window: float | Iterable[float] = 1.0,
        *,
        clock: ManualClock | None = None,
        host: FakeHost | None = None,
        unknown: Collection[str] = (),
        stalled_share: float = 0.0,
    ) -> None:
        self.clock = clock or ManualClock()
        super().__init__(clock=self.clock, sample_interval_seconds=None, gpu=False)
        self.host = host or FakeHost()
        self.devices = tuple(Device(i, f"GPU-fake-{i}", "fake", None) for i in range(self.host.gpus))
        script = seconds_per_window if isinstance(seconds_per_window, Iterable) else repeat(seconds_per_window)
        self._script: Iterator[float] = iter(script)
        self._unknown = tuple(unknown)
        self.stalled_share = stalled_share

    @property
    def description(self) -> dict[str, Any]:
        """The keys of a real meter, the same on every machine."""
        gpus = [asdict(device) for device in self.devices]
        return dict.fromkeys(super().description) | {"host": "fake", "cpu": "fake", "cpus_held": self.host.cpus, "gpus": gpus}

    def measure(self) -> Reading:
        return Reading(self.clock(), TreeReading(0, self.host.memory_bytes, self.host.memory_bytes))

    def usage_of(self, window: Window, close: bool = False) -> Usage:
        # A window during which time passed otherwise, by an inner
        # window or by the test, takes nothing from the script.
        if close and window.final is None and self.clock() == window.opening.at:
            seconds = next(self._script, None)
            assert seconds is not None, "the script of this FakeMeter has run out"
            self.clock.advance(seconds)
        return super().usage_of(window, close)

    def usage_between(self, first: Reading, last: Reading, peaks: Peaks) -> Usage:
        seconds, others_s = last.at - first.at, others_seconds(first, last)
        # What is shared is split by the real meter's
        # code: only this holder's part makes its figures.
        held_s = seconds - others_s
        numbers: dict[str, float | None] = {
            "seconds": seconds,
            "cpu_seconds": held_s * self.host.cpus,
            "cpu_energy_j": held_s * self.host.watts,
            "peak_memory_bytes": self.host.memory_bytes,
            "gpu_seconds": held_s * self.host.gpus,
            "gpu_board_energy_j": held_s * self.host.gpus * self.host.gpu_watts,
            "gpu_busy_seconds": held_s * self.host.gpus / 2,
            "gpu_peak_memory_bytes": self.host.memory_bytes if self.host.gpus else 0,
            "gpu_throttled_seconds": 0.0,
            "io_read_bytes": 0,
            "io_write_bytes": 0,
            "waited_seconds": seconds * self.stalled_share,
            "stalled_seconds": seconds * self.stalled_share,
            "stalled_energy_j": 0.0,
            "others_cpu_seconds": seconds * self.stalled_share,
        }
        figures = numbers | dict.fromkeys(self._unknown)
        sources = {name: "unknown: fake" if name in self._unknown else "fake" for name in numbers}
        devices = tuple(self._device(device, held_s, figures) for device in self.devices)
        # The estimate of the time alone is as unsure as
        # the real meter says, relative to what was lost.
        errors = {"stalled_seconds": ALONE_ERROR * (1 - self.stalled_share) / self.stalled_share} if self.stalled_share else {}
        return Usage(**figures, sources=sources, others_seconds=others_s, errors=errors, devices=devices)

    def _device(self, device: Device, held_s: float, figures: Mapping[str, Any]) -> DeviceUsage:
        """One GPU's part. What is unknown of the sum is unknown of each GPU."""
        return DeviceUsage(
            device.uuid,
            device.name,
            held_s,
            None if figures["gpu_board_energy_j"] is None else held_s * self.host.gpu_watts,
            None if figures["gpu_busy_seconds"] is None else held_s / 2,
            None if figures["gpu_throttled_seconds"] is None else 0.0,
            figures["gpu_peak_memory_bytes"],
            energy_source="unknown" if figures["gpu_board_energy_j"] is None else "fake",
        )
