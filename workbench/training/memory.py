"""Whether a step fits the device: what its micro-batches keep for the backward pass, and how they
are cut if that is too much. Batches of an evaluation are cut when memory turns out too small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from workbench import cgroups, flops
from workbench.formulations import Rows
from workbench.objectives import Objective
from workbench.training import sharding
from workbench.training.batches import one_batch, padded_tokens
from workbench.training.faults import Shortage

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")

SPREAD = 1.5
"""Factor between what a step may take and what is counted: passing tensors of optimiser and loss,
gaps of the allocator."""

MOST_FLOATS = 2 * flops.KEPT_FLOATS
"""Upper bound of the numbers that a micro-batch keeps per token, layer and unit of width. It is
twice the formula's, as feed-forwards may be wider than four times the width and adapters keep
inputs of their own. Where even this fits, nothing needs to be counted."""


class Cut(NamedTuple):
    """How a step is made to fit. It changes no result, so it is no part of a recipe.

    Attributes:
        most: The most padded tokens in a micro-batch of more than one row; None: no bound.
        recompute: Whether layers keep nothing but their inputs and are computed again in the
            backward pass (gradient checkpointing; Chen et al. 2016, arXiv:1604.06174).
    """

    most: int | None = None
    recompute: bool = False


def room(where: torch.device, trainable: int) -> int:
    """Bytes that are free for what a micro-batch keeps.

    Args:
        where: The device.
        trainable: How many numbers learn; gradients and moments of these are deducted.
    """
    import torch

    # The driver counts what torch's allocator holds in reserve as taken, so this errs on the safe
    # side.
    free = torch.cuda.mem_get_info(where)[0] if where.type == "cuda" else cgroups.available_bytes()
    return int(free) - 4 * 4 * trainable  # a gradient, two moments, and the copy while averages are evaluated


def cut(rows: int, tokens: int, free: int, config: Any, counted: Callable[[int], int | None], *, whole: bool) -> Cut:
    """How the widest micro-batch of a recipe is made to fit: fewer rows first, then recomputed
    layers.

    Args:
        rows: Rows of that micro-batch.
        tokens: Tokens of each of its rows.
        free: Bytes, as `room` gives them.
        config: The model's configuration. It gives an upper bound that spares the counting where
            memory abounds.
        counted: From a number of rows to the bytes that their micro-batch keeps; None: unknown, and
            nothing is cut.
        whole: Whether the rows must stay together.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers, width, heads = (getattr(text, name, None) or 0 for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    layers *= 2 if getattr(config, "is_encoder_decoder", False) else 1
    # Numbers that a token keeps: in each layer its activations and attention's scores (heads x
    # tokens), and its logits, the last two counted four times over.
    a_token = layers * (MOST_FLOATS * width + 4 * heads * tokens) + 4 * (getattr(text, "vocab_size", None) or 0)
    if layers and width and 4 * a_token * rows * tokens < free:
        return Cut()
    # What is unknown is tried whole; should it fail, `Tuning` makes the step again in smaller
    # pieces.
    if (kept := counted(rows)) is None or SPREAD * kept <= free:
        return Cut()
    fewer = 1 if whole else rows
    while fewer > 1 and SPREAD * (counted(fewer) or 0) > free:
        fewer = (fewer + 1) // 2
    if not whole and SPREAD * (counted(fewer) or 0) <= free:
        return Cut(fewer * tokens)
    # One layer at a time keeps all that it needs; the others keep their inputs.
    fewer = rows
    while not whole and fewer > 1 and SPREAD * (kept * fewer / rows / max(1, layers) + 4 * layers * width * tokens * fewer) > free:
        fewer = (fewer + 1) // 2
    return Cut(fewer * tokens if fewer < rows else None, recompute=True)


def recompute(model: Any) -> bool:
    """Have a model's layers computed again in the backward pass. Returns whether that is possible.

    It is not with PEFT's prompt methods: their tokens enter layers as keys and values, which would
    be lost.
    """
    bare = flops.unwrapped(model)
    if any(getattr(each, "is_prompt_learning", False) for each in getattr(model, "peft_config", {}).values()):
        return False
    if not getattr(bare, "supports_gradient_checkpointing", False):
        return False
    # The re-entrant form gives no gradient where a layer's input needs none: adapters above
    # frozen embeddings would never learn.
    how = {"use_reentrant": False}
    if hasattr(bare, "activation_checkpointing_enable"):
        bare.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:  # before transformers 5.23
        bare.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    return True


def saved_bytes(model: Any, objective: Objective, rows: Rows, shape: tuple[int, int]) -> int | None:
    """Bytes that autograd keeps after a forward pass over a micro-batch.

    They are counted by hooks on the saved tensors, each storage once, parameters and buffers left
    out. On the meta device attention keeps what its plain form would, which is an upper bound for
    fused kernels.

    Args:
        model: The model, which may be on the meta device.
        objective: What the model learns by.
        rows: Rows whose columns the micro-batch has.
        shape: Rows and tokens of the micro-batch.

    Returns:
        Bytes; None where the model cannot be run so.
    """
    found = _saved(model, objective, rows, shape)
    if found is None:
        # Without a mask some decoders look into `position_ids` for where packed texts end, which
        # the meta device cannot tell them; a mask in four dimensions they take as it is.
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
    # Additive, shape (rows, 1, tokens, tokens): 0 lets every token see every other.
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
            # The reference keeps the storage alive: a freed one's address could be given to the
            # next tensor, and two would count as one.
            kept.setdefault(key, tensor)
        return tensor

    training = model.training
    try:
        with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            # Models look into a mask, and tensors on the meta device hold no numbers.
            output = objective.forward(model.train(), {name: value for name, value in batch.items() if name != "attention_mask"})
            with contextlib.suppress(Exception):  # where the loss looks at numbers: it keeps little
                objective.loss(output, batch)
    except Exception:  # other models look at numbers elsewhere: then it is unknown
        return None
    finally:
        model.train(training)
    return sum(int(tensor.untyped_storage().nbytes()) for tensor in kept.values())


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)  # data_ptr is 0 for all of the meta device


class Halves:
    """Batches that are passed without a gradient: whole, or in halves where memory is too small.

    Each row is passed once all the same, and by itself if need be. A size that failed is not tried
    again. As with every other cut, padding may change the last bits of an output.

    Attributes:
        most: The most padded tokens of a batch of several rows; None: nothing has failed yet.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def passed(
        self,
        rows: Rows,
        batches: Iterable[tuple[np.ndarray, dict[str, Any]]],
        where: torch.device,
        call: Callable[[np.ndarray, dict[str, Any]], T],
    ) -> Iterator[tuple[np.ndarray, T]]:
        """Pass batches one after another.

        Args:
            rows: All rows.
            batches: Indices of some of them, and their batch on the device.
            where: The device.
            call: Passes a batch. What it changes must not be changed where memory runs out in it.

        Yields:
            Indices of the rows that were passed together, and what `call` gave for them.

        Raises:
            Exception: Out of memory with a single row.
        """
        for whole, inputs in batches:
            waiting = [(whole, inputs)]
            while waiting:
                chosen, given = waiting.pop()
                if self.most is None or len(chosen) == 1 or padded_tokens(rows, chosen) <= self.most:
                    found: list[T] = []
                    with Shortage() as shortage:
                        found.append(call(chosen, given))
                    if found:
                        yield chosen, found[0]
                        continue
                    if len(chosen) == 1 or sharding.count() > 1:  # others may have had room, and would wait
                        raise shortage.error
                    self.most = (len(chosen) + 1) // 2 * int(rows.lengths[chosen].max())
                    _give_back(where)
                half = (len(chosen) + 1) // 2
                waiting += [each for some in (chosen[half:], chosen[:half]) for each in one_batch(rows, some, where)]


def _give_back(where: torch.device) -> None:
    """Free what torch's allocator holds in reserve."""
    import torch

    if where.type == "cuda":
        torch.cuda.empty_cache()
