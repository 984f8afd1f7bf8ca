"""Makes a plain model of a tuned one, so that another recipe can start from it; and tells what a method adds to its weights."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError, WorkbenchError, is_out_of_memory
from workbench.methods.base import OURS, Method

if TYPE_CHECKING:
    import torch

IN_PLACE = ("full", "head", "bitfit")
"""Methods that leave a model of the same shape."""

ADDED = ("lora", "loha", "lokr")
"""Methods of PEFT's that add to each weight a matrix that they can tell (`added`)."""

_ADVICE = "Give the parent full, head, bitfit, or a method of PEFT's that can be merged, such as lora or ia3."


def merged(method: Method, model: torch.nn.Module) -> torch.nn.Module:
    """A tuned model as a plain one of its architecture: what a method has put beside its weights is merged into them by PEFT.

    Args:
        method: The method.
        model: What `methods.apply` returned for it, tuned or on the meta device. It is changed.

    Raises:
        UsageError: What the method adds cannot be merged into the weights of the model.
    """
    if method.kind in IN_PLACE:
        return model
    if method.kind in OURS:
        raise UsageError(f"no recipe can start from a model tuned by {method.name!r}: {_why(method)}. {_ADVICE}")
    tuned: Any = model
    config = next(iter(tuned.peft_config.values()))
    if config.is_prompt_learning:
        raise UsageError(
            f"no recipe can start from a model tuned by {method.name!r}: tokens in front of the input cannot be merged into its "
            f"weights. {_ADVICE}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain: torch.nn.Module = tuned.merge_and_unload()
    except WorkbenchError:
        raise
    except Exception as error:  # PEFT's many methods raise anything
        if is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"no recipe can start from a model tuned by {method.name!r}, which PEFT cannot merge into its weights: {reason} "
            f"{_ADVICE}"
        ) from error
    return plain


def is_mergeable(method: Method, model: torch.nn.Module) -> bool:
    """Whether `merged` would have something to merge, as far as that is known beforehand; of a few of PEFT's methods it is not."""
    if method.kind in (*IN_PLACE, *OURS):
        return False
    tuned: Any = model
    return hasattr(tuned, "peft_config") and not next(iter(tuned.peft_config.values())).is_prompt_learning


def added(model: torch.nn.Module) -> dict[str, Callable[[], torch.Tensor]]:
    """What a method out of `ADDED` adds to weights of a model now, each to be asked for, and differentiable.

    Args:
        model: What `methods.apply` returned for it.

    Returns:
        By the weight's name in the merged model, of its shape.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    return {
        merged_name(f"{name}.weight"): functools.partial(module.get_delta_weight, module.active_adapters[0])
        for name, module in layers.items()
    }


def merged_name(name: str) -> str:
    """What a parameter that is no part of what PEFT adds is called in the merged model."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")


def _why(method: Method) -> str:
    """Why a method without PEFT leaves nothing to start from."""
    if method.kind == "adapter":
        return "its modules are part of every pass, and cannot be merged into the weights"
    return "its head is fitted at once" if method.fits else "it tunes nothing"
