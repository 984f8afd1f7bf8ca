"""Memory of training: what the weights need for ever, and what a micro-batch keeps for its way back."""

from __future__ import annotations

from dataclasses import dataclass

from workbench import flops
from workbench.estimate import Estimate
from workbench.training.batches import MAX_TOKENS

FLOAT_BYTES = 4

EVALUATED_FLOATS = 14
"""Numbers a token of width 1 that are alive at once in a forward pass without gradients: the stream, queries, keys, values and
their products, and a feed-forward of four times the width with its activation."""


WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.53}
"""Bytes of a number of the model that does not learn; of `nf4` with its doubly quantised scales, as if embeddings were so, too."""


def state_bytes(parameters: int, trainable: int, weights: str = "float32") -> int:
    """Weights once; for what learns: gradient, two moments, average, and the copy kept while the average is evaluated."""
    # Six floats: the weight itself, its gradient, AdamW's two moments, the average and its copy.
    return round(WEIGHT_BYTES[weights] * (parameters - trainable)) + 6 * FLOAT_BYTES * trainable


@dataclass(frozen=True)
class Activations:
    """What a forward pass keeps, and by what it is reckoned.

    Attributes:
        saved: Bytes by `training.memory.saved_bytes`; None takes the formula of `flops.KEPT_FLOATS`.
        layers: Attention layers; None is unknown.
        width: Their width; None is unknown.
        shape: Rows and tokens of the widest micro-batch.
    """

    saved: int | None
    layers: int | None
    width: int | None
    shape: tuple[int, int]

    def bytes_on(self, kind: str) -> int | None:
        """The most that training or evaluation keeps on a `cpu` or on `cuda`; None where it is unknown."""
        if self.saved is None and (self.layers is None or self.width is None):
            return None
        width = self.width or 0
        by_formula = FLOAT_BYTES * flops.KEPT_FLOATS * self.shape[0] * self.shape[1] * (self.layers or 0) * width
        evaluated = FLOAT_BYTES * EVALUATED_FLOATS * MAX_TOKENS.get(kind, MAX_TOKENS["cpu"]) * width
        # Training and evaluation do not hold theirs at once: the larger one is the peak.
        return max(by_formula if self.saved is None else self.saved, evaluated)


def peak(*, state: int, activations: Activations, kind: str, resident: int) -> Estimate | None:
    """Highest memory of training and evaluation; None where activations are unknown.

    Args:
        state: Bytes by `state_bytes`.
        activations: What a micro-batch keeps.
        kind: `cpu` or `cuda`.
        resident: Bytes that the process holds beside the model.
    """
    kept, by_formula = activations.bytes_on(kind), activations.saved is None
    if kept is None:
        return None
    how = "activations by a formula" if by_formula else "activations as autograd keeps them"
    factor = 2.0 if by_formula or kind == "cuda" else 1.5
    of_model = Estimate.within(float(state + kept), factor, "formula", f"weights, gradients and averages, {how}")
    if not resident:
        return of_model
    return of_model + Estimate.within(float(resident), 1.3, "formula", f"{resident / 2**20:,.0f} MiB of the process itself")
