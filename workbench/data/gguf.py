"""GGUF files of the Llama architecture, turned once into plain folders in Hugging Face's form,
which are kept in the cache.

llama.cpp's format is one file with a model's shape, tokeniser and weights, mostly of 4 to 8 bits.
transformers can read it, but takes five times as long as this, gives a model that cannot be saved,
and loses how the tokeniser splits digits. Weights become float32. Those of a 4-bit file keep its
rounding, so the model's scores are not those of the model on the hub.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import process
from workbench.data import cache, fingerprints, hub
from workbench.errors import EnvironmentFault, UsageError, WorkbenchError, is_out_of_memory

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""Names of a layer's matrices in llama.cpp, and in transformers."""

_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""The same for matrices outside the layers."""

_DIGITS_APART = ("smollm", "refact", "command-r", "starcoder", "codeshell")
"""Pre-tokenisers, by llama.cpp's name, that make each digit a token and otherwise work as GPT-2's.
"""

_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 splits text into words."""

_CONTROL, _USER_DEFINED = 3, 4
"""Types of tokens that stand for no text of their own."""


def folder(file: Path) -> Path:
    """The folder made of a GGUF file, for `from_pretrained`. Whoever asks first makes it, whole or
    not at all.

    Raises:
        UsageError: The file is damaged, or holds a model or a tokeniser of another kind.
        EnvironmentFault: It cannot be read, the package gguf is not installed, or the cache cannot
            be written to.
    """
    made = cache.folder() / "models" / f"{file.stem}-{fingerprints.gguf(file)}"
    if made.is_dir():
        return made
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with process.exclusive(made.parent):  # a second process waits for the first
            if not made.is_dir():
                _make(file, made)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot keep the model of {file} in {made.parent}: {error.strerror or error}. Free some space (of 4-bit files up to "
            "eight times their size) or set WORKBENCH_CACHE to a folder that can be written to."
        ) from error
    return made


def _make(file: Path, made: Path) -> None:
    """Write the folder under another name beside its place, then rename it."""
    draft = process.draft(made)
    for left in (draft, *(each for each in made.parent.glob("*.tmp") if process.is_left(each, time.time()))):
        shutil.rmtree(left, ignore_errors=True)
    try:
        _write(file, draft)
        try:
            draft.rename(made)
        except OSError:  # without locks another process may have been first
            if not made.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(file: Path, draft: Path) -> None:
    try:
        import gguf
    except ImportError as error:
        raise EnvironmentFault(
            "GGUF files are read by the package gguf, which is not installed. Install it with pip: 'workbench[pydocs]' has it."
        ) from error
    try:
        reader = gguf.GGUFReader(file)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        shape = _shape(file, fields)
        words = _tokenizer(file, fields)
        weights = {_name(file, each.name): _weights(each, fields) for each in reader.tensors}
    except (WorkbenchError, OSError):
        raise
    except Exception as error:  # numpy and gguf raise anything on damaged bytes
        if is_out_of_memory(error):
            raise
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    _save(file, draft, shape, words, weights)


def _damaged(file: Path, what: str) -> UsageError:
    return UsageError(f"{file} is no whole GGUF file: {what.rstrip('.')}. Copy or fetch it again.")


def _shape(file: Path, fields: Mapping[str, Any]) -> PretrainedConfig:
    """The model's configuration."""
    from transformers import LlamaConfig

    architecture = fields["general.architecture"]
    if architecture != "llama":
        raise UsageError(
            f"{file} holds a model of the architecture {architecture!r}; of GGUF files those of 'llama' can be read. Choose "
            "another one, or give a folder or a hub name of the model."
        )
    of = {name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")}
    if scaled := next((name for name in of if name.startswith("rope.scaling.") and of[name] not in ("none", 1.0)), None):
        raise UsageError(
            f"{file} stretches its context (llama.{scaled}), which is not read from GGUF files. Give a folder or a hub name of the "
            "model."
        )
    heads = of["attention.head_count"]
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=of["embedding_length"],
        intermediate_size=of["feed_forward_length"],
        num_hidden_layers=of["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=of.get("attention.head_count_kv", heads),
        head_dim=of.get("attention.key_length", of["embedding_length"] // heads),
        max_position_embeddings=of["context_length"],
        rms_norm_eps=of["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": of.get("rope.freq_base", 10_000.0)},
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=_ends(fields),
        pad_token_id=fields.get("tokenizer.ggml.padding_token_id"),
        dtype="float32",
    )


def _ends(fields: Mapping[str, Any]) -> int | list[int] | None:
    """Tokens that each end a text: the ends of text, of a turn, of a message."""
    found = (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    known = [*dict.fromkeys(token for token in found if token is not None)]
    return known if len(known) > 1 else next(iter(known), None)


def _name(file: Path, name: str) -> str:
    """Transformers' name for a tensor of llama.cpp's."""
    first, *rest = name.removesuffix(".weight").split(".")
    if not rest and first in _WHOLE:
        return f"{_WHOLE[first]}.weight"
    if first == "blk" and len(rest) == 2 and rest[1] in _LAYER and name.endswith(".weight"):
        return f"model.layers.{rest[0]}.{_LAYER[rest[1]]}.weight"
    raise UsageError(f"{file} has a tensor {name!r}, which no plain Llama model has. Give a folder or a hub name of the model.")


def _weights(tensor: Any, fields: Mapping[str, Any]) -> np.ndarray:
    """A tensor in float32, in transformers' order."""
    import gguf

    found: np.ndarray = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"the tensor {tensor.name} has values that are not finite")
    part = tensor.name.split(".")[-2]
    if part not in ("attn_q", "attn_k"):
        return found
    queries = fields["llama.attention.head_count"]
    heads = queries if part == "attn_q" else fields.get("llama.attention.head_count_kv", queries)
    # Rotary embeddings: llama.cpp rotates neighbouring numbers, transformers the two halves of a
    # head, so rows of queries and keys are put in another order.
    pairs = found.reshape(heads, len(found) // heads // 2, 2, *found.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(found.shape))


def _tokenizer(file: Path, fields: Mapping[str, Any]) -> Any:
    """The model's fast tokeniser, with its chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    of = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items() if name.startswith("tokenizer.ggml.")}
    if of["model"] != "gpt2":
        raise UsageError(
            f"{file} has a tokeniser of the kind {of['model']!r}; of GGUF files those of 'gpt2' (byte-level BPE) can be read. Give "
            "a folder or a hub name of the model."
        )
    tokens = of["tokens"]
    merges = [tuple(merge.split(" ")) for merge in of["merges"]]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = _words(file, of.get("pre", "default"))
    made.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, of["token_type"], strict=True):
        if kind in (_CONTROL, _USER_DEFINED):
            special = kind == _CONTROL
            made.add_tokens([AddedToken(token, special=special, normalized=False)])
    named = {
        f"{role}_token": tokens[of[f"{name}_token_id"]]
        for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if f"{name}_token_id" in of
    }
    if of.get("add_bos_token", False):
        first = (named["bos_token"], of["bos_token_id"])
        made.post_processor = processors.TemplateProcessing(
            single=f"{first[0]} $A", pair=f"{first[0]} $A {first[0]} $B", special_tokens=[first]
        )
    if "pad_token" not in named and "eos_token" in named:
        named["pad_token"] = named["eos_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=fields["llama.context_length"],
        chat_template=fields.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **named,
    )


def _words(file: Path, name: str) -> Any:
    """How text is split before its pieces are merged, by llama.cpp's name for it."""
    from tokenizers import Regex, pre_tokenizers

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name in ("default", "gpt-2"):
        return plain
    if name in _DIGITS_APART:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
    if name == "llama-bpe":
        parts = pre_tokenizers.Split(Regex(_LLAMA_3), "isolated")
        return pre_tokenizers.Sequence([parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise UsageError(f"{file} parts text in a way that is not known here, {name!r}. Give a folder or a hub name of the model.")


def _save(file: Path, draft: Path, shape: PretrainedConfig, words: Any, weights: Mapping[str, np.ndarray]) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig, LlamaForCausalLM

    # A file without an output matrix uses its embeddings for it.
    shape.tie_word_embeddings = "lm_head.weight" not in weights
    with torch.device("meta"), hub.quiet():
        wanted = {name: tuple(each.shape) for name, each in LlamaForCausalLM(shape).named_parameters()}
    there = {name: each.shape for name, each in weights.items()}
    if wrong := sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)):
        first = wrong[0]
        raise _damaged(file, f"{first} has the shape {there.get(first)} and must have {wanted.get(first)} ({len(wrong)} such)")
    with hub.quiet():
        draft.mkdir(parents=True)
        shape.save_pretrained(draft)
        words.save_pretrained(draft)
        GenerationConfig(
            bos_token_id=shape.bos_token_id, eos_token_id=shape.eos_token_id, pad_token_id=words.pad_token_id
        ).save_pretrained(draft)
        save_file({name: torch.from_numpy(each) for name, each in weights.items()}, draft / "model.safetensors", {"format": "pt"})
