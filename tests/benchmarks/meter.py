"""What metering costs, and how right it is.

overhead   a real training step (a small torch loop), with a window open and the 1 Hz sampler running against without, in
           interleaved pairs of blocks, the order swapped from pair to pair: the median of the pairs' ratios, by the clock (which
           other work on the machine disturbs) and by CPU time (which it disturbs less). At 1 Hz the effect is smaller than the
           noise of a busy machine; so also at 50 Hz, where it is 50 times as large, divided by 50 again
calls      seconds of one reading, of reading an open window, and of opening and closing one
gnu_time   CPU seconds of a process by GNU time (/usr/bin/time -f "%U %S") against the meter around the same process
gpu        with a GPU only: board energy against an independent integration of instant power over 30 s, seconds of a reading,
           and two processes that share the card, each under a holder

    python tests/benchmarks/meter.py [--out results/meter.json] [--pairs 40] [--block-seconds 1.5]
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from workbench.meter import Meter

SPIN = """
import subprocess, sys, time
until = time.process_time() + {seconds}
while time.process_time() < until: pass
if {children}:
    subprocess.run([sys.executable, '-c', "import time\\nwhile time.process_time() < {seconds}: open('/proc/self/stat').read()"])
"""
ON_DEVICE = """
import sys, time, torch
a = torch.randn({size}, {size}, device="{where}", dtype=torch.{dtype})
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    for _ in range(20): a = (a @ a).clamp_(-1, 1)
    if "{where}" == "cuda": torch.cuda.synchronize()
    time.sleep({pause})
"""


def training_step() -> Callable[[], None]:
    """One step of a small network on this machine's processor, some milliseconds long."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    x = torch.randn(64, 256)

    def step() -> None:
        loss = torch.nn.functional.mse_loss(model(x), x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def per_step(step: Callable[[], None], steps: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a step, the sampler's in the latter."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def overhead(pairs: int, block_s: float, hz: float) -> dict[str, Any]:
    """Excess of step times with metering at `hz` over those without, and the same for one reading a second."""
    step = training_step()
    per_step(step, 50)
    steps = max(1, round(block_s / per_step(step, 100)[0]))
    rows = []
    with Meter(sample_interval_seconds=1 / hz) as meter:

        def metered() -> tuple[float, float]:
            with meter.window():
                return per_step(step, steps)

        for pair in range(pairs):
            if pair % 2:
                on, off = metered(), per_step(step, steps)
            else:
                off, on = per_step(step, steps), metered()
            rows.append((off, on))
        cost = meter.description["reading_seconds"]
    found: dict[str, Any] = {
        "sampled_hz": hz,
        "step_seconds": statistics.median(off[0] for off, _ in rows),
        "steps_per_block": steps,
        "pairs": pairs,
    }
    for kind, name in enumerate(("wall_clock", "cpu_time")):
        ratios = sorted(on[kind] / off[kind] - 1 for off, on in rows)
        quartiles = [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]]
        median = statistics.median(ratios)
        found[name] = {"median_overhead": median, "quartiles": quartiles, "median_overhead_at_1_hz": median / hz}
    return found | {"mean_reading_seconds": cost, "gpus_metered": len(meter.devices)}


def calls(repeats: int = 2000) -> dict[str, float]:
    """Median seconds of the meter's calls, without its thread."""
    with Meter(sample_interval_seconds=None) as meter, meter.window() as window:
        acts = {
            "reading": meter.sample,
            "window_read": window.read,
            "window_open_and_close": lambda: meter.window().close(),
        }
        found = {name: _median(act, repeats) for name, act in acts.items()}
        tenants = [meter.hold() for _ in range(4)]
        for tenant in tenants:
            tenant.work(1)
        found["reading_with_4_holders"] = _median(meter.sample, repeats)
        found["work_reported"] = _median(lambda: tenants[0].work(1), repeats)
    return found


def _median(act: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def gnu_time(repeats: int = 5) -> list[dict[str, float]] | None:
    """CPU seconds by GNU time and by the meter, of one process and of one with a child; None without GNU time."""
    timer = shutil.which("time")
    if timer is None:
        return None
    rows = []
    with Meter(gpu=False) as meter:
        for children in (0, 1):
            for repeat in range(repeats):
                script = SPIN.format(seconds=1.0 + repeat / 2, children=children)
                with meter.window() as window:
                    done = subprocess.run(
                        [timer, "-f", "%U %S", sys.executable, "-c", script], capture_output=True, text=True, check=True
                    )
                gnu_s = sum(map(float, done.stderr.split()))
                own_s = window.usage.cpu_seconds or 0.0
                rows.append({"children": children, "gnu_time_s": gnu_s, "meter_s": own_s, "ratio": own_s / gnu_s})
    return rows


def gpu(seconds: float = 30.0) -> dict[str, Any] | None:
    """What only a card can show; None without one."""
    if not torch.cuda.is_available():
        return None
    with Meter() as meter:
        return of_card(meter, seconds) if meter.devices else None


def of_card(meter: Meter, seconds: float, where: str = "cuda", size: int = 4096) -> dict[str, Any]:
    """What a meter tells of its first card, kept busy by products of matrices of this width; on a CPU a trial of the code."""
    return {
        "device": meter.devices[0].name,
        "driver": meter.description["gpu_driver"],
        "energy": against_instant_power(meter, seconds, where, size),
        "reading_seconds": _median(meter.sample, 200),
        "two_processes": two_processes(meter, seconds, where, size),
    }


def against_instant_power(meter: Meter, seconds: float, where: str = "cuda", size: int = 4096) -> dict[str, Any]:
    """The meter's joules against power read fifty times a second and integrated, while a process computes."""
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByUUID(meter.devices[0].uuid)
    samples: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        with contextlib.suppress(pynvml.NVMLError):  # a slice of a card has no power of its own
            samples.append((time.perf_counter(), _watts(handle)))

    def watch() -> None:
        while not stop.wait(0.02):
            look()

    load = _load(seconds + 2, 0.05, where, size)
    _start(load)
    time.sleep(min(1.0, seconds))
    thread = threading.Thread(target=watch)
    with meter.window() as window:
        look()  # at both ends, however late the thread is
        thread.start()
        time.sleep(seconds)
        stop.set()
        thread.join()
        look()
    load.communicate()
    joules = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(samples))
    measured = window.usage.devices[0]
    return {
        "seconds": window.usage.seconds,
        "meter_j": measured.gpu_board_energy_j,
        "source": measured.energy_source,
        "stated_error": measured.energy_error,
        "integrated_j": joules,
        "samples": len(samples),
        "ratio": (measured.gpu_board_energy_j or 0.0) / joules if joules else None,
    }


def _watts(handle: Any) -> float:
    """Power of a board at this instant, or as the driver averages it where it tells that alone. Raises NVMLError."""
    import pynvml

    value = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
    if value.nvmlReturn == pynvml.NVML_SUCCESS:
        return float(value.value.uiVal) / 1e3
    return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1e3


def two_processes(meter: Meter, seconds: float, where: str = "cuda", size: int = 4096) -> dict[str, Any]:
    """Two processes on the card, one at work all the time and one now and then: their shares, and that they sum to the whole."""
    loads = [_load(seconds, pause, where, size) for pause in (0.0, 0.1)]
    whole = meter.window()
    tenants = [meter.hold(pid=load.pid) for load in loads]
    windows = [tenant.window() for tenant in tenants]
    _start(*loads)
    for load in loads:
        load.wait()
    holders_usage = [window.close() for window in windows]
    for tenant in tenants:
        tenant.close()
    total = whole.close()
    return {
        "shares_j": [usage.gpu_board_energy_j for usage in holders_usage],
        "total_j": total.gpu_board_energy_j,
        "shared_by": [usage.devices[0].shared_by for usage in holders_usage],
        "busy_seconds": [usage.gpu_busy_seconds for usage in holders_usage],
    }


def _load(seconds: float, pause: float, where: str, size: int) -> "subprocess.Popen[bytes]":
    """A process that is ready to compute on the card."""
    dtype = "float16" if where == "cuda" else "float32"
    script = ON_DEVICE.format(size=size, seconds=seconds, pause=pause, where=where, dtype=dtype)
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def _start(*loads: "subprocess.Popen[bytes]") -> None:
    for load in loads:
        assert load.stdin is not None
        load.stdin.write(b"\n")
        load.stdin.flush()


def main() -> None:
    """Run all that this machine can, and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "meter.json")
    options.add_argument("--pairs", type=int, default=40)
    options.add_argument("--block-seconds", type=float, default=1.5)
    chosen = options.parse_args()
    with Meter() as meter:
        description = meter.description
    kept = ("system", "cpu", "logical_cpus", "cpus_held", "memory_bytes", "gpus", "gpu_driver", "gpu_absence", "cpu_energy_source")
    record = {
        "what": __doc__,
        "machine": {name: description[name] for name in kept},
        "load_average": os.getloadavg(),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in ("torch", "psutil", "nvidia-ml-py")},
        "gpu": gpu(),
        "calls_seconds": calls(),
        "gnu_time": gnu_time(),
        "overhead": [overhead(chosen.pairs, chosen.block_seconds, 1.0), overhead(2 * chosen.pairs, chosen.block_seconds / 3, 50.0)],
    }
    chosen.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: record[name] for name in ("calls_seconds", "gnu_time", "overhead", "gpu")}, indent=1))


if __name__ == "__main__":
    main()
