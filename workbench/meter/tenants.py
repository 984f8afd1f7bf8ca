"""The tenants of the host and its GPUs, and what falls on each: the meter's totals, split at every reading.

A reading is taken whenever a tenant comes or goes, so between two readings the tenants are the same. Of each interval

- the host's seconds are split equally among our tenants; strangers, which are processes of others, do not count, because
  the machine is ours;
- CPU time and bytes go to the tenant whose process tree used them; tenants in one process split that tree's by the work
  that they reported, or else equally;
- a GPU's seconds are split equally among our tenants: they are what is rented, whoever else computes on it;
- its idle energy is split equally among all who have the GPU, strangers too; its busy seconds and the rest of its energy
  are split by the utilisation of their processes, else by work reported, else equally (`shares.weigh`).

A stranger on a GPU, a compute process of no tenant, bears a part of its energy as one party, but only where NVML lists a
process of ours too. Otherwise NVML knows us by other ids (we are in a container), and a stranger may be ourselves.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from workbench.errors import UsageError
from workbench.meter.gpu_energy import Amounts, Gpu
from workbench.meter.host import ProcessTree, TreeReading
from workbench.meter.shares import METHODS, Party, apportion, split, weigh

if TYPE_CHECKING:
    from workbench.meter.meter import Meter, Window
    from workbench.meter.readings import Reading

STEADY_NS = 100_000_000
"""Intervals shorter than 0.1 s, which the edges of windows cut out, keep the weights of the interval before: within such an
interval it would depend on chance whose step happens to end."""


class Group(NamedTuple):
    """Whom NVML tells apart on a GPU: the process tree of one or more tenants, or one stranger.

    Attributes:
        pid: Root of the tree, None for that of the meter's own process; or the stranger's process.
        stranger: Whether it is a process of no tenant.
    """

    pid: int | None
    stranger: bool = False


class Share(NamedTuple):
    """Running totals of what fell on one tenant.

    Attributes:
        held_ns: Time of the host.
        cpu_ns: CPU time.
        read_bytes: Bytes read from storage; None from when they are unknown.
        write_bytes: Bytes written to storage, likewise.
        gpus: The amounts of each GPU.
        ways_ns: How long each GPU was split in each of `shares.METHODS`; all 0 while it was not split.
    """

    held_ns: int = 0
    cpu_ns: int = 0
    read_bytes: int | None = 0
    write_bytes: int | None = 0
    gpus: tuple[Amounts, ...] = ()
    ways_ns: tuple[tuple[int, ...], ...] = ()


class Tenant:
    """A user of the meter's host and GPUs, alone or beside others. `Meter.hold` makes one; `close` or a `with` block ends it.

    Attributes:
        pid: Root of its process tree; None for the meter's own process.
        name: A label for readers.
        share: Running totals of what fell on it so far; the meter adds to them at every reading.
        weight: Work that it reported in the last steady interval.
        is_open: Whether it still gets shares.
    """

    def __init__(self, meter: Meter, pid: int | None, name: str, gpus: int) -> None:
        self.pid, self.name = None if pid == os.getpid() else pid, name
        self.share = Share(gpus=(Amounts(),) * gpus, ways_ns=((0,) * len(METHODS),) * gpus)
        self.weight, self.is_open = 0.0, True
        self._meter, self._reported = meter, deque[float]()

    @property
    def group(self) -> Group:
        """The process tree that it is one of."""
        return Group(self.pid)

    def window(self) -> Window:
        """Open a window of this tenant's share. It closes with the tenant at the latest."""
        return self._meter.open_window(self)

    def work(self, amount: float) -> None:
        """Report work done since the last report, in any unit common to the tenants, e.g. tokens; cheap, at any time.

        Raises:
            UsageError: `amount` is negative or not finite.
        """
        if not (math.isfinite(amount) and amount >= 0):
            raise UsageError(f"work is a finite amount of at least 0, got {amount!r}; report what was done since the last report")
        self._reported.append(amount)

    def settle_work(self, interval_ns: int) -> None:
        """Make what was reported the weight of this interval, if the interval is long enough to tell anything."""
        if interval_ns >= STEADY_NS:
            self.weight = math.fsum(self._reported.popleft() for _ in range(len(self._reported)))

    def close(self) -> None:
        """Let go: close this tenant's windows and take no more shares. Closing twice is harmless."""
        self._meter.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Tenants:
    """The tenants of one meter that are open."""

    def __init__(self) -> None:
        self.open: list[Tenant] = []
        self._trees: dict[int, ProcessTree] = {}
        self._last: Reading | None = None

    def add(self, tenant: Tenant, gpus: Sequence[Gpu]) -> None:
        """Take in one more, right after a reading."""
        if tenant.pid is not None and tenant.pid not in self._trees:
            tree = self._trees[tenant.pid] = ProcessTree(tenant.pid)
            if self._last is not None:  # its first interval begins now
                self._last = self._last._replace(trees={**self._last.trees, tenant.pid: tree.read()})
        self.open.append(tenant)
        if len({each.pid for each in self.open}) > 1:
            # NVML hands out samples by process since the last call: those of before would be charged to the newcomer.
            for gpu in gpus:
                gpu.busy_by_process()

    def remove(self, tenant: Tenant) -> None:
        """Let one go, right after a reading."""
        self.open.remove(tenant)
        if tenant.pid is not None and all(other.pid != tenant.pid for other in self.open):
            del self._trees[tenant.pid]

    def forget(self) -> None:
        """Drop all: in a forked child they are the parent's."""
        self.open, self._trees, self._last = [], {}, None

    def read_trees(self) -> dict[int, TreeReading]:
        """Read the process trees of tenants that have one of their own, by root."""
        return {pid: tree.read() for pid, tree in self._trees.items()}

    def pids(self, tenant: Tenant, ours: Collection[int]) -> Collection[int]:
        """Process ids of a tenant's tree as last read, `ours` being those of the meter's process."""
        return ours if tenant.pid is None or tenant.pid not in self._trees else self._trees[tenant.pid].pids

    def settle(self, now: Reading, gpus: Sequence[Gpu], ours: Collection[int]) -> None:
        """Split the interval since the last reading among those who held it. `ours` are the ids of the meter's process tree."""
        last, self._last = self._last, now
        if last is None or not self.open:
            return
        interval_ns = now.at_ns - last.at_ns
        for tenant in self.open:
            tenant.settle_work(interval_ns)
        # Shares are whole nanoseconds, so that those of all tenants sum to the interval exactly.
        held_ns = apportion(interval_ns, [1] * len(self.open))
        cpu_ns, read, written = self._by_tree(last, now, ours)
        # A share is only ever added to: two readings of a tenant can then be subtracted like two of the meter.
        spans = zip(gpus, last.gpus, now.gpus, strict=False)  # a fake meter has no GPU to read
        by_gpu = [self._of_gpu(gpu, b.amounts.minus(a.amounts), ours) for gpu, a, b in spans]
        for i, tenant in enumerate(self.open):
            share = tenant.share
            tenant.share = Share(
                share.held_ns + held_ns[i],
                share.cpu_ns + cpu_ns[i],
                None if share.read_bytes is None or read is None else share.read_bytes + read[i],
                None if share.write_bytes is None or written is None else share.write_bytes + written[i],
                tuple(old.plus(parts[i]) for old, (parts, _) in zip(share.gpus, by_gpu, strict=False)),
                tuple(
                    tuple(ns + interval_ns * (method in ways) for ns, method in zip(old, METHODS, strict=True))
                    for old, (_, ways) in zip(share.ways_ns, by_gpu, strict=False)
                ),
            )

    def _by_tree(self, last: Reading, now: Reading, ours: Collection[int]) -> tuple[list[int], list[int] | None, list[int] | None]:
        """CPU time, bytes read and bytes written of each tenant in the interval."""
        roots = [pid for pid in now.trees if pid in last.trees]
        grown = [_grown(last.trees[pid], now.trees[pid]) for pid in roots]
        whole = _grown(last.tree, now.tree)
        inside = [pid in ours for pid in roots]
        parts: list[list[int] | None] = []
        for kind, total in enumerate(whole):
            amounts = [tree[kind] for tree in grown]
            if total is None or any(amount is None for amount in amounts):
                parts.append(None)
                continue
            by_root = _under(total, dict(zip(roots, [amount or 0 for amount in amounts], strict=True)), inside)
            parts.append(self._within_groups(by_root))
        assert parts[0] is not None, "CPU time is always known"
        return parts[0], parts[1], parts[2]

    def _within_groups(self, by_root: Mapping[int | None, int]) -> list[int]:
        """The tenants' parts of what their trees used: by work reported in the tree, else equally."""
        parts = [0] * len(self.open)
        for root, amount in by_root.items():
            members = [i for i, tenant in enumerate(self.open) if tenant.pid == root]
            if members:
                for i, part in zip(members, apportion(amount, [self.open[i].weight for i in members]), strict=True):
                    parts[i] = part
        return parts

    def _of_gpu(self, gpu: Gpu, used: Amounts, ours: Collection[int]) -> tuple[list[Amounts], tuple[str, ...]]:
        """The tenants' parts of one GPU's interval, and how the part that depends on use was split."""
        # The common case, one worker on one GPU: nothing is split, and no utilisation by process is asked for.
        if len(self.open) == 1 and not gpu.processes:
            return [used], ()
        # In a container NVML lists host pids, of which none is ours: then nobody on the GPU can be told from ourselves, and a
        # stranger must not be charged to us, nor we to a stranger.
        owners = self._owners(ours)
        told_apart = gpu.processes.keys() & (owners.keys() | set(ours))
        strangers = [pid for pid in gpu.processes if pid not in owners] if told_apart else []
        parties = [Party(tenant.group, tenant.weight) for tenant in self.open]
        parties += [Party(Group(pid, stranger=True)) for pid in strangers]
        busy = None
        if len({party.group for party in parties}) > 1 and told_apart:
            busy = _by_group(gpu.busy_by_process(), owners)
        untold = bool(gpu.processes) and (not told_apart or (busy is None and bool(strangers)))
        weights, ways = weigh(parties, busy)
        nothing = [0] * len(strangers)
        # Rent is due whoever computes: held time goes to tenants alone. Strangers bear energy, never rent.
        equal = [1] * len(self.open)
        idle_uj, busy_ns = gpu.idle_uj(used.held_ns), apportion(used.busy_ns, weights)
        columns = [
            [*apportion(used.held_ns, equal), *nothing],
            busy_ns,
            *([*apportion(ns, equal), *nothing] for ns in (used.throttled_ns, used.overheated_ns)),
            [sum(busy_ns[len(self.open) :]) if busy else 0] * len(parties),
            [used.held_ns if untold else 0] * len(parties),
            *(split(energy_uj, idle_uj, weights) for energy_uj in used.by_way_uj),
        ]
        return [Amounts(*row) for row in list(zip(*columns, strict=True))[: len(self.open)]], ways

    def _owners(self, ours: Collection[int]) -> dict[int, Group]:
        """The group of each process that belongs to a tenant: where trees lie in one another, that of the smallest."""
        trees = {tenant.group: self.pids(tenant, ours) for tenant in self.open}
        owners: dict[int, Group] = {}
        # A worker of ours lies in our own tree too: the smallest tree that holds a process is the one that means it.
        for group, pids in sorted(trees.items(), key=lambda item: len(item[1])):
            for pid in pids:
                owners.setdefault(pid, group)
        return owners


def _by_group(busy: Mapping[int, float] | None, owners: Mapping[int, Group]) -> dict[Group, float] | None:
    """Utilisation by group: that of each tenant's process tree, and of each stranger by itself."""
    if busy is None:
        return None
    by_group: dict[Group, float] = {}
    for pid, utilisation in busy.items():
        group = owners.get(pid, Group(pid, stranger=True))
        by_group[group] = by_group.get(group, 0.0) + utilisation
    return by_group


def _grown(last: TreeReading, now: TreeReading) -> tuple[int | None, ...]:
    """Growth of CPU time, bytes read and bytes written; None where unknown."""
    pairs = ((last.cpu_ns, now.cpu_ns), (last.read_bytes, now.read_bytes), (last.write_bytes, now.write_bytes))
    return tuple(None if a is None or b is None else b - a for a, b in pairs)


def _under(total: int, by_root: Mapping[int, int], inside: Sequence[bool]) -> dict[int | None, int]:
    """What each held tree used, and under None what our own process and the rest of its tree did, so that they sum to `total`.

    Trees are read one after the other, so those inside ours may have grown by more than the whole had when it was read: then they
    share the whole. Trees outside ours are not in `total` and come on top.
    """
    nested = {pid: amount for (pid, amount), within in zip(by_root.items(), inside, strict=True) if within}
    if sum(nested.values()) > total:
        nested = dict(zip(nested, apportion(total, list(nested.values())), strict=True))
    by_tree: dict[int | None, int] = {None: total - sum(nested.values())}
    return by_tree | {pid: nested.get(pid, amount) for pid, amount in by_root.items()}
