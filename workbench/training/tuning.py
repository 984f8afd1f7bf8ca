"""A model being tuned: its steps, its evaluation, and the state in which it can be left and taken up."""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import flops, methods
from workbench.data import fingerprints, models
from workbench.errors import EnvironmentFault, Infeasible, UsageError, WorkbenchError, is_out_of_memory
from workbench.formulations import Example, Formulation, Rows, Shots
from workbench.objectives import Answers, Read
from workbench.study import Recipe
from workbench.training import memory
from workbench.training.batches import evaluation_batches, micro_batches, one_batch, padded_tokens, step_examples, widest
from workbench.training.features import PIECE, Features
from workbench.training.resume_state import ResumeState
from workbench.usage import Usage, Work, total

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


@dataclass(frozen=True)
class Questions:
    """Rows by which a model is graded.

    Attributes:
        examples: What the rows are made of.
        labelled: With their answers, for the loss.
        asked: Without them; the very same where a prediction is read off the pass of the loss.
    """

    examples: Sequence[Example]
    labelled: Rows
    asked: Rows


def questions(formulation: Formulation, examples: Sequence[Example], processor: Any, shots: Shots = ()) -> Questions:
    """Encode what a model is graded by, each question behind its examples with their answers."""
    labelled = formulation.encode(examples, processor, shots=shots)
    if isinstance(formulation.inference(processor), Read):
        return Questions(examples, labelled, labelled)
    return Questions(examples, labelled, formulation.encode(examples, processor, answers=False, shots=shots))


class Tuning:
    """A model being tuned: parameters, optimiser and averages, all of it in one place so that it can be left and taken up."""

    def __init__(self, recipe: Recipe, where: torch.device, resume: ResumeState | None) -> None:
        self.recipe, self.where = recipe, where
        torch.manual_seed(recipe.seed)
        self.formulation = recipe.formulation
        self.processor = models.processor(recipe.model)
        self.objective, self.inference = self.formulation.objective, self.formulation.inference(self.processor)
        auto_class = self.formulation.auto_class
        base = models.build(recipe.model, auto_class, seed=recipe.seed, weights=recipe.weights, **self.formulation.settings)
        head = methods.head_names(recipe.method, base)
        model = methods.apply(recipe.method, base, auto_class=auto_class)
        self.lesson = methods.lesson(recipe.method, self.objective)
        self.model = model.to(where)
        self.body = methods.body(self.model)
        self._learn()
        self.parameters = {methods.plain_name(name): p for name, p in self.model.named_parameters() if p.requires_grad}
        self.of_head = [name in head for name in self.parameters]
        self.optimizer = self.make_optimizer() if self.parameters else None
        self.average = [p.detach().clone() for p in self.parameters.values()] if recipe.averaging is not None else []
        self.cut, self.fitted = memory.Cut(), False
        self.step = self.tokens = 0
        self.work = Work()  # trained and evaluated by this object, nothing of what it resumes
        self.shape = flops.shape(self.model)
        half = recipe.precision == "bfloat16" or recipe.weights != "float32"  # products with such weights are of that precision
        bfloat16 = half or (recipe.precision == "auto" and where.type == "cuda" and torch.cuda.is_bf16_supported())
        self.autocast = torch.autocast(where.type, torch.bfloat16, enabled=bfloat16)
        self.features = self._features(auto_class, bfloat16=bfloat16)
        torch.manual_seed(recipe.seed + 1)  # dropout's stream does not depend on how many numbers the wrapping drew
        self.random = _random_state(where)
        if resume:
            self._load(resume)

    def _features(self, auto_class: str, *, bfloat16: bool) -> Features | None:
        if self.body is None:
            return None
        of = self.recipe.model, fingerprints.model(self.recipe.model), self.recipe.weights, auto_class, bfloat16, str(self.where)

        def forward(inputs: Mapping[str, Any]) -> Any:
            self.model.eval()
            try:
                with self.autocast, _faults_of_the_model():
                    return self.objective.forward(self.model, inputs)
            finally:
                self._learn()

        return Features(self.body, of, forward, lambda lengths, padded: self._work(lengths, padded, 0, flops.forward))

    def _learn(self) -> None:
        """Training mode for what learns: of a body that does not nothing is dropped out."""
        self.model.train()
        if self.body is not None:
            self.body.eval()

    def prepare(
        self, rows: Rows, count: int, window: Callable[[], contextlib.AbstractContextManager[Any]], known: int = 0
    ) -> Usage:
        """Have the output of what does not learn at hand for the first rows. Nothing is done where all learns.

        Args:
            rows: The rows.
            count: How many of them, from the first.
            window: Opens a window of a meter.
            known: How many were prepared by the same run before.

        Returns:
            What it takes for those that were not, whenever it was done.
        """
        if self.features is None:
            return Usage()
        used, done = self.features.prepare(rows, count, self.where, window)
        self.work = self.work + done
        return total(used[-(-known // PIECE) :])

    def _given(self, rows: Rows, chosen: np.ndarray) -> contextlib.AbstractContextManager[bool]:
        return contextlib.nullcontext(False) if self.features is None else self.features.given(rows, chosen)

    @property
    def rate(self) -> float:
        """The peak learning rate; 0 where nothing learns."""
        return float(self.recipe.method.learning_rate or 0.0)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW in one fused kernel: 16 ms a step against 152 ms of a Python loop over the parameters of minilm-l6."""
        groups: list[dict[str, Any]] = []
        for of_head, rate in ((False, self.rate), (True, float(self.recipe.method.head_learning_rate or self.rate))):
            chosen = [p for p, is_of_head in zip(self.parameters.values(), self.of_head, strict=True) if is_of_head is of_head]
            groups += [{"params": chosen, "peak": rate}] if chosen else []
        return torch.optim.AdamW(groups, lr=self.rate, weight_decay=self.recipe.weight_decay, fused=True)

    def warm_up(self) -> float:
        """Share of the peak learning rates at the step at hand (`self.step`, from 1): it rises linearly, then is 1.

        It does not know how long the run is.
        """
        return min(1.0, self.step / (self.recipe.warmup_steps + 1))

    def run(self, rows: Rows, target: int, examples: int, progress: Progress) -> None:
        """Optimiser steps up to `target`. Raises Infeasible when the loss is no longer finite, or the model fails."""
        first, last = (
            np.searchsorted(rows.example, np.arange(examples)),
            np.searchsorted(rows.example, np.arange(examples), "right"),
        )
        recipe = self.recipe
        if self.step < target:
            self.fit(rows, last - first)
        while self.step < target:
            chosen = step_examples(self.step, recipe.batch_size, examples, getattr(recipe.task, "seed", 0))
            total, done = self.make_step(rows, np.concatenate([np.arange(first[i], last[i]) for i in chosen]), len(chosen))
            progress.work = progress.work + done
            progress.labels = min(examples, self.step * recipe.batch_size)
            if (self.step % FINITE_CHECK_STEPS == 0 or self.step == target) and not math.isfinite(value := float(total)):
                raise Infeasible("diverged", f"the training loss is {value} at step {self.step}")
        self.random = _random_state(self.where)

    def make_step(self, rows: Rows, batch: np.ndarray, examples: int) -> tuple[torch.Tensor, Work]:
        """One optimiser step on some rows, which are of so many examples; its loss, and what it was.

        Raises:
            Infeasible: The model fails.
        """
        recipe, parameters = self.recipe, list(self.parameters.values())
        total, padded = self._gradient(rows, batch)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        self.step += 1
        lengths = rows.lengths[batch].tolist()
        self.tokens += sum(lengths)
        formula = functools.partial(flops.training, recompute=self.cut.recompute)
        done = self._work(lengths, padded, examples, formula, above=self._at_hand(rows, batch)) + Work(steps=1)
        self.work = self.work + done
        for group in self.optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = group["peak"] * self.warm_up()
        self.optimizer.step()  # type: ignore[union-attr]
        self.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        if recipe.averaging is not None:
            weight = (recipe.averaging + 1) / (self.step + recipe.averaging)
            torch._foreach_lerp_(self.average, [p.detach() for p in parameters], weight)
        return total, done

    def _gradient(self, rows: Rows, batch: np.ndarray) -> tuple[torch.Tensor, int]:
        """Put the gradient of a step in its place; its loss and padded tokens. Where memory does not suffice, in smaller pieces."""
        random = _random_state(self.where)
        while True:
            with _Shortage() as shortage:
                return self._pieces(rows, batch)
            if not self._cut_smaller(rows, batch):
                raise shortage.error
            self.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
            if self.where.type == "cuda":
                torch.cuda.empty_cache()
            _set_random_state(random, self.where)

    def _pieces(self, rows: Rows, batch: np.ndarray) -> tuple[torch.Tensor, int]:
        total, padded = torch.zeros((), device=self.where), 0
        items = max(1, int(rows.items[batch].sum()))
        bound = {} if self.cut.most is None else {"most": self.cut.most}
        cut = one_batch(rows, batch, self.where) if self.lesson.together else micro_batches(rows, batch, self.where, **bound)
        for chosen, inputs in cut:
            padded += padded_tokens(rows, chosen)
            with self.autocast, _faults_of_the_model(), self._given(rows, chosen):
                output = self.lesson.forward(self.model, inputs)
            # Summed and divided by the target items of the whole step: the gradient is that of one padded batch.
            loss = self.lesson.loss(output, inputs) / items
            with _faults_of_the_model():
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total, padded

    def _cut_smaller(self, rows: Rows, batch: np.ndarray) -> bool:
        """Halve the widest micro-batch; of one row have the layers computed twice. Whether there was anything left to do."""
        count, tokens = widest(rows.lengths[batch].tolist(), self.where.type, self.cut.most)
        if count > 1 and not self._whole(rows):
            self.cut = self.cut._replace(most=(count + 1) // 2 * tokens)
            return True
        if self.cut.recompute or not memory.recompute(self.model):
            return False
        self.cut = self.cut._replace(recompute=True)
        return True

    def fit(self, rows: Rows, examples: Sequence[int] | np.ndarray) -> None:
        """Cut steps so that they fit the memory that is free, as far as that can be told beforehand; once.

        Args:
            rows: What is trained on.
            examples: How many rows each example has.
        """
        if self.fitted or not len(rows):
            return
        self.fitted = True
        most = int(np.sort(examples)[-self.recipe.batch_size :].sum())
        longest = np.sort(rows.lengths)[-most:]
        count, tokens = (len(longest), int(longest[-1])) if self._whole(rows) else widest(longest.tolist(), self.where.type)
        bare: list[Any] = []

        def counted(some: int) -> int | None:
            try:
                model = bare[0] if bare else self._bare()
            except UsageError:  # PEFT's methods that look at numbers, of which the meta device has none
                return None
            bare[:] = [model]
            return memory.saved_bytes(model, self.lesson, rows, (some, tokens))

        free = memory.room(self.where, sum(p.numel() for p in self.parameters.values()))
        config = flops.unwrapped(self.model).config
        found = memory.cut(count, tokens, free, config, counted, whole=self._whole(rows))
        self.cut = found._replace(recompute=found.recompute and memory.recompute(self.model))

    def _whole(self, rows: Rows) -> bool:
        """Whether a step of these rows must not be cut apart."""
        return rows.together or self.lesson.together

    def _bare(self) -> torch.nn.Module:
        """The tuned model without a number."""
        recipe, formulation = self.recipe, self.formulation
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            base = models.build(recipe.model, formulation.auto_class, device="meta", **formulation.settings)
            return methods.apply(recipe.method, base, auto_class=formulation.auto_class)

    def _at_hand(self, rows: Rows, chosen: np.ndarray) -> bool:
        return self.features is not None and self.features.holds(rows, chosen)

    def _work(
        self, lengths: Sequence[int], padded: int, examples: int, formula: Callable[..., float], *, above: bool = False
    ) -> Work:
        """What rows of these lengths were, by the formula of a forward pass or of training; `above` what does not learn alone."""
        tokens = sum(lengths)
        if self.shape is None:
            return Work(0, examples, tokens, padded, None)
        shape = flops.above(self.shape) if above else self.shape
        return Work(0, examples, tokens, padded, formula(shape, lengths), flops.FORMULA)

    @torch.no_grad()
    def fit_head(self, rows: Rows, examples: int) -> None:
        """Fit what of the model is fitted at once, on the rows of the first examples, as the averaged weights see them."""
        fit, count = getattr(self.model, "fit", None), int(np.searchsorted(rows.example, examples))
        if fit is None or not count:
            return
        found: list[Any] = [None] * count
        padded = 0
        with self._averaged_weights():
            for first in range(0, count, PIECE):
                for chosen, inputs in micro_batches(rows, np.arange(first, min(first + PIECE, count)), self.where):
                    padded += padded_tokens(rows, chosen)
                    with self.autocast, _faults_of_the_model(), self._given(rows, chosen):
                        vectors = self.objective.forward(self.model, inputs)["embeddings"]
                    for row, vector in zip(chosen, vectors, strict=True):
                        found[row] = vector
        above = self._at_hand(rows, np.arange(count))
        self.work = self.work + self._work(rows.lengths[:count].tolist(), padded, 0, flops.forward, above=above)
        labels = np.stack([rows.columns["labels"][i] for i in range(count)])
        fit(torch.stack(found), torch.as_tensor(labels, device=self.where))

    @torch.inference_mode()
    def evaluate(
        self, dev: Questions, clock: Callable[[], float], beside: float = 0.0
    ) -> tuple[dict[str, float], list[Any], float]:
        """Scores and predictions of the averaged weights on the dev set, and predictions per second.

        Args:
            dev: What they are graded by.
            clock: Seconds.
            beside: Seconds that the predictions take beside what is done here.

        Raises:
            Infeasible: The loss is not finite.
        """
        began = clock()
        loss, predictions, work = self._predict(dev)
        # What is searched is embedded once, not for each prediction.
        shared = int(dev.asked.lengths[np.searchsorted(dev.asked.example, len(dev.examples)) :].sum())
        rate = len(dev.examples) / max((clock() - began + beside) * (1 - shared / max(1, work.tokens)), 1e-9)
        self.work = self.work + work
        return self.recipe.task.grade(dev.examples, predictions) | {"dev_loss": loss}, predictions, rate

    @torch.inference_mode()
    def test(self, of: Questions) -> dict[str, float]:
        """Scores of the averaged weights on the held-out test split, and `test_loss`. Raises Infeasible as `evaluate` does."""
        loss, predictions, _ = self._predict(of)
        return self.recipe.task.grade(of.examples, predictions) | {"test_loss": loss}

    def _predict(self, of: Questions) -> tuple[float, list[Any], Work]:
        """Mean loss of the target items, predictions of the examples, and what that was."""
        outputs: list[Any] = [None] * len(of.asked)
        losses, padded = torch.zeros((), device=self.where), 0
        read = self.inference.read if isinstance(self.inference, Read) else None
        parts: list[tuple[Any, Any]] = []  # of rows that are compared with each other, and are not one batch here
        with self._averaged_weights():
            for chosen, inputs in evaluation_batches(of.labelled, self.where):
                padded += padded_tokens(of.labelled, chosen)
                with self.autocast, _faults_of_the_model(), self._given(of.labelled, chosen):
                    output = self.objective.forward(self.model, inputs)
                if of.labelled.together:
                    parts.append((output, inputs["labels"]))
                else:
                    losses += self.objective.loss(output, inputs)
                for row, value in zip(chosen, read(output, inputs) if read else (), strict=bool(read)):
                    outputs[row] = value
            if parts:
                all_outputs, all_labels = (torch.cat(each) for each in zip(*parts, strict=True))
                losses += self.objective.loss(all_outputs, {"labels": all_labels})
            above = self._at_hand(of.labelled, np.arange(len(of.labelled)))
            work = self._work(of.labelled.lengths.tolist(), padded, len(of.examples), flops.forward, above=above)
            for chosen, inputs in evaluation_batches(of.asked, self.where) if read is None else ():
                work += self._ask(of.asked, chosen, inputs, outputs)
        loss = float(losses) / max(1, int(of.labelled.items.sum()))
        if not math.isfinite(loss):
            raise Infeasible("diverged", f"the loss of the predictions is {loss} at step {self.step}")
        return loss, self.formulation.decode(of.examples, of.asked, outputs, self.processor), work

    def _ask(self, rows: Rows, chosen: np.ndarray, inputs: Mapping[str, Any], outputs: list[Any]) -> Work:
        """Ask a batch of rows in passes of their own. What is written is work as what is read is."""
        with self.autocast, _faults_of_the_model(), self._given(rows, chosen):
            found = self.inference(self.model, inputs)
        for row, value in zip(chosen, found, strict=True):
            outputs[row] = value
        passes = found.passes if isinstance(found, Answers) else None
        if passes is not None:
            return self._work(passes.tokens, passes.padded, 0, functools.partial(flops.forward, past=passes.past))
        written = [np.size(value) if self.inference.writes else 0 for value in found]
        lengths = rows.lengths[chosen] + np.array(written)
        above = self._at_hand(rows, chosen)
        return self._work(lengths.tolist(), len(chosen) * int(lengths.max()), 0, flops.forward, above=above)

    @torch.inference_mode()
    def latency(self, of: Questions, clock: Callable[[], float]) -> float:
        """Seconds of one prediction alone, from its tokens on: the median of a few, the first not counted."""
        taken = []
        with self._averaged_weights():
            for i in range(min(SINGLE_PREDICTIONS, len(of.examples))):
                own = of.asked.of_example(i)
                began = clock()
                for _, inputs in evaluation_batches(own, self.where):
                    with self.autocast, _faults_of_the_model():
                        self.inference(self.model, inputs)
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
            self._learn()
            if current:
                torch._foreach_copy_(parameters, current)

    def averaged(self) -> dict[str, torch.Tensor]:
        """Copies of the tuned weights as evaluated, and of what was fitted, on the CPU."""
        values = self.average or list(self.parameters.values())
        found = dict(zip(self.parameters, values, strict=True)) | self._fitted()
        return {name: value.detach().cpu().clone() for name, value in found.items()}

    def _fitted(self) -> dict[str, torch.Tensor]:
        """The state of what is fitted at once, by name."""
        return {name: value for name, value in self.model.named_buffers() if name.startswith("head.")} if self.fits else {}

    @property
    def fits(self) -> bool:
        """Whether a part of the model is fitted at once."""
        return hasattr(self.model, "fit")

    def adopt(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Take weights as `averaged` gives them, to be evaluated and not trained on; False where they are of another recipe."""
        fitted = {name: value for name, value in weights.items() if name in self._fitted()}
        learned = {name: value for name, value in weights.items() if name not in fitted}
        if fitted.keys() != self._fitted().keys():
            return False
        if {name: w.shape for name, w in learned.items()} != {name: p.shape for name, p in self.parameters.items()}:
            return False
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(learned[name])
        if fitted:
            self.model.head.adopt({name.removeprefix("head."): value for name, value in fitted.items()})  # type: ignore[operator,union-attr]
        self.average = []  # the weights are averages already
        return True

    def restore_random(self) -> None:
        """Put the random state back: whoever took a checkpoint may have drawn numbers in the meantime."""
        _set_random_state(self.random, self.where)

    def prefix(self, recipe: Recipe, usage: Mapping[str, Usage]) -> ResumeState:
        """The state to continue from, copied to the CPU."""
        tensors = {f"random.{i}": state for i, state in enumerate(self.random)}
        for i, (name, parameter) in enumerate(self.parameters.items()):
            tensors[f"weight.{name}"] = parameter.detach().cpu().clone()
            if self.average:
                tensors[f"average.{name}"] = self.average[i].cpu().clone()
            for key, value in self.optimizer.state[parameter].items():  # type: ignore[union-attr]
                tensors[f"adamw.{key}.{name}"] = value.detach().cpu().clone()
        return ResumeState(recipe.run_id, float(recipe.epochs), self.step, self.tokens, usage, tensors)

    def _load(self, prefix: ResumeState) -> None:
        self.step, self.tokens = prefix.step, prefix.tokens
        with torch.no_grad():
            for i, (name, parameter) in enumerate(self.parameters.items()):
                parameter.copy_(prefix.tensors[f"weight.{name}"])
                if self.average:
                    self.average[i].copy_(prefix.tensors[f"average.{name}"])
                moments = {k: prefix.tensors.get(f"adamw.{k}.{name}") for k in ("step", "exp_avg", "exp_avg_sq")}
                # A parameter that the output does not depend on (an unused pooler) never had a gradient, nor a state.
                state = {k: v.to(self.where).clone() for k, v in moments.items() if v is not None}
                if state:
                    self.optimizer.state[parameter] = state  # type: ignore[union-attr]
        self.random = [prefix.tensors[f"random.{i}"] for i in range(len(self.random))]
        _set_random_state(self.random, self.where)


class _Shortage(contextlib.AbstractContextManager["_Shortage"]):
    """Catches a lack of memory and keeps the error alone: its frames hold the tensors that took it."""

    error: BaseException

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is None or not is_out_of_memory(error):
            return False
        self.error = error.with_traceback(None)
        return True


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
