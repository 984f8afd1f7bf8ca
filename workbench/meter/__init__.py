"""What a window of time consumes on this host: processors, memory and GPUs, as `workbench.usage.Usage`.

    with Meter() as meter, meter.window() as window:
        ...
    print(window.usage.energy_j, window.usage.sources)

Trials that run side by side each become a tenant by `meter.hold(name=…)` and open their windows on that: each sees its
share, and the shares sum to what a window of the meter sees.

The only house of `pynvml`. Importing it loads neither `pynvml` nor `psutil`; making a `Meter` does.

    contention    how long our threads waited for a CPU that others used
    cpu_energy    joules of the processors, from RAPL or by a stated model
    devices       each GPU's part of a window, and their sums
    gpu_energy    joules, busy and throttled time of one GPU, as NVML shows them
    host          processor time and memory of this process and its descendants
    meter         the meter of a host, and windows of time
    processors    watts of one virtual CPU, by the kind of processor
    readings      two readings become the `Usage` between them, with sources
    shares        splits an amount among those who held a thing together
    tenants       what falls on each of several runs side by side
    visible_gpus  which GPUs CUDA shows this process
"""

import os

from workbench.meter.contention import OwnTime
from workbench.meter.gpu_energy import Device
from workbench.meter.meter import Meter, Window
from workbench.meter.tenants import Tenant

__all__ = ["Device", "Meter", "OwnTime", "Tenant", "Window", "number_gpus_as_nvml", "training_meter"]


def number_gpus_as_nvml() -> None:
    """Have CUDA number the GPUs as NVML does, unless the user has said how. Call it before CUDA is used."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def training_meter(devices: int = 1) -> Meter:
    """A meter of the GPUs that train, which are CUDA's first visible ones, and of this host's processors.

    Call it before CUDA is used: it has CUDA number the GPUs as NVML does.

    Args:
        devices: How many of them there are, >= 1: a run is billed for no others.
    """
    number_gpus_as_nvml()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(devices)] if visible is None else visible.split(",")
    return Meter(environ={"CUDA_VISIBLE_DEVICES": ",".join(names[:devices])})
