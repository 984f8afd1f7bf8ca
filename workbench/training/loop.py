"""The one training loop: `train(recipe)` yields checkpoints, and knows nothing of studies, stores or prices.

Each checkpoint is the result of the same recipe with fewer epochs, because the schedule has no length: the learning rate
warms up over a fixed number of steps and is constant after them, and what is evaluated is a running average of the weights.
Closing the generator frees everything.

Of each phase (load, data, train, evaluate) a checkpoint tells two usages:

    cold   `Checkpoint.usage`: what the checkpoint takes a run that is alone, that finds nothing at
           hand and is evaluated once, at its end. It is the cost of a point.
    spent  `Checkpoint.spent`: what was really consumed since the checkpoint before. It is what a
           sweep pays.

They differ by what runs share (rows that were encoded, a base model that was read, outputs of a part
that does not learn: whoever finds them at hand has cold what making them took), by what was done
before a state was resumed, by the evaluations of earlier checkpoints, and by the measuring of latency.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from workbench import methods
from workbench.data import bases, models
from workbench.errors import Infeasible, UsageError, is_out_of_memory
from workbench.formulations import Example, Rows
from workbench.meter import Meter, Window
from workbench.result import UsagePart, merged_labels
from workbench.study import Recipe
from workbench.training import choosing, compiling, encoding, parent_store, parents, sharding
from workbench.training.batches import checkpoint_epochs, steps_for
from workbench.training.progress import Progress
from workbench.training.resume_state import ResumeState
from workbench.training.tuning import Tuning
from workbench.usage import Usage, Work, add_phases, total


class Windows(Protocol):
    """What opens windows of time: a meter, or one tenant's part of it."""

    def window(self) -> Window:
        """Open a window now."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model that could be deployed: what `recipe` gives.

    Attributes:
        recipe: The recipe with this checkpoint's `epochs`.
        scores: The task's scores on the dev set, and `dev_loss`; without that where nothing is learned and it would take a pass of
            its own.
        labels: Distinct labelled examples whose labels reached the loss, its parents' included.
        bought: Of each label that was paid for its example's place in the task's pool; empty where a task's own order says
            which they are. Some may not have reached the loss yet: others were chosen by them.
        step: Optimiser steps done.
        next_step: Optimiser steps done by the next checkpoint; None for the last one.
        next_labels: `labels` then.
        examples: Training examples processed, repeats included.
        tokens: Training tokens processed, padding excluded.
        trainable_parameters: How many numbers are tuned; of models with weights of their own for each task, for all of these.
        usage: Cold usage by phase: its parents in full, load, data, training to here and this evaluation alone.
        spent: What was really consumed since the checkpoint before, by phase.
        serving: `latency_seconds`, the median of one prediction alone (measured once a run), and `predictions_per_second`
            of the evaluation, which predicts in batches; scoring is in neither.
        predictions: The predictions on the dev set, one per example.
        resume_state: Gives the state to continue from. Call it before the generator goes on.
        weights: Gives the tuned weights as evaluated, by name. Call it before the generator goes on.
        labels_by_order: `labels` by the order in which they are bought (`workbench.result.label_order`): one, unless parents were
            made with others.
        test: Gives the scores on the held-out test split and `test_loss`; empty where nothing is held out. No search may read
            them. Call it before the generator goes on.
        elsewhere: What of `usage` was consumed on other machines.
        compiling: Whether layers were compiled, and why (`compiling.Verdict`), as plain data; empty where that was no question.
    """

    recipe: Recipe
    scores: Mapping[str, float]
    labels: int
    bought: Sequence[int]
    step: int
    next_step: int | None
    next_labels: int
    examples: int
    tokens: int
    trainable_parameters: int
    usage: Mapping[str, Usage]
    spent: Mapping[str, Usage]
    serving: Mapping[str, float]
    predictions: Sequence[Any]
    resume_state: Callable[[], ResumeState]
    weights: Callable[[], dict[str, torch.Tensor]]
    test: Callable[[], dict[str, float]]
    labels_by_order: Mapping[str, int]
    elsewhere: Sequence[UsagePart] = ()
    compiling: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def train(
    recipe: Recipe,
    resume: ResumeState | None = None,
    *,
    meter: Windows | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Checkpoint]:
    """Tune a model as the recipe says and yield its checkpoints, the last one being the recipe's own.

    Args:
        recipe: A recipe without holes.
        resume: State of a shorter recipe of the same run; on a CPU the rest is then bit for bit the same, where `precision="auto"`
            means the same (`workbench.training.precision`).
        meter: Measures the phases; a new one when not given.
        progress: Is kept up to date at every step.
        clock: Seconds, for the speed of predictions.

    Raises:
        Infeasible: Out of memory, a loss that is not finite, or a model that fails with these inputs. The memory is freed.
        UsageError: The model cannot be loaded, or the method not be applied to it.
    """
    own = None if meter else Meter()
    try:
        yield from _train(recipe, resume, meter or own, progress or Progress(), clock)  # type: ignore[arg-type]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        bases.forget()  # what comes next may need the memory
        raise Infeasible("out_of_memory", str(error).rsplit("] ", 1)[-1].split(". ")[0]) from None
    finally:
        if own:
            own.close()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def tuned_model(recipe: Recipe, weights: str | Path) -> torch.nn.Module:
    """The model that a recipe gave, from the weights that a sweep keeps of its front's members; in evaluation mode, on the CPU.

    What it reads is made by `workbench.data.models.processor`: its tokeniser, or its processor of images or sound. The labels of a
    model that tells classes are in its configuration, called as in the data:

        >>> from workbench.data import models
        >>> model, tokenizer = tuned_model(recipe, weights), models.processor(recipe.architecture)
        >>> inputs = tokenizer("Where is my parcel?", truncation=True, max_length=recipe.task.max_length, return_tensors="pt")
        >>> model.config.id2label[int(model(**inputs).logits.argmax())]
        'delivery'

    For the prompts and answers of a model that writes, `recipe.formulation` has `encode`, `inference` and `decode`.

    Args:
        recipe: What was trained; `Study.resolve` makes it from the settings that `workbench run ID --json` shows.
        weights: `.workbench/STUDY/weights/RECIPE_ID.safetensors`.

    Raises:
        UsageError: The file does not belong to such a recipe.
    """
    return tuned(recipe, weights, torch.device("cpu")).model.eval()


def asked_model(recipe: Recipe) -> torch.nn.Module:
    """The model of a recipe that trains nothing, as `tuned_model` gives one that was tuned."""
    return tuned(recipe, None, torch.device("cpu")).model.eval()


def test(recipe: Recipe, weights: str | Path | None) -> dict[str, float]:
    """Scores on the held-out test split, and `test_loss`, of weights as `tuned_model` takes them; empty where nothing is held out.

    None: of a recipe that trains nothing.

    Raises:
        UsageError: The file does not belong to such a recipe.
    """
    return encoding.test(tuned(recipe, weights, device()))


def prepare(recipe: Recipe) -> None:
    """Have the model at hand that a recipe starts from, where it is made by another. Raises as `train`."""
    warm_up(recipe)
    parents.prepare(recipe, train, None, Progress())


def predict(recipe: Recipe, weights: str | Path | None, examples: Sequence[Example]) -> list[Any]:
    """Predictions for examples, by weights as `test` takes them. Their labels are not looked at, but have to be valid ones.

    Raises:
        UsageError: The file does not belong to such a recipe.
    """
    return tuned(recipe, weights, device()).answer(examples)


def tuned(recipe: Recipe, weights: str | Path | None, where: torch.device) -> Tuning:
    """A model with weights from a file, as `test` takes them: to be evaluated, not to be trained on. Raises as `test`."""
    if recipe.task.combines:  # such weights hold all that was learned
        recipe = dataclasses.replace(recipe, task=recipe.task.settled())
    parents.prepare(recipe, train, None, Progress())
    tuning = Tuning(recipe, where, None)
    if weights is None:
        return tuning
    from safetensors.torch import load_file

    kept = {methods.plain_name(name): w for name, w in load_file(weights).items()}
    if not tuning.adopt(kept):
        raise UsageError(f"{weights} holds the weights of another recipe than {recipe.id}: its names or shapes differ.")
    return tuning


def device() -> torch.device:
    """The device that trains: the first visible GPU, else the CPU; of several processes that share a model each has its own."""
    return (
        torch.device("cuda", torch.cuda.current_device() if sharding.count() > 1 else 0)
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def warm_up(recipe: Recipe) -> None:
    """Have at hand what is fetched, built or imported once per machine or process, so that no run pays for it."""
    methods.warm_up(recipe.method)
    models.processor(recipe.architecture)
    for task in (recipe.task, *recipe.also):
        task.provision()
    formulation, before = recipe.formulation, (recipe.parent, recipe.begun_with)
    if missing := [each for each in before if each is not None and not parent_store.is_at_hand(each)]:
        warm_up(missing[0])
    elif bases.is_kept(parent_store.place(recipe), formulation.auto_class, recipe.weights, **formulation.settings):
        return
    models.build(recipe.architecture, formulation.auto_class, device="meta", **formulation.settings)


class _Phases:
    """What the phases of one run really consume.

    Args:
        meter: Measures them.
        where: The device that trains.

    Attributes:
        spent: What was consumed since it was last cleared, by phase.
    """

    def __init__(self, meter: Windows, where: torch.device) -> None:
        self._meter, self._where = meter, where
        self.spent: dict[str, Usage] = {}

    @contextlib.contextmanager
    def phase(self, name: str, tuning: Tuning | None = None) -> Iterator[list[Usage]]:
        """Measure a block as part of a phase.

        Args:
            name: The phase.
            tuning: Whose work is counted in it; None where nothing is trained or evaluated.

        Yields:
            An empty list, which holds what the block took once it is over.
        """
        before = Work() if tuning is None else tuning.work
        used: list[Usage] = []
        with self._meter.window() as window:
            yield used
            if self._where.type == "cuda":
                torch.cuda.synchronize()
        done = Work() if tuning is None else tuning.work - before
        used.append(window.usage.doing(done))
        self.spent[name] = self.spent.get(name, Usage()) + used[0]

    def features(self, name: str, tuning: Tuning, rows: Sequence[Rows], counts: Sequence[int], prepared: int = 0) -> Usage:
        """Have at hand what the part of a model that does not learn gives for rows, as part of a phase.

        Args:
            name: The phase.
            tuning: The model. Where all of it learns nothing is done.
            rows: The rows, in one set or several.
            counts: How many of each set, from the first.
            prepared: How many of them the run itself had at hand before.

        Returns:
            What that takes a run that is alone (cold): all of it was computed for this run, whoever
            really did it.
        """
        if tuning.features is None:
            return Usage()
        with self.phase(name, tuning):
            window = self._meter.window
            return total(tuning.prepare(each, count, window, prepared) for each, count in zip(rows, counts, strict=True))


def _train(
    recipe: Recipe, resume: ResumeState | None, meter: Windows, progress: Progress, clock: Callable[[], float]
) -> Iterator[Checkpoint]:
    warm_up(recipe)
    where = device()
    phases = _Phases(meter, where)
    cold: dict[str, Usage] = dict(resume.usage) if resume else {}
    elsewhere = tuple(resume.elsewhere) if resume else ()
    serving: dict[str, float] = {}

    with phases.phase("pretrain") if recipe.parents else contextlib.nullcontext():
        started = parents.prepare(recipe, train, meter, progress)
    if started is not None and recipe.parents:
        phases.spent["pretrain"] = phases.spent["pretrain"].doing(started.work)
        if "pretrain" not in cold:
            cold["pretrain"], elsewhere = started.usage, (*elsewhere, *started.elsewhere)
    with phases.phase("data"):
        lot = choosing.lot(recipe, where, meter.window)
        train_rows, dev, encoded = encoding.encode(recipe, lot.examples, meter.window)
    with phases.phase("load"):
        tuning = Tuning(recipe, where, resume, meter.window)
    cold.setdefault("data", lot.usage + encoded)
    loading = phases.spent["load"]
    if tuning.trial_took.seconds:  # spent to guard what is computed, and no part of what a model costs
        loading = loading - tuning.trial_took
    if tuning.base_at_hand:  # each run pays for its model as if it had read it
        loading = loading - tuning.base_took + tuning.base_alone
    cold.setdefault("load", loading)

    count, trains = len(lot.examples), recipe.method.trains
    progress.labels_of = lot.labels
    progress.saw({tuning.order: lot.needed} if lot.needed else {})
    # By what was bought: how many others join no forecast can know.
    grid = checkpoint_epochs(recipe.epochs, batch_size=recipe.batch_size, examples=lot.bought, dev_examples=len(dev.examples))
    targets = [steps_for(epochs, recipe.batch_size, count) for epochs in grid]
    verdict: compiling.Verdict | None = None
    if trains and progress.runs_ahead is not None and tuning.step < targets[-1]:
        with phases.phase("train"):  # made once a process, as imports are: no run pays for it
            ahead = targets[-1] - tuning.step + progress.runs_ahead * targets[-1]
            verdict = compiling.choose(tuning, train_rows, count, ahead, progress.compiling)
    for epochs, target, upcoming in zip(grid, targets, [*targets[1:], None], strict=True):
        if target <= tuning.step and resume:
            continue
        seen = min(count, target * recipe.batch_size) if trains else count
        before, after = (int(np.searchsorted(train_rows.example, n)) for n in (min(count, tuning.step * recipe.batch_size), seen))
        features = phases.features("train", tuning, [train_rows], [after], before)
        with phases.phase("train", tuning) as used:
            tuning.run(train_rows, target, count, progress)
            left = tuning.step < target and progress.leave
            if not left:
                tuning.fit_head(train_rows, seen)
        cold["train"] = cold.get("train", Usage()) + used[0] + features
        if left:
            state = _state(tuning, recipe, dict(cold), elsewhere)
            progress.left = replace(state, epochs=tuning.step * recipe.batch_size / count)
            return
        plain = tuning.plain_rows(dev)
        features = phases.features("evaluate", tuning, plain, [*map(len, plain)])
        with phases.phase("evaluate", tuning) as used:
            scores, predictions, serving["predictions_per_second"] = tuning.evaluate(dev, clock, features.seconds)
        scores = recipe.task.since(scores, started.scores if started else ())
        evaluation = used[0] + features
        if "latency_seconds" not in serving:
            with phases.phase("evaluate", tuning):  # spent, and no part of what the model costs
                serving["latency_seconds"] = tuning.latency(dev, clock)
        processed = tuning.step * recipe.batch_size
        cold_to_here = dict(cold)  # no evaluation is in it: who goes on from here pays for one of its own
        shorter = recipe.with_epochs(epochs)
        labels, then = (
            merged_labels(started.labels if started else {}, {tuning.order: lot.labels(n if trains else count)})
            for n in (processed, (upcoming or tuning.step) * recipe.batch_size)
        )
        yield Checkpoint(
            recipe=shorter,
            scores=scores,
            labels=sum(labels.values()),
            bought=lot.paid(processed if trains else count),
            step=tuning.step,
            next_step=upcoming,
            next_labels=sum(then.values()),
            examples=processed,
            tokens=tuning.tokens,
            trainable_parameters=sum(p.numel() for p in tuning.parameters.values()) + tuning.beside.numbers,
            usage=add_phases(cold, {"evaluate": evaluation}),
            spent=dict(phases.spent),
            serving=dict(serving),
            predictions=predictions,
            resume_state=functools.partial(_state, tuning, shorter, cold_to_here, elsewhere),
            weights=tuning.averaged,
            test=lambda: encoding.test(tuning),
            labels_by_order=labels,
            elsewhere=elsewhere,
            compiling={} if verdict is None else verdict.to_json(),
        )
        phases.spent.clear()
        progress.work = Work()
        tuning.restore_random()


def _state(tuning: Tuning, recipe: Recipe, cold: Mapping[str, Usage], elsewhere: Sequence[UsagePart]) -> ResumeState:
    return replace(tuning.resume_state(recipe, cold), elsewhere=elsewhere)
