"""Holds weights near where they begin, the more the surer they are known: elastic weight consolidation.

What is held is a weight as a model has it. Of a method that learns weights in place that is the parameter itself; of LoRA
and its kin, which add B A to a weight W, it is W + B A: what counts is how far B A is from what it begins with, by the Fisher
information of W. So the same is asked of all methods, and an adapter that was merged is held as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from workbench import methods
from workbench.errors import UsageError
from workbench.training import parent_store

if TYPE_CHECKING:
    from workbench.training.tuning import Tuning


@dataclass(frozen=True)
class Anchor:
    """A weight that is held. Its loss is strength / 2 x (weight - place)^2 (Kirkpatrick et al. 2017, arXiv:1612.00796).

    Attributes:
        parameter: The parameter that it is; None where it is reckoned from others.
        weight: Gives the weight, or what is added to it.
        place: Where it began.
        strength: How strongly each number is held, at least 0.
    """

    parameter: torch.nn.Parameter | None
    weight: Callable[[], torch.Tensor]
    place: torch.Tensor
    strength: torch.Tensor

    def pull(self) -> None:
        """Add the loss's gradient to that of what learns."""
        if self.parameter is None:
            weight = self.weight()
            weight.backward(self.strength * (weight.detach() - self.place))  # type: ignore[no-untyped-call]
        elif self.parameter.grad is not None:  # what the output does not depend on stays where it is
            self.parameter.grad.addcmul_(self.strength, self.parameter.detach() - self.place)


def of(tuning: Tuning) -> list[Anchor]:
    """What is held of a model that begins where another ended; nothing where its task asks for none.

    Raises:
        UsageError: The method changes weights that nothing is known of.
    """
    task, method, parent = tuning.recipe.task, tuning.recipe.method, tuning.recipe.parent
    if not task.anchor or parent is None:
        return []
    known = {name: task.anchor * value for name, value in parent_store.information(parent).items()}
    found = [
        Anchor(parameter, parameter.detach, parameter.detach().clone(), known[own].to(parameter.device))
        for name, parameter in tuning.parameters.items()
        if (own := methods.merged_name(name)) in known and known[own].shape == parameter.shape
    ]
    for name, weight in methods.added(tuning.model).items() if method.kind in methods.ADDED else ():
        begun = weight().detach()
        if name not in known or known[name].shape != begun.shape:
            raise UsageError(
                f"ewc cannot hold {name}, which {method.name!r} changes: nothing is known of it. Change target_modules."
            )
        found.append(Anchor(None, weight, begun, known[name].to(begun.device)))
    return found


def merge(tuning: Tuning) -> None:
    """Merge what a method has put beside a model's weights into them, and have those learn that it changes: it is of them that
    something is to be known. Raises as `methods.merged`.
    """
    if tuning.recipe.method.kind in methods.IN_PLACE:
        return
    names = {methods.merged_name(name) for name in tuning.parameters} | methods.added(tuning.model).keys()
    tuning.take_merged(tuning.plain(), names)
    for name, parameter in tuning.model.named_parameters():
        parameter.requires_grad_(name in names)
