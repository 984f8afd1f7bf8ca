"""Prompts that a decoder reads before it answers: read once, where rows begin alike, and kept as keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.flops import unwrapped
from workbench.objectives.base import Passes

if TYPE_CHECKING:
    import torch

WORTH_A_PASS = 64
"""Tokens that must be spared at least: reading a beginning by itself is one more pass through the model."""

_OF_ALL_TOKENS = ("LILY", "SHADOW")
"""PEFT's methods that make of a token what depends on all those of its pass: read apart, they say something else."""


@dataclass(frozen=True)
class Prompts:
    """Rows of prompts, as far as they are not read.

    Attributes:
        inputs: `input_ids` of what follows the rows' common beginning, and `attention_mask` of all, padding being on the left of
            what follows. With a beginning that is read already, `past_key_values` of it, repeated for each row.
        ids: `input_ids` with that beginning.
        read: Tokens of that beginning; 0: nothing is read.
        lengths: Tokens of each row that are not read, padding left out.
    """

    inputs: dict[str, Any]
    ids: torch.Tensor
    read: int
    lengths: Sequence[int]

    def passes(self, more: Sequence[int]) -> Passes:
        """What reading the prompts is, with so many tokens more for each row behind it."""
        tokens = [length + own for length, own in zip(self.lengths, more, strict=True)]
        padded = self.read + len(tokens) * max(tokens)
        if not self.read:
            return Passes(tokens, [0] * len(tokens), padded)
        return Passes([self.read, *tokens], [0, *[self.read] * len(tokens)], padded)


def shared(model: Any, inputs: dict[str, Any], pad: int) -> Prompts:
    """Read the rows' common beginning once, where there is one that is long enough and the model's cache allows it.

    Args:
        model: A decoder, in or without what a method puts around it.
        inputs: Its inputs, padded on the left.
        pad: The token that padding is made of.
    """
    import torch

    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    lengths = mask.sum(1)
    plain = Prompts(inputs, ids, 0, lengths.tolist())
    if len(ids) < 2 or {*inputs} != {"input_ids", "attention_mask"}:
        return plain
    width, shortest = ids.shape[1], int(lengths.min())
    # All rows from their first token on; the last token of each is left to be read: what comes next is told by it.
    places = torch.arange(max(0, shortest - 1), device=ids.device) + (width - lengths)[:, None]
    firsts = ids.gather(1, places)
    alike = int((firsts == firsts[:1]).all(0).int().cumprod(0).sum())
    if alike * (len(ids) - 1) < WORTH_A_PASS or (cache := cache_of(model)) is None:
        return plain
    beginning = firsts[:1, :alike]
    read(model, beginning, torch.ones_like(beginning), cache)
    cache.batch_repeat_interleave(len(ids))
    rest = width - alike  # of the longest row
    theirs = torch.arange(rest, device=ids.device) >= rest - (lengths - alike)[:, None]
    follows = ids[:, alike:].masked_fill(~theirs, pad)
    whole = torch.cat((beginning.expand(len(ids), -1), follows), 1)
    seen = torch.cat((mask.new_ones(len(ids), alike), theirs.to(mask.dtype)), 1)
    found = {"input_ids": follows, "attention_mask": seen, "past_key_values": cache}
    return Prompts(found, whole, alike, (lengths - alike).tolist())


def cache_of(model: Any) -> Any:
    """An empty cache for a decoder that holds keys and values of all tokens, so that it can be repeated and cut.

    None where it has none of that kind: its layers look at a window only or keep a state, its places cannot be told, or a method
    puts tokens in front or looks at all tokens of a pass.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    bare = unwrapped(model)
    takes = inspect.signature(bare.forward).parameters
    around = getattr(model, "peft_config", {}).values()
    prompt = any(each.is_prompt_learning or getattr(each.peft_type, "value", "") in _OF_ALL_TOKENS for each in around)
    if prompt or not {"position_ids", "past_key_values"} <= {*takes}:
        return None
    cache = DynamicCache(config=bare.config)
    return cache if cache.layers and all(type(layer) is DynamicLayer for layer in cache.layers) else None


def read(model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any, keep: int = 1) -> torch.Tensor:
    """Logits of the last `keep` tokens, shape (rows, keep, vocabulary), of tokens behind those in a cache, which then holds both.

    Args:
        model: A decoder.
        ids: The tokens, shape (rows, tokens).
        mask: Which are none, of those in the cache too: shape (rows, tokens in the cache and of these).
        cache: Of `cache_of`.
        keep: How many.
    """
    places = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    takes = inspect.signature(unwrapped(model).forward).parameters
    more = {"logits_to_keep": keep} if "logits_to_keep" in takes else {}
    output = model(input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, **more)
    logits: torch.Tensor = output["logits"][:, -keep:]
    return logits
