"""Adapters of Houlsby et al. 2019 (arXiv:1902.00751): small modules in every layer of a model, whose
own matrices stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from workbench.errors import UsageError
from workbench.methods.layers import layers

FIRST_WEIGHTS = 0.01
"""Standard deviation of an adapter's first weights, cut off at two of them (section 3.6 of the
paper): an adapter begins near the identity.
"""


class Adapter(torch.nn.Module):
    """Adds a correction to the output of a part of a layer, by way of a narrow bottleneck: x +
    up(gelu(down(x))).

    Shapes: (…, width) to (…, width).

    Args:
        width: Width of its input and output.
        bottleneck: Width between its two matrices.
        device: Where its parameters are made; they are float32.
    """

    def __init__(self, width: int, bottleneck: int, device: torch.device) -> None:
        super().__init__()
        self.down = torch.nn.Linear(width, bottleneck, device=device, dtype=torch.float32)
        self.up = torch.nn.Linear(bottleneck, width, device=device, dtype=torch.float32)
        for each in (self.down, self.up):
            # torch takes these bounds as numbers, not as multiples of the standard deviation.
            torch.nn.init.trunc_normal_(each.weight, std=FIRST_WEIGHTS, a=-2 * FIRST_WEIGHTS, b=2 * FIRST_WEIGHTS)
            torch.nn.init.zeros_(each.bias)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        # Computed in float32, and handed on in the precision of the layer around it.
        inner = torch.nn.functional.gelu(self.down(given.to(self.down.weight.dtype)))
        added: torch.Tensor = self.up(inner)
        return given + added.to(given.dtype)


def put_in(model: torch.nn.Module, bottleneck: int) -> set[str]:
    """Put adapters into every layer of a model.

    There is one behind each attention of a layer (two in a decoder that also reads an encoder) and
    one behind its feed-forward part, in front of the residual connection. The layer itself shows
    where these are: attention is known by its class's name, and its last matrix gives its output;
    the feed-forward part ends in the last matrix beside attention whose output is as wide.

    Args:
        model: The model, which is changed.
        bottleneck: As in `Adapter`.

    Returns:
        Names of the parameters that learn: those of the adapters, and the model's norms.

    Raises:
        UsageError: The model has no such layers.
    """
    found = [place for layer in layers(model) for place in _places(layer)]
    if not found:
        raise UsageError(
            "adapters stand behind attention, and in this model no layers with attention can be told. Take another method."
        )
    for place in found:
        width = int(_width(place))  # type: ignore[arg-type]
        weight = next(place.parameters())
        # A child of the matrix that it follows, so it is moved, saved and named along with the
        # model.
        place.add_module("adapter", Adapter(width, bottleneck, weight.device))
        place.register_forward_hook(_adapted)
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    return norms | {name for name, _ in model.named_parameters() if ".adapter." in name}


def _adapted(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
    adapted: torch.Tensor = module.adapter(output)
    return adapted


def _places(layer: Mapping[str, torch.nn.Module]) -> list[torch.nn.Module]:
    """The modules of a layer behind which adapters go; none for a layer without attention.

    Raises:
        UsageError: The layer does not show some of them.
    """
    # In order of registration, depth first: an attention's matrices follow it, its output's last.
    parts = [(f"{path}.{inner}" if inner else path, module) for path, of in layer.items() for inner, module in of.named_modules()]
    attentions: dict[str, list[torch.nn.Module]] = {}
    beside: list[torch.nn.Module] = []
    for path, module in parts:
        inside = next((each for each in attentions if path.startswith(f"{each}.")), None)
        if inside is None and "attention" in type(module).__name__.lower():
            attentions[path] = []
        elif _width(module) is not None:
            (beside if inside is None else attentions[inside]).append(module)
    if not attentions:
        return []
    where, own = next(iter(layer)), [type(module) for _, module in parts]
    if any("expert" in path for path, _ in parts):
        raise _unfit(where, "it has experts, each token meeting other ones")
    # torch's own attention reads the weight of its output matrix without calling the module, so a
    # hook on that would never run.
    if torch.nn.MultiheadAttention in own or not all(attentions.values()):
        raise _unfit(where, "its attention has no matrices of its own")
    found = [matrices[-1] for matrices in attentions.values()]
    widths = {_width(each) for each in found}
    behind = [each for each in beside if _width(each) in widths]
    if len(widths) > 1 or not behind:
        raise _unfit(where, "beside its attention there is no matrix that gives as wide an output")
    return [*found, behind[-1]]


def _unfit(where: str, why: str) -> UsageError:
    return UsageError(f"adapters do not fit the layer {where} of this model: {why}. Take another method, peft('lora', …) for one.")


def _width(module: Any) -> int | None:
    """Width of a matrix's output; None for modules that are no matrix. GPT-2 has a class of its own
    for them (Conv1D, `nx`, `nf`).
    """
    return getattr(module, "out_features", None) or (getattr(module, "nf", None) if hasattr(module, "nx") else None)
