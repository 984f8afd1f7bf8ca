"""Models and tokenisers by name: built in, on disk, or on the hub."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data import adapters, cache, gguf, hub, poolings
from workbench.data.builtin import GGUF, MODELS, is_gguf
from workbench.errors import EnvironmentFault, UsageError, WorkbenchError, did_you_mean, is_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

KINDS = ("encoder", "decoder", "encoder-decoder", "vision", "audio")
"""Kinds of model: what reads a text at once, what writes on from it, what reads one and writes another, images, and sound."""

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of weights, the first found being read; one in parts has an index beside them, `….index.json`."""


def resolve(model: str) -> tuple[str, str | None]:
    """Folder or hub name of a model, and its revision (None: the newest). `model` may be `"name@revision"`.

    Of a GGUF file it is the folder in the cache that is made of it, now if need be; of an adapter's folder, its model's.

    Raises:
        UsageError: There is no such model: neither built in, nor a folder or GGUF file, nor on the hub; or the file is damaged, or
            the folder that of an adapter whose model is not there.
        EnvironmentFault: The package of a built-in model is missing, or the hub cannot be reached.
    """
    if model in MODELS:
        path = MODELS[model].place
        return str(gguf.folder(path) if MODELS[model].is_gguf else path), None
    path = cache.expanded(model)
    if is_gguf(path):
        return str(gguf.folder(path)), None
    if (base := adapters.base(model)) is not None:
        return resolve(base)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"the folder {model!r} holds no model: there is no config.json in it.")
        return str(path), None
    if model.startswith((".", "/", "~")) or model.endswith(GGUF):
        what = "GGUF file" if model.endswith(GGUF) else "model folder"
        raise UsageError(f"there is no {what} {model!r} (looked in {Path.cwd()}).")
    name, _, revision = model.partition("@")
    if "/" not in name and " Did you mean" in (hint := did_you_mean(name, MODELS)):
        raise UsageError(f"there is no model {model!r}.{hint} A folder is written ./name, a model on the hub owner/name.")
    _on_hub(name, revision or None)
    return name, revision or None


@functools.lru_cache(maxsize=8)
def tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The model's own fast tokeniser, one object a process. Raises as `resolve` does."""
    from transformers import AutoTokenizer

    _refuse_foreign_tokenizer(model)
    found: PreTrainedTokenizerBase = _load(AutoTokenizer, model, _place_of_tokenizer(model))
    if not found.is_fast:
        raise UsageError(f"the tokeniser of {model!r} does not give offsets. Choose a model with a fast tokeniser.")
    if len(found) <= len(found.all_special_tokens):  # what transformers makes of a folder without a vocabulary
        raise UsageError(f"the model {model!r} comes without a tokeniser. Save one into its folder.")
    if found.pad_token is None and found.eos_token is not None:
        found.pad_token = found.eos_token  # it stands where nobody looks: places are masked, and no token is by its number
    return found


def processor(model: str) -> Any:
    """What turns examples into the model's inputs: its tokeniser, or its processor of images or sound. Raises as `resolve` does."""
    return {"vision": _image_processor, "audio": _sound_processor}.get(kind(model), tokenizer)(model)


@functools.lru_cache(maxsize=8)
def _image_processor(model: str) -> Any:
    from transformers import AutoImageProcessor

    return _load(AutoImageProcessor, model)


@functools.lru_cache(maxsize=8)
def _sound_processor(model: str) -> Any:
    from transformers import AutoFeatureExtractor, AutoProcessor

    try:
        return _load(AutoProcessor, model)  # which writes what it hears, too
    except WorkbenchError:  # this one has no tokeniser: it tells classes
        return _load(AutoFeatureExtractor, model)


@functools.lru_cache(maxsize=64)
def pooling(model: str) -> str:
    """How the model's embeddings are pooled, `mean` or `cls`: as its files say, else the mean. Raises as `poolings.stated`."""
    local = Path(resolve(model)[0]).is_dir() or not hub.reachable()
    return poolings.stated(model, *(_file(model, name, local=local) for name in poolings.FILES))


def config(model: str) -> PretrainedConfig:
    """The model's configuration, with as many layers as it keeps. Raises as `resolve` does."""
    from transformers import AutoConfig

    found: PretrainedConfig = _load(AutoConfig, model)
    if layers := _layers(model):
        found.num_hidden_layers = len(layers)
    return found


def kind(model: str) -> str:
    """Which of `KINDS` a model is, by its configuration: what transformers can make of that. Raises as `resolve` does.

    Raises:
        UsageError: It is none of them.
    """
    return _kind(model)


@functools.lru_cache(maxsize=64)
def _kind(model: str) -> str:
    from transformers.models.auto import modeling_auto as known

    shape = config(model)
    text = shape.is_encoder_decoder and type(shape) in known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    made_for = (
        ("encoder-decoder", text),
        ("audio", type(shape) in known.MODEL_FOR_CTC_MAPPING or type(shape) in known.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING),
        ("audio", type(shape) in known.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING),
        ("vision", type(shape) in known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING),
        ("encoder", type(shape) in known.MODEL_FOR_MASKED_LM_MAPPING),  # BERT can be made a decoder, too, and is none
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
    """The model with a task's head on it, in evaluation mode; attention is fused (sdpa) where the model has that.

    Args:
        model: A name as in `resolve`.
        auto_class: Name of the transformers class that puts on the head: `"AutoModelForQuestionAnswering"`.
        device: Where the parameters are made: `"cpu"`, `"cuda"`, …, or `"meta"`, which reads no weights at all.
        seed: Draws the parameters that are not in the files (the head's). torch's own random state is left as it was.
        dtype: Of the parameters; None is that of `weights`, whatever the files hold.
        weights: `float32`, `bfloat16`, or `nf4`: as bfloat16, and matrices that are no head in four bits; on the meta device these
            are bfloat16, too.
        **settings: Changes of the configuration, such as `num_labels`: a formulation's `settings`.

    Raises:
        UsageError: As `resolve`; or the model has no such head, needs code of its own, or its files lack weights of more than
            the head.
        EnvironmentFault: As `resolve`; or the files of its weights are broken.
    """
    import torch
    import transformers

    dtype = dtype or (torch.float32 if weights == "float32" else torch.bfloat16)
    if (base := adapters.base(model)) is not None:
        return _merged(model, base, auto_class, device=device, seed=seed, dtype=dtype, weights=weights, **settings)
    shape = config(model)
    auto = getattr(transformers, auto_class)
    if type(shape) not in auto._model_mapping:
        raise UsageError(f"{model!r} ({shape.model_type}) has no head for {auto_class}. Choose another model.")
    with hub.quiet(), torch.random.fork_rng(devices=[]), _loading(model, auto_class):
        shape.update(settings)
        torch.manual_seed(seed)
        if device == "meta":
            with torch.device("meta"):
                built = auto.from_config(shape, dtype=dtype, trust_remote_code=False)
        elif (layers := _layers(model)) and weights == "nf4":
            raise UsageError(
                f"{model!r} is put together of layers, and cannot be held in four bits. Choose another model, or bfloat16."
            )
        elif layers:
            built = auto.from_config(shape, dtype=dtype, trust_remote_code=False)
            loaded = built.base_model.load_state_dict(_kept_layers(MODELS[model].place, layers), strict=False)
            prefix = f"{built.base_model_prefix}."
            _refuse_missing(model, built, [prefix + name for name in loaded.missing_keys], loaded.unexpected_keys)
        else:
            more: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # it reports sizes, too
            more |= {"quantization_config": _four_bits(model)} if weights == "nf4" else {}
            built, report = _load(auto, model, config=shape, dtype=dtype, **more)
            _refuse_missing(model, built, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])
            for module in built.modules():
                # On CPUs with AVX512-BF16 bitsandbytes repacks weights for good when a model is first asked, and trains on with
                # those, by which no gradient passes: a run that was resumed was another than an unbroken one.
                if hasattr(module, "support_avx512bf16_for_cpu"):
                    module.support_avx512bf16_for_cpu = False
        built.name_or_path = model  # what an adapter's configuration calls its base: not a folder of this machine
    return built.to(device).eval()  # type: ignore[no-any-return]


def _merged(
    model: str, base: str, auto_class: str, *, device: str, seed: int, dtype: torch.dtype, weights: str, **settings: Any
) -> torch.nn.Module:
    """The model that an adapter is for with that merged into it, in float32 whatever it is held in afterwards."""
    import torch

    if device == "meta":  # on which they do not differ
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
    """How a model is held in four bits. Raises EnvironmentFault where bitsandbytes is not installed."""
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
    """Make sure that the files hold the weights that `build` will ask for. Headers are compared by the loader itself, by which no
    weights are read; where it cannot do without them, the model is loaded.

    A model that must be fetched from the hub first is checked when it is loaded.

    Raises:
        UsageError: As `build`.
        EnvironmentFault: As `build`.
    """
    import torch
    from transformers.modeling_utils import load_state_dict

    if (base := adapters.base(model)) is not None:
        check(base, auto_class, **settings)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            adapters.merged(model, build(base, auto_class, device="meta", **settings))
        return
    where, layers = resolve(model)[0], _layers(model)
    if not layers and not (files := _weight_files(model)):
        if Path(where).is_dir():
            build(model, auto_class, **settings)  # which says what it looked for
        return
    bare = build(model, auto_class, device="meta", **settings)
    with hub.quiet(), _loading(model, auto_class):
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
        _refuse_missing(model, loaded, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])


def head(model: torch.nn.Module) -> tuple[str, ...]:
    """Names of the parameters that a task's model has beside its base model: those of the task's head, which are new.

    They are found from the model, whatever they are called: `qa_outputs`, `classifier`, `qa_classifier.output.dense`, …. The
    matrix by which a model writes tokens is none of them, be it tied to the embeddings or not: the checkpoint has it. Of a model
    that tells masked tokens, all else behind its base model is: many encoders are kept without it. And so is the matrix of one that
    writes what it hears.
    """
    import torch
    import transformers
    from transformers.models.auto import modeling_auto as auto

    base: Any = model.base_model
    writes = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    kind = type(model).__name__
    masked = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()
    if writes is None or kind in auto.MODEL_FOR_CTC_MAPPING_NAMES.values():
        ours = set()
    else:
        ours = {id(parameter) for name, parameter in writes.named_parameters() if name == "weight" or not masked}
    if base is not model:
        ours |= {id(parameter) for parameter in base.parameters()}
        return tuple(name for name, parameter in model.named_parameters() if id(parameter) not in ours)
    # Its base model is no module of it (T5's encoder and decoder stand beside the head): compare with the bare model by name.
    with torch.device("meta"), hub.quiet():
        bare = transformers.AutoModel.from_config(model.config, trust_remote_code=False)
    known = {name for name, _ in bare.named_parameters(remove_duplicate=False)}
    return tuple(name for name, parameter in model.named_parameters() if name not in known and id(parameter) not in ours)


def _layers(model: str) -> tuple[int, ...]:
    """The layers that a built-in model keeps of its file; empty: all that there are."""
    model = adapters.base(model) or model
    return MODELS[model].layers if model in MODELS else ()


def _kept_layers(folder: Path, layers: tuple[int, ...], device: str = "cpu") -> dict[str, torch.Tensor]:
    """Weights of a built-in encoder with only `layers`, renumbered from 0; on the meta device by the file's header alone."""
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


@functools.cache
def _on_hub(name: str, revision: str | None) -> None:
    hub.require(name, "model", f"model {name!r}.{did_you_mean(name, MODELS)}", revision)


def _place_of_tokenizer(model: str) -> tuple[str, str | None]:
    """As `resolve`; the folder of an adapter that was saved with its tokeniser."""
    return (str(cache.expanded(model)), None) if adapters.has_tokenizer(model) else resolve(model)


def _load(auto: Any, model: str, place: tuple[str, str | None] | None = None, **more: Any) -> Any:
    """`auto.from_pretrained`, which never runs a model's own code, with its errors put in our words."""
    where, revision = place or resolve(model)
    local = Path(where).is_dir() or not hub.reachable()
    with hub.quiet(), _loading(model, auto.__name__):
        return auto.from_pretrained(
            where, revision=revision or "main", local_files_only=local, trust_remote_code=False, **more
        )  # fmt: skip


@contextlib.contextmanager
def _loading(model: str, auto_class: str) -> Iterator[None]:
    """The one boundary for whatever transformers, tokenizers, safetensors and torch raise while a model is loaded.

    Raises:
        EnvironmentFault: A file cannot be read.
        UsageError: Anything else: it is about the content of the model's files. A lack of memory stays what it is.
    """
    from safetensors import SafetensorError

    try:
        yield
    except WorkbenchError:
        raise
    except (OSError, SafetensorError) as error:
        raise EnvironmentFault(
            f"cannot load {model!r}: {_first_line(error)} Save or fetch the model again, or choose another one."
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = str(error)
        if "trust_remote_code" in text or "custom code" in text:
            raise UsageError(
                f"{model!r} needs code of its own to be run (auto_map in its config.json or tokenizer_config.json), which "
                "workbench never does. Choose a model that transformers knows by itself."
            ) from error
        if auto_class == "AutoConfig" and ("model type" in text or "model_type" in text):
            raise UsageError(f"{model!r} is no model that transformers knows: {text.splitlines()[0]}") from error
        raise UsageError(
            f"cannot load {model!r} ({auto_class}): {type(error).__name__}: {_first_line(error)} Mend the files of the model, or "
            "choose another one."
        ) from error


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _refuse_foreign_tokenizer(model: str) -> None:
    """Raise UsageError where the tokeniser is a class that comes with the model: transformers would take another in its stead."""
    from transformers.models.auto import tokenization_auto as known

    where, revision = _place_of_tokenizer(model)
    with hub.quiet(), _loading(model, "AutoTokenizer"):
        local = Path(where).is_dir() or not hub.reachable()
        stated = known.get_tokenizer_config(where, revision=revision or "main", local_files_only=local)
        name = stated.get("tokenizer_class")
        own = "AutoTokenizer" in (stated.get("auto_map") or {})
        if own and isinstance(name, str) and known.tokenizer_class_from_name(name) is None:
            raise UsageError(
                f"the tokeniser of {model!r} needs code of its own to be run ({name}, auto_map in its tokenizer_config.json), "
                "which workbench never does. Choose a model whose tokeniser transformers knows by itself."
            )


def _weight_files(model: str) -> list[str]:
    """The files of the model's weights on this machine; none where they are to be fetched, or called otherwise.

    Raises:
        UsageError: Some part of them is not there.
    """
    with hub.quiet(), _loading(model, "AutoModel"):
        for name in _WEIGHTS:
            if whole := _file(model, name):
                return [str(whole)]
            if index := _file(model, f"{name}.index.json"):
                parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                files = {part: _file(model, part) for part in parts}
                lost = [part for part, file in files.items() if file is None]
                if lost and Path(resolve(model)[0]).is_dir():
                    raise UsageError(
                        f"the weights of {model!r} are not whole: {lost[0]} is not there ({len(lost)} of {len(parts)} files that "
                        f"{name}.index.json names). Copy or save the model again."
                    )
                return [] if lost else [str(file) for file in files.values() if file]
    return []


def _file(model: str, name: str, *, local: bool = True) -> Path | None:
    """A file of the model, from this machine alone where `local`; None where there is none."""
    from transformers.utils import cached_file

    where, revision = resolve(model)
    quietly = dict.fromkeys(("missing_entries", "gated_repo", "connection_errors"), False)
    quietly = {f"_raise_exceptions_for_{kind}": value for kind, value in quietly.items()}
    with hub.quiet():
        found: str | None = cached_file(where, name, revision=revision or "main", local_files_only=local, **quietly)
    return None if found is None else Path(found)


def _refuse_missing(
    model: str,
    built: torch.nn.Module,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> None:
    """Raise UsageError where the files lack more weights than the head's: such a model would be random, and nobody would know.

    Args:
        model: Its name.
        built: The loaded model, or one on the meta device.
        missing: Names that the loader did not find.
        unexpected: Names that it found and has no use for: an old head, or what is missing under another name.
        mismatched: Names of another shape: theirs, and the model's.
    """
    own, expected = {*head(built)}, [name for name, _ in built.named_parameters()]
    wrong = sorted((name, tuple(theirs), tuple(ours)) for name, theirs, ours in mismatched if name not in own)
    if wrong:
        name, theirs, ours = wrong[0]
        raise UsageError(
            f"the weights of {model!r} do not fit its config.json: {name} has the shape {theirs} in the file and {ours} in the "
            f"model ({len(wrong)} of {len(expected)} tensors differ). Give it the config.json that it was saved with."
        )
    gone = {*missing} - own
    lost = _that_matter(built, [name for name in expected if name in gone])
    if lost:
        shown = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
        raise UsageError(
            f"the files of {model!r} lack {len(lost)} of the {len(expected)} tensors of its model, which would be random: {shown}. "
            f"{_likely_cause(built, lost, [*unexpected])}"
        )


def _that_matter(model: torch.nn.Module, names: list[str]) -> list[str]:
    """Those parameters that the output depends on: an encoder saved without its pooler may have one that nobody asks."""
    import torch

    if not names:
        return names
    parameters, device = dict(model.named_parameters()), next(model.parameters()).device
    ids = torch.ones((1, 8), dtype=torch.long, device=device)
    try:
        with torch.enable_grad():
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
            asked = [value for key, value in output.items() if key.endswith("logits")] or [output["last_hidden_state"]]
            total = sum(value.float().sum() for value in asked)
            gradients = torch.autograd.grad(total, [parameters[name] for name in names], allow_unused=True)
    except Exception as error:  # a model that wants other inputs: then nothing that is missing is taken for needless
        if is_out_of_memory(error):
            raise
        return names
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]


def _likely_cause(built: Any, lost: list[str], unexpected: list[str]) -> str:
    """What may be wrong, and what to do."""
    bare = {name.removeprefix(f"{built.base_model_prefix}.") for name in lost}
    prefixes: collections.Counter[str] = collections.Counter()
    for found in unexpected:
        parts = found.split(".")
        prefixes.update(".".join(parts[:i]) + "." for i in range(1, len(parts)) if ".".join(parts[i:]) in bare)
    if prefixes and (common := prefixes.most_common(1)[0])[1] >= len(lost) / 2:
        return f"They are there under the prefix {common[0]!r}: strip it from their names and save them again."
    numbers = [re.search(r"\.(\d+)\.", name) for name in lost]
    layers = getattr(built.config.get_text_config(), "num_hidden_layers", None)
    if layers and all(numbers):
        gone = sorted({int(number[1]) for number in numbers if number})
        return (
            f"config.json says num_hidden_layers={layers}, and layers {', '.join(map(str, gone))} are not whole in the files: mend "
            "the one, or save the others again."
        )
    return "Save the whole model again, with save_pretrained, or choose another one."
