"""A pass through a model without weights: which inputs it takes, and of what length, known before anything is spent."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from workbench.errors import WorkbenchError, is_out_of_memory
from workbench.objectives import Batch, Objective

SHORTEST = 8
"""Tokens of a row that any model takes."""


def sample(tokenizer: Any, length: int) -> dict[str, torch.Tensor]:
    """Make two rows of tokens with every input that the tokeniser makes of a pair of texts, and
    labels.

    Returns:
        The inputs by name, each of shape (2, length).
    """
    encoded = tokenizer("a", "a")
    names = [name for name in tokenizer.model_input_names if name in encoded and name != "attention_mask"]
    rows = {}
    for name in names:
        whole = list(encoded[name])
        # Special tokens stay at both ends; one word is repeated between them.
        rows[name] = (whole[:1] + whole[1:2] * (length - len(whole)) + whole[1:])[:length]
    rows["attention_mask"] = [1] * len(rows["input_ids"])
    rows["labels"] = rows["input_ids"]
    return {name: torch.tensor([row, row]) for name, row in rows.items()}


def failure(model: torch.nn.Module, objective: Objective, batch: Batch) -> Exception | None:
    """Return what a forward pass raises; None where it raises nothing, or memory is too small to
    find out.
    """
    try:
        # A plan leaves no trace in the random state, and devices=[] keeps CUDA from being begun.
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _Bounds():  # type: ignore[no-untyped-call]
            objective.forward(model, batch)
    except WorkbenchError:
        raise
    except Exception as error:
        return None if is_out_of_memory(error) else error
    return None


def longest(model: torch.nn.Module, objective: Objective, tokenizer: Any, fails: int) -> int:
    """Return the tokens of the longest row that a model takes, by bisection; 0 if it takes no row
    at all.

    Args:
        model: The model, which may be on the meta device.
        objective: What it is trained for.
        tokenizer: Its tokeniser.
        fails: Tokens of a row that it does not take.
    """
    if failure(model, objective, sample(tokenizer, SHORTEST)):
        return 0
    takes = SHORTEST
    while fails - takes > 1:
        middle = (takes + fails) // 2
        takes, fails = (takes, middle) if failure(model, objective, sample(tokenizer, middle)) else (middle, fails)
    return takes


class _Bounds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what counts (ids, positions, masks) on the CPU and what is computed of it on the meta device, where the model is there.

    The meta device knows shapes and no numbers, so to look up a row beyond a table is no error there. With the numbers that are
    looked up it can be made one, without a weight.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        at = kwargs.get("device")
        if at is not None and torch.device(at).type == "meta" and self._counts(func, args):
            kwargs["device"] = torch.device("cpu")
        if func is torch.ops.aten.embedding.default:
            table, places = args[0], args[1]
            if places.device.type != "meta" and places.numel() and not 0 <= int(places.min()) <= int(places.max()) < len(table):
                raise IndexError(f"row {int(places.max())} of a table of {len(table)} rows")
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        # Operations refuse tensors of two devices: what is counted goes to the weights.
        if len(devices) > 1 and "meta" in devices:
            args, kwargs = tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs))
        return func(*args, **kwargs)

    @staticmethod
    def _counts(func: Any, args: Any) -> bool:
        """Whether it makes or moves numbers that count something."""
        if func.overloadpacket is torch.ops.aten._to_copy:
            return not args[0].is_floating_point() and args[0].device.type != "meta"
        return func.overloadpacket is torch.ops.aten.arange
