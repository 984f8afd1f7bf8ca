"""Which of a few answers is likeliest: each is given to a language model behind the prompt, and none is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.flops import unwrapped
from workbench.objectives.base import NO_TARGET, Answers, Batch, Inference, Passes, inputs_of
from workbench.objectives.generation import start_of
from workbench.objectives.losses import Tokens
from workbench.objectives.prompts import cache_of, read, shared

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Likelihood(Inference):
    """The log-likelihood of each of the answers that may be given, its end token left out.

    It is the sum over the answer's tokens of the logarithm of their probabilities, as `loglikelihood` of lm-evaluation-harness. A
    prompt is read once, whatever the number of answers, where the model has a cache that can be cut.

    Attributes:
        choices: Token ids of each answer, without an end token; at least one each.
        pad: The token that prompts are padded with.
        neutral: Token ids of a prompt without content, by whose log-likelihoods those of each row are lessened: it stands in each
            batch as one row more. Empty: they are as they are.
    """

    padding_side: ClassVar[str] = "left"

    choices: tuple[tuple[int, ...], ...]
    pad: int
    neutral: tuple[int, ...] = ()

    @property
    def read_tokens(self) -> int:
        """Tokens that are read for a row beside its prompt: an answer's last one tells nothing more of it."""
        return sum(len(choice) - 1 for choice in self.choices)

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Answers:
        """One array of shape (choices,) a row, in natural logarithms."""
        import torch

        inputs = inputs_of(batch)
        if self.neutral:
            inputs = self._with_neutral(inputs, left=not getattr(unwrapped(model).config, "is_encoder_decoder", False))
        if getattr(unwrapped(model).config, "is_encoder_decoder", False):
            found, passes = self._of_encoder_decoder(model, inputs)
        elif (cache := cache_of(model)) is not None:
            found, passes = self._behind_prompts(model, inputs, cache)
        else:
            found = [self._at_once(model, inputs, choice) for choice in self.choices]
            lengths = inputs["attention_mask"].sum(1).tolist()
            tokens = [length + len(choice) for choice in self.choices for length in lengths]
            padded = sum(inputs["input_ids"].shape[1] + len(choice) for choice in self.choices) * len(lengths)
            passes = Passes(tokens, [0] * len(tokens), padded)
        logs = torch.stack(found, 1).double().cpu().numpy()
        return Answers(logs[:-1] - logs[-1] if self.neutral else logs, passes)

    def _with_neutral(self, inputs: dict[str, Any], *, left: bool) -> dict[str, Any]:
        """Inputs with the prompt without content as the last row, padded on a side."""
        import torch
        from torch.nn.functional import pad

        own, mask = inputs["input_ids"].new_tensor(self.neutral)[None], inputs["attention_mask"]
        width = max(own.shape[1], mask.shape[1])

        def wide(rows: torch.Tensor, value: int) -> torch.Tensor:
            more = width - rows.shape[1]
            return pad(rows, (more, 0) if left else (0, more), value=value)

        ids = [wide(rows, self.pad) for rows in (inputs["input_ids"], own)]
        masks = [wide(rows, 0) for rows in (mask, mask.new_ones(own.shape))]
        return {"input_ids": torch.cat(ids), "attention_mask": torch.cat(masks)}

    def _behind_prompts(self, model: Any, inputs: dict[str, Any], cache: Any) -> tuple[list[torch.Tensor], Passes]:
        import torch

        prompts = shared(model, inputs, self.pad)
        cache = prompts.inputs.get("past_key_values", cache)
        mask = prompts.inputs["attention_mask"]
        next_ = read(model, prompts.inputs["input_ids"], mask, cache)[:, -1].float().log_softmax(-1)
        rows, found = len(mask), []
        passes = prompts.passes([0] * rows)
        for choice in self.choices:
            total, more = next_[:, choice[0]], len(choice) - 1
            if more:
                ids = torch.tensor(choice, device=mask.device).expand(rows, -1)
                behind = read(model, ids[:, :-1], torch.cat((mask, mask.new_ones(rows, more)), 1), cache, more)
                total = total + _summed(behind, ids[:, 1:])
                cache.crop(-more)
                passes = passes.plus([more] * rows, mask.sum(1).tolist())
            found.append(total)
        return found, passes

    def _of_encoder_decoder(self, model: Any, inputs: dict[str, Any]) -> tuple[list[torch.Tensor], Passes]:
        import torch

        bare, mask = unwrapped(model), inputs["attention_mask"]
        rows, start = len(mask), start_of(bare)
        lengths = [int(length) + self.read_tokens + len(self.choices) for length in mask.sum(1)]
        padded = rows * (mask.shape[1] + self.read_tokens + len(self.choices))
        passes = Passes(lengths, [0] * rows, padded)
        if any(getattr(each, "is_prompt_learning", False) for each in getattr(model, "peft_config", {}).values()):
            return [self._at_once(model, inputs, choice) for choice in self.choices], passes
        encoded, found = bare.get_encoder()(**inputs, return_dict=True), []
        for choice in self.choices:
            ids = torch.tensor(choice, device=mask.device).expand(rows, -1)
            before = torch.cat((ids.new_full((rows, 1), start), ids[:, :-1]), 1)
            output = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=before, use_cache=False)
            found.append(_summed(output["logits"], ids))
        return found, passes

    def _at_once(self, model: Any, inputs: dict[str, Any], choice: tuple[int, ...]) -> torch.Tensor:
        """By a pass of prompt and answer together."""
        import torch

        mask, both = inputs["attention_mask"], bool(getattr(unwrapped(model).config, "is_encoder_decoder", False))
        ids = torch.tensor(choice, device=mask.device).expand(len(mask), -1)
        if both:
            return _summed(Tokens().forward(model, {**inputs, "labels": ids})["logits"], ids)
        whole = {
            "input_ids": torch.cat((inputs["input_ids"], ids), 1),
            "attention_mask": torch.cat((mask, mask.new_ones(ids.shape)), 1),
            "labels": torch.cat((torch.full_like(inputs["input_ids"], NO_TARGET), ids), 1),
        }
        logits = Tokens(shift=True).forward(model, whole)["logits"]
        return _summed(logits[:, -len(choice) - 1 : -1], ids)


def _summed(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each row's ids, told by logits of shape (rows, ids, vocabulary)."""
    told = logits.float().log_softmax(-1).gather(-1, ids.unsqueeze(-1))
    return told.sum((1, 2))


def chosen(logs: np.ndarray, sizes: np.ndarray | None = None) -> tuple[int, float]:
    """Number of the answer that is likeliest, and its probability if one of them is right.

    Args:
        logs: Log-likelihoods, shape (choices,).
        sizes: What each is divided by before they are compared, as `acc_norm` of lm-evaluation-harness by bytes; None: nothing. The
            probability is that of the undivided ones.
    """
    best = int((logs if sizes is None else logs / sizes).argmax())
    weights = np.exp(logs - logs.max())
    return best, float(weights[best] / weights.sum())
