"""Finds the layers of a model from its structure, whatever their names are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import UsageError
from workbench.flops import unwrapped

if TYPE_CHECKING:
    import torch


class Frozen(NamedTuple):
    """The part of a model whose output for a row is always the same, as nothing learns in it or
    below it.

    Attributes:
        modules: Modules that need not be passed where the output of the last of them is known: all
            that lies below a head, or the first layers.
        still: Modules that are in evaluation mode whatever is done above them: these, and what
            stands before them.
    """

    modules: Sequence[torch.nn.Module]
    still: Sequence[torch.nn.Module]


def layers(model: torch.nn.Module) -> list[dict[str, torch.nn.Module]]:
    """The repeated layers of a model, each as its modules by path, in the order in which a text
    passes them.

    They are the members of its lists of modules of one class (`model.layers`, `encoder.layer`, `h`,
    …); lists inside such lists, as of experts, do not count. The encoder's layers come before the
    decoder's. Where a model keeps its layers in several parallel lists of one length, one member of
    each list makes a layer.
    """
    import torch

    lists: dict[tuple[str, int], list[tuple[str, Any]]] = {}
    inside: list[str] = []
    for path, module in base_of(model).named_modules():
        # Parents come before what they hold, so the outermost list is the first to be met.
        if type(module) is torch.nn.ModuleList and len(module) and not path.startswith(tuple(inside)):
            inside.append(f"{path}.")
            if len({type(each) for each in module}) == 1 and any(True for _ in module.parameters()):
                lists.setdefault((path.rpartition(".")[0], len(module)), []).append((path, module))
    # Paths above are those within the base model; callers need them from the top.
    names = {id(module): path for path, module in model.named_modules()}
    return [{names[id(of[i])]: of[i] for _, of in side_by_side} for (_, count), side_by_side in lists.items() for i in range(count)]


def base_of(model: Any) -> Any:
    """The part of a model below its task's head; the model itself where it has no such part."""
    return getattr(model, "base_model", model)


def of_last_layers(model: torch.nn.Module, count: int) -> set[str]:
    """Names of the parameters of the last `count` layers and of all that the base model has behind
    them: final norms, poolers.

    Embeddings count as in front of the layers, wherever they are registered. The matrix by which a
    model writes tokens counts as no layer.

    Raises:
        UsageError: The model has fewer layers, or shows none.
    """
    found = layers(model)
    if count > len(found):
        have = f"this model has {len(found)}" if found else "in this model no layers can be told"
        raise UsageError(f"trainable_layers={count}: {have}. Give fewer, or name the models that it is for with models=(…).")
    chosen = {path for layer in found[-count:] for path in layer}
    others = {path for layer in found for path in layer} - chosen
    writes: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    out = {id(parameter) for parameter in writes.parameters()} if writes is not None else set()
    learns: set[str] = set()
    reached = False
    for name, parameter in model.named_parameters():
        # The dot keeps `layers.1` from owning `layers.10`.
        owner = next((path for path in (*chosen, *others) if name.startswith(f"{path}.")), None)
        # Parameters come in order of registration, so those after a chosen layer stand behind it.
        reached = reached or owner in chosen
        behind = owner is None and reached and id(parameter) not in out and not any("embed" in part for part in name.split("."))
        if owner in chosen or behind:
            learns.add(name)
    return learns


def first_layers(model: torch.nn.Module) -> Frozen | None:
    """The first layers of a model, below all that learns.

    Returns:
        The layers; None where the first one learns or none does, where something before the layers
        learns, and where a model's layers are no single stack.
    """
    bare: Any = unwrapped(model)
    found = layers(bare)
    stacks = {path.rpartition(".")[0] for layer in found for path in layer}
    if len(stacks) != 1 or getattr(getattr(bare, "config", None), "is_encoder_decoder", False):
        return None
    (stack,), members = stacks, [(path, module) for layer in found for path, module in layer.items()]
    learns = [any(p.requires_grad for p in module.parameters()) for _, module in members]
    if True not in learns[1:] or learns[0]:
        return None
    reached = False
    for name, parameter in bare.named_parameters():
        reached = reached or name.startswith(f"{stack}.")
        # As in `of_last_layers`: what is registered after the layers stands behind them, embeddings do not.
        before = not reached or any("embed" in part for part in name.split("."))
        if parameter.requires_grad and before and not name.startswith(f"{stack}."):
            return None
    count = learns.index(True)
    lowest = members[count][0]
    still: dict[str, torch.nn.Module] = {}
    for path, module in bare.named_modules():
        if path == lowest:
            break
        # What holds the layers is no part of what stands before them, and parts go with what they are in.
        if path and not lowest.startswith(f"{path}.") and not path.startswith(tuple(f"{each}." for each in still)):
            still[path] = module
    return Frozen([module for _, module in members[:count]], [*still.values()])
