"""A model that is larger than one device: several processes hold a part of it each, and pass through the same loop in step.

The process that holds lease, search and ledger is the first of them. It begins the others (`Shards`) and tells them through a
pipe what it is about to do, so that all of them make the same collective calls: PyTorch's fully sharded data parallel
(`fully_shard`; Zhao et al. 2023, arXiv:2304.11277) gathers each layer's weights when they are needed. Of each micro-batch every
process computes its share of the rows, and gradients are summed: a step learns what one device's would. An evaluation is made by
all of them, whole.

When the first process ends, the others read the end of their pipe and end, too. When one of the others ends, nothing more can be
computed: the first process is killed, as if it had been killed itself, and its run is put right as one that died.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from workbench.errors import UsageError
from workbench.training.batches import one_batch

if TYPE_CHECKING:
    import numpy as np
    import torch

    from workbench.formulations import Rows
    from workbench.study import Recipe
    from workbench.training.loop import Checkpoint
    from workbench.training.resume_state import ResumeState

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others in a collective call: beyond that they are no longer in step, and all of them end."""

_DYING_SECONDS = 1.0
"""How long an error of the first process is held back: if another process has ended, that is the cause, and is told by `_watch`."""


def count() -> int:
    """How many processes hold the model; 1 where it is whole."""
    import torch.distributed as group

    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def _rank() -> int:
    import torch.distributed as group

    return group.get_rank() if count() > 1 else 0


def refuse(recipe: Recipe) -> None:
    """Raise UsageError where a recipe's model cannot be held by several processes."""
    if recipe.weights == "nf4":
        raise UsageError("weights='nf4' cannot be held by several devices. Take bfloat16, or one device.")
    if recipe.parents or recipe.teacher is not None or recipe.acquire or recipe.pseudo:
        raise UsageError("a recipe that needs another model first is trained on one device. Take devices=1.")
    if recipe.method.fits or not recipe.method.trains:
        raise UsageError(f"{recipe.method.name} takes no gradient steps, and runs on one device. Take devices=1.")


# What the loop asks for


def shard(model: torch.nn.Module, where: torch.device) -> torch.nn.Module:
    """The model on its device, each process holding a part of every parameter."""
    if count() == 1:
        return model.to(where)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(where.type, (count(),))
    for layer in _layers(model):  # so that no device ever holds more than one whole layer
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.to(where)  # its buffers, which are whole everywhere


def _layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The members of the outermost lists of modules: a transformer's layers. What is in one of them belongs to it."""
    import torch

    for child in module.children():
        if not isinstance(child, torch.nn.ModuleList):
            yield from _layers(child)
            continue
        yield from (layer for layer in child if any(True for _ in layer.parameters()))


def shares(
    cut: Iterable[tuple[np.ndarray, dict[str, Any]]], rows: Rows, where: torch.device, of: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any], float]]:
    """The rows of each micro-batch that are this process's.

    Gradients are averaged over processes, so that a loss weighs as often as there are processes. Where a micro-batch has too few
    rows, one of them stands in that weighs nothing: all processes make the same passes.

    Args:
        cut: Micro-batches, as `batches.micro_batches` gives them.
        rows: All rows.
        where: The device.
        of: How many processes share them; 1: each has all of them.

    Yields:
        The rows of the micro-batch; this process's; the batch of these; what their loss weighs.
    """
    for chosen, inputs in cut:
        if of == 1:
            yield chosen, chosen, inputs, 1.0
            continue
        own = chosen[_rank() :: of]
        ((mine, batch),) = one_batch(rows, own if len(own) else chosen[:1], where)
        yield chosen, mine, batch, float(of) if len(own) else 0.0


def summed(value: torch.Tensor, of: int) -> torch.Tensor:
    """The mean over processes that share the rows of a step: with their weights, the sum over rows."""
    if of > 1:
        import torch.distributed as group

        group.all_reduce(value)
    return value / of


def least(value: int) -> int:
    """The least of the processes' values: all of them must cut their steps alike."""
    if count() == 1:
        return value
    import torch.distributed as group

    found: list[Any] = [None] * count()
    group.all_gather_object(found, value)
    return int(min(found))


def agreed(state: list[torch.Tensor]) -> list[torch.Tensor]:
    """The first process's random state, which a run is resumed from."""
    if count() == 1:
        return state
    import torch
    import torch.distributed as group

    found: list[Any] = [state]
    group.broadcast_object_list(found, device=torch.device("cpu"))
    return list(found[0])


def local(value: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds, sharing its memory; the tensor itself where it is whole."""
    return value.to_local() if hasattr(value, "to_local") else value


def whole(value: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor; all processes have to ask for it."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def placed(value: torch.Tensor, like: Any) -> torch.Tensor:
    """A whole tensor, spread over the processes as another is."""
    if not hasattr(like, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def inference(function: F) -> F:
    """As `torch.inference_mode`; where the model is shared without gradients alone, as weights that are gathered outlive a pass."""

    @functools.wraps(function)
    def asked(*args: Any, **more: Any) -> Any:
        import torch

        with torch.no_grad() if count() > 1 else torch.inference_mode():
            return function(*args, **more)

    return asked  # type: ignore[return-value]


# The processes


class Shards:
    """The other processes, as long as they are needed.

    Args:
        devices: How many processes there are, with this one. On a GPU each has one.
    """

    def __init__(self, devices: int) -> None:
        self.devices = devices
        self._folder = Path(tempfile.mkdtemp(prefix="shards-"))
        self._closing = False
        command = [sys.executable, "-P", "-m", "workbench.training.sharding", str(self._folder / "met"), str(devices)]
        self._others = [
            subprocess.Popen([*command, str(rank)], stdin=subprocess.PIPE, stdout=sys.stderr.fileno()) for rank in range(1, devices)
        ]
        for other in self._others:
            threading.Thread(target=self._watch, args=(other,), name="shard", daemon=True).start()
        _join(self._folder / "met", devices, 0)

    @property
    def pids(self) -> list[int]:
        """The other processes."""
        return [other.pid for other in self._others]

    def train(self, recipe: Recipe, resume: ResumeState | None = None, **more: Any) -> Iterator[Checkpoint]:
        """As `workbench.training.train`, by all processes. Raises UsageError where the recipe needs a whole model."""
        from workbench.training.loop import train

        refuse(recipe)
        self._tell("train", recipe, resume)
        segments = train(recipe, resume, **more)
        try:
            while True:
                self._tell("next")
                if (found := next(segments, None)) is None:
                    return
                asks: dict[str, Any] = {name: self._asking(name, getattr(found, name)) for name in _ASKED}
                yield dataclasses.replace(found, **asks)
        except Exception:
            time.sleep(_DYING_SECONDS)
            raise
        finally:
            self._tell("close")
            segments.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the other processes."""
        import torch.distributed as group

        self._closing = True
        for other in self._others:
            with contextlib.suppress(OSError):
                other.stdin.close()  # type: ignore[union-attr]
        group.destroy_process_group()
        for other in self._others:
            other.wait()

    def _tell(self, word: str, *more: Any) -> None:
        for other in self._others:
            pickle.dump((word, *more), other.stdin)  # type: ignore[arg-type]
            other.stdin.flush()  # type: ignore[union-attr]

    def _asking(self, name: str, ask: Callable[[], Any]) -> Callable[[], Any]:
        def asked() -> Any:
            self._tell(name)
            return ask()

        return asked

    def _watch(self, other: subprocess.Popen[bytes]) -> None:
        code = other.wait()
        if not self._closing:
            sys.stderr.write(f"A process that held a part of the model ended ({code}): nothing can be computed without it.\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)


_ASKED = ("resume_state", "weights", "test")
"""What of a checkpoint all processes have to compute together."""


def _join(meeting: Path, devices: int, rank: int) -> None:
    import torch
    import torch.distributed as group

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all of them are on this machine, and no other is to reach them
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
    group.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", init_method=f"file://{meeting}", world_size=devices, rank=rank, timeout=PATIENCE
    )


def _follow(told: BinaryIO) -> None:
    """Do what the first process does, until its pipe ends."""
    from workbench.errors import Infeasible
    from workbench.training.loop import train

    segments: Any = None
    found: Any = None
    while True:
        try:
            word, *more = pickle.load(told)
        except EOFError:
            os._exit(0)  # without waiting for a process group whose first member may be gone
        if word == "train":
            segments = train(*more)
        elif word == "close":
            segments.close()
            found = None
        elif word == "next":
            with contextlib.suppress(Infeasible, UsageError):  # the first process has it, too, and records it
                found = next(segments, None)
        else:
            getattr(found, word)()


def main(words: Sequence[str]) -> None:
    """One of the other processes: where all of them meet, how many there are, and which this one is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process to hear
    _join(Path(words[0]), int(words[1]), int(words[2]))
    _follow(sys.stdin.buffer)


if __name__ == "__main__":
    main(sys.argv[1:])
