"""Answers that a model writes by greedy decoding, freely or out of a few that are allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.flops import unwrapped
from workbench.objectives.base import NO_TARGET, Answers, Batch, Inference, inputs_of, is_encoder_decoder
from workbench.objectives.prompts import cache_of, read, shared

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
        inputs = inputs_of(batch)
        if is_encoder_decoder(model):
            return Answers(self._written(model, inputs, 1))  # what it gives begins with the start token
        prompts = shared(model, inputs, self.pad)
        written = self._written(model, {**prompts.inputs, "input_ids": prompts.ids}, prompts.ids.shape[1])
        return Answers(written, prompts.passes([len(each) for each in written]))

    def graded(self, model: torch.nn.Module, batch: Batch, targets: Sequence[np.ndarray]) -> tuple[Answers, torch.Tensor]:
        """Answers, as above, and the loss of given ones: prompts are read once for both.

        Args:
            model: A decoder for which `prompts.cache_of` gives a cache.
            batch: Its prompts.
            targets: Token ids of the given answer behind each prompt, with its end token; empty: of
                that one there is none.

        Returns:
            The answers, and the sum of the cross entropies of all tokens of the given ones.
        """
        import torch
        from torch.nn.functional import cross_entropy

        prompts = shared(model, inputs_of(batch), self.pad)
        mask, cache = prompts.inputs["attention_mask"], prompts.inputs.get("past_key_values")
        cache = cache_of(model) if cache is None else cache
        rows, longest = len(mask), max(1, *map(len, targets))
        marks = torch.full((rows, longest), NO_TARGET, device=mask.device)
        for row, target in zip(marks, targets, strict=True):
            row[: len(target)] = torch.as_tensor(target, dtype=row.dtype)
        last = read(model, prompts.inputs["input_ids"], mask, cache)[:, -1]
        loss = cross_entropy(last.float(), marks[:, 0], ignore_index=NO_TARGET, reduction="sum")
        passes = prompts.passes([0] * rows)
        if longest > 1:
            told = marks[:, 1:] != NO_TARGET  # the last token of an answer foretells none, and need not be read
            ids, seen = marks[:, :-1].where(told, self.pad), torch.cat((mask, told.to(mask.dtype)), 1)
            behind = read(model, ids, seen, cache, longest - 1).float()
            loss += cross_entropy(behind.flatten(0, 1), marks[:, 1:].flatten(), ignore_index=NO_TARGET, reduction="sum")
            passes = passes.plus(told.sum(1).tolist(), mask.sum(1).tolist())
        # Off with the answers, and with the last token of the prompts: what is written begins by reading it.
        cache.crop(-longest)
        inputs = {"input_ids": prompts.ids, "attention_mask": mask, "past_key_values": cache}
        written = self._written(model, inputs, prompts.ids.shape[1])
        passes = passes.plus([1 + len(each) for each in written], (mask.sum(1) - 1).tolist())
        return Answers(written, passes), loss

    def _written(self, model: Any, inputs: dict[str, Any], width: int) -> list[np.ndarray]:
        """What a model writes behind the first `width` tokens of its output, up to an end token."""
        from transformers import GenerationConfig

        bare = unwrapped(model)
        end = (*self.end, *_ends(bare))
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            # A chat model may end a turn with another token than a text, and its checkpoint may
            # state both.
            eos_token_id=[*dict.fromkeys(end)],
            pad_token_id=self.pad,
            decoder_start_token_id=start_of(bare) if is_encoder_decoder(bare) else None,
        )
        more = {"prefix_allowed_tokens_fn": _Allowed(self.allowed, width, self.pad)} if self.allowed else {}
        with _without_defaults(bare):
            made = model.generate(**inputs, generation_config=config, **more)
        return [_until(end, row) for row in made[:, width:].cpu().numpy()]


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
