"""Models and tokenisers by name: built in, on disk, or on the hub."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data import adapters, cache, counts, hub, poolings
from workbench.data.builtin import MODELS
from workbench.data.heads import head, refuse_missing
from workbench.data.model_files import Stamp, file_of, layers_of, load, loading, resolve, stamp, weight_files
from workbench.errors import EnvironmentFault, UsageError, WorkbenchError, is_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "KINDS",
    "build",
    "check",
    "config",
    "head",
    "kind",
    "pooling",
    "processor",
    "processors",
    "read",
    "resolve",
    "tokenizer",
]

KINDS = ("encoder", "decoder", "encoder-decoder", "vision", "audio", counts.NAME)
"""Kinds of model: one that reads a text at once, one that writes on from it, one that reads a text
and writes another, models of images and of sound, and the one that only counts.
"""


def tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The model's own fast tokeniser, one object a process while its files are the same. Raises as `resolve` does."""
    return _tokenizer(model, stamp(model))


@functools.lru_cache(maxsize=8)
def _tokenizer(model: str, files: Stamp) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    _refuse_foreign_tokenizer(model)
    found: PreTrainedTokenizerBase = load(AutoTokenizer, model, _place_of_tokenizer(model))
    if not found.is_fast:
        raise UsageError(f"the tokeniser of {model!r} does not give offsets. Choose a model with a fast tokeniser.")
    # From a folder without a vocabulary transformers makes a tokeniser of special tokens alone.
    if len(found) <= len(found.all_special_tokens):
        raise UsageError(f"the model {model!r} comes without a tokeniser. Save one into its folder.")
    if found.pad_token is None and found.eos_token is not None:
        # Any token does: padding is known by masks alone, never by its number.
        found.pad_token = found.eos_token
    return found


def processor(model: str) -> Any:
    """What turns examples into the model's inputs: its tokeniser, or its processor of images or
    sounds. Raises as `resolve`.
    """
    if model == counts.NAME:
        return counts.Numbers()
    return {"vision": _image_processor, "audio": _sound_processor}.get(kind(model), _tokenizer)(model, stamp(model))


def processors(names: Iterable[str]) -> dict[str, Any]:
    """The distinct processors of some models, each under the first model that has it. Models that
    do not load are left out.
    """
    found: dict[str, tuple[str, Any]] = {}
    for model in names:
        with contextlib.suppress(WorkbenchError):  # the plan of its pairs says so
            key, own = model, processor(model)
            # Models of one family often share a tokeniser. Encoding the data once for each that
            # differs gives the same counts.
            if hasattr(own, "backend_tokenizer"):
                content = json.loads(own.backend_tokenizer.to_str())
                content |= {"truncation": None, "padding": None}  # set at each use
                key = json.dumps([content, own.model_max_length])
            found.setdefault(key, (model, own))
    return dict(found.values())


@functools.lru_cache(maxsize=8)
def _image_processor(model: str, files: Stamp) -> Any:
    from transformers import AutoImageProcessor

    return load(AutoImageProcessor, model)


@functools.lru_cache(maxsize=8)
def _sound_processor(model: str, files: Stamp) -> Any:
    from transformers import AutoFeatureExtractor, AutoProcessor

    try:
        return load(AutoProcessor, model)  # with a tokeniser, to write what it hears
    except WorkbenchError:  # without one: it tells classes
        return load(AutoFeatureExtractor, model)


def pooling(model: str) -> str:
    """How the model's embeddings are pooled, `mean` or `cls`: as its files state, else the mean.
    Raises as `poolings.stated`.
    """
    return _pooling(model, stamp(model))


@functools.lru_cache(maxsize=64)
def _pooling(model: str, files: Stamp) -> str:
    local = Path(resolve(model)[0]).is_dir() or not hub.reachable()
    return poolings.stated(model, *(file_of(model, name, local=local) for name in poolings.FILES))


def config(model: str) -> PretrainedConfig:
    """The model's configuration, with the number of layers that it keeps. Raises as `resolve`."""
    from transformers import AutoConfig

    if model == counts.NAME:
        return counts.config()
    found: PretrainedConfig = load(AutoConfig, model)
    if layers := layers_of(model):
        found.num_hidden_layers = len(layers)
    return found


def kind(model: str) -> str:
    """Which of `KINDS` a model is, by what transformers can make of its configuration. Raises as
    `resolve`.

    Raises:
        UsageError: It is none of them.
    """
    return counts.NAME if model == counts.NAME else _kind(model, stamp(model))


@functools.lru_cache(maxsize=64)
def _kind(model: str, files: Stamp) -> str:
    from transformers.models.auto import modeling_auto as known

    shape = config(model)
    text = shape.is_encoder_decoder and type(shape) in known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    # In this order, as many configurations fit several classes: the first that fits counts.
    made_for = (
        ("encoder-decoder", text),
        ("audio", type(shape) in known.MODEL_FOR_CTC_MAPPING or type(shape) in known.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING),
        ("audio", type(shape) in known.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING),
        ("vision", type(shape) in known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING),
        ("encoder", type(shape) in known.MODEL_FOR_MASKED_LM_MAPPING),  # BERT could be a decoder
        ("decoder", type(shape) in known.MODEL_FOR_CAUSAL_LM_MAPPING),
        ("encoder", type(shape) in known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING),
        ("encoder", type(shape) in known.MODEL_FOR_QUESTION_ANSWERING_MAPPING),
    )
    found = next((kind for kind, fits in made_for if fits), None)
    if found is None:
        raise UsageError(
            f"{model!r} ({shape.model_type}) is of no kind that can be tuned: {', '.join(KINDS)}. Choose another model."
        )
    return found


def build(
    model: str,
    auto_class: str,
    *,
    device: str = "cpu",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    weights: str = "float32",
    **settings: Any,
) -> torch.nn.Module:
    """The model with a task's head on it, in evaluation mode. Attention is fused (sdpa) where the
    model has that.

    Args:
        model: A name as in `resolve`.
        auto_class: Name of the transformers class that puts on the head:
            `"AutoModelForQuestionAnswering"`.
        device: Where the parameters are made: `"cpu"`, `"cuda"`, …, or `"meta"`, for which no
            weights are read.
        seed: Draws the parameters that are not in the files (the head's). torch's own random state
            is left as it was.
        dtype: The parameters' type; None: that of `weights`, whatever the files hold.
        weights: `float32`, `bfloat16` or `nf4`, which is bfloat16 with the matrices outside the
            head in four bits. On the meta device these are bfloat16, too.
        **settings: Changes of the configuration, such as `num_labels`: a formulation's `settings`.

    Raises:
        UsageError: As `resolve`; or the model has no such head, needs code of its own, or its files
            lack weights other than the head's.
        EnvironmentFault: As `resolve`; or its files of weights are broken.
    """
    return read(model, auto_class, device=device, seed=seed, dtype=dtype, weights=weights, **settings)[0]


def read(
    model: str,
    auto_class: str,
    *,
    device: str = "cpu",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    weights: str = "float32",
    **settings: Any,
) -> tuple[torch.nn.Module, bool]:
    """As `build`. Returns the model, and whether the seed may have drawn a part of it."""
    import torch
    import transformers

    if model == counts.NAME:
        return counts.read(**settings), False
    dtype = dtype or (torch.float32 if weights == "float32" else torch.bfloat16)
    if (base := adapters.base(model)) is not None:
        return _merged(model, base, auto_class, device=device, seed=seed, dtype=dtype, weights=weights, **settings), True
    shape = config(model)
    auto = getattr(transformers, auto_class)
    if type(shape) not in auto._model_mapping:
        raise UsageError(f"{model!r} ({shape.model_type}) has no head for {auto_class}. Choose another model.")
    with hub.quiet(), torch.random.fork_rng(devices=[]), loading(model, auto_class):
        shape.update(settings)
        torch.manual_seed(seed)
        # Whether this state moves shows if anything was drawn.
        before = torch.get_rng_state()
        if device == "meta":
            with torch.device("meta"):
                built = auto.from_config(shape, dtype=dtype, trust_remote_code=False)
        elif (layers := layers_of(model)) and weights == "nf4":
            raise UsageError(
                f"{model!r} is put together of layers, and cannot be held in four bits. Choose another model, or bfloat16."
            )
        elif layers:
            built = auto.from_config(shape, dtype=dtype, trust_remote_code=False)
            loaded = built.base_model.load_state_dict(_kept_layers(MODELS[model].place, layers), strict=False)
            prefix = f"{built.base_model_prefix}."
            refuse_missing(model, built, [prefix + name for name in loaded.missing_keys], loaded.unexpected_keys)
        else:
            more: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # it reports sizes, too
            more |= {"quantization_config": _four_bits(model)} if weights == "nf4" else {}
            built, report = load(auto, model, config=shape, dtype=dtype, **more)
            refuse_missing(model, built, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])
            for module in built.modules():
                # On CPUs with AVX512-BF16 bitsandbytes repacks weights for good when a model is
                # first asked. No gradient passes through these, so a resumed run differed from an
                # unbroken one.
                if hasattr(module, "support_avx512bf16_for_cpu"):
                    module.support_avx512bf16_for_cpu = False
        built.name_or_path = model  # an adapter's configuration names its base by this
        drawn = not torch.equal(before, torch.get_rng_state())
    return built.to(device).eval(), drawn


def _merged(
    model: str, base: str, auto_class: str, *, device: str, seed: int, dtype: torch.dtype, weights: str, **settings: Any
) -> torch.nn.Module:
    """The model that an adapter is for, with the adapter merged into it: in float32, whatever it is
    held in afterwards.
    """
    import torch

    if device == "meta":  # where merged and unmerged models are the same
        built = build(base, auto_class, device=device, seed=seed, dtype=dtype, weights=weights, **settings)
    elif weights == "nf4":
        raise UsageError(
            f"{model!r} is an adapter, and merged into a model of four bits it is lost. Merge it into the model and save that, or "
            "take bfloat16."
        )
    else:
        with torch.random.fork_rng(devices=[]):
            built = adapters.merged(model, build(base, auto_class, seed=seed, dtype=torch.float32, **settings))
    built.name_or_path = model  # type: ignore[assignment]
    return built.to(device=device, dtype=dtype).eval()


def _four_bits(model: str) -> Any:
    """How a model is held in four bits. Raises EnvironmentFault where bitsandbytes is not
    installed.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentFault(
            f"weights='nf4' of {model!r} needs the package bitsandbytes, which is not installed. Install it with pip: "
            "'workbench[quantization]' has it."
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )  # fmt: skip


def check(model: str, auto_class: str, **settings: Any) -> None:
    """Make sure that the files hold the weights that `build` will ask for.

    transformers' loader compares headers alone, and no weights are read; a model that it cannot
    check in this way is loaded. A model that has yet to be fetched from the hub is checked when it
    is loaded.

    Raises:
        UsageError: As `build`.
        EnvironmentFault: As `build`.
    """
    import torch
    from transformers.modeling_utils import load_state_dict

    if model == counts.NAME:  # there are no files
        return
    if (base := adapters.base(model)) is not None:
        check(base, auto_class, **settings)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            adapters.merged(model, build(base, auto_class, device="meta", **settings))
        return
    where, layers = resolve(model)[0], layers_of(model)
    if not layers and not (files := weight_files(model)):
        if Path(where).is_dir():
            build(model, auto_class, **settings)  # which says what it looked for
        return
    bare = build(model, auto_class, device="meta", **settings)
    with hub.quiet(), loading(model, auto_class):
        if layers:
            stored = _kept_layers(Path(where), layers, device="meta")
        else:
            stored = {name: tensor for file in files for name, tensor in load_state_dict(file, map_location="meta").items()}
        try:
            loaded, report = type(bare).from_pretrained(  # type: ignore[attr-defined]
                None, config=bare.config, state_dict=stored, device_map={"": torch.device("meta")}, dtype=torch.float32,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
        except Exception as error:
            if is_out_of_memory(error):
                raise
            build(model, auto_class, **settings)
            return
        refuse_missing(model, loaded, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])


def _kept_layers(folder: Path, layers: tuple[int, ...], device: str = "cpu") -> dict[str, torch.Tensor]:
    """Weights of a built-in encoder with only some layers, renumbered from 0. On the meta device
    only the file's header is read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> torch.Tensor:
        if device == "meta":
            return torch.empty(stored.get_slice(name).get_shape(), device=device)
        return stored.get_tensor(name)  # type: ignore[no-any-return]

    file = folder / "model.safetensors"
    number = {str(layer): str(i) for i, layer in enumerate(layers)}
    weights = {}
    try:
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - not a mapping
                layer = re.match(r"encoder\.layer\.(\d+)\.", name)
                if layer is None:
                    weights[name] = read(name)
                elif layer[1] in number:
                    weights[f"encoder.layer.{number[layer[1]]}.{name[layer.end() :]}"] = read(name)
    except (OSError, SafetensorError) as error:
        raise EnvironmentFault(f"cannot read {file}: {error}. Install the package that it is in again.") from error
    return weights


def _place_of_tokenizer(model: str) -> tuple[str, str | None]:
    """As `resolve`, but an adapter's own folder where it was saved with its tokeniser."""
    return (str(cache.expanded(model)), None) if adapters.has_tokenizer(model) else resolve(model)


def _refuse_foreign_tokenizer(model: str) -> None:
    """Raise UsageError where the tokeniser is a class that comes with the model; transformers would
    take another one instead.
    """
    from transformers.models.auto import tokenization_auto as known

    where, revision = _place_of_tokenizer(model)
    with hub.quiet(), loading(model, "AutoTokenizer"):
        local = Path(where).is_dir() or not hub.reachable()
        stated = known.get_tokenizer_config(where, revision=revision or "main", local_files_only=local)
        name = stated.get("tokenizer_class")
        own = "AutoTokenizer" in (stated.get("auto_map") or {})
        if own and isinstance(name, str) and known.tokenizer_class_from_name(name) is None:
            raise UsageError(
                f"the tokeniser of {model!r} needs code of its own to be run ({name}, auto_map in its tokenizer_config.json), "
                "which workbench never does. Choose a model whose tokeniser transformers knows by itself."
            )
