"""Floating-point operations of a transformer by a stated formula, from the shape of its model alone.

A product of a row of T tokens with N weights takes 2·N·T operations: one multiplication and one addition a weight. Training
takes that three times: forward, for the gradient of each weight that learns, and for the gradient of each input on the way down
to the lowest parameter that learns. That is 6·N·T when everything learns and 4·N·T + 6·N_adapter·T for adapters in every layer
(Kaplan et al. 2020, arXiv:2001.08361, appendix B, with the parts that do not learn left out). Attention adds 4·L·T²·d forward,
for the products of queries with keys and of those with values, and twice that backward where a gradient passes.

Left out, being no products with weights: norms, activations, softmax, optimiser, and matrices that a method makes anew at every
step from fewer numbers or hold as no parameter (LoHa, OFT, VeRA, …: 2 to 23 % of what torch counts on minilm-l6; for LoRA, IA3,
prompts, biases, heads and full tuning the two agree within 1.5 %). Attention counts all T² pairs, as eager kernels do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

FORMULA = "transformer-matmul-1"
"""Id of the formula of this module, kept with every number that it gave."""

KEPT_FLOATS = 34
"""Numbers a token and width 1 that a layer keeps for its way back, attention's scores left out: 34 bytes at 16 bits by Korthikanti
et al. 2022 (arXiv:2205.05198, equation 1), taken as so many numbers, as a plain float32 form keeps copies."""

_TOGETHER = (
    {"query", "key", "value"},
    {"q_proj", "k_proj", "v_proj"},
    {"q_lin", "k_lin", "v_lin"},
    {"q", "k", "v"},
    {"gate_proj", "up_proj"},
    {"w1", "w3"},
)
"""Names of modules that read the same input: what learns in one of them is not below the others."""

_ONCE_A_ROW = ("pooler", "classifier", "pre_classifier")
"""Modules of encoders that see one token of a row: with thousands of others beside it, nothing."""

_NOT_ONCE = ("num_local_experts", "num_experts", "n_routed_experts", "num_hidden_groups")
"""Settings of models in which a token does not meet each weight exactly once: experts are chosen,
ALBERT's layers are shared.
"""

_OF_PREFIX = ("PREFIX_TUNING", "ADAPTION_PROMPT")
"""Prompt methods whose tokens are keys and values only, and pass through no other matrix."""


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
        backward_layers: Attention layers that a gradient passes through; None: all, if it passes through anything.
        prefix_tokens: Keys and values that a prefix method puts in front of those of every layer.
    """

    weights: int
    trainable_weights: int
    backward_weights: int
    layers: int
    width: int
    virtual_tokens: int = 0
    backward_layers: int | None = None
    prefix_tokens: int = 0


def shape(model: Any) -> Shape | None:
    """Return the shape of a built model, which may be on the meta device.

    A model that is no transformer may state its own in an attribute `flops_shape`. Nothing is run.
    Matrices are recognised by their names, classes and dimensions. What lies above
    the lowest parameter that learns is read from the order of registration.

    Returns:
        The shape; None for encoder-decoders, for models in which a token does not meet every weight
        once (`_NOT_ONCE`), for convolutions, and where the configuration states no layers and
        heads.
    """
    stated = getattr(model, "flops_shape", None)
    if isinstance(stated, Shape):
        return stated
    whole: Any = getattr(model, "config", None)
    config = text_config(whole)
    layers, heads, hidden = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    # Both configurations are asked: the one of a text decoder does not say that it has an encoder
    # beside it.
    if not (layers and heads and hidden) or any(getattr(each, "is_encoder_decoder", False) for each in (whole, config)):
        return None
    if any(getattr(config, name, None) for name in _NOT_ONCE):
        return None
    method = next(iter(getattr(model, "peft_config", {}).values()), None)
    # Three dimensions are a convolution, or experts in one tensor. What learns of a PEFT method may
    # have them (the blocks of BOFT) and is left out of the count.
    if any(p.ndim > 2 and (method is None or not p.requires_grad) for _, p in model.named_parameters()):
        return None
    prompt, kind = bool(getattr(method, "is_prompt_learning", False)), getattr(getattr(method, "peft_type", None), "value", "")
    tokens = int(getattr(method, "num_virtual_tokens", None) or 0) if prompt else 0
    found = list(_parameters(model))
    lowest = min((each.group for each in found if each.learns), default=None)
    if prompt:  # virtual tokens lie below everything; those of a prefix enter at the attention of the first layer
        first = next((each.group for each in found if each.size and _number(each.path) is not None), -1)
        lowest = first if kind in _OF_PREFIX else -1
    # The lowest that learns needs no gradient of its own input, so its weights are not passed on
    # the way down; the second matrix of an adapter is, as the gradient reaches the first through
    # it.
    passed = [each for each in found if lowest is not None and (each.group > lowest or (each.learns and each.second))]
    width = int(heads * (getattr(config, "head_dim", None) or hidden // heads))
    return Shape(
        weights=sum(each.size for each in found),
        trainable_weights=sum(each.size for each in found if each.learns),
        backward_weights=sum(each.size for each in passed),
        layers=int(layers),
        width=width,
        virtual_tokens=0 if kind in _OF_PREFIX else tokens,
        backward_layers=_layers_from(lowest, found, int(layers)),
        prefix_tokens=tokens if kind in _OF_PREFIX else 0,
    )


def divided(model: Any, below: Sequence[Any]) -> tuple[Shape, Shape] | None:
    """The shapes of the part of a model whose output for a row is always the same, and of the part
    above it, which is passed at every step.

    Args:
        model: As `shape` takes it.
        below: The modules of the first part: all below the head, or the first layers.

    Returns:
        Both; None where the model's shape is unknown.
    """
    of = shape(model)
    if of is None:
        return None
    chosen = {id(module) for module in below}
    paths = tuple(f"{path}." for path, module in model.named_modules() if id(module) in chosen)
    inside = [each for each in _parameters(model) if f"{each.path}.".startswith(paths)]
    weights = sum(each.size for each in inside)
    layers = min(of.layers, len({_number(each.path) for each in inside} - {None}))
    first = Shape(weights, 0, 0, layers, of.width)
    return first, replace(of, weights=of.weights - weights, layers=of.layers - layers, backward_layers=_backward_layers(of))


def forward(of: Shape, lengths: Sequence[int], past: Sequence[int] = ()) -> float:
    """Count the FLOPs of one forward pass over rows: 2·N·T + 4·L·T²·d for each row, T with its
    virtual tokens.

    Args:
        of: The model.
        lengths: Tokens of each row.
        past: How many tokens before each row have their keys and values cached; T² becomes T·(T +
            past). Empty: none.
    """
    return 2.0 * of.weights * _tokens(of, lengths) + of.layers * _attention(of, lengths, past)


def training(of: Shape, lengths: Sequence[int], *, recompute: bool = False) -> float:
    """Count the FLOPs of a forward and a backward pass over rows of these lengths.

    By the module's formula they are 2·(N + N_trainable + N_backward)·T + 4·(L + 2·L_backward)·T²·d,
    summed over rows.

    Args:
        of: The model.
        lengths: Tokens of each row.
        recompute: Whether layers are computed twice (gradient checkpointing): it adds a second
            forward pass.
    """
    once = forward(of, lengths)
    back = _backward_layers(of)
    gradients = 2.0 * (of.trainable_weights + of.backward_weights) * _tokens(of, lengths) + 2 * back * _attention(of, lengths)
    return once * (2 if recompute else 1) + gradients


def _backward_layers(of: Shape) -> int:
    if of.backward_layers is not None:
        return of.backward_layers
    return of.layers if of.backward_weights else 0


def _tokens(of: Shape, lengths: Sequence[int]) -> int:
    return int(sum(lengths)) + len(lengths) * of.virtual_tokens


def _attention(of: Shape, lengths: Sequence[int], past: Sequence[int] = ()) -> float:
    """4·T²·d of one layer, summed over rows."""
    rows = zip((int(length) + of.virtual_tokens for length in lengths), past or [0] * len(lengths), strict=True)
    return 4.0 * of.width * sum(t * (t + before + of.prefix_tokens) for t, before in rows)


class _Parameter(NamedTuple):
    """A parameter in its place: `size` is 0 where no token is multiplied with it as a matrix."""

    group: int  # rises in the order of registration; modules that read the same input share one
    path: str
    size: int
    learns: bool
    second: bool  # a matrix of an adapter behind another one: its input is made by what learns


def _parameters(model: Any) -> Iterator[_Parameter]:
    """Every parameter at its place, in the order of registration; one that stands in two places (a tied head) at both."""
    # PEFT keeps a frozen `original_module` beside the copy of a head that learns; only the copy
    # computes.
    modules = [(path, module) for path, module in model.named_modules() if "original_module" not in path.split(".")]
    adapted = {path.removesuffix(".base_layer") for path, _ in modules if path.endswith(".base_layer")}
    per_token = "ForTokenClassification" in type(unwrapped(model)).__name__
    groups: dict[tuple[str, ...], int] = {}
    matrices: dict[str, int] = {}
    for path, module in modules:
        owner = next((each for each in adapted if path.startswith(f"{each}.")), path)
        group = groups.setdefault(_group(owner), len(groups))
        of_adapter = owner != path and ".base_layer" not in path
        # Module by module: `model.named_parameters()` lists a tied matrix once, and it multiplies
        # twice.
        for name, parameter in module.named_parameters(recurse=False):
            size = 0 if _is_no_matrix(path, name, module, parameter, per_token) else _size(module, parameter)
            earlier = matrices.get(owner, 0)
            matrices[owner] = earlier + bool(size and of_adapter)
            yield _Parameter(group, path, size, bool(parameter.requires_grad), bool(size and of_adapter and earlier))


def unwrapped(model: Any) -> Any:
    """The transformers model itself, without what PEFT puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def text_config(config: Any) -> Any:
    """The part of a model's configuration that is about its text; all of it where it has no parts."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _group(path: str) -> tuple[str, ...]:
    """The key of the modules at one height: one alone, or those of `_TOGETHER` in one parent."""
    *parents, name = path.split(".")
    alike = next((together for together in _TOGETHER if name in together), None)
    return (*parents, min(alike) if alike else name)


def _is_no_matrix(path: str, name: str, module: Any, parameter: Any, per_token: bool) -> bool:
    parts = path.split(".")
    looked_up = (
        any(word in type(module).__name__ for word in ("Embedding", "Norm")) or "embed" in name or "trainable_tokens" in path
    )
    once_a_row = not per_token and any(part in _ONCE_A_ROW for part in parts)
    # An adapter of an embedding is looked up as well, and the encoder of a prompt sees virtual
    # tokens, not those of the row.
    return parameter.ndim != 2 or looked_up or once_a_row or parts[-1].startswith("lora_embedding") or "prompt_encoder" in parts


def _size(module: Any, parameter: Any) -> int:
    """Count the numbers of a matrix; of a packed one, the numbers that it stands for."""
    # bitsandbytes packs two weights of four bits into a byte: `numel` is half of what is
    # multiplied.
    if parameter.is_floating_point() or not hasattr(module, "in_features"):
        return int(parameter.numel())
    return int(module.in_features * module.out_features)


def _layers_from(lowest: int | None, found: Sequence[_Parameter], layers: int) -> int:
    """Attention layers at and above the group of the lowest parameter that learns; 0 where nothing learns in or below one."""
    numbered = [(each.group, number) for each in found if (number := _number(each.path)) is not None]
    if lowest is None or not numbered or lowest > max(group for group, _ in numbered):
        return 0
    return layers - next((number for group, number in numbered if group >= lowest), 0)


def _number(path: str) -> int | None:
    return next((int(part) for part in path.split(".") if part.isdigit()), None)
