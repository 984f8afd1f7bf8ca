"""Methods: which parameters of a model learn, what is wrapped around it, or how it is only asked. The only house of `peft`.

A method is a value in a study file. `apply` turns it into a change of a model; the training loop never knows which
method it is running.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import importlib.util
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data import models
from workbench.errors import EnvironmentFault, UsageError, did_you_mean, is_out_of_memory
from workbench.space import Space, check, is_number, is_whole

if TYPE_CHECKING:
    import torch

_TASK_TYPES = {
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}
_PER_TOKEN = ("QUESTION_ANS", "TOKEN_CLS", "CAUSAL_LM")
"""Kinds of task whose output has one entry per token of the input."""
_AS_KEYS = ("prefix_tuning", "cartridge", "adaption_prompt")
"""Prompt methods whose tokens are keys and values of every layer, not in front of the input."""
_ASKING = ("zero_shot", "few_shot")
"""Methods that train nothing."""
_OURS = ("full", "head", "bitfit", *_ASKING)
"""Methods without PEFT."""


@dataclass(frozen=True)
class Method:
    """How a model is tuned, or asked. Made by `full`, `head`, `bitfit`, `peft`, `zero_shot` or `few_shot`.

    Attributes:
        name: What it is called in tables and in the paths of its settings (`lora.r`).
        kind: `full`, `head`, `bitfit`, `zero_shot`, `few_shot`, or PEFT's name of the method in lower case.
        learning_rate: Peak learning rate of AdamW, the same for all parameters that learn; > 0. None: nothing learns.
        settings: Arguments of PEFT's configuration of the method; the number of `shots`; empty for the others.
        models: Names of the models that a study has it for; empty: all. It says nothing of what a recipe makes.
    """

    name: str
    kind: str
    learning_rate: float | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = field(default=(), compare=False, metadata={"later": True})

    def __post_init__(self) -> None:
        check(self, "name", lambda v: isinstance(v, str) and v != "", "a name")
        if isinstance(self.models, str) or not all(isinstance(each, str) for each in self.models):
            raise UsageError(f"models must be a tuple of models' names, got {self.models!r}.")
        if self.trains:
            check(self, "learning_rate", lambda v: is_number(v) and v > 0, "a number above 0")

    @property
    def trains(self) -> bool:
        """Whether anything learns."""
        return self.kind not in _ASKING

    @property
    def changes_weights(self) -> bool:
        """Whether weights of the model itself learn, not just a head or what is put beside them."""
        return self.kind in ("full", "bitfit")

    @property
    def shots(self) -> int:
        """Labelled examples that stand before each question: of a hole the most."""
        found: Any = self.settings["shots"] if self.kind == "few_shot" else 0
        return int(max(found.ends) if isinstance(found, Space) else found)


def full(*, learning_rate: float, name: str = "full", models: Sequence[str] = ()) -> Method:
    """All parameters learn. Where a study has this or any other method for some of its models alone, `models` names them."""
    return Method(name, "full", learning_rate, models=_names(models))


def head(*, learning_rate: float, name: str = "head", models: Sequence[str] = ()) -> Method:
    """Only the task's head learns; the pre-trained model is left as it is."""
    return Method(name, "head", learning_rate, models=_names(models))


def bitfit(*, learning_rate: float, name: str = "bitfit", models: Sequence[str] = ()) -> Method:
    """The biases and the task's head learn (Ben Zaken et al. 2022, arXiv:2106.10199)."""
    return Method(name, "bitfit", learning_rate, models=_names(models))


def zero_shot(*, name: str = "zero_shot", models: Sequence[str] = ()) -> Method:
    """The model is graded as it is: a language model asked without an example, an encoder with a head that nobody trained.

    It has no use for labels, epochs, batch size, seed and all else that is about training: recipes that differ in those are one.
    """
    return Method(name, "zero_shot", None, models=_names(models))


def few_shot(*, shots: int, name: str = "few_shot", models: Sequence[str] = ()) -> Method:
    """A language model asked with a few labelled examples before each question: the first of the training examples.

    Args:
        shots: How many, at least 1. They are labels bought.
        name: What it is called in tables and paths.
        models: As `Method.models`.
    """
    made = Method(name, "few_shot", None, {"shots": shots}, _names(models))
    for each in shots.ends if isinstance(shots, Space) else (shots,):
        if not is_whole(each) or each < 1:
            raise UsageError(f"shots must be a whole number, at least 1; got {each!r}.")
    return made


def peft(method: str, *, learning_rate: float, name: str | None = None, models: Sequence[str] = (), **settings: Any) -> Method:
    """A method of the installed PEFT by PEFT's own name, in any case, with its configuration's own arguments.

    PEFT chooses the modules to adapt by the model's type where it knows it; name them with `target_modules=` elsewhere.
    The task's head always learns too. The loop is the same for all methods: AdaLoRA trains without the re-allocation of its ranks,
    which needs a schedule with an end.

    Raises:
        UsageError: PEFT has no method of that name.
    """
    kind = method.lower()
    if kind not in peft_methods():
        raise UsageError(f"PEFT has no method {method!r}.{did_you_mean(kind, peft_methods())}")
    return Method(name or kind, kind, learning_rate, settings, _names(models))


def _names(models: Any) -> Any:
    return tuple(models) if isinstance(models, (list, tuple)) else models  # anything else is refused by the method


@functools.lru_cache
def peft_methods() -> tuple[str, ...]:
    """Names of the methods of the installed PEFT, in lower case. Read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("peft")
    if package is None or not package.submodule_search_locations:
        raise EnvironmentFault("the package peft is not installed. Install workbench with its dependencies again.")
    source = Path(package.submodule_search_locations[0], "utils", "peft_types.py").read_text(encoding="utf-8")
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "PeftType")
    return tuple(
        node.targets[0].id.lower() for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    )


def revision(method: Method) -> int:
    """Which way of applying this kind of method a recipe is of: it rises when the same settings come to train another model.

    0: full, head and bitfit, as ever. 1: PEFT's methods since every input of the tokeniser reaches the model (before, those of a
    question answering model got no segment ids) and the head always learns, whatever it is called.
    """
    return 0 if method.kind in _OURS else 1


def provision(method: Method) -> None:
    """Import what `apply` will need, so that no run pays for it: PEFT takes seconds the first time."""
    if method.kind not in _OURS:
        import peft as library  # noqa: F401


def apply(method: Method, model: torch.nn.Module, *, auto_class: str) -> torch.nn.Module:
    """Change `model` in place so that just what the method tunes has `requires_grad`; return it, wrapped if need be.

    The task's head learns with every method: it is what the model has beside its base model. Every input that the model takes
    reaches it through what is wrapped around it.

    Args:
        method: The method, without holes.
        model: A model with the task's head on it.
        auto_class: The transformers class that built it, which tells PEFT the kind of task.

    Raises:
        UsageError: PEFT refuses the settings, or cannot adapt this model; or nothing would learn.
    """
    if not method.trains:
        return model.requires_grad_(False)
    tuned = _applied(method, model, auto_class)
    for parameter in tuned.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()  # what learns is exact, whatever holds the model's own weights
    return tuned


def _applied(method: Method, model: torch.nn.Module, auto_class: str) -> torch.nn.Module:
    head = {*models.head(model)}
    if method.kind in _OURS:
        tuned = model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(method.kind == "full" or name in head or (method.kind == "bitfit" and name.endswith("bias")))
    else:
        of_head = {id(parameter) for name, parameter in model.named_parameters() if name in head}
        tuned = _wrap(method, model, auto_class, head)
        for name, parameter in tuned.named_parameters():
            # PEFT trains a copy of the head; where it leaves the head in place, that is frozen, and would answer nothing.
            if id(parameter) in of_head and "original_module" not in name.split("."):
                parameter.requires_grad_(True)
    learning = {name: parameter for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    empty = [name for name, parameter in learning.items() if not parameter.numel()]
    if empty or not learning:
        raise UsageError(
            f"{method.name!r} has nothing to tune in this model{f': {empty[0]} is empty' if empty else ''}. Change its settings."
        )
    return tuned


def plain_name(name: str) -> str:
    """A parameter's name without what PEFT puts into that of its copy of a head, as in the adapters that PEFT saves."""
    return name.replace(".modules_to_save.default.", ".")


def _wrap(method: Method, model: torch.nn.Module, auto_class: str, head: set[str]) -> Any:
    import peft as library
    import torch

    config_class = library.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[library.PeftType[method.kind.upper()]]
    known = {f.name for f in dataclasses.fields(config_class)}
    for name in method.settings:
        if name not in known:
            raise UsageError(f"PEFT's {config_class.__name__} has no setting {name!r}.{did_you_mean(name, known)}")
    if method.kind == "multitask_prompt_tuning" and _TASK_TYPES.get(auto_class) == "SEQ_2_SEQ_LM":
        raise UsageError(
            f"PEFT trains {method.name!r} of an encoder-decoder with tokens in front of its answers, and asks it without them. "
            "Take prompt_tuning or another method."
        )
    # Told the kind of task, PEFT passes on the inputs that it knows for it, and names heads that a model may not have. Only
    # methods that put tokens in front of the input cannot do without.
    prompt = issubclass(config_class, library.PromptLearningConfig)
    settings = {"task_type": _TASK_TYPES.get(auto_class) if prompt else None, **copy.deepcopy(dict(method.settings))}
    kept = [*dict.fromkeys([*_modules_of(model, head), *(settings.get("modules_to_save") or ())])]
    if "modules_to_save" in known:
        settings["modules_to_save"] = [*kept]
    # Named now: PEFT may put its own modules in the place of some before it fails.
    linear = sorted(
        {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and f"{n}.weight" not in head}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT calls what transformers calls deprecated: nothing that a user could mend
        try:
            config = config_class(**settings)
            wrapped = library.get_peft_model(model, config)
        except Exception as error:  # PEFT raises whatever its many methods raise: all of it is about this method on this model
            if is_out_of_memory(error):
                raise  # but this is about the machine
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            about_targets = "target_modules" in known and "target" in reason.lower()
            advice = (
                f' Give target_modules some of its linear modules, {", ".join(linear)}, or "all-linear".' if about_targets else ""
            )
            raise UsageError(f"PEFT cannot apply {method.name!r} to this model: {reason}{advice}") from error
    _refuse_tied(method, wrapped)
    if "modules_to_save" in known:
        config.modules_to_save = kept or None  # PEFT adds the names of heads that it knows, once more or in vain
    if settings["task_type"] is not None:
        _carry_inputs(wrapped)
    if settings["task_type"] == "CAUSAL_LM" and config.is_prompt_learning:
        places = functools.partial(_padding_first, method.kind not in _AS_KEYS)
        wrapped.get_base_model().register_forward_pre_hook(places, with_kwargs=True)
        wrapped._adjust_prompt_learning_kwargs = _quietly(wrapped._adjust_prompt_learning_kwargs)
    if config.is_prompt_learning and settings["task_type"] in _PER_TOKEN:
        wrapped.register_forward_hook(functools.partial(_drop_virtual_tokens, config.num_virtual_tokens), with_kwargs=True)
    # Methods for several tasks at once ask which task each row is of: a recipe has one, number 0.
    if method.kind == "poly":
        for module in wrapped.modules():
            if isinstance(module, library.tuners.poly.layer.PolyLayer):
                module.register_forward_pre_hook(_of_first_task, with_kwargs=True)
    if method.kind == "multitask_prompt_tuning":
        for encoder in wrapped.prompt_encoder.values():
            encoder.register_forward_pre_hook(lambda _, args: (args[0], args[0].new_zeros(len(args[0]))))
    return wrapped


def _refuse_tied(method: Method, wrapped: Any) -> None:
    """Raise UsageError where one of two modules that share their weights is tuned: the other is not, and a merge changes both."""
    import collections

    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer  # which keeps both together
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    places = collections.Counter(id(p) for module in wrapped.modules() for p in module.parameters(recurse=False))
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
    """Names of the outermost modules that hold the head, as far as PEFT can be told them.

    PEFT takes every module whose name ends with one that it is told: where the base model has such a one, too, or the head's
    parameters are in no module of their own, the head is trained in its place instead.
    """
    paths = [path for path, _ in model.named_modules() if path]
    found = []
    for name, module in model.named_children():
        inside = {f"{name}.{inner}" for inner, _ in module.named_parameters()}
        if inside and inside <= head and not any(path != name and path.endswith(name) for path in paths):
            found.append(name)
    return found


def _carry_inputs(wrapped: Any) -> None:
    """Bring every input of a row's tokens past PEFT's forward pass to the model: for some kinds of task it drops segment ids.

    Of what a prompt method puts in front of a row the inputs are 0: segment 0, for instance.
    """
    import torch

    held: dict[str, torch.Tensor] = {}

    def take(_: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        ids = kwargs["input_ids"]
        held.clear()
        for name, value in kwargs.items():
            per_token = isinstance(value, torch.Tensor) and value.shape[:2] == ids.shape
            if per_token and name not in ("input_ids", "attention_mask", "position_ids"):
                held[name] = value
        return args, {name: value for name, value in kwargs.items() if name not in held}

    def give(_: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        found = dict(kwargs)
        for name, value in held.items():
            front = 0 if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"].shape[1] - value.shape[1]
            found[name] = torch.cat((value.new_zeros(len(value), front, *value.shape[2:]), value), 1)
        held.clear()
        return args, found

    wrapped.register_forward_pre_hook(take, with_kwargs=True)
    model = wrapped.get_base_model()
    # For prefixes PEFT may call the part below the head itself: whichever is called first takes them.
    for module in dict.fromkeys((model, model.base_model)):
        module.register_forward_pre_hook(give, with_kwargs=True)


def _of_first_task(module: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    import torch

    return args, {**kwargs, "task_ids": args[0].new_zeros(len(args[0]), dtype=torch.long)}


def _padding_first(in_input: bool, module: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Rows are padded on the left, and PEFT puts its tokens in front of that: move them behind it, and count places from the first.

    Else the padding lies between the tokens and the text, and what a row gives depends on the longest of its batch.

    Args:
        in_input: Whether the tokens are part of the input; else keys and values, which have no place of their own.
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
        order = mask.bool().int().argsort(dim=1, stable=True)
        mask = found["attention_mask"] = mask.gather(1, order)
        if embedded is not None and embedded.shape[:2] == mask.shape:
            found["inputs_embeds"] = embedded.gather(1, order.unsqueeze(-1).expand_as(embedded))
    if "position_ids" in inspect.signature(module.forward).parameters:
        tokens = embedded if embedded is not None else kwargs["input_ids"]
        found["position_ids"] = (mask.bool().int().cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    return args, found


def _quietly(call: Any) -> Any:
    """A function of PEFT's without its warnings: that it leaves out places, which are given again behind it."""

    def quiet(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*args, **kwargs)

    return quiet


def _drop_virtual_tokens(count: int, module: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
    """Prompt methods put tokens in front of the input: cut the places of these `count` off what has one entry per token."""
    length = kwargs["input_ids"].shape[1]
    for key, value in output.items():
        if key.endswith("logits") and value.shape[1] == count + length:
            output[key] = value[:, count:]
    return output
