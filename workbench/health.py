"""What a machine has for tuning: device, meters, versions, stores; and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from workbench import carbon, cgroups, ledger, prices, settings, tracking, training
from workbench.data import cache
from workbench.data.builtin import MODELS
from workbench.errors import WorkbenchError
from workbench.meter import Meter

PACKAGES = ("torch", "transformers", "peft", "optuna", "mlflow", "datasets", "streamlit", "plotly")
LEAST_FREE_BYTES = 4 << 30
"""States of runs take up to 2 GiB, weights of a front as much again."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `state` is `ok`, `note` (works, worth knowing) or `fail`; `advice` says what to do."""

    subject: str
    state: str
    text: str
    advice: str = ""


def examine(storage: str, tracking_uri: str, folder: Path) -> list[Finding]:
    """Look at this machine and the stores, changing nothing."""
    return [
        *_versions(),
        *_device(),
        *_bindings(),
        *_meters(),
        *_models(),
        *_prices(),
        *_home(),
        *_disk(folder),
        *_stores(storage, tracking_uri),
    ]


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    missing = []
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", "ok", ", ".join(found))
    if missing:
        yield Finding("packages", "fail", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")


def _device() -> Iterator[Finding]:
    import torch

    precision = "bfloat16" if training.has_bfloat16(training.device().type) else "float32"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield Finding("device", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, trains in {precision}")
    else:
        wide = f" (models of width {training.WIDE} or more)" if precision == "bfloat16" else ""
        free = f"{cgroups.available_bytes() / 2**30:.1f} of {cgroups.memory_bytes() / 2**30:.1f} GiB free"
        yield Finding("device", "note", f"no GPU: trains on {torch.get_num_threads()} CPU threads in {precision}{wide}, {free}")
    yield _barriers()


def _barriers() -> Finding:
    """What OpenMP's threads do while they wait for each other, and how many of them were asked for."""
    found = {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS") if name in os.environ}
    told = ", ".join(f"{name}={value}" for name, value in found.items())
    if found.get("OMP_WAIT_POLICY", "").lower() == "active":
        text = f"they spin at barriers ({told}): beside other programs runs take many times as long"
        return Finding("CPU threads", "note", text, "Unset OMP_WAIT_POLICY on a machine that does other work too.")
    return Finding("CPU threads", "ok", f"they sleep at barriers ({told})")


def _bindings() -> Iterator[Finding]:
    """Whether an old `pynvml` hides nvidia-ml-py: before version 12 both install a module `pynvml`,
    and the last one stays.
    """
    try:
        version = metadata.version("pynvml")
    except metadata.PackageNotFoundError:
        return
    major = re.match(r"\d+", version)
    if major and int(major[0]) < 12:  # from 12 on it holds nothing, and asks for the other
        text = f"the package pynvml {version} hides nvidia-ml-py: some figures of GPUs may be unknown"
        yield Finding("NVML bindings", "note", text, "pip uninstall pynvml, then pip install --force-reinstall nvidia-ml-py")


def _meters() -> Iterator[Finding]:
    with Meter(sample_interval_seconds=1.0) as meter:
        with meter.window() as window:
            sum(range(10**6))
        usage = window.usage
        for gpu in meter.devices:
            yield Finding("GPU meter", "ok", f"{gpu.name} ({gpu.uuid})")
        if not meter.devices:
            yield Finding("GPU meter", "note", "NVML sees no GPU; nothing is billed for one")
    source = usage.sources.get("cpu_energy_j", "unknown")
    state = "ok" if usage.cpu_energy_j is not None and not source.startswith("estimated") else "note"
    yield Finding("CPU meter", state, f"CPU time measured; energy {source}")


def _models() -> Iterator[Finding]:
    found: list[str] = []
    missing: dict[str, list[str]] = {}
    for name, of in MODELS.items():
        try:
            of.place  # noqa: B018  says where it is, or what is missing
            found.append(name)
        except WorkbenchError as error:
            # Models that lack the same package are told together, once.
            missing[str(error)] = [*missing.get(str(error), []), name]
    if found:
        yield Finding("built-in models", "ok", ", ".join(found))
    for said, names in missing.items():
        fault, _, advice = said.rpartition(". ")
        yield Finding("built-in models", "note", f"{', '.join(names)}: {fault}", advice)


def _prices() -> Iterator[Finding]:
    try:
        offers, own = prices.load(), settings.load()
        carbon.intensity(prices.find(prices.DEFAULT))  # the user's grid, where one is stated
    except WorkbenchError as error:
        yield Finding("prices", "fail", str(error))
        return
    added = f", {len(own.offers) + len(own.owned)} of them from {own.path}" if own.path else ""
    yield Finding("prices", "ok", f"{len(offers)} offers{added}")
    unknown = sorted({o.gpu for o in offers if o.gpu and prices.gpu(o.gpu) is None})
    if unknown:
        text = f"no figures are known of the GPU {', '.join(unknown)}: runs on others cannot be carried over to it"
        yield Finding("prices", "note", text, "See `workbench prices` for the names of those that are known.")


def _home() -> Iterator[Finding]:
    """Say where caches go, but only where the user's home could not be used."""
    try:
        # For the whole process, and what it starts: the libraries each look for a home in their own
        # way.
        said = cache.make_home()
    except WorkbenchError as error:
        yield Finding("home", "fail", str(error))
    else:
        if said:
            advice = "What is there may be lost at any restart: set HOME or WORKBENCH_CACHE to a folder that stays."
            yield Finding("home", "note", said, "" if os.environ.get("WORKBENCH_CACHE") else advice)


def _disk(folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK):
        yield Finding("folder", "fail", f"{folder} cannot be written", "Work in a folder of your own.")
        return
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free in {folder}"
    advice = "" if free > LEAST_FREE_BYTES else "Free some space: states and weights take up to 4 GiB."
    yield Finding("disk", "note" if advice else "ok", text, advice)


def _stores(storage: str, tracking_uri: str) -> Iterator[Finding]:
    for subject, check, where in (("ledger", ledger.examine, storage), ("MLflow store", tracking.examine, tracking_uri)):
        try:
            yield Finding(subject, "ok", check(where))
        except WorkbenchError as error:
            yield Finding(subject, "fail", str(error))
