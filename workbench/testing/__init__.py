"""Stand-ins for what a test should not need: time, a GPU, a meter, a real model. They ship with the package."""

from workbench.testing.meter import FakeHost, FakeMeter, ManualClock
from workbench.testing.nvml import FakeGpu, FakeNvml
from workbench.testing.tiny import TinyTask, TinyText, tiny_audio, tiny_decoder, tiny_model, tiny_seq2seq, tiny_vision

__all__ = [
    "FakeGpu",
    "FakeHost",
    "FakeMeter",
    "FakeNvml",
    "ManualClock",
    "TinyTask",
    "TinyText",
    "tiny_audio",
    "tiny_decoder",
    "tiny_model",
    "tiny_seq2seq",
    "tiny_vision",
]
