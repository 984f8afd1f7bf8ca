"""What a window of time consumes on this host: processors, memory and GPUs, as `workbench.usage.Usage`.

    with Meter() as meter, meter.window() as window:
        ...
    print(window.usage.energy_j, window.usage.sources)

The only house of `pynvml`. Importing it loads neither `pynvml` nor `psutil`; making a `Meter` does.
"""

from workbench.meter.nvidia import Device
from workbench.meter.windows import Meter, Window

__all__ = ["Device", "Meter", "Window"]
