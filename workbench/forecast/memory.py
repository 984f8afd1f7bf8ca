"""Memory of training: what the weights need for ever, and what a micro-batch keeps for its way back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from workbench.estimate import Estimate
from workbench.formulations import Rows
from workbench.objectives import Objective

FLOAT_BYTES = 4

EVALUATED_FLOATS = 14
"""Numbers a token of width 1 that are alive at once in a forward pass without gradients: the stream, queries, keys, values and
their products, and a feed-forward of four times the width with its activation."""

KEPT_FLOATS = 34
"""Numbers a token and width 1 that a layer keeps for its way back, attention's scores left out: 34 bytes at 16 bits by Korthikanti
et al. 2022 (arXiv:2205.05198, equation 1), taken as so many numbers, as a plain float32 form keeps copies."""


WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.53}
"""Bytes of a number of the model that does not learn; of `nf4` with its doubly quantised scales, as if embeddings were so, too."""


def state_bytes(parameters: int, trainable: int, weights: str = "float32") -> int:
    """Weights once; for what learns: gradient, two moments, average, and the copy kept while the average is evaluated."""
    return round(WEIGHT_BYTES[weights] * (parameters - trainable)) + 6 * FLOAT_BYTES * trainable


def widest(lengths: Sequence[int], kind: str) -> tuple[int, int]:
    """Rows and tokens of the micro-batch with most padded tokens that these rows of one step are split into."""
    from workbench.training.batches import OVERHEAD_TOKENS, split

    sizes = sorted(int(n) for n in lengths)
    runs = [(end - start, sizes[end - 1]) for start, end in split(sizes, OVERHEAD_TOKENS.get(kind, OVERHEAD_TOKENS["cpu"]))]
    return max(runs, key=lambda run: run[0] * run[1])


def saved_bytes(model: Any, objective: Objective, rows: Rows, shape: tuple[int, int]) -> int | None:
    """Bytes that autograd keeps after a forward pass of a micro-batch of this shape (rows, tokens); None where it cannot be run.

    Counted by hooks on what is saved, each storage once, parameters and buffers left out. On the meta device attention keeps
    what its plain form would: an upper end for fused kernels.
    """
    import torch

    count, tokens = shape
    where = next(model.parameters()).device
    batch = {name: value.to(where) for name, value in rows.blank(count, tokens).items()}
    kept: dict[int, Any] = {}
    constant = {_storage(each) for each in (*model.parameters(), *model.buffers())}

    def note(tensor: Any) -> Any:
        if (key := _storage(tensor)) not in constant:
            kept.setdefault(key, tensor)  # alive, or its storage's identity would be given away again
        return tensor

    training = model.training
    try:
        with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            # A mask would be looked at, and the meta device has no numbers.
            output = objective.forward(model.train(), {name: value for name, value in batch.items() if name != "attention_mask"})
            with contextlib.suppress(Exception):  # a loss that looks at numbers, of which the meta device has none, is small
                objective.loss(output, batch)
    except Exception:  # models look at numbers in ways of their own: then this is unknown
        return None
    finally:
        model.train(training)
    return sum(int(tensor.untyped_storage().nbytes()) for tensor in kept.values())


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)  # data_ptr is 0 for all of the meta device


def peak(
    *, state: int, saved: int | None, layers: int | None, width: int | None, shape: tuple[int, int], kind: str, resident: int
) -> Estimate | None:
    """Highest memory of training and evaluation; None where activations are unknown.

    Args:
        state: Bytes by `state_bytes`.
        saved: Bytes by `saved_bytes`; None takes the formula of `KEPT_FLOATS`.
        layers: Attention layers; None is unknown.
        width: Their width; None is unknown.
        shape: Rows and tokens of the widest micro-batch.
        kind: `cpu` or `cuda`.
        resident: Bytes that the process holds beside the model.
    """
    from workbench.training.batches import MAX_TOKENS

    if saved is None and (layers is None or width is None):
        return None
    by_formula = FLOAT_BYTES * KEPT_FLOATS * shape[0] * shape[1] * (layers or 0) * (width or 0)
    evaluated = FLOAT_BYTES * EVALUATED_FLOATS * MAX_TOKENS.get(kind, MAX_TOKENS["cpu"]) * (width or 0)
    activations = max(by_formula if saved is None else saved, evaluated)
    how = "activations by a formula" if saved is None else "activations as autograd keeps them"
    factor = 2.0 if saved is None or kind == "cuda" else 1.5
    of_model = Estimate.within(float(state + activations), factor, "formula", f"weights, gradients and averages, {how}")
    if not resident:
        return of_model
    return of_model + Estimate.within(float(resident), 1.3, "formula", f"{resident / 2**20:,.0f} MiB of the process itself")
