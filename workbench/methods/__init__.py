"""Methods: which parameters of a model learn, what is wrapped around it, or how it is only asked. The only house of `peft`.

A method is a value in a study file. `apply` turns it into a change of a model; the training loop never knows which
method it is running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.data import models
from workbench.data.adapters import library  # not the module: `methods.adapters` is called so, too
from workbench.errors import UsageError
from workbench.methods.base import OURS, Method, adapter, bitfit, few_shot, full, head, peft, peft_methods, zero_shot
from workbench.methods.fitting import knn, logistic, setfit
from workbench.methods.layers import of_last_layers
from workbench.methods.shots import shots
from workbench.methods.wrapping import wrap
from workbench.objectives import AlikePairs, Objective

if TYPE_CHECKING:
    import torch

__all__ = [
    "Method",
    "adapter",
    "apply",
    "bitfit",
    "body",
    "few_shot",
    "full",
    "head",
    "head_names",
    "knn",
    "lesson",
    "logistic",
    "peft",
    "peft_methods",
    "plain_name",
    "warm_up",
    "revision",
    "setfit",
    "shots",
    "zero_shot",
]


def revision(method: Method) -> int:
    """Which way of applying this kind of method a recipe is of: it rises when the same settings come to train another model.

    0: as ever. 1: PEFT's methods since every input of the tokeniser reaches the model (before, those of a question answering model
    got no segment ids) and the head always learns, whatever it is called; `head` since the model below it is in evaluation mode, as
    nothing of it learns (before, it had dropout).
    """
    return int(method.kind == "head" or method.kind not in OURS)


def warm_up(method: Method) -> None:
    """Import what `apply` will need, so that no run pays for it: PEFT takes seconds the first time."""
    if method.kind not in OURS:
        library()
    if method.fits:
        import sklearn.linear_model
    if method.choose == "nearest":
        import sklearn.feature_extraction.text  # noqa: F401


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
    if method.fits:
        from workbench.methods import heads

        return heads.fitted(method, model, auto_class)
    if not method.trains:
        return model.requires_grad_(False)
    tuned = _applied(method, model, auto_class)
    for parameter in tuned.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()  # what learns is exact, whatever holds the model's own weights
    return tuned


def _applied(method: Method, model: torch.nn.Module, auto_class: str) -> torch.nn.Module:
    of_task = {*models.head(model)}
    if method.kind in OURS:
        tuned, chosen = model, of_task | _of_our_own(method, model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
    else:
        of_head = {id(parameter) for name, parameter in model.named_parameters() if name in of_task}
        tuned = wrap(method, model, auto_class, of_task)
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


def body(model: Any) -> torch.nn.Module | None:
    """The part of a model below all that learns or is fitted, whose output for a row is always the same; None where there is none.

    It is in evaluation mode whatever is done above it. Of what is wrapped by PEFT there is none, nor of a model that is only asked.
    """
    fitted = hasattr(model, "fit")
    found = model.embedder if fitted else getattr(model, "base_model", model)
    learns = any(p.requires_grad for p in model.parameters()) or fitted
    if found is model or hasattr(model, "get_base_model") or not learns or any(p.requires_grad for p in found.parameters()):
        return None
    return found  # type: ignore[no-any-return]


def lesson(method: Method, objective: Objective) -> Objective:
    """What is learned by: the formulation's objective, unless the method has one of its own."""
    return AlikePairs() if method.kind == "setfit" else objective


def _of_our_own(method: Method, model: torch.nn.Module) -> set[str]:
    """Names of what learns beside the task's head by a method that needs no PEFT."""
    if method.kind == "adapter":
        from workbench.methods.adapters import put_in

        return put_in(model, method.settings["bottleneck"])
    last = method.settings.get("trainable_layers")
    if method.kind == "full" and last is not None:
        return of_last_layers(model, last)
    return {
        name for name, _ in model.named_parameters() if method.kind == "full" or (method.kind == "bitfit" and name.endswith("bias"))
    }


def head_names(method: Method, model: torch.nn.Module) -> set[str]:
    """Names of the parameters that have a learning rate of their own, as `plain_name` has them; asked before `apply`."""
    if method.head_learning_rate is None:
        return set()
    return {f"{around}{name}" for name in models.head(model) for around in ("", "base_model.", "base_model.model.")}


def plain_name(name: str) -> str:
    """A parameter's name without what PEFT puts into that of its copy of a head, as in the adapters that PEFT saves."""
    return name.replace(".modules_to_save.default.", ".")
