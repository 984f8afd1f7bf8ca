"""The two sides of a model that the loop knows: an objective to learn by, and an inference to ask by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    import torch

Batch = Mapping[str, Any]
"""Padded tensors of some rows, named as the model's `forward` names them, and their targets."""

NO_TARGET = -100
"""In targets: nothing to learn here. It is what transformers and torch leave out of a loss."""

TARGETS = ("labels", "start_positions", "end_positions")
"""Names in a batch that are targets. They are never given to the model, whose own loss would be a mean over a micro-batch."""


def inputs_of(batch: Batch) -> dict[str, Any]:
    """What of a batch goes into the model."""
    return {name: value for name, value in batch.items() if name not in TARGETS}


class Objective(ABC):
    """A loss that is summed over target items.

    Attributes:
        together: The rows of a step must not be cut apart, whatever they are: each is compared with the others (a class attribute).
    """

    together: ClassVar[bool] = False

    def forward(self, model: torch.nn.Module, batch: Batch) -> Any:
        """The model's output for a batch."""
        return model(**inputs_of(batch))

    @abstractmethod
    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        """The sum of the losses of the batch's target items, a scalar.

        Padding must not change it: an item's loss is its own, whatever its company.
        """


class Passes(NamedTuple):
    """What was computed to answer a batch: passes of rows through the model.

    Attributes:
        tokens: Tokens of each, padding left out.
        past: Tokens before them whose keys and values were there already.
        padded: Tokens of all of them, padding included.
    """

    tokens: Sequence[int]
    past: Sequence[int]
    padded: int

    def plus(self, tokens: Sequence[int], past: Sequence[int]) -> Passes:
        """With more rows of one length each."""
        return Passes([*self.tokens, *tokens], [*self.past, *past], self.padded + len(tokens) * max(tokens, default=0))


class Answers(list[Any]):
    """Outputs, one a row, with what was computed for them where that is not each row's own prompt and what was written."""

    def __init__(self, outputs: Iterable[Any], passes: Passes | None = None) -> None:
        super().__init__(outputs)
        self.passes = passes


class Inference(ABC):
    """A way to ask a model: from a batch of rows without answers to one output a row, off the device.

    Outputs that are `Answers` tell what was computed for them; of others it is taken to be each row with what was written behind.

    Attributes:
        padding_side: On which side rows are padded to one length: `left` where tokens are added at the end (a class attribute).
        writes: Whether outputs are tokens that are written one after another (a class attribute).
    """

    padding_side: ClassVar[str] = "right"
    writes: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Read(Inference):
    """One forward pass and a reading of its output. As it is the pass of the loss, an evaluation needs no other.

    Attributes:
        read: From the model's output and the batch to one entry a row.
        objective: Whose pass it is, where that is more than the model with its inputs.
    """

    read: Callable[[Any, Batch], Sequence[Any]]
    objective: Objective | None = None

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[Any]:
        output = model(**inputs_of(batch)) if self.objective is None else self.objective.forward(model, batch)
        return self.read(output, batch)
