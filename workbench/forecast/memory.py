"""Memory of training: what the weights need for ever, and what a micro-batch keeps for its way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench import flops, methods
from workbench.estimate import Estimate
from workbench.methods import Method
from workbench.tasks.base import EACH, MEAN, Task
from workbench.training.batches import MAX_TOKENS

if TYPE_CHECKING:
    import torch

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


def beside_bytes(task: Task, method: Method, model: torch.nn.Module) -> int:
    """Bytes that are held of the tasks learned before, beside a model that is tuned (`training.combining`, `training.anchoring`).

    Args:
        task: The task.
        method: The method.
        model: The model with the method on it; the meta device will do.
    """
    if task.predecessor() is None:
        return 0
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    floats = 0
    if task.anchor:  # where each weight began and how strongly it is held; of a sum also the sum itself and its gradient
        sums = methods.added(model).values() if method.kind in methods.ADDED else ()
        floats = 2 * trainable + 4 * sum(weight().numel() for weight in sums)
    elif task.combines == EACH:  # the weights of each task before, and a copy of this one's while those are graded
        floats = task.stage * trainable
    elif task.combines == MEAN:  # the others' mean, and a copy of this one: of the whole, where it is merged to be graded
        whole = sum(p.numel() for p in model.parameters())
        floats = whole + (trainable if method.kind in methods.IN_PLACE else whole)
    return FLOAT_BYTES * floats


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
