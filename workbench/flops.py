"""Floating-point operations of a transformer by a stated formula, from the shape of its model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FORMULA = "transformer-matmul-1"
"""Id of the formula of this module, kept with every number that it gave."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the formula needs to know of a model as a method has wrapped it.

    Attributes:
        weights: Numbers in matrices that every token is multiplied with (N; embeddings are looked up, and are not in it).
        trainable_weights: Those of them that learn: a gradient of each is computed.
        backward_weights: Those that a gradient passes through on its way to the lowest that learns.
        layers: Attention layers.
        width: Heads x size of a head: the width of the attention.
        virtual_tokens: Tokens that a prompt method puts in front of every row.
    """

    weights: int
    trainable_weights: int
    backward_weights: int
    layers: int
    width: int
    virtual_tokens: int = 0


def shape(model: Any) -> Shape | None:
    """The shape of a built model, also one on the meta device; None where its configuration does not tell."""
    raise NotImplementedError


def forward(of: Shape, lengths: Sequence[int]) -> float:
    """FLOPs of one forward pass over rows of these lengths: 2·N·T + 4·L·T²·d summed over rows."""
    raise NotImplementedError


def training(of: Shape, lengths: Sequence[int], *, recompute: bool = False) -> float:
    """FLOPs of forward and backward passes over rows of these lengths; `recompute` adds a second forward pass."""
    raise NotImplementedError
