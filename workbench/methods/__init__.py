"""Methods: which parameters of a model learn, what is wrapped around it, or how it is only asked.
Only this package puts PEFT's methods on models.

A method is a value in a study file. `apply` turns it into a change of a model; the training loop
never knows which method it is running.

    adapters       bottleneck adapters (Houlsby et al. 2019)
    base           a method as a value in a study file
    config_fields  the settings of PEFT's methods, read from PEFT's source
    counting       the heads of popularity and item_item, which put items in order by counts
    fitting        knn, logistic, setfit, popularity, item_item: heads fitted at once
    heads          the heads that the first three fit
    layers         a model's layers, found from its structure
    merging        makes a plain model of a tuned one
    shots          which labelled examples stand before a question
    wrapping       wraps a model by PEFT
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.data import counts, models
from workbench.data.adapters import library  # by name: `methods.adapters` hides that module
from workbench.errors import UsageError
from workbench.methods.base import COUNTED, OURS, Method, adapter, bitfit, few_shot, full, head, peft, peft_methods, zero_shot
from workbench.methods.fitting import item_item, knn, logistic, popularity, setfit
from workbench.methods.layers import Frozen, first_layers, of_last_layers
from workbench.methods.merging import ADDED, IN_PLACE, added, is_mergeable, merged, merged_name
from workbench.methods.shots import shots
from workbench.methods.wrapping import wrap
from workbench.objectives import AlikePairs, Objective

if TYPE_CHECKING:
    import torch

__all__ = [
    "ADDED",
    "IN_PLACE",
    "Frozen",
    "Method",
    "adapter",
    "added",
    "apply",
    "bitfit",
    "few_shot",
    "frozen",
    "full",
    "head",
    "head_names",
    "is_mergeable",
    "item_item",
    "knn",
    "lesson",
    "logistic",
    "merged",
    "merged_name",
    "peft",
    "peft_methods",
    "plain_name",
    "popularity",
    "warm_up",
    "revision",
    "setfit",
    "shots",
    "zero_shot",
]


def revision(method: Method) -> int:
    """The revision of a kind of method, a part of a recipe's identity: it rises when the same
    settings come to train another model.

    Returns:
        0 for the methods that never changed. 1 for PEFT's methods, since every input of the
        tokeniser reaches the model (a model for question answering got no segment ids before) and
        the head always learns, whatever its name; and for `head`, since the model below it is in
        evaluation mode (it had dropout before). One more for methods that leave the first layers as
        they are, since these are in evaluation mode, too.
    """
    return int(method.kind == "head" or method.kind not in OURS) + method.spares_first_layers


def warm_up(method: Method) -> None:
    """Import what `apply` will need, so that no run pays for it: importing PEFT takes seconds."""
    if method.kind not in OURS:
        library()
    if method.kind in COUNTED:
        import scipy.sparse  # noqa: F401
    elif method.fits:
        import sklearn.linear_model
    if method.choose == "nearest":
        import sklearn.feature_extraction.text  # noqa: F401


def apply(method: Method, model: torch.nn.Module, *, auto_class: str) -> torch.nn.Module:
    """Change `model` in place so that just what the method tunes has `requires_grad`; return it,
    wrapped if need be.

    The task's head, which is what the model has in addition to its base model, learns with every
    method. Every input that the model takes reaches it through the wrapping.

    Args:
        method: The method, without holes.
        model: A model with the task's head on it.
        auto_class: Name of the transformers class that built it; it tells PEFT the kind of task.

    Returns:
        The model to train. Parameters that learn are float32.

    Raises:
        UsageError: PEFT refuses the settings or cannot adapt this model, or nothing would learn.
    """
    if method.kind in COUNTED or auto_class == counts.AUTO_CLASS:
        from workbench.methods import counting

        return counting.counted(method, model, auto_class)
    if method.fits:
        from workbench.methods import heads

        return heads.fitted(method, model, auto_class)
    if not method.trains:
        return model.requires_grad_(False)
    tuned = _applied(method, model, auto_class)
    for parameter in tuned.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            # With bfloat16's 8 significant bits most steps would be rounded away.
            parameter.data = parameter.data.float()
    return tuned


def _applied(method: Method, model: torch.nn.Module, auto_class: str) -> torch.nn.Module:
    of_task = {*models.head(model)}
    if method.kind in OURS:
        tuned, chosen = model, of_task | _of_our_own(method, model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
    else:
        # By identity, since wrapping renames the parameters.
        of_head = {id(parameter) for name, parameter in model.named_parameters() if name in of_task}
        tuned = wrap(method, model, auto_class, of_task)
        for name, parameter in tuned.named_parameters():
            # Where PEFT copies the head, the copy learns and `original_module` stays frozen. Where
            # it leaves the head in place it freezes it, and a new head would stay random.
            if id(parameter) in of_head and "original_module" not in name.split("."):
                parameter.requires_grad_(True)
    learning = {name: parameter for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    # A parameter without a number counts as learning, but no step can change it.
    empty = [name for name, parameter in learning.items() if not parameter.numel()]
    if empty or not learning:
        raise UsageError(
            f"{method.name!r} has nothing to tune in this model{f': {empty[0]} is empty' if empty else ''}. Change its settings."
        )
    return tuned


def frozen(method: Method, model: Any) -> Frozen | None:
    """The part of a model below all that learns or is fitted, whose output for a row is therefore
    always the same.

    Args:
        method: The method.
        model: A model that `apply` has returned for it. The part is in evaluation mode whatever is
            done above it.

    Returns:
        The part; None where there is none, as in models that are only asked.
    """
    if (body := _body(model)) is not None:
        return Frozen([body], [body])
    return first_layers(model) if method.spares_first_layers else None


def _body(model: Any) -> torch.nn.Module | None:
    """All of a model below its head, where that alone learns or is fitted; models that PEFT wraps have none."""
    fitted = hasattr(model, "fit")
    found = model.embedder if fitted else getattr(model, "base_model", model)
    learns = any(p.requires_grad for p in model.parameters()) or fitted
    if found is model or hasattr(model, "get_base_model") or not learns or any(p.requires_grad for p in found.parameters()):
        return None
    return found  # type: ignore[no-any-return]


def lesson(method: Method, objective: Objective) -> Objective:
    """The objective that a model is trained by: the formulation's, unless the method has one."""
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
    """Names, as `plain_name` gives them, of the parameters with a learning rate of their own; to be
    asked before `apply`.
    """
    if method.head_learning_rate is None:
        return set()
    # PEFT puts one of these in front of a name: the second around prompt methods, the third around
    # methods that change layers.
    return {f"{around}{name}" for name in models.head(model) for around in ("", "base_model.", "base_model.model.")}


def plain_name(name: str) -> str:
    """A parameter's name without the part that PEFT adds for its copy of a head: as in the adapters
    that PEFT saves.
    """
    return name.replace(".modules_to_save.default.", ".")
