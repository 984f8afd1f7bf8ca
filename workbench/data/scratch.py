"""Models with the architecture and tokeniser of another one, made smaller, whose weights are drawn: what is trained from scratch.

Such a model has a name of its own, `scratch:minilm-l3,layers=2,hidden_size=128,seed=0`, and a folder in the cache in Hugging
Face's form, which whoever asks first makes.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import process
from workbench.data import cache, hub
from workbench.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PREFIX = "scratch:"

REVISION = 1
"""It rises when the same name comes to stand for other weights."""

_NAME = re.compile(rf"{PREFIX}(?P<of>.+),layers=(?P<layers>\d+),hidden_size=(?P<hidden_size>\d+),seed=(?P<seed>\d+)")


def name(model: str, layers: int | None, hidden_size: int | None, seed: int) -> str:
    """The name of a model that is to be drawn.

    Args:
        model: Whose architecture and tokeniser it has.
        layers: Its layers; None: as many as the model has.
        hidden_size: Width of its layers; None: the model's.
        seed: Draws its weights.
    """
    return f"{PREFIX}{model},layers={layers or 0},hidden_size={hidden_size or 0},seed={seed}"


def origin(model: str) -> str:
    """The name of the model whose architecture another one has; its own where it was not drawn."""
    found = _NAME.fullmatch(model)
    return found["of"] if found else model


def folder(model: str, load: Callable[[str], Any], layers_of: Callable[[str], int]) -> Path | None:
    """The folder of a model that is drawn; None of any other model. Whoever asks first makes it, whole or not at all.

    Args:
        model: A name as `name` gives it.
        load: Gives the configuration (`AutoConfig`) or the tokeniser (`AutoTokenizer`) of the model that it is like.
        layers_of: How many layers of its file that one keeps; 0: all.

    Raises:
        UsageError: The model has no such sizes.
        EnvironmentFault: The cache cannot be written to.
    """
    found = _NAME.fullmatch(model)
    if found is None:
        return None
    shape = load("AutoConfig")
    _shrink(shape, int(found["layers"]) or layers_of(found["of"]), int(found["hidden_size"]))
    # What the configuration says decides the weights, so that other files under the same name make another folder.
    key = hashlib.sha256(f"{shape.to_json_string()} {found['seed']} {REVISION}".encode()).hexdigest()[:16]
    made = cache.folder() / "models" / f"scratch-{key}"
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with process.exclusive(made.parent):
            if not made.is_dir():
                _make(made, shape, load("AutoTokenizer"), int(found["seed"]))
    except OSError as error:
        raise EnvironmentFault(
            f"cannot keep the drawn model in {made.parent}: {error.strerror or error}. Free some space or set WORKBENCH_CACHE to a "
            "folder that can be written to."
        ) from error
    return made


def _shrink(shape: PretrainedConfig, layers: int, hidden_size: int) -> None:
    """Change a configuration's number of layers and its width; heads keep their size, and the feed-forward part its ratio."""
    if layers:
        shape.num_hidden_layers = layers
        if isinstance(getattr(shape, "layer_types", None), list):
            shape.layer_types = shape.layer_types[:layers]
    if not hidden_size or hidden_size == shape.hidden_size:
        return
    of_head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    if hidden_size % of_head:
        raise UsageError(f"hidden_size={hidden_size}: the heads of this model are {of_head} wide. Take a multiple of that.")
    ratio, heads = hidden_size / shape.hidden_size, hidden_size // of_head
    if groups := getattr(shape, "num_key_value_heads", None):
        # Each key and value serves equally many heads, so their number must divide that of the heads.
        shape.num_key_value_heads = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= max(1, groups * ratio))
    if hasattr(shape, "intermediate_size"):
        shape.intermediate_size = max(1, round(shape.intermediate_size * ratio))
    shape.hidden_size, shape.num_attention_heads = hidden_size, heads


def _make(made: Path, shape: PretrainedConfig, tokenizer: Any, seed: int) -> None:
    import torch
    import transformers

    # A decoder's matrix that writes tokens is a part of the model; the head of an encoder is the task's.
    writes = type(shape) in transformers.AutoModelForCausalLM._model_mapping and not _is_encoder(shape)
    auto = transformers.AutoModelForCausalLM if writes else transformers.AutoModel
    draft = process.draft(made)
    try:
        with hub.quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            auto.from_config(shape, dtype=torch.float32, trust_remote_code=False).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.replace(made)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft, ignore_errors=True)


def _is_encoder(shape: PretrainedConfig) -> bool:
    import transformers

    return type(shape) in transformers.AutoModelForMaskedLM._model_mapping
