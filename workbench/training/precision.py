"""In which precision a model's matrices are multiplied."""

from __future__ import annotations

from typing import Any

import torch

from workbench.study import Recipe

WIDE = 256
"""Width of a model's hidden states from which bfloat16 is worth its casts on a CPU. Two layers there
and back over 256 tokens took 1.51 times as long in float32 with a width of 256, 1.14 with 128 and
0.83 with 32; over 32 tokens 1.05, 0.85 and 0.62 times (one thread of an AMD EPYC, torch 2.13)."""


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


def in_bfloat16(recipe: Recipe, where: torch.device, config: Any, *, writes: bool = False) -> bool:
    """Whether a recipe's model multiplies in bfloat16 (autocast).

    Args:
        recipe: Its `precision` and `weights` decide; `auto` leaves it to the device, and on a CPU to the model.
        where: The device.
        config: The model's configuration.
        writes: Whether it is asked to write, token by token. For each token all weights would be cast again: 12 tokens of eight
            answers by smollm2-135m took 1.37 times as long as in float32, and reading their prompts 0.59 times.
    """
    if recipe.precision != "auto" or recipe.weights != "float32":  # weights in fewer than 32 bits multiply in bfloat16
        return recipe.precision == "bfloat16" or recipe.weights != "float32"
    if where.type != "cpu":
        return has_bfloat16(where.type)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return not writes and (getattr(text, "hidden_size", None) or 0) >= WIDE and has_bfloat16("cpu")
