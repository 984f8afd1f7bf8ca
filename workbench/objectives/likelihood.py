"""Which of a few answers is likeliest: a language model reads each behind the prompt, and writes
none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.flops import unwrapped
from workbench.objectives.base import NO_TARGET, Answers, Batch, Inference, Passes, inputs_of, is_encoder_decoder
from workbench.objectives.generation import start_of
from workbench.objectives.losses import Tokens
from workbench.objectives.prompts import cache_of, read, shared

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Likelihood(Inference):
    """The log-likelihood of each of the allowed answers, end token left out.

    It is the sum of the log-probabilities of the answer's tokens, as `loglikelihood` of
    lm-evaluation-harness. The prompt is read once, whatever the number of answers, where the
    model's cache can be cut.

    Attributes:
        choices: Token ids of each answer, without an end token; at least one each.
        pad: The token that prompts are padded with.
        neutral: Token ids of a prompt without content, whose log-likelihoods are subtracted from
            each row's. It is one more row of each batch. Empty: nothing is subtracted.
    """

    padding_side: ClassVar[str] = "left"

    choices: tuple[tuple[int, ...], ...]
    pad: int
    neutral: tuple[int, ...] = ()

    @property
    def read_tokens(self) -> int:
        """Tokens that are read per row besides its prompt. An answer's last token need not be read,
        as none is foretold from it.
        """
        return sum(len(choice) - 1 for choice in self.choices)

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Answers:
        """Log-likelihoods in natural logarithms: an array of shape (choices,) per row."""
        import torch

        inputs, both = inputs_of(batch), is_encoder_decoder(model)
        if self.neutral:
            inputs = self._with_neutral(inputs, left=not both)
        if both:
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
        """Inputs with the prompt without content as their last row, padded on the left or on the
        right.
        """
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
                # A negative number is how much to cut off the end; a positive one would be the
                # length to keep.
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
        # The encoder alone would not see the tokens that PEFT puts in front of the input.
        if any(getattr(each, "is_prompt_learning", False) for each in getattr(model, "peft_config", {}).values()):
            return [self._at_once(model, inputs, choice) for choice in self.choices], passes
        encoded, found = bare.get_encoder()(**inputs, return_dict=True), []
        for choice in self.choices:
            ids = torch.tensor(choice, device=mask.device).expand(rows, -1)
            # The decoder reads the answer one place late, behind its start token.
            before = torch.cat((ids.new_full((rows, 1), start), ids[:, :-1]), 1)
            output = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=before, use_cache=False)
            found.append(_summed(output["logits"], ids))
        return found, passes

    def _at_once(self, model: Any, inputs: dict[str, Any], choice: tuple[int, ...]) -> torch.Tensor:
        """Log-likelihood of an answer, shape (rows,), by one pass over prompt and answer."""
        import torch

        mask = inputs["attention_mask"]
        ids = torch.tensor(choice, device=mask.device).expand(len(mask), -1)
        if is_encoder_decoder(model):
            return _summed(Tokens().forward(model, {**inputs, "labels": ids})["logits"], ids)
        whole = {
            "input_ids": torch.cat((inputs["input_ids"], ids), 1),
            "attention_mask": torch.cat((mask, mask.new_ones(ids.shape)), 1),
            "labels": torch.cat((torch.full_like(inputs["input_ids"], NO_TARGET), ids), 1),
        }
        logits = Tokens(shift=True).forward(model, whole)["logits"]
        # The logits of one place foretell the token at the next.
        return _summed(logits[:, -len(choice) - 1 : -1], ids)


def _summed(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each row's ids, shape (rows,), from logits of shape (rows, ids,
    vocabulary).
    """
    told = logits.float().log_softmax(-1).gather(-1, ids.unsqueeze(-1))
    return told.sum((1, 2))


def chosen(logs: np.ndarray, sizes: np.ndarray | None = None) -> tuple[int, float]:
    """The likeliest answer.

    Args:
        logs: Log-likelihoods, shape (choices,).
        sizes: Divides them before they are compared, as `acc_norm` of lm-evaluation-harness divides
            by bytes; None: nothing does.

    Returns:
        Its number, and its probability if one of the answers is right. The probability is that of
        the undivided ones.
    """
    best = int((logs if sizes is None else logs / sizes).argmax())
    # Less the highest, since the exponential of a long answer's log-likelihood is 0 in floating
    # point.
    weights = np.exp(logs - logs.max())
    return best, float(weights[best] / weights.sum())
