"""Stand-ins for what a test should not need: time, a GPU, a meter, a real model. They ship with the package.

meter  a clock moved by hand, and a meter on it
nvml   `FakeNvml`: GPUs that do not exist, under the real bindings
tiny   tasks and models so small that a sweep takes seconds
"""

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
