"""Wraps a model by PEFT, and mends what PEFT's wrapping loses: inputs, positions, or the head."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.data import adapters
from workbench.errors import UsageError, did_you_mean, is_out_of_memory
from workbench.methods.base import Method

if TYPE_CHECKING:
    import torch

_TASK_TYPES = {
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForMaskedLM": "FEATURE_EXTRACTION",  # which has no head of PEFT's own
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModel": "FEATURE_EXTRACTION",
}
_PER_TOKEN = ("QUESTION_ANS", "TOKEN_CLS", "FEATURE_EXTRACTION", "CAUSAL_LM")
"""Kinds of task whose output has one entry per token of the input."""
_AS_KEYS = ("prefix_tuning", "cartridge", "adaption_prompt")
"""Prompt methods whose tokens are keys and values of every layer, not in front of the input."""


def wrap(method: Method, model: torch.nn.Module, auto_class: str, head: set[str]) -> Any:
    """Put a method of PEFT into or around a model.

    Args:
        method: The method, without holes.
        model: The model, which PEFT may change in place.
        auto_class: Name of the transformers class that built it.
        head: Names of the head's parameters.

    Returns:
        The wrapped model. Its head is copied to learn where PEFT copies heads.

    Raises:
        UsageError: PEFT has no such setting, or cannot apply the method to this model.
    """
    library = adapters.library()
    config_class = library.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[library.PeftType[method.kind.upper()]]
    known = {f.name for f in dataclasses.fields(config_class)}
    _refuse_settings(method, config_class.__name__, known, auto_class)
    # With a task type PEFT passes on only the inputs that it knows for it, and names heads that a
    # model may not have. Only methods that put tokens in front of the input need one.
    prompt = issubclass(config_class, library.PromptLearningConfig)
    # Copied, as PEFT changes dictionaries that it is given (`rank_pattern`).
    settings = {"task_type": _TASK_TYPES.get(auto_class) if prompt else None, **copy.deepcopy(dict(method.settings))}
    kept = [*dict.fromkeys([*_modules_of(model, head), *(settings.get("modules_to_save") or ())])]
    if "modules_to_save" in known:
        settings["modules_to_save"] = [*kept]
    # Collected for the error below, before PEFT replaces some of these modules and then fails.
    targets = _linear_modules(model, head) if "target_modules" in known else []
    with warnings.catch_warnings():
        # PEFT calls functions that transformers has deprecated, which no user can mend.
        warnings.simplefilter("ignore")
        try:
            config = config_class(**settings)
            wrapped = library.get_peft_model(model, config)
        except Exception as error:  # whatever PEFT's many methods raise
            if is_out_of_memory(error):
                raise  # it is about the machine, not about these settings
            raise _unfit(method, error, targets, textless=prompt and settings["task_type"] is None) from error
    _refuse_tied(method, wrapped)
    if "modules_to_save" in known:
        # PEFT has added names of heads that it knows, which may be listed twice or be of no module
        # here.
        config.modules_to_save = kept or None
    _mend(method, wrapped, config, settings["task_type"])
    return wrapped


def _refuse_settings(method: Method, config: str, known: set[str], auto_class: str) -> None:
    """Raise UsageError where PEFT's configuration of a method lacks a setting, or PEFT does not train a model of this kind."""
    for name in method.settings:
        if name not in known:
            raise UsageError(f"PEFT's {config} has no setting {name!r}.{did_you_mean(name, known)}")
    if method.kind == "multitask_prompt_tuning" and _TASK_TYPES.get(auto_class) == "SEQ_2_SEQ_LM":
        raise UsageError(
            f"PEFT trains {method.name!r} of an encoder-decoder with tokens in front of its answers, and asks it without them. "
            "Take prompt_tuning or another method."
        )


def _linear_modules(model: torch.nn.Module, head: set[str]) -> list[str]:
    """Last parts of the names of a model's linear modules, the head's left out."""
    import torch

    return sorted(
        {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and f"{n}.weight" not in head}
    )


def _unfit(method: Method, error: Exception, targets: Sequence[str], *, textless: bool) -> UsageError:
    """The error that PEFT cannot apply a method to a model.

    Args:
        method: The method.
        error: What PEFT raised.
        targets: What `target_modules` may name; empty where the method has no such setting.
        textless: Whether the method puts tokens in front of a text, which the model does not read: PEFT says `KeyError: None`.
    """
    if textless:
        return UsageError(
            f"{method.name!r} puts tokens in front of a text, and this model reads images or sound. Take lora, full, "
            "head or another method for it, with models=(…)."
        )
    reason, advice = " ".join(f"{type(error).__name__}: {error}".split()), ""
    if targets and "target" in reason.lower():
        advice = f' Give target_modules some of its linear modules, {", ".join(targets)}, or "all-linear".'
    return UsageError(f"PEFT cannot apply {method.name!r} to this model: {reason}{advice}")


def _mend(method: Method, wrapped: Any, config: Any, task_type: str | None) -> None:
    """Bring back what PEFT's wrapping loses: inputs, positions, rows of the output, and the number of the task."""
    if task_type is not None:
        _carry_inputs(wrapped)
    if task_type == "CAUSAL_LM" and config.is_prompt_learning:
        places = functools.partial(_padding_first, method.kind not in _AS_KEYS)
        wrapped.get_base_model().register_forward_pre_hook(places, with_kwargs=True)
        wrapped._adjust_prompt_learning_kwargs = _quietly(wrapped._adjust_prompt_learning_kwargs)
    if config.is_prompt_learning and task_type in _PER_TOKEN:
        wrapped.register_forward_hook(functools.partial(_drop_virtual_tokens, config.num_virtual_tokens), with_kwargs=True)
    # Methods for several tasks at once need the task of each row: a recipe has one, number 0.
    if method.kind == "poly":
        layer = adapters.library().tuners.poly.layer.PolyLayer
        for module in wrapped.modules():
            if isinstance(module, layer):
                module.register_forward_pre_hook(_of_first_task, with_kwargs=True)
    if method.kind == "multitask_prompt_tuning":
        for encoder in wrapped.prompt_encoder.values():
            encoder.register_forward_pre_hook(lambda _, args: (args[0], args[0].new_zeros(len(args[0]))))


def _refuse_tied(method: Method, wrapped: Any) -> None:
    """Refuse to tune one of two modules that share their weights: the other would stay as it is,
    and a merge would change both.

    Raises:
        UsageError: The method tunes such a module.
    """
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer  # keeps both
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    places = Counter(id(p) for module in wrapped.modules() for p in module.parameters(recurse=False))
    for path, module in wrapped.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            own = module.original_module
        elif isinstance(module, BaseTunerLayer) and not isinstance(module, TrainableTokensLayer):
            own = module.get_base_layer()
        else:
            continue
        if any(places[id(p)] > 1 for p in own.parameters(recurse=False)):
            name = path.rpartition(".")[2]
            raise UsageError(
                f"{method.name!r} cannot tune {name} of this model: {name} shares its weights with the input's embeddings, which "
                "would stay as they are. Leave it out of target_modules and modules_to_save."
            )


def _modules_of(model: torch.nn.Module, head: set[str]) -> list[str]:
    """Names of the outermost modules that hold the head, as far as PEFT can be told about them.

    PEFT takes every module whose name ends with a name that it is told. Where the base model has
    such a module as well, or the head's parameters are in no module of their own, the head is
    trained in place instead.
    """
    paths = [path for path, _ in model.named_modules() if path]
    found = []
    for name, module in model.named_children():
        inside = {f"{name}.{inner}" for inner, _ in module.named_parameters()}
        if inside and inside <= head and not any(path != name and path.endswith(name) for path in paths):
            found.append(name)
    return found


def _carry_inputs(wrapped: Any) -> None:
    """Bring every input of a row's tokens past PEFT's forward pass to the model: for some kinds of
    task it drops segment ids.

    The inputs of tokens that a prompt method puts in front of a row are 0, as segment 0.
    """
    import torch

    held: dict[str, torch.Tensor] = {}

    def take(_: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        ids = kwargs["input_ids"]
        # A pass that failed has left its inputs here, which must not reach the next batch.
        held.clear()
        for name, value in kwargs.items():
            per_token = isinstance(value, torch.Tensor) and value.shape[:2] == ids.shape
            if per_token and name not in ("input_ids", "attention_mask", "position_ids"):
                held[name] = value
        return args, {name: value for name, value in kwargs.items() if name not in held}

    def give(_: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        found = dict(kwargs)
        for name, value in held.items():
            # How many tokens PEFT has put in front by now.
            front = 0 if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"].shape[1] - value.shape[1]
            found[name] = torch.cat((value.new_zeros(len(value), front, *value.shape[2:]), value), 1)
        held.clear()
        return args, found

    wrapped.register_forward_pre_hook(take, with_kwargs=True)
    model = wrapped.get_base_model()
    # With prefixes PEFT may call the part below the head directly, so whichever module is called
    # first takes the inputs.
    for module in dict.fromkeys((model, model.base_model)):
        module.register_forward_pre_hook(give, with_kwargs=True)


def _of_first_task(module: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    import torch

    return args, {**kwargs, "task_ids": args[0].new_zeros(len(args[0]), dtype=torch.long)}


def _padding_first(in_input: bool, module: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Move PEFT's tokens behind the padding, and count positions from the first token that is no
    padding.

    Rows are padded on the left, and PEFT puts its tokens in front of that. Then the padding lies
    between the tokens and the text, and a row's output depends on the longest row of its batch.

    Args:
        in_input: Whether the tokens are part of the input; otherwise they are keys and values
            without a position of their own.
        module: The model.
        args: Its inputs.
        kwargs: Its inputs by name, which PEFT has put its tokens in front of.
    """
    import torch

    found, mask = dict(kwargs), kwargs.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return args, found
    embedded = kwargs.get("inputs_embeds")
    if in_input:
        # A stable sort of 0 and 1: padding first, and all else in its order.
        order = mask.bool().int().argsort(dim=1, stable=True)
        mask = found["attention_mask"] = mask.gather(1, order)
        if embedded is not None and embedded.shape[:2] == mask.shape:
            found["inputs_embeds"] = embedded.gather(1, order.unsqueeze(-1).expand_as(embedded))
    if "position_ids" in inspect.signature(module.forward).parameters:
        tokens = embedded if embedded is not None else kwargs["input_ids"]
        found["position_ids"] = (mask.bool().int().cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    return args, found


def _quietly(call: Any) -> Any:
    """Silence a method of PEFT, which warns that it drops positions; these are given again after
    it.
    """

    def quiet(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*args, **kwargs)

    return quiet


def _drop_virtual_tokens(count: int, module: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
    """Cut the entries of the `count` tokens that a prompt method puts in front of the input off
    every output per token.
    """
    length = kwargs["input_ids"].shape[1]
    for key, value in output.items():
        if key.endswith(("logits", "last_hidden_state")) and value.shape[1] == count + length:
            output[key] = value[:, count:]
    return output
