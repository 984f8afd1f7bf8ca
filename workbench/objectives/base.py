"""The two sides of a model that the loop knows: an objective to learn by, and an inference to ask
it by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from workbench.flops import unwrapped

if TYPE_CHECKING:
    import torch

Batch = Mapping[str, Any]
"""Padded tensors of some rows, named as the model's `forward` names them, and their targets."""

NO_TARGET = -100
"""A target with nothing to learn: transformers and torch leave it out of a loss."""

TARGETS = ("labels", "start_positions", "end_positions")
"""Names of the targets in a batch. They are never given to the model, whose own loss would be a
mean over a micro-batch.
"""


def inputs_of(batch: Batch) -> dict[str, Any]:
    """The part of a batch that goes into the model."""
    return {name: value for name, value in batch.items() if name not in TARGETS}


def is_encoder_decoder(model: Any) -> bool:
    """Whether a model reads by an encoder and writes by a decoder, whatever a method puts around it."""
    return bool(getattr(unwrapped(model).config, "is_encoder_decoder", False))


OF_ALL_TOKENS = ("LILY", "SHADOW")
"""PEFT's methods whose change to a token depends on all tokens of a pass: read apart, or beside
other rows, a prompt would mean something else.
"""


class Objective(ABC):
    """A loss that is summed over target items.

    Attributes:
        together: Whether the rows of a step must stay together, since each is compared with the
            others (a class attribute).
    """

    together: ClassVar[bool] = False

    def forward(self, model: torch.nn.Module, batch: Batch) -> Any:
        """The model's output for a batch."""
        return model(**inputs_of(batch))

    @abstractmethod
    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        """The sum of the losses of the batch's target items, a scalar.

        Padding must not change it: the loss of an item does not depend on the rows around it.
        """


class Passes(NamedTuple):
    """What was computed to answer a batch: passes of rows through the model.

    Attributes:
        tokens: Tokens of each row, padding left out.
        past: For each row, tokens before it whose keys and values were there already.
        padded: Tokens of all rows, padding included.
    """

    tokens: Sequence[int]
    past: Sequence[int]
    padded: int

    def plus(self, tokens: Sequence[int], past: Sequence[int]) -> Passes:
        """These passes and more rows, which are padded to the longest of them."""
        return Passes([*self.tokens, *tokens], [*self.past, *past], self.padded + len(tokens) * max(tokens, default=0))


class Answers(list[Any]):
    """Outputs, one per row, with the passes that were computed for them.

    Attributes:
        passes: None where each row's pass was just its own prompt and what was written behind it.
    """

    def __init__(self, outputs: Iterable[Any], passes: Passes | None = None) -> None:
        super().__init__(outputs)
        self.passes = passes


class Inference(ABC):
    """A way to ask a model: from a batch of rows without answers to one output per row, off the
    device.

    Outputs that are `Answers` tell what was computed for them. Of others it is assumed that each
    row was read once, with what was written behind it.

    Attributes:
        padding_side: The side on which rows are padded: `left` where tokens are added at the end (a
            class attribute).
        writes: Whether outputs are tokens that are written one after another (a class attribute).
        plain: Whether a batch passes the model once, and as it is: with no token more, and without
            a cache (a class attribute).
    """

    padding_side: ClassVar[str] = "right"
    writes: ClassVar[bool] = False
    plain: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Read(Inference):
    """One forward pass and a reading of its output. It is the same pass as the loss's, so an
    evaluation needs no other.

    Attributes:
        read: From the model's output and the batch to one entry per row.
        objective: The objective whose pass it is; None: the model with its inputs.
    """

    plain: ClassVar[bool] = True

    read: Callable[[Any, Batch], Sequence[Any]]
    objective: Objective | None = None

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[Any]:
        output = model(**inputs_of(batch)) if self.objective is None else self.objective.forward(model, batch)
        return self.read(output, batch)
