"""Whether a step fits the device: what its micro-batches keep for their way back, and how they are cut where that is too much."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench import flops, process
from workbench.formulations import Rows
from workbench.objectives import Objective

if TYPE_CHECKING:
    import torch

SPREAD = 1.5
"""What a step may take beyond what is counted: an optimiser's and a loss's passing tensors, and an allocator's gaps."""

MOST_FLOATS = 2 * flops.KEPT_FLOATS
"""Numbers a token, layer and width of 1 that a micro-batch keeps at most. Twice what the formula says, as feed-forwards may
be wider than four times the width, and adapters keep inputs of their own: below this bound nothing needs to be counted."""


class Cut(NamedTuple):
    """How a step is made to fit. It changes no result, so it is no part of a recipe.

    Attributes:
        most: Padded tokens of a micro-batch of more than one row at most; None: no bound.
        recompute: Whether layers are computed a second time on the way back, and keep nothing but their inputs (gradient
            checkpointing; Chen et al. 2016, arXiv:1604.06174).
    """

    most: int | None = None
    recompute: bool = False


def room(where: torch.device, trainable: int) -> int:
    """Bytes that are free for what a micro-batch keeps, beside gradients and moments of so many numbers that learn."""
    import torch

    free = torch.cuda.mem_get_info(where)[0] if where.type == "cuda" else process.available_bytes()
    return int(free) - 4 * 4 * trainable  # a gradient, two moments, and the copy while averages are evaluated


def cut(rows: int, tokens: int, free: int, config: Any, counted: Callable[[int], int | None], *, whole: bool) -> Cut:
    """How the widest micro-batch of a recipe is made to fit: fewer rows, then one row whose layers are computed twice.

    Args:
        rows: Of that micro-batch.
        tokens: Of each of its rows.
        free: Bytes by `room`.
        config: Of the model, from which a bound is told that spares the counting where memory abounds.
        counted: Bytes that a micro-batch of so many rows keeps; None: unknown, and nothing is cut.
        whole: Whether the rows must stay together.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers, width, heads = (getattr(text, name, None) or 0 for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    layers *= 2 if getattr(config, "is_encoder_decoder", False) else 1
    a_token = layers * (MOST_FLOATS * width + 4 * heads * tokens) + 4 * (getattr(text, "vocab_size", None) or 0)
    if layers and width and 4 * a_token * rows * tokens < free:
        return Cut()
    if (kept := counted(rows)) is None or SPREAD * kept <= free:
        return Cut()
    fewer = 1 if whole else rows
    while fewer > 1 and SPREAD * (counted(fewer) or 0) > free:
        fewer = (fewer + 1) // 2
    if not whole and SPREAD * (counted(fewer) or 0) <= free:
        return Cut(fewer * tokens)
    # Of the layers one at a time keeps what it needs, the others their inputs.
    fewer = rows
    while not whole and fewer > 1 and SPREAD * (kept * fewer / rows / max(1, layers) + 4 * layers * width * tokens * fewer) > free:
        fewer = (fewer + 1) // 2
    return Cut(fewer * tokens if fewer < rows else None, recompute=True)


def recompute(model: Any) -> bool:
    """Have the layers of a model computed again on the way back; whether it can.

    What PEFT puts in front of the input enters layers as keys and values, which that would lose.
    """
    bare = flops.unwrapped(model)
    if any(getattr(each, "is_prompt_learning", False) for each in getattr(model, "peft_config", {}).values()):
        return False
    if not getattr(bare, "supports_gradient_checkpointing", False):
        return False
    # Not re-entrant: else a layer whose input needs no gradient, as above frozen embeddings, teaches its adapters nothing.
    how = {"use_reentrant": False}
    if hasattr(bare, "activation_checkpointing_enable"):
        bare.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:  # before transformers 5.23
        bare.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    return True


def saved_bytes(model: Any, objective: Objective, rows: Rows, shape: tuple[int, int]) -> int | None:
    """Bytes that autograd keeps after a forward pass of a micro-batch of this shape (rows, tokens); None where it cannot be run.

    Counted by hooks on what is saved, each storage once, parameters and buffers left out. On the meta device attention keeps
    what its plain form would: an upper end for fused kernels.
    """
    found = _saved(model, objective, rows, shape)
    if found is None:  # decoders without a mask look at the places for where one text ends: with one of their own they do not
        hook = flops.unwrapped(model).register_forward_pre_hook(_with_mask, with_kwargs=True)
        try:
            found = _saved(model, objective, rows, shape)
        finally:
            hook.remove()
    return found


def _with_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    import torch

    given = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
    count, tokens = given.shape[:2]
    mask = torch.zeros((count, 1, tokens, tokens), dtype=next(module.parameters()).dtype, device=given.device)
    return args, {**kwargs, "attention_mask": mask}


def _saved(model: Any, objective: Objective, rows: Rows, shape: tuple[int, int]) -> int | None:
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
