"""Folders that PEFT writes: an adapter of a model, which is merged into its model when it is
loaded.
"""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

from workbench.data import cache
from workbench.data.builtin import MODELS
from workbench.errors import UsageError, WorkbenchError, is_out_of_memory

CONFIG = "adapter_config.json"
_OF_MODEL = "base_model.model."
"""Prefix of all names in an adapter's file."""


def library() -> Any:
    """PEFT, imported with bitsandbytes silenced: it logs that it lacks a kernel, which nobody asked
    for.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import peft

    return peft


def base(model: str) -> str | None:
    """The name of the model that an adapter's folder states.

    Args:
        model: The folder, or any other model's name.

    Returns:
        The name, with its revision if one is stated; a relative path counts from the working folder
        or the adapter's. None where `model` is no folder of an adapter.

    Raises:
        UsageError: The folder names no model, or one that is not there.
    """
    folder = cache.expanded(model)
    if model in MODELS or not (folder / CONFIG).is_file():
        return None
    try:
        stated = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        name, revision = stated["base_model_name_or_path"], stated.get("revision")
    except (ValueError, KeyError, TypeError, AttributeError):
        name = revision = None
    if not isinstance(name, str) or not name:
        raise UsageError(f"the adapter {model!r} does not say what it is for. Write base_model_name_or_path into its {CONFIG}.")
    if name in MODELS:
        return name
    place = next((each for each in (cache.expanded(name), folder / name) if each.exists()), None)
    if place is not None and (place / CONFIG).is_file():
        raise UsageError(f"the adapter {model!r} is for another adapter, {name!r}. Merge that into its model, and save it.")
    if place is None and (name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1):
        raise UsageError(
            f"the adapter {model!r} is for the model {name!r}, which is not there. Write its place, or its name on the hub, into "
            f"{CONFIG} (base_model_name_or_path)."
        )
    if place is not None:
        return str(place)
    return f"{name}@{revision}" if isinstance(revision, str) and revision and "@" not in name else name


def has_tokenizer(model: str) -> bool:
    """Whether an adapter's folder holds the tokeniser that it was trained with."""
    folder = cache.expanded(model)
    return (folder / CONFIG).is_file() and (folder / "tokenizer_config.json").is_file()


def merged(model: str, built: Any) -> Any:
    """Merge an adapter into the model that it is for, by PEFT, in the model's precision.

    Whatever else the adapter's file holds (a head that was trained with it) is taken where it fits
    this model; the head or pooler of another task is left out. On the meta device only names and
    shapes are compared.

    Args:
        model: The adapter's folder.
        built: The model, which is changed.

    Returns:
        The merged model.

    Raises:
        UsageError: The adapter is for another model, or its method cannot be merged.
    """
    peft = library()
    folder = str(cache.expanded(model))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = peft.PeftConfig.from_pretrained(folder)
            weights = peft.load_peft_weights(folder, device="cpu")
            if config.is_prompt_learning:
                raise UsageError(
                    f"the adapter {model!r} is of {config.peft_type.value.lower()}, whose tokens in front of the input cannot be "
                    "merged into a model. Start from the model itself, or from an adapter of LoRA's kind."
                )
            saved = tuple(config.modules_to_save or ())
            # PEFT would wrap heads by these, which the model at hand may not have; they are taken
            # as they are below.
            config.task_type = config.modules_to_save = None
            _take_whole_modules(built, weights, saved)
            wrapped = peft.get_peft_model(built, config)
            expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
            # A model for another task may lack modules outside its layers: a pooler, the old head.
            weights = {n: w for n, w in weights.items() if n in expected or any(part.isdigit() for part in n.split("."))}
            _refuse_other(model, {n: tuple(w.shape) for n, w in weights.items()}, {n: tuple(w.shape) for n, w in expected.items()})
            if next(built.parameters()).device.type == "meta":
                return built
            peft.set_peft_model_state_dict(wrapped, weights)
            return wrapped.merge_and_unload().requires_grad_(True)
    except WorkbenchError:
        raise
    except Exception as error:  # PEFT's many methods raise anything
        if is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"the adapter {model!r} cannot be merged into {base(model)!r}: {reason}") from error


def _take_whole_modules(built: Any, weights: dict[str, Any], saved: tuple[str, ...]) -> None:
    """Copy whole modules from an adapter's file into the model where they fit, and take them and
    other tasks' heads out of `weights`.
    """
    import torch

    own = dict(built.named_parameters())
    for name in [*weights]:
        plain = name.removeprefix(_OF_MODEL)
        fits = plain in own and own[plain].shape == weights[name].shape
        if fits and own[plain].device.type != "meta":
            with torch.no_grad():
                own[plain].copy_(weights[name])
        if fits or any(part in saved for part in plain.split(".")):
            del weights[name]


def _refuse_other(model: str, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise UsageError unless names and shapes of an adapter's weights are those that the model
    gives them.
    """
    wrong = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    if wrong:
        name = wrong[0].removeprefix(_OF_MODEL)
        there, here = (each.get(wrong[0]) for each in (found, expected))
        said = f"{name} has the shape {there} there, and {here} for this model" if there and here else (
            f"it has {name}, which this model has no place for" if there else f"it lacks {name}"
        )  # fmt: skip
        raise UsageError(
            f"the adapter {model!r} does not fit {base(model)!r}: {said} ({len(wrong)} tensors differ). Name the model that it was "
            f"trained on in its {CONFIG} (base_model_name_or_path)."
        )
