"""A model being tuned: its steps, its evaluation, and the state in which it can be left and
resumed.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workbench import flops, methods
from workbench.data import bases, models
from workbench.errors import Infeasible, UsageError
from workbench.formulations import Example, Rows
from workbench.objectives import packing
from workbench.result import label_order
from workbench.study import Recipe
from workbench.training import anchoring, combining, memory, sharding
from workbench.training.batches import micro_batches, one_batch, padded_tokens, step_examples, widest
from workbench.training.faults import Shortage, faults_of_the_model
from workbench.training.features import PIECE
from workbench.training.passes import Passes
from workbench.training.progress import Progress
from workbench.training.resume_state import ResumeState, random_state, set_random_state
from workbench.usage import Usage, Work

FINITE_CHECK_STEPS = 16
"""Steps between two looks at the loss. Not every step, since reading a number from a GPU waits for
it."""


class Tuning(Passes):
    """A model being tuned. Parameters, optimiser and averages are in one place, so that it can be
    left and resumed.
    """

    def __init__(self, recipe: Recipe, where: torch.device, resume: ResumeState | None, window: bases.Window | None = None) -> None:
        super().__init__(recipe, where, window)
        self.order = label_order(recipe.to_json())
        self.parameters = {methods.plain_name(name): p for name, p in self.model.named_parameters() if p.requires_grad}
        self.of_head = [name in self.head for name in self.parameters]
        self.optimizer = self.make_optimizer() if self.parameters else None
        self.average = [p.detach().clone() for p in self.parameters.values()] if recipe.averaging is not None else []
        self.cut, self.fitted = memory.Cut(), False
        self.compiled: contextlib.AbstractContextManager[object] = contextlib.nullcontext()  # `compiling.Compiled` where that pays
        self.tokens = 0
        torch.manual_seed(recipe.seed + 1)  # dropout's stream does not depend on how many numbers the wrapping drew
        self.random = random_state(where)
        self.anchors = anchoring.of(self)
        self.beside, self.merged = combining.of(recipe), False
        if resume:
            self._load(resume)

    @property
    def rate(self) -> float:
        """The peak learning rate; 0 where nothing learns."""
        return float(self.recipe.method.learning_rate or 0.0)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW in one fused kernel: 16 ms a step against 152 ms of a Python loop over the
        parameters of minilm-l6.
        """
        groups: list[dict[str, Any]] = []
        for of_head, rate in ((False, self.rate), (True, float(self.recipe.method.head_learning_rate or self.rate))):
            chosen = [p for p, is_of_head in zip(self.parameters.values(), self.of_head, strict=True) if is_of_head is of_head]
            groups += [{"params": chosen, "peak": rate}] if chosen else []
        return torch.optim.AdamW(groups, lr=self.rate, weight_decay=self.recipe.weight_decay, fused=True)

    def warm_up(self) -> float:
        """Share of the peak learning rates at the current step (`self.step`, from 1): it rises
        linearly, then stays at 1.

        It does not depend on the length of the run, so that a longer run passes through the
        checkpoints of a shorter one.
        """
        return min(1.0, self.step / (self.recipe.warmup_steps + 1))

    def run(self, rows: Rows, target: int, examples: int, progress: Progress) -> None:
        """Optimiser steps up to `target`, or until somebody asks to leave. Raises Infeasible when the loss is no longer finite,
        or the model fails.
        """
        with self.cast_once():
            self._run(rows, target, examples, progress)

    def _run(self, rows: Rows, target: int, examples: int, progress: Progress) -> None:
        # Rows are in the order of their examples: those of example i are first[i] to last[i] - 1.
        first, last = (
            np.searchsorted(rows.example, np.arange(examples)),
            np.searchsorted(rows.example, np.arange(examples), "right"),
        )
        recipe = self.recipe
        if self.step < target:
            self.fit(rows, last - first)
        progress.stepping = True
        while self.step < target and not sharding.leaves(progress):
            # The order of examples belongs to the task: runs of several seeds read the same labels.
            chosen = step_examples(self.step, recipe.batch_size, examples, getattr(recipe.task, "seed", 0))
            total, done = self.make_step(rows, np.concatenate([np.arange(first[i], last[i]) for i in chosen]), len(chosen))
            progress.work = progress.work + done
            seen = min(examples, self.step * recipe.batch_size)
            progress.saw({self.order: progress.labels_of(seen)})
            # The last step is always looked at, as no checkpoint may be of a model that has
            # diverged.
            if (self.step % FINITE_CHECK_STEPS == 0 or self.step == target) and not math.isfinite(value := float(total)):
                raise Infeasible("diverged", f"the training loss is {value} at step {self.step}")
        progress.stepping = False
        self.random = sharding.agreed(random_state(self.where))

    def make_step(self, rows: Rows, batch: np.ndarray, examples: int) -> tuple[torch.Tensor, Work]:
        """One optimiser step.

        Args:
            rows: All rows.
            batch: Indices of the rows of this step.
            examples: How many examples these rows are of.

        Returns:
            The step's loss, a scalar on the device, and its work.

        Raises:
            Infeasible: The model fails.
        """
        recipe, parameters = self.recipe, list(self.parameters.values())
        total, padded = self.gradient(rows, batch)
        for anchor in self.anchors:
            anchor.pull()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        # Counted first: the warm-up and the average count steps from 1.
        self.step += 1
        lengths = rows.lengths[batch].tolist()
        self.tokens += sum(lengths)
        formula = functools.partial(flops.training, recompute=self.cut.recompute)
        done = self.work_of(lengths, padded, examples, formula, above=self.at_hand(rows, batch)) + Work(steps=1)
        self.work = self.work + done
        for group in self.optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = group["peak"] * self.warm_up()
        self.optimizer.step()  # type: ignore[union-attr]
        self.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        if recipe.averaging is not None:
            # Polynomial averaging (Shamir and Zhang 2013): the first step has weight 1, so the
            # initial weights have no part in the average.
            weight = (recipe.averaging + 1) / (self.step + recipe.averaging)
            average, now = ([sharding.local(p.detach()) for p in each] for each in (self.average, parameters))
            torch._foreach_lerp_(average, now, weight)
        return total, done

    def gradient(self, rows: Rows, batch: np.ndarray) -> tuple[torch.Tensor, int]:
        """Compute the gradient of a step, in smaller pieces where memory does not suffice. Returns
        its loss and padded tokens.
        """
        # A step that is made again has to drop out what the first attempt did, or a lack of memory
        # would change the result.
        random = random_state(self.where)
        while True:
            with Shortage() as shortage, self.compiled:
                return self._pieces(rows, batch)
            # Some pieces may have left their gradients before memory ran out; these are cleared
            # below.
            if sharding.count() > 1 or not self._cut_smaller(rows, batch):  # others may have had room, and would wait
                raise shortage.error
            self.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
            if self.where.type == "cuda":
                torch.cuda.empty_cache()
            set_random_state(random, self.where)

    def _pieces(self, rows: Rows, batch: np.ndarray) -> tuple[torch.Tensor, int]:
        total, padded = torch.zeros((), device=self.where), 0
        items = max(1, int(rows.items[batch].sum()))
        bound = {} if self.cut.most is None else {"most": self.cut.most}
        cut = (
            one_batch(rows, batch, self.where)
            if self.lesson.together
            else micro_batches(rows, batch, self.where, packed=self.packs, **bound)
        )
        shared = 1 if self._whole(rows) else sharding.count()  # all processes have rows that are compared with each other
        for chosen, own, inputs, weight in sharding.shares(cut, rows, self.where, shared):
            padded += padded_tokens(rows, chosen, packed=self.packs)
            with self.passing(rows, own):
                output = self.lesson.forward(self.model, inputs)
            # Summed and divided by the target items of the whole step: the gradient is that of one
            # padded batch.
            loss = self.lesson.loss(output, inputs) / items * weight
            with faults_of_the_model():
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return sharding.summed(total, shared), padded

    def _cut_smaller(self, rows: Rows, batch: np.ndarray) -> bool:
        """Halve the widest micro-batch; if it has a single row, recompute its layers. Returns
        whether anything was left to do.
        """
        count, tokens = widest(rows.lengths[batch].tolist(), self.where.type, self.cut.most, packed=self.packs)
        if count > 1 and not self._whole(rows):
            self.cut = self.cut._replace(most=(count + 1) // 2 * tokens)
            return True
        if self.cut.recompute or not self._recompute():
            return False
        self.cut = self.cut._replace(recompute=True)
        return True

    def _recompute(self) -> bool:
        """Have layers computed again on the way back. Returns whether that is possible."""
        found = memory.recompute(self.model)
        if found:
            self.layers = None  # they would be computed again when nothing says any more where rows are
        return found

    def fit(self, rows: Rows, examples: Sequence[int] | np.ndarray) -> None:
        """Cut steps so that they fit the free memory, as far as that can be known beforehand. Done
        once.

        Args:
            rows: What is trained on.
            examples: How many rows each example has.
        """
        if self.fitted or not len(rows):
            return
        self.fitted = True
        # The worst step that can be drawn: the examples with the most rows, and of all rows the
        # longest.
        most = int(np.sort(examples)[-self.recipe.batch_size :].sum())
        longest = np.sort(rows.lengths)[-most:]
        count, tokens = (
            (len(longest), int(longest[-1])) if self._whole(rows) else widest(longest.tolist(), self.where.type, packed=self.packs)
        )
        # Built at most once, and only where the quick bound of `memory.cut` does not settle the
        # matter.
        bare: list[Any] = []

        def counted(some: int) -> int | None:
            try:
                model = bare[0] if bare else self._bare()
            except UsageError:  # PEFT's methods that look at numbers, of which the meta device has none
                return None
            bare[:] = [model]
            return memory.saved_bytes(model, self.lesson, rows, (some, tokens))

        free = sharding.least(memory.room(self.where, sum(p.numel() for p in self.parameters.values())))
        config = flops.unwrapped(self.model).config
        found = memory.cut(count, tokens, free, config, counted, whole=self._whole(rows))
        self.cut = found._replace(recompute=found.recompute and self._recompute())

    def _whole(self, rows: Rows) -> bool:
        """Whether a step of these rows must not be cut apart."""
        return rows.together or self.lesson.together

    def _bare(self) -> torch.nn.Module:
        """The tuned model on the meta device, where parameters have shapes and no numbers."""
        recipe, formulation = self.recipe, self.formulation
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            base = models.build(recipe.architecture, formulation.auto_class, device="meta", **formulation.settings)
            return methods.apply(recipe.method, base, auto_class=formulation.auto_class)

    @torch.no_grad()
    def fit_head(self, rows: Rows, examples: int) -> None:
        """Fit the part of the model that is fitted at once, on the rows of the first examples, as
        the averaged weights see them.
        """
        fit, count = getattr(self.model, "fit", None), int(np.searchsorted(rows.example, examples))
        if fit is None or not count:
            return
        found: list[Any] = [None] * count
        padded = 0

        def vectors(chosen: np.ndarray, inputs: dict[str, Any]) -> torch.Tensor:
            with self.autocast, faults_of_the_model(), self.given(rows, chosen):
                made: torch.Tensor = self.objective.forward(self.model, inputs)["embeddings"]
            return made

        with self.averaged_weights():
            # The same pieces as in `Features`, so that vectors at hand and vectors computed now are
            # equal to the last bit.
            for first in range(0, count, PIECE):
                pieces = micro_batches(rows, np.arange(first, min(first + PIECE, count)), self.where)
                for chosen, made in self.halves.passed(rows, pieces, self.where, vectors):
                    padded += padded_tokens(rows, chosen)
                    for row, vector in zip(chosen, made, strict=True):
                        found[row] = vector
        above = self.at_hand(rows, np.arange(count))
        self.work = self.work + self.work_of(rows.lengths[:count].tolist(), padded, 0, flops.forward, above=above)
        labels = np.stack([rows.columns["labels"][i] for i in range(count)])
        fit(torch.stack(found), torch.as_tensor(labels, device=self.where))

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The averaged weights in the model's place, and evaluation mode, for a while."""
        parameters = [sharding.local(p.detach()) for p in self.parameters.values()]
        current = [p.clone() for p in parameters] if self.average else []
        if self.average:
            # Copied in place, as the optimiser and PEFT's wrappers hold these very tensors.
            torch._foreach_copy_(parameters, [*map(sharding.local, self.average)])
        try:
            with self.beside.graded(self), super().averaged_weights():
                yield
        finally:
            if current:
                torch._foreach_copy_(parameters, current)

    def batches(self, rows: Rows, examples: Sequence[Example], **how: bool) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        return self.beside.batches(self, rows, examples, **how)

    def swap(self, model: torch.nn.Module) -> None:
        """Take another model of the same architecture in the place of the one that there is."""
        self.model = model
        self.layers = None if self.layers is None else packing.layers_of(model)

    def averaged(self) -> dict[str, torch.Tensor]:
        """Copies on the CPU of all weights that are evaluated, but those that the model begins with."""
        return dict(self.beside.weights(self))

    def plain(self) -> torch.nn.Module:
        """The model as one of its architecture, once it has adopted weights; it is changed. Raises as `methods.merged`."""
        return self.model if self.merged else methods.merged(self.recipe.method, self.model)

    def take_merged(self, plain: torch.nn.Module, names: Collection[str]) -> None:
        """Go on as the plain model that this one was merged into, with these parameters in the place of the tuned ones."""
        self.swap(plain)
        self.parameters = {name: p for name, p in plain.named_parameters() if name in names}
        self.merged, self.shape = True, flops.shape(plain)

    def own_weights(self) -> dict[str, torch.Tensor]:
        """Copies on the CPU of the tuned weights as they are evaluated, and of what was fitted."""
        values = self.average or list(self.parameters.values())
        found = dict(zip(self.parameters, values, strict=True)) | self._fitted()
        return {name: sharding.whole(value.detach()).cpu().clone() for name, value in found.items()}

    def _fitted(self) -> dict[str, torch.Tensor]:
        """The state of what is fitted at once, by name."""
        return {name: value for name, value in self.model.named_buffers() if name.startswith("head.")} if self.fits else {}

    @property
    def fits(self) -> bool:
        """Whether a part of the model is fitted at once."""
        return hasattr(self.model, "fit")

    def adopt(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Take weights, as `averaged` gives them, for evaluation and not for further training.

        Returns:
            Whether they fit; False where they are those of another recipe.
        """
        return self.beside.adopt(self, weights)

    def adopt_own(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Do as `adopt` does, of weights that `own_weights` gave."""
        fitted = {name: value for name, value in weights.items() if name in self._fitted()}
        learned = {name: value for name, value in weights.items() if name not in fitted}
        if fitted.keys() != self._fitted().keys():
            return False
        if {name: w.shape for name, w in learned.items()} != {name: p.shape for name, p in self.parameters.items()}:
            return False
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(sharding.placed(learned[name], parameter))
        if fitted:
            self.model.head.adopt({name.removeprefix("head."): value for name, value in fitted.items()})  # type: ignore[operator,union-attr]
        self.average = []  # the adopted weights are averages already
        return True

    def restore_random(self) -> None:
        """Put the random state back: whoever took a checkpoint may have drawn numbers in the
        meantime.
        """
        set_random_state(self.random, self.where)

    def resume_state(self, recipe: Recipe, usage: Mapping[str, Usage]) -> ResumeState:
        """The state to continue from, copied to the CPU."""
        tensors = {f"random.{i}": state for i, state in enumerate(self.random)}
        for i, (name, parameter) in enumerate(self.parameters.items()):
            tensors[f"weight.{name}"] = sharding.whole(parameter.detach()).cpu().clone()
            if self.average:
                tensors[f"average.{name}"] = sharding.whole(self.average[i]).cpu().clone()
            for key, value in self.optimizer.state[parameter].items():  # type: ignore[union-attr]
                tensors[f"adamw.{key}.{name}"] = sharding.whole(value.detach()).cpu().clone()
        return ResumeState(recipe.run_id, float(recipe.epochs), self.step, self.tokens, usage, tensors)

    def _load(self, state: ResumeState) -> None:
        self.step, self.tokens = state.step, state.tokens
        with torch.no_grad():
            for i, (name, parameter) in enumerate(self.parameters.items()):
                parameter.copy_(sharding.placed(state.tensors[f"weight.{name}"], parameter))
                if self.average:
                    self.average[i].copy_(sharding.placed(state.tensors[f"average.{name}"], parameter))
                moments = {k: state.tensors.get(f"adamw.{k}.{name}") for k in ("step", "exp_avg", "exp_avg_sq")}
                # A parameter that the output does not depend on (an unused pooler) never had a gradient, nor a state.
                kept = {k: v.to(self.where).clone() for k, v in moments.items() if v is not None}
                kept = {k: sharding.placed(v, parameter) if v.shape == parameter.shape else v for k, v in kept.items()}
                if kept:
                    self.optimizer.state[parameter] = kept  # type: ignore[union-attr]
        self.random = [state.tensors[f"random.{i}"] for i in range(len(self.random))]
        set_random_state(self.random, self.where)
