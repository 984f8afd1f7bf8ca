"""Answers that a model writes: greedy, freely or of a few that are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.objectives.base import Batch, Inference, inputs_of, unwrapped

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Generate(Inference):
    """Greedy decoding to an end token. Nothing of what a checkpoint states about sampling, penalties or lengths takes part.

    Attributes:
        max_new_tokens: Tokens of an answer at most, its end token included.
        end: Tokens of which any ends an answer.
        pad: The token behind answers that ended before others of their batch.
        allowed: Token ids of the answers that may be given, each with its end token; empty: all.
    """

    padding_side: ClassVar[str] = "left"

    max_new_tokens: int
    end: tuple[int, ...]
    pad: int
    allowed: tuple[tuple[int, ...], ...] = ()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[np.ndarray]:
        """Token ids of each answer, without its end token."""
        from transformers import GenerationConfig

        bare = unwrapped(model)
        both = bool(getattr(bare.config, "is_encoder_decoder", False))
        width = 1 if both else batch["input_ids"].shape[1]  # of a decoder of its own the first token is the start
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(self.end),
            pad_token_id=self.pad,
            decoder_start_token_id=_start(bare) if both else None,
        )
        more = {"prefix_allowed_tokens_fn": _Allowed(self.allowed, width, self.pad)} if self.allowed else {}
        made = model.generate(**inputs_of(batch), generation_config=config, use_model_defaults=False, **more)  # type: ignore[operator]
        return [self._until_end(row) for row in made[:, width:].cpu().numpy()]

    def _until_end(self, tokens: np.ndarray) -> np.ndarray:
        ends = np.flatnonzero(np.isin(tokens, self.end))
        return tokens[: ends[0]] if len(ends) else tokens


class _Allowed:
    """Which tokens may come next: those that go on towards one of the allowed answers, by what was written so far."""

    def __init__(self, answers: Sequence[Sequence[int]], width: int, pad: int) -> None:
        self._width, self._pad = width, pad
        self._next: dict[tuple[int, ...], set[int]] = {}
        for answer in answers:
            for i, token in enumerate(answer):
                self._next.setdefault(tuple(answer[:i]), set()).add(token)

    def __call__(self, row: int, tokens: torch.Tensor) -> list[int]:
        return sorted(self._next.get(tuple(tokens[self._width :].tolist()), {self._pad}))


def _start(model: torch.nn.Module) -> int:
    """The token that an encoder-decoder begins its answers with."""
    known = (getattr(each, "decoder_start_token_id", None) for each in (model.config, getattr(model, "generation_config", None)))
    start = next((token for token in known if token is not None), None)
    return int(model.config.pad_token_id if start is None else start)  # type: ignore[union-attr,arg-type]
