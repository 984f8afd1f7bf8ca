"""Stand-ins for what a test should not need: time, a GPU, a meter. They ship with the package."""

from workbench.testing.meter import FakeMeter, ManualClock
from workbench.testing.nvml import FakeGpu, FakeNvml

__all__ = ["FakeGpu", "FakeMeter", "FakeNvml", "ManualClock"]
