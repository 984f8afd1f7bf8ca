"""Losses, each summed over its target items: answers' ends, classes, tokens."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.flops import unwrapped
from workbench.objectives.base import NO_TARGET, Batch, Objective, inputs_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Spans(Objective):
    """Cross entropy of an answer's first and last token, averaged; an item is a row with a target. Padding takes no probability."""

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        both = (output["start_logits"].float(), output["end_logits"].float())
        start, end = (logits.masked_fill(batch["attention_mask"] == 0, float("-inf")) for logits in both)
        of_start = cross_entropy(start, batch["start_positions"], ignore_index=NO_TARGET, reduction="none")
        of_end = cross_entropy(end, batch["end_positions"], ignore_index=NO_TARGET, reduction="none")
        return ((of_start + of_end) / 2).sum()


@dataclass(frozen=True)
class Classes(Objective):
    """Cross entropy of one class a row.

    Attributes:
        several: A row may be of several classes at once: its labels are 0 or 1 for each, shape (rows, classes), and its loss is the
            mean of their binary cross entropies.
    """

    several: bool = False

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        logits, labels = output["logits"].float(), batch["labels"]
        if self.several:
            return binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(-1).sum()
        return cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")


@dataclass(frozen=True)
class Tokens(Objective):
    """Cross entropy of tokens, `labels` being of shape (rows, tokens).

    Attributes:
        shift: Each place foretells the token after it, as a decoder does; else each place tells its own.
    """

    shift: bool = False

    def forward(self, model: torch.nn.Module, batch: Batch) -> Any:
        inputs = inputs_of(batch)
        bare: Any = unwrapped(model)
        if getattr(bare.config, "is_encoder_decoder", False):
            inputs["decoder_input_ids"] = bare.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
            return model(**inputs, use_cache=False)
        takes = takes_of(bare)
        inputs |= places(bare, batch)
        if self.shift and "logits_to_keep" in takes and batch["labels"].device.type != "meta":
            # What stands before the first target needs no logits: with 49,152 tokens in the vocabulary they are 15 % of a step.
            answered = (batch["labels"] != NO_TARGET).any(0)
            inputs["logits_to_keep"] = int(len(answered) - answered.int().argmax()) + 1
        return model(**inputs, **({"use_cache": False} if self.shift else {}))

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        logits = output["logits"].float()
        labels = batch["labels"][:, -logits.shape[1] :]
        if self.shift:
            logits, labels = logits[:, :-1], labels[:, 1:]
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NO_TARGET, reduction="sum")


def places(bare: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """`position_ids` of a model that takes them: rows that are padded on the left begin at 0 all the same."""
    if "position_ids" not in takes_of(bare) or "attention_mask" not in batch:
        return {}
    return {"position_ids": (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)}


def takes_of(bare: Any) -> frozenset[str]:
    """Names of what a model's `forward` takes."""
    return _takes(type(bare))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=32)
def _takes(model: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)
