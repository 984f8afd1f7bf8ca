"""Answers that a model writes: greedy, freely or of a few that are allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.flops import unwrapped
from workbench.objectives.base import Answers, Batch, Inference, inputs_of
from workbench.objectives.prompts import shared

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Generate(Inference):
    """Greedy decoding to an end token: those given, or one that the checkpoint states.

    A beginning that all prompts of a batch share is read once by a decoder, where its cache allows it.

    Nothing else of what a checkpoint states takes part: no sampling, penalty or length.

    Attributes:
        max_new_tokens: Tokens of an answer at most, its end token included.
        end: Tokens of which any ends an answer, beside those that the checkpoint states.
        pad: The token behind answers that ended before others of their batch.
        allowed: Token ids of the answers that may be given, each with its end token; empty: all.
    """

    padding_side: ClassVar[str] = "left"
    writes: ClassVar[bool] = True

    max_new_tokens: int
    end: tuple[int, ...]
    pad: int
    allowed: tuple[tuple[int, ...], ...] = ()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Answers:
        """Token ids of each answer, without its end token."""
        from transformers import GenerationConfig

        bare = unwrapped(model)
        both = bool(getattr(bare.config, "is_encoder_decoder", False))
        inputs = inputs_of(batch)
        prompts = None if both else shared(model, inputs, self.pad)
        if prompts is not None:
            inputs = {**prompts.inputs, "input_ids": prompts.ids}
        width = 1 if both else inputs["input_ids"].shape[1]  # of a decoder of its own the first token is the start
        end = (*self.end, *_ends(bare))
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=[*dict.fromkeys(end)],
            pad_token_id=self.pad,
            decoder_start_token_id=start_of(bare) if both else None,
        )
        more = {"prefix_allowed_tokens_fn": _Allowed(self.allowed, width, self.pad)} if self.allowed else {}
        with _without_defaults(bare):
            made = model.generate(**inputs, generation_config=config, **more)  # type: ignore[operator]
        written = [_until(end, row) for row in made[:, width:].cpu().numpy()]
        return Answers(written, prompts.passes([len(each) for each in written]) if prompts else None)


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


def _until(end: Sequence[int], tokens: np.ndarray) -> np.ndarray:
    ends = np.flatnonzero(np.isin(tokens, end))
    return tokens[: ends[0]] if len(ends) else tokens


def _ends(model: Any) -> tuple[int, ...]:
    """Tokens that end a text by what the checkpoint says."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if found is None else (found,) if isinstance(found, int) else tuple(found)


@contextlib.contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """A model that states nothing about generation: whatever a configuration leaves open would be filled in by that."""
    from transformers import GenerationConfig

    kept, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def start_of(model: Any) -> int:
    """The token that an encoder-decoder begins its answers with."""
    known = (getattr(each, "decoder_start_token_id", None) for each in (model.config, getattr(model, "generation_config", None)))
    start = next((token for token in known if token is not None), None)
    return int(model.config.pad_token_id if start is None else start)
