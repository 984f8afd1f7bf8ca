"""The CPUs and the memory that this process may use: the host's, or what its cgroup leaves, which is how containers are limited."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cpus() -> int:
    """Logical CPUs that this process may run on."""
    # A container or `taskset` may leave fewer CPUs than `os.cpu_count()` tells.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpus_held(root: Path = ROOT) -> float:
    """Logical CPUs this process may use: the smaller of its affinity and its cgroup's quota (which may be a fraction).

    Args:
        root: The file system in which `proc/` and `sys/` are looked up.
    """
    return min([float(cpus()), *_quotas(root)])


def whole_cpus(root: Path = ROOT) -> int:
    """How many processes or threads this process's CPUs keep busy: `cpus_held`, rounded down, at least 1."""
    return max(1, int(cpus_held(root)))


def memory_bytes(root: Path = ROOT) -> int:
    """Bytes of memory of this host, or the limit of our cgroup where that is smaller."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _memory(root))])


def available_bytes(root: Path = ROOT) -> int:
    """Bytes of memory that a process can still be given: by this host, and within the limit of our cgroup.

    A cgroup's limit counts pages of files that were read and can be dropped at any time; they are available.
    """
    import psutil

    left = (max(0, limit - used) for limit, used in _memory(root))
    return min([int(psutil.virtual_memory().available), *left])


def threads_within_quota(root: Path = ROOT) -> None:
    """Have OpenMP start no more threads than the cgroup's quota has CPUs, unless the user has said how many.

    Torch starts one for each core of the host. Where a container may use four of 64, these spend the quota within a part of each
    period and all wait for the next. Call it before torch is imported: its OpenMP looks at the environment once. Processes that
    are started from here inherit it. The number is read, not measured: another number of threads adds up in another order, and a
    measurement on a busy machine would change the last bits of scores from one start to the next.
    """
    if "OMP_NUM_THREADS" not in os.environ and cpus_held(root) < cpus():
        os.environ["OMP_NUM_THREADS"] = str(whole_cpus(root))


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas of this process's cgroup and of those above it."""
    for folder in _cgroups(root, "cpu"):
        text = read(folder / "cpu.max") or f"{read(folder / 'cpu.cfs_quota_us')} {read(folder / 'cpu.cfs_period_us')}"
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():  # "max" and -1 mean no limit
            yield int(quota) / int(period)


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """The limits of this process's cgroup and of those above it, and what of each is in use and cannot be dropped, in bytes."""
    # Version 2 of the interface, and version 1: there a limit is always a number, if need be a huge one.
    kinds = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for folder in _cgroups(root, "memory"):
        for limit, used, droppable in kinds:
            most, taken = (read(folder / name) or "" for name in (limit, used))
            if most.isdigit():
                stat = dict(line.split(" ", 1) for line in (read(folder / "memory.stat") or "").splitlines() if " " in line)
                spare = stat.get(droppable, "0")
                yield int(most), (int(taken) if taken.isdigit() else 0) - (int(spare) if spare.isdigit() else 0)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and of those above it, for versions 2 and 1 of the interface."""
    for line in (read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        here = base / path.strip("/")  # a container may not see its own path: then only `base` is there
        for folder in (here, *here.parents):
            yield folder
            if folder == base:
                break


def read(path: Path) -> str | None:
    """Text of a small system file, without white space at its ends, or None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
