"""One number per row: the output of a head, or by how much one answer is likelier than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from workbench.flops import unwrapped
from workbench.objectives.base import Batch, Inference, inputs_of, is_encoder_decoder
from workbench.objectives.generation import start_of
from workbench.objectives.losses import places, takes_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Score(Inference):
    """The single output of a model's head."""

    plain: ClassVar[bool] = True

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[float]:
        found: list[float] = model(**inputs_of(batch))["logits"].float()[:, 0].tolist()
        return found


@dataclass(frozen=True)
class Odds(Inference):
    """How much rather, in logits, a language model would write one token than another, behind the
    tokens that both answers share.

    Attributes:
        yes: The one token.
        no: The other.
        begin: Tokens that an answer begins with either way.
    """

    padding_side: ClassVar[str] = "left"

    yes: int
    no: int
    begin: tuple[int, ...] = ()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Sequence[float]:
        import torch

        inputs, bare, ids = inputs_of(batch), unwrapped(model), batch["input_ids"]
        begin = torch.tensor(self.begin, dtype=torch.long, device=ids.device).expand(len(ids), -1)
        if is_encoder_decoder(bare):
            inputs["decoder_input_ids"] = torch.cat((torch.full_like(ids[:, :1], start_of(bare)), begin), 1)
        else:
            inputs |= {"input_ids": torch.cat((ids, begin), 1), "attention_mask": _longer(batch["attention_mask"], begin)}
            inputs |= places(bare, inputs)
            # The vocabulary's matrix is multiplied for the last place alone.
            if "logits_to_keep" in takes_of(bare):
                inputs["logits_to_keep"] = 1
        last = model(**inputs, use_cache=False)["logits"][:, -1].float()
        found: list[float] = (last[:, self.yes] - last[:, self.no]).tolist()
        return found


def _longer(mask: torch.Tensor, begin: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat((mask, torch.ones_like(begin)), 1)
