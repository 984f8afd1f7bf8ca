"""Answers that a model writes by greedy decoding, freely or out of a few that are allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.flops import unwrapped
from workbench.objectives.base import Answers, Batch, Inference, inputs_of, is_encoder_decoder
from workbench.objectives.prompts import shared

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Generate(Inference):
    """Greedy decoding up to an end token, whether given or stated by the checkpoint.

    Nothing else that a checkpoint states takes part: no sampling, penalty or length. A decoder
    reads a beginning that all prompts of a batch share once, where its cache allows that.

    Attributes:
        max_new_tokens: The most tokens of an answer, its end token included.
        end: Tokens that end an answer, in addition to those that the checkpoint states.
        pad: The token behind answers that ended before others of their batch.
        allowed: Token ids of the answers that may be given, each with its end token; empty: all
            answers.
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
        both = is_encoder_decoder(model)
        inputs = inputs_of(batch)
        prompts = None if both else shared(model, inputs, self.pad)
        if prompts is not None:
            inputs = {**prompts.inputs, "input_ids": prompts.ids}
        # An encoder-decoder's output begins with the start token, a decoder's with the whole
        # prompt.
        width = 1 if both else inputs["input_ids"].shape[1]
        end = (*self.end, *_ends(bare))
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            # A chat model may end a turn with another token than a text, and its checkpoint may
            # state both.
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
    """Which tokens may come next: those that continue what was written so far towards an allowed
    answer.
    """

    def __init__(self, answers: Sequence[Sequence[int]], width: int, pad: int) -> None:
        self._width, self._pad = width, pad
        self._next: dict[tuple[int, ...], set[int]] = {}
        for answer in answers:
            for i, token in enumerate(answer):
                self._next.setdefault(tuple(answer[:i]), set()).add(token)

    def __call__(self, row: int, tokens: torch.Tensor) -> list[int]:
        # Behind a complete answer only padding is left; transformers refuses an empty list.
        return sorted(self._next.get(tuple(tokens[self._width :].tolist()), {self._pad}))


def _until(end: Sequence[int], tokens: np.ndarray) -> np.ndarray:
    ends = np.flatnonzero(np.isin(tokens, end))
    return tokens[: ends[0]] if len(ends) else tokens


def _ends(model: Any) -> tuple[int, ...]:
    """Tokens that end a text according to the checkpoint."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if found is None else (found,) if isinstance(found, int) else tuple(found)


@contextlib.contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """A model whose generation defaults are empty for a while: transformers fills in from them
    whatever a configuration leaves open.
    """
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
