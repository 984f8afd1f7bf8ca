"""A model that is larger than one device: what the loop asks for where several processes hold a part of it each.

They pass through the same loop in step (`shards`). PyTorch's fully sharded data parallel (`fully_shard`; Zhao et al. 2023,
arXiv:2304.11277) gathers each layer's weights when they are needed. Of each micro-batch every process computes its share of the
rows, and gradients are averaged: a step learns what one device's would. An evaluation is made by all of them, whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import UsageError
from workbench.training.batches import one_batch

if TYPE_CHECKING:
    import numpy as np
    import torch

    from workbench.formulations import Rows
    from workbench.study import Recipe
    from workbench.training.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])


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


def leaves(progress: Progress) -> bool:
    """Whether the training is to be left now: the first process is asked to, and all of them do so after the same step."""
    if count() == 1:
        return progress.leave
    import torch
    import torch.distributed as group

    told = torch.tensor(int(progress.leave))
    group.broadcast(told, 0)
    if told:
        progress.leave = True
    return bool(told)


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
