"""Losses, each summed over its target items: answers' ends, classes, tokens."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.flops import unwrapped
from workbench.objectives.base import NO_TARGET, Batch, Objective, inputs_of, is_encoder_decoder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Spans(Objective):
    """Mean of the cross entropies of an answer's first and last token; an item is a row with a
    target. Padding has no probability.
    """

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        both = (output["start_logits"].float(), output["end_logits"].float())
        start, end = (logits.masked_fill(batch["attention_mask"] == 0, float("-inf")) for logits in both)
        of_start = cross_entropy(start, batch["start_positions"], ignore_index=NO_TARGET, reduction="none")
        of_end = cross_entropy(end, batch["end_positions"], ignore_index=NO_TARGET, reduction="none")
        return ((of_start + of_end) / 2).sum()


@dataclass(frozen=True)
class Classes(Objective):
    """Cross entropy of one class per row.

    Attributes:
        several: Whether a row may have several classes at once. Its labels are then 0 or 1 for each
            class, shape (rows, classes), and its loss is the mean of their binary cross entropies.
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
    """Cross entropy of tokens; `labels` have the shape (rows, tokens).

    Attributes:
        shift: Whether each place foretells the token after it, as in a decoder; otherwise each
            place tells its own token.
    """

    shift: bool = False

    def forward(self, model: torch.nn.Module, batch: Batch) -> Any:
        inputs = inputs_of(batch)
        bare: Any = unwrapped(model)
        if is_encoder_decoder(bare):
            inputs["decoder_input_ids"] = bare.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
            return model(**inputs, use_cache=False)
        takes = takes_of(bare)
        if self.shift:
            # Not for encoders: they are padded on the right, and some (RoBERTa) count positions
            # from another number.
            inputs |= places(bare, batch)
        # Not on the meta device, whose tensors hold no number to cut by.
        if self.shift and "logits_to_keep" in takes and batch["labels"].device.type != "meta":
            # Places before the first target need no logits. With 49,152 tokens in the vocabulary
            # these would be 15 % of a step.
            answered = (batch["labels"] != NO_TARGET).any(0)
            inputs["logits_to_keep"] = int(len(answered) - answered.int().argmax()) + 1
        return model(**inputs, **({"use_cache": False} if self.shift else {}))

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        logits, labels = _paired(output, batch, self.shift)
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NO_TARGET, reduction="sum")


@dataclass(frozen=True)
class Ctc(Objective):
    """Connectionist temporal classification of `labels`, shape (rows, letters); an item is a
    letter.

    A text with more letters than its sound has frames cannot be told, and teaches nothing.
    """

    def forward(self, model: torch.nn.Module, batch: Batch) -> dict[str, Any]:
        """Logits of a model that hears.

        Returns:
            `logits`, shape (rows, frames, letters); `frames`, how many of each row are no padding,
            shape (rows,); and the number of the `blank` letter.
        """
        logits = model(**inputs_of(batch))["logits"]
        bare: Any = unwrapped(model)
        frames = logits.new_full((len(logits),), logits.shape[1]).long()
        if "attention_mask" in batch and hasattr(bare, "_get_feat_extract_output_lengths"):
            frames = bare._get_feat_extract_output_lengths(batch["attention_mask"].sum(-1)).long()
        return {"logits": logits, "frames": frames, "blank": bare.config.pad_token_id}

    def loss(self, output: Any, batch: Batch) -> torch.Tensor:
        import torch
        from torch.nn.functional import ctc_loss, log_softmax

        told = batch["labels"] != NO_TARGET
        likely = log_softmax(output["logits"].float(), -1).transpose(0, 1)
        letters, counts = batch["labels"][told], told.sum(-1)
        # cuDNN's CTC is not deterministic.
        with torch.backends.cudnn.flags(enabled=False):
            return ctc_loss(likely, letters, output["frames"], counts, output["blank"], reduction="sum", zero_infinity=True)


@dataclass(frozen=True)
class Likelihoods:
    """Reads off a pass of `Tokens` with the same `shift` how likely the model found each row's
    targets.
    """

    shift: bool = False

    def __call__(self, output: Any, batch: Batch) -> Sequence[np.ndarray]:
        """Three numbers per row: the log-likelihood of its targets, how many there are, and how
        many were the likeliest.
        """
        from torch.nn.functional import cross_entropy

        found = []
        # Row by row, as a second copy of all logits may not fit with a large vocabulary.
        for logits, labels in zip(*_paired(output, batch, self.shift), strict=True):
            loss = cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")
            right = (logits.argmax(-1) == labels).sum()
            found.append(np.array([-float(loss), int((labels != NO_TARGET).sum()), int(right)]))
        return found


def _paired(output: Any, batch: Batch, shift: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, shape (rows, tokens, vocabulary), each beside its target, shape (rows, tokens)."""
    logits = output["logits"].float()
    # With `logits_to_keep` there are logits of the last places only.
    labels = batch["labels"][:, -logits.shape[1] :]
    return (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)


def places(bare: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """`position_ids` for models that take them: rows that are padded on the left begin at 0 all the
    same.
    """
    if "position_ids" not in takes_of(bare) or "attention_mask" not in batch:
        return {}
    return {"position_ids": (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)}


def takes_of(bare: Any) -> frozenset[str]:
    """Names of the arguments of a model's `forward`."""
    return _takes(type(bare))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=32)
def _takes(model: Any) -> frozenset[str]:
    # Cached by class: this is asked for every batch.
    return frozenset(inspect.signature(model.forward).parameters)
