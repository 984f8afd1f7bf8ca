"""A model being tuned: its steps, its evaluation, and the state in which it can be left and taken up."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import flops, methods
from workbench.data import models
from workbench.errors import EnvironmentFault, Infeasible, WorkbenchError, is_out_of_memory
from workbench.study import Recipe
from workbench.tasks.base import Example, Rows
from workbench.training.batches import evaluation_batches, micro_batches, step_examples
from workbench.training.prefixes import Prefix
from workbench.usage import Usage, Work

FINITE_CHECK_STEPS = 16
"""How often the loss is looked at: reading a number from a GPU waits for it, so not at every step."""

SINGLE_PREDICTIONS = 8
"""Examples predicted one by one, once a run, to know the latency of one; the first is not counted."""


@dataclass
class Progress:
    """Where a training is, for whoever watches it from outside the loop: what has been done when it breaks off.

    Attributes:
        labels: Distinct labelled examples whose labels have reached the loss, in the whole run.
        work: What was trained since the last checkpoint.
    """

    labels: int = 0
    work: Work = field(default_factory=Work)


class Tuning:
    """A model being tuned: parameters, optimiser and averages, all of it in one place so that it can be left and taken up."""

    def __init__(self, recipe: Recipe, where: torch.device, resume: Prefix | None) -> None:
        self.recipe, self.where = recipe, where
        torch.manual_seed(recipe.seed)
        base = models.build(recipe.model, recipe.task.auto_class, seed=recipe.seed)
        model = methods.apply(recipe.method, base, auto_class=recipe.task.auto_class)
        self.model = model.to(where).train()
        self.parameters = {methods.plain_name(name): p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = self.make_optimizer()
        self.average = [p.detach().clone() for p in self.parameters.values()] if recipe.averaging is not None else []
        self.step = self.tokens = 0
        self.work = Work()  # trained and evaluated by this object, nothing of what it resumes
        self.shape = flops.shape(self.model)
        bfloat16 = recipe.precision == "bfloat16" or (
            recipe.precision == "auto" and where.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        self.autocast = torch.autocast(where.type, torch.bfloat16, enabled=bfloat16)
        torch.manual_seed(recipe.seed + 1)  # dropout's stream does not depend on how many numbers the wrapping drew
        self.random = _random_state(where)
        if resume:
            self._load(resume)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW in one fused kernel: 16 ms a step against 152 ms of a Python loop over the parameters of minilm-l6."""
        rate, decay = self.recipe.method.learning_rate, self.recipe.weight_decay
        return torch.optim.AdamW(self.parameters.values(), lr=rate, weight_decay=decay, fused=True)

    def learning_rate(self) -> float:
        """Of the step at hand (`self.step`, from 1): a linear warm-up, then constant. It does not know how long the run is."""
        return self.recipe.method.learning_rate * min(1.0, self.step / (self.recipe.warmup_steps + 1))

    def run(self, rows: Rows, target: int, examples: int, progress: Progress) -> None:
        """Optimiser steps up to `target`. Raises Infeasible when the loss is no longer finite, or the model fails."""
        first, last = (
            np.searchsorted(rows.example, np.arange(examples)),
            np.searchsorted(rows.example, np.arange(examples), "right"),
        )
        recipe, parameters = self.recipe, list(self.parameters.values())
        while self.step < target:
            chosen = step_examples(self.step, recipe.batch_size, examples, getattr(recipe.task, "seed", 0))
            batch = np.concatenate([np.arange(first[i], last[i]) for i in chosen])
            total, padded = torch.zeros((), device=self.where), 0
            counted = max(1, int(rows.counted[batch].sum()))
            for _, inputs, targets in micro_batches(rows, batch, self.where):
                padded += inputs["attention_mask"].numel()
                with self.autocast, _faults_of_the_model():
                    output = self.model(**inputs)
                # Summed and divided by the rows of the whole batch that have a target: the gradient is that of one padded batch.
                loss = recipe.task.loss(output, targets, inputs["attention_mask"]).sum() / counted
                with _faults_of_the_model():
                    loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
            torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
            self.step += 1
            lengths = rows.lengths[batch].tolist()
            self.tokens += sum(lengths)
            done = self._work(lengths, padded, len(chosen), flops.training) + Work(steps=1)
            self.work, progress.work = self.work + done, progress.work + done
            progress.labels = min(examples, self.step * recipe.batch_size)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if recipe.averaging is not None:
                weight = (recipe.averaging + 1) / (self.step + recipe.averaging)
                torch._foreach_lerp_(self.average, [p.detach() for p in parameters], weight)
            if (self.step % FINITE_CHECK_STEPS == 0 or self.step == target) and not math.isfinite(value := float(total)):
                raise Infeasible("diverged", f"the training loss is {value} at step {self.step}")
        self.random = _random_state(self.where)

    def _work(self, lengths: Sequence[int], padded: int, examples: int, formula: Callable[..., float]) -> Work:
        """What rows of these lengths were, by the formula of a forward pass or of training."""
        tokens = sum(lengths)
        if self.shape is None:
            return Work(0, examples, tokens, padded, None)
        return Work(0, examples, tokens, padded, formula(self.shape, lengths), flops.FORMULA)

    @torch.inference_mode()
    def evaluate(self, rows: Rows, clock: Callable[[], float]) -> tuple[dict[str, float], list[Any], float]:
        """Scores and predictions of the averaged weights on the dev set, and predictions per second.

        Raises:
            Infeasible: The loss is not finite.
        """
        examples = self.recipe.task.splits().dev
        began = clock()
        loss, predictions, padded = self._predict(examples, rows)
        rate = len(examples) / max(clock() - began, 1e-9)
        self.work += self._work(rows.lengths.tolist(), padded, len(examples), flops.forward)
        return self.recipe.task.score(examples, predictions) | {"dev_loss": loss}, predictions, rate

    @torch.inference_mode()
    def test(self, rows: Rows) -> dict[str, float]:
        """Scores of the averaged weights on the held-out test split, and `test_loss`. Raises Infeasible as `evaluate` does."""
        examples = self.recipe.task.splits().test
        loss, predictions, _ = self._predict(examples, rows)
        return self.recipe.task.score(examples, predictions) | {"test_loss": loss}

    def _predict(self, examples: Sequence[Example], rows: Rows) -> tuple[float, list[Any], int]:
        """Mean loss of the rows that have a target, predictions of the examples, and how many tokens they were with padding."""
        task = self.recipe.task
        read: list[Any] = [None] * len(rows)
        losses, padded = torch.zeros((), device=self.where), 0
        with self._averaged_weights():
            for chosen, inputs, targets in evaluation_batches(rows, self.where):
                padded += inputs["attention_mask"].numel()
                with self.autocast, _faults_of_the_model():
                    output = self.model(**inputs)
                losses += task.loss(output, targets, inputs["attention_mask"]).sum()
                for row, value in zip(chosen, task.read(output, inputs["attention_mask"]), strict=True):
                    read[row] = value
        loss = float(losses) / max(1, int(rows.counted.sum()))
        if not math.isfinite(loss):
            raise Infeasible("diverged", f"the loss of the predictions is {loss} at step {self.step}")
        return loss, task.predict(examples, rows, read), padded

    @torch.inference_mode()
    def latency(self, rows: Rows, clock: Callable[[], float]) -> float:
        """Seconds of one prediction alone, from its tokens on: the median of a few, the first not counted."""
        examples, taken = self.recipe.task.splits().dev, []
        with self._averaged_weights():
            for i in range(min(SINGLE_PREDICTIONS, len(examples))):
                own = rows.of_example(i)
                began = clock()
                for _, inputs, _ in evaluation_batches(own, self.where):
                    with self.autocast, _faults_of_the_model():
                        output = self.model(**inputs)
                    self.recipe.task.read(output, inputs["attention_mask"])
                taken.append(clock() - began)
        return statistics.median(taken[1:] or taken)

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The averaged weights in the model's place, and evaluation mode, for a while."""
        parameters = [p.detach() for p in self.parameters.values()]
        current = [p.clone() for p in parameters] if self.average else []
        if self.average:
            torch._foreach_copy_(parameters, self.average)
        self.model.eval()
        try:
            yield
        finally:
            self.model.train()
            if current:
                torch._foreach_copy_(parameters, current)

    def averaged(self) -> dict[str, torch.Tensor]:
        """Copies of the tuned weights as evaluated, on the CPU."""
        values = self.average or list(self.parameters.values())
        return {name: value.detach().cpu().clone() for name, value in zip(self.parameters, values, strict=True)}

    def restore_random(self) -> None:
        """Put the random state back: whoever took a checkpoint may have drawn numbers in the meantime."""
        _set_random_state(self.random, self.where)

    def prefix(self, recipe: Recipe, usage: Mapping[str, Usage]) -> Prefix:
        """The state to continue from, copied to the CPU."""
        tensors = {f"random.{i}": state for i, state in enumerate(self.random)}
        for i, (name, parameter) in enumerate(self.parameters.items()):
            tensors[f"weight.{name}"] = parameter.detach().cpu().clone()
            if self.average:
                tensors[f"average.{name}"] = self.average[i].cpu().clone()
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adamw.{key}.{name}"] = value.detach().cpu().clone()
        return Prefix(recipe.run_id, float(recipe.epochs), self.step, self.tokens, usage, tensors)

    def _load(self, prefix: Prefix) -> None:
        self.step, self.tokens = prefix.step, prefix.tokens
        with torch.no_grad():
            for i, (name, parameter) in enumerate(self.parameters.items()):
                parameter.copy_(prefix.tensors[f"weight.{name}"])
                if self.average:
                    self.average[i].copy_(prefix.tensors[f"average.{name}"])
                moments = {k: prefix.tensors.get(f"adamw.{k}.{name}") for k in ("step", "exp_avg", "exp_avg_sq")}
                # A parameter that the output does not depend on (an unused pooler) never had a gradient, nor a state.
                self.optimizer.state[parameter] = {k: v.to(self.where).clone() for k, v in moments.items() if v is not None}
                if not self.optimizer.state[parameter]:
                    del self.optimizer.state[parameter]
        self.random = [prefix.tensors[f"random.{i}"] for i in range(len(self.random))]
        _set_random_state(self.random, self.where)


@contextlib.contextmanager
def _faults_of_the_model() -> Iterator[None]:
    """The one boundary for what torch, transformers and PEFT raise out of a pass through a model.

    Raises:
        Infeasible: It is a fault of this model with this method and these inputs.
        EnvironmentFault: The device failed: nothing more can be done on it in this process.
        Exception: Out of memory, or an error of our own code, which is a bug.
    """
    try:
        yield
    except (WorkbenchError, Infeasible):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if is_out_of_memory(error) or _is_ours(error):
            raise
        if "CUDA error" in text or type(error).__name__ == "AcceleratorError":
            raise EnvironmentFault(f"the GPU failed: {text} Look at it with nvidia-smi, then start again.") from error
        raise Infeasible("fault", f"{type(error).__name__} out of the model: {text}") from error


def _is_ours(error: BaseException) -> bool:
    """Whether the innermost line that raised it is of this package."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    here = Path(__file__).parents[1]
    # The line of the boundary itself is no more than the call of something that Python could not even enter.
    own = "" if traceback is None else traceback.tb_frame.f_code.co_filename
    return Path(own).is_relative_to(here) and own != __file__


def _random_state(where: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(where)] if where.type == "cuda" else [])


def _set_random_state(state: Sequence[torch.Tensor], where: torch.device) -> None:
    torch.set_rng_state(state[0])
    if where.type == "cuda":
        torch.cuda.set_rng_state(state[1], where)
