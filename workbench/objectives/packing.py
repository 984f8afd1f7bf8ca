"""Passes over rows of different lengths in which a model's layers see no padding.

The rows enter a model padded, as ever. Before its first layer their tokens are laid one behind the
other in a single row, and after its last layer they are put back into their places. All that layers
do to each token by itself is done to tokens alone; attention is told where rows begin and end, and
looks at one row at a time. What comes before and behind the layers (embeddings, a pooler, a head)
meets padded rows as always, so no model's own use of positions or first tokens is touched.

A model whose layers look at other tokens in a way of their own would give other numbers, without an
error: `proven` tries a model before it is trusted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import is_out_of_memory
from workbench.flops import text_config, unwrapped
from workbench.objectives.base import OF_ALL_TOKENS

if TYPE_CHECKING:
    import torch

ATTENTION = "workbench_packed"
"""Name under which transformers knows the attention of packed rows."""

LENGTHS = (5, 2, 9, 5)
"""Tokens of the rows that a model is tried with: two alike, the shortest neither first nor last."""

TOLERANCE = {False: 1e-3, True: 5e-2}
"""The most by which outputs and gradients of a trial may differ, as a share of their norm: in float32, and in
bfloat16. Rounding makes differences of 1e-6, and of up to 1.5e-2 in bfloat16 (30 layers of smollm2-135m); rows that
see each other make some of 0.1 and more."""


class _Layout(NamedTuple):
    """Where the tokens of a batch are.

    Attributes:
        shape: Rows and tokens of the padded batch.
        places: The place in the flattened batch of each token, row by row, shape (tokens,).
        runs: Rows of equal length that lie behind each other: how many, and their tokens.
    """

    shape: tuple[int, int]
    places: torch.Tensor
    runs: Sequence[tuple[int, int]]


def layers_of(model: Any) -> Sequence[Any] | None:
    """The layers of a model that can be given packed rows, as far as its configuration tells.

    Returns:
        The layers in their order; None where attention is computed by other means than torch's
        `scaled_dot_product_attention`, looks only at a window, or where there are two stacks.
    """
    bare = unwrapped(model)
    config: Any = getattr(bare, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False):
        return None
    text = text_config(config)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    # The trial's rows are shorter than any window, so it could not tell.
    windows = [
        getattr(text, name, None) for name in ("sliding_window", "attention_window", "local_attention", "attention_chunk_size")
    ]
    if getattr(text, "_attn_implementation", None) != "sdpa" or kinds != {"full_attention"} or any(windows):
        return None
    # A method may make a token's change depend on all tokens of a pass, or on where a row has a word
    # that the trial's rows do not have (activated LoRA).
    for each in getattr(model, "peft_config", {}).values():
        if getattr(each.peft_type, "value", "") in OF_ALL_TOKENS or getattr(each, "alora_invocation_tokens", None):
            return None
    from torch.nn import ModuleList

    found = [m for m in bare.modules() if isinstance(m, ModuleList) and len(m) == getattr(text, "num_hidden_layers", 0)]
    return [*found[0]] if len(found) == 1 and len(found[0]) else None


@contextlib.contextmanager
def packed(model: Any, layers: Sequence[Any]) -> Iterator[None]:
    """For a while a model's passes over padded rows with a mask give its layers tokens alone.

    Passes with a cache are left as they are. The way back may be gone after the block, unless
    layers are computed again in it (gradient checkpointing).

    Args:
        model: The model, with or without what a method puts around it.
        layers: As `layers_of` gives them.
    """
    bare = unwrapped(model)
    _register()
    configs = {id(each): each for each in (bare.config, text_config(bare.config))}.values()
    current: list[_Layout] = []

    def begins(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        layout = None if kwargs.get("past_key_values") is not None else _layout(kwargs.get("attention_mask"))
        if layout is not None:
            current.append(layout)
            for each in configs:
                each._attn_implementation = ATTENTION

    def ends(module: Any, args: Any, output: Any) -> None:
        if current:
            current.clear()
            for each in configs:
                each._attn_implementation = "sdpa"

    def enters(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if not current:
            return None
        args = tuple(_pack(each, current[0]) for each in args)
        return args, {**{name: _pack(each, current[0]) for name, each in kwargs.items()}, "packed_runs": current[0].runs}

    def leaves(module: Any, args: Any, output: Any) -> Any:
        if not current:
            return None
        return (_unpack(output[0], current[0]), *output[1:]) if isinstance(output, tuple) else _unpack(output, current[0])

    with contextlib.ExitStack() as stack:
        for handle in (
            bare.register_forward_pre_hook(begins, with_kwargs=True),
            bare.register_forward_hook(ends, always_call=True),
            *(layer.register_forward_pre_hook(enters, with_kwargs=True) for layer in layers),
            layers[-1].register_forward_hook(leaves),
        ):
            stack.callback(handle.remove)
        yield


def proven(model: Any, layers: Sequence[Any], *, bfloat16: bool = False) -> bool:
    """Try whether a model gives the same outputs and gradients with packed rows as with padded ones.

    Nothing is drawn, learned or left behind. The model is in evaluation mode while it is tried and
    in that of before afterwards.

    Args:
        model: The model as a method has wrapped it.
        layers: As `layers_of` gives them.
        bfloat16: Whether it is tried in bfloat16 (autocast), as a model with such weights has to be.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    where = next(model.parameters()).device
    draws = torch.Generator().manual_seed(0)
    count, width = len(LENGTHS), max(LENGTHS)
    tokens = int(getattr(text_config(unwrapped(model).config), "vocab_size", 6))
    ids = torch.randint(5, max(6, tokens), (count, width), generator=draws)
    mask = (torch.arange(width) < torch.tensor(LENGTHS)[:, None]).long()
    inputs = {"input_ids": (ids * mask).to(where), "attention_mask": mask.to(where)}
    try:
        model.eval()
        with torch.autocast(where.type, torch.bfloat16, enabled=bfloat16):
            padded = _tried(model, layers, inputs)
            with packed(model, layers):
                tried = _tried(model, layers, inputs)
    except Exception as error:  # whatever a model raises when its layers are called in another way
        if is_out_of_memory(error):
            raise
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    return len(padded) == len(tried) and all(
        _alike(one, other, TOLERANCE[bfloat16]) for one, other in zip(padded, tried, strict=True)
    )


def _tried(model: Any, layers: Sequence[Any], inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What a model gives for rows at their tokens, and the gradients of it."""
    import torch

    with torch.enable_grad():
        output = model(**inputs)
        mask = inputs["attention_mask"].bool()
        found = [
            (value[mask] if value.shape[:2] == mask.shape else value).float()
            for value in (output.values() if hasattr(output, "values") else [output])
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        ]
        draws = torch.Generator().manual_seed(1)
        # Weighted at random: gradients of a plain sum may cancel.
        told = sum((value * torch.randn(value.shape, generator=draws).to(value.device)).sum() for value in found)
        # Layers are alike: those at the two ends tell of all between, for a fraction of the time.
        ends = [p for layer in (layers[0], layers[-1]) for p in layer.parameters() if p.requires_grad]
        learning = ends or [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(told, learning, allow_unused=True) if learning and told.requires_grad else ()  # type: ignore[union-attr,arg-type]
    if not found:
        raise ValueError("the model gives no numbers")
    return [each.detach() for each in (*found, *gradients) if each is not None]


def _alike(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and float((one - other).norm()) <= tolerance * float(one.norm()) + 1e-6


def _layout(mask: Any) -> _Layout | None:
    """Where tokens are; None of rows that have no padding or no mask of theirs."""
    import torch

    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return None
    lengths = mask.sum(1)
    # Sorted, so that rows of one length are looked at together.
    order = lengths.argsort(stable=True)
    sizes = lengths[order].tolist()
    if not sizes or sizes[0] == mask.shape[1] or not sizes[0]:
        return None
    row, column = mask[order].nonzero(as_tuple=True)
    runs: list[tuple[int, int]] = []
    for size in sizes:
        same = bool(runs) and runs[-1][1] == size
        runs[-1:] = [(runs[-1][0] + 1, size)] if same else [*runs[-1:], (1, size)]
    return _Layout((mask.shape[0], mask.shape[1]), order[row] * mask.shape[1] + column, runs)


def _pack(value: Any, layout: _Layout) -> Any:
    """What belongs to places of a padded batch, for its tokens alone; anything else as it is."""
    import torch

    if isinstance(value, tuple):
        return tuple(_pack(each, layout) for each in value)
    if not isinstance(value, torch.Tensor) or value.ndim < 2:
        return value
    if value.shape[:2] == layout.shape:
        return value.flatten(0, 1)[layout.places][None]
    if value.shape[0] == 1 and value.shape[1] == layout.shape[1] and value.ndim <= 3:  # the same for every row
        return value[0][layout.places % layout.shape[1]][None]
    return value


def _unpack(value: torch.Tensor, layout: _Layout) -> torch.Tensor:
    rest = value.shape[2:]
    padded = value.new_zeros(layout.shape[0] * layout.shape[1], *rest)
    return padded.index_copy(0, layout.places, value[0]).view(*layout.shape, *rest)


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, *, packed_runs: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention of packed rows, as transformers calls it: tensors of shape (1, heads, tokens, size)."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if mask is not None or kwargs.get("position_bias") is not None:
        raise ValueError("a mask or bias of the padded batch says nothing about packed rows")
    sizes = [count * length for count, length in packed_runs]
    found = []
    parts = (torch.split(each, sizes, 2) for each in (query, key, value))
    for (count, length), *qkv in zip(packed_runs, *parts, strict=True):
        rows = [each[0].unflatten(1, (count, length)).transpose(0, 1) for each in qkv]
        found.append(sdpa_attention_forward(module, *rows, None, **kwargs)[0].flatten(0, 1))
    return torch.cat(found)[None], None


def _register() -> None:
    from transformers import AttentionInterface

    # No function that makes masks is registered with it: then transformers makes none.
    AttentionInterface.register(ATTENTION, _attend)
