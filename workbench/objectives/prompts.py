"""Prompts that a decoder reads before it answers. A beginning that rows share is read once and kept
as keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.flops import unwrapped
from workbench.objectives.base import OF_ALL_TOKENS, Passes
from workbench.objectives.losses import takes_of

if TYPE_CHECKING:
    import torch

WORTH_A_PASS = 64
"""The fewest tokens that must be spared: reading the beginning by itself is one more pass through
the model.
"""


@dataclass(frozen=True)
class Prompts:
    """Rows of prompts, as far as they have not been read yet.

    Attributes:
        inputs: `input_ids` of what follows the common beginning, padded on the left, and
            `attention_mask` of all. If a beginning has been read, also its `past_key_values`,
            repeated for each row.
        ids: `input_ids` together with the beginning.
        read: Tokens of the beginning; 0: nothing has been read.
        lengths: Tokens of each row that have not been read, padding left out.
    """

    inputs: dict[str, Any]
    ids: torch.Tensor
    read: int
    lengths: Sequence[int]

    def passes(self, more: Sequence[int]) -> Passes:
        """The passes that read these prompts, with so many tokens more behind each row."""
        tokens = [length + own for length, own in zip(self.lengths, more, strict=True)]
        padded = self.read + len(tokens) * max(tokens)
        if not self.read:
            return Passes(tokens, [0] * len(tokens), padded)
        return Passes([self.read, *tokens], [0, *[self.read] * len(tokens)], padded)


def shared(model: Any, inputs: dict[str, Any], pad: int) -> Prompts:
    """Read the rows' common beginning once, where it is long enough and the model's cache allows
    it.

    Args:
        model: A decoder, with or without what a method puts around it.
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
    # Each row from its first token on. The last token of a row is never part of the beginning,
    # since reading it foretells the answer.
    places = torch.arange(max(0, shortest - 1), device=ids.device) + (width - lengths)[:, None]
    firsts = ids.gather(1, places)
    # The running product is 1 up to the first place where some row differs.
    alike = int((firsts == firsts[:1]).all(0).int().cumprod(0).sum())
    if alike * (len(ids) - 1) < WORTH_A_PASS or (cache := cache_of(model)) is None:
        return plain
    beginning = firsts[:1, :alike]
    read(model, beginning, torch.ones_like(beginning), cache)
    # Read in one row, then repeated for all.
    cache.batch_repeat_interleave(len(ids))
    rest = width - alike  # of the longest row
    theirs = torch.arange(rest, device=ids.device) >= rest - (lengths - alike)[:, None]
    follows = ids[:, alike:].masked_fill(~theirs, pad)
    whole = torch.cat((beginning.expand(len(ids), -1), follows), 1)
    seen = torch.cat((mask.new_ones(len(ids), alike), theirs.to(mask.dtype)), 1)
    found = {"input_ids": follows, "attention_mask": seen, "past_key_values": cache}
    return Prompts(found, whole, alike, (lengths - alike).tolist())


def cache_of(model: Any) -> Any:
    """An empty cache for a decoder that holds keys and values of all tokens, so that it can be
    repeated and cut.

    Returns:
        The cache; None where the model has no such cache, since layers look only at a window or
        keep a state, since it takes no positions, or since a method puts tokens in front or looks
        at all tokens of a pass.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    bare = unwrapped(model)
    around = getattr(model, "peft_config", {}).values()
    prompt = any(each.is_prompt_learning or getattr(each.peft_type, "value", "") in OF_ALL_TOKENS for each in around)
    if prompt or not {"position_ids", "past_key_values"} <= takes_of(bare):
        return None
    cache = DynamicCache(config=bare.config)
    # The exact class, since its subclasses drop tokens outside a window and cannot be cut.
    return cache if cache.layers and all(type(layer) is DynamicLayer for layer in cache.layers) else None


def read(model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any, keep: int = 1) -> torch.Tensor:
    """Read tokens behind those in a cache, which then holds both.

    Args:
        model: A decoder.
        ids: The tokens, shape (rows, tokens).
        mask: 0 for padding, also among the tokens in the cache: shape (rows, tokens in the cache
            and in `ids`).
        cache: As `cache_of` gives it.
        keep: Of how many last tokens logits are wanted.

    Returns:
        Their logits, shape (rows, keep, vocabulary).
    """
    places = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    more = {"logits_to_keep": keep} if "logits_to_keep" in takes_of(unwrapped(model)) else {}
    output = model(input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, **more)
    # A model without `logits_to_keep` gives those of all tokens.
    logits: torch.Tensor = output["logits"][:, -keep:]
    return logits
