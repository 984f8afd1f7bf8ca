"""In which precision a model's matrices are multiplied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from workbench.study import Recipe
from workbench.training import sharding

WIDE = 512
"""Width of a model's hidden states from which bfloat16 is worth its casts on a CPU. Training and
evaluating smollm2-135m (576) took 0.6 times as long as in float32. Steps of LoRA on minilm-l3 (384)
with four rows took 0.9 times as long, but a row that is asked alone of minilm-l2 1.4 times (two
threads of an AMD EPYC, torch 2.13)."""


def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device multiplies in bfloat16 by instructions of its own here: a GPU that says so, a CPU with AVX512-BF16.

    Every CPU with AVX-512 can do it somehow, and oneDNN says so of them all; without that instruction it takes eight times as long
    as float32.

    Args:
        kind: Type of the device: `cpu`, `cuda`.
    """
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Private to torch, so a version without it multiplies in float32.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


class _CastOnce(torch.nn.Linear):
    """A layer whose weight is at hand in bfloat16, too."""

    cast: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (as torch has it)
        weight = self.cast if torch.is_autocast_enabled(input.device.type) else self.weight
        return torch.nn.functional.linear(input, weight, self.bias)


@contextlib.contextmanager
def cast_once(model: torch.nn.Module, where: torch.device, *, bfloat16: bool) -> Iterator[None]:
    """For a while the weights of linear layers that do not learn are cast to bfloat16 once, and not at each pass as autocast does,
    which gives the same. They must not change meanwhile.

    Args:
        model: Its layers that learn, or are no plain linear layers of torch's, are left as they are.
        where: Its device. Nothing is done but on a CPU: a GPU casts in no time, and its memory is scarce.
        bfloat16: Whether it multiplies in bfloat16; else nothing is done.
    """
    if not bfloat16 or where.type != "cpu" or sharding.count() > 1:
        yield
        return
    plain = (module for module in model.modules() if type(module) is torch.nn.Linear)
    layers = [layer for layer in plain if not layer.weight.requires_grad and layer.weight.dtype == torch.float32]
    for layer in layers:
        layer.__class__, layer.cast = _CastOnce, layer.weight.detach().bfloat16()
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = torch.nn.Linear
            del layer.cast


def in_bfloat16(recipe: Recipe, where: torch.device, config: Any) -> bool:
    """Whether a recipe's model multiplies in bfloat16 (autocast).

    Args:
        recipe: Its `precision` and `weights` decide; `auto` leaves it to the device, and on a CPU to the model.
        where: The device.
        config: The model's configuration.
    """
    if recipe.precision != "auto" or recipe.weights != "float32":  # weights in fewer than 32 bits multiply in bfloat16
        return recipe.precision == "bfloat16" or recipe.weights != "float32"
    if where.type != "cpu":
        return has_bfloat16(where.type)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return (getattr(text, "hidden_size", None) or 0) >= WIDE and has_bfloat16("cpu")
