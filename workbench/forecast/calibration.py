"""A short timing of this machine: a few real steps of every model and method of a study."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench import methods, training
from workbench.errors import Infeasible, UsageError
from workbench.forecast import starts
from workbench.forecast.forecaster import Forecaster
from workbench.forecast.machine import Machine, measured_peak_flops
from workbench.forecast.timing import CONSTANTS, Timing, fit
from workbench.study import Recipe, Study
from workbench.tasks.base import Splits

FILE = Path(".workbench", "calibration.json")
"""Where a calibration is kept, in the folder of the ledger."""

EXAMPLES, DEV_EXAMPLES = 64, 32
"""Examples that steps are taken from, and that an evaluation is timed on: enough to show what one costs."""

WRITTEN_EXAMPLES = 8
"""Dev examples that an evaluation is timed on where answers are written: that takes some hundred times as long."""

GPU_FLOP_SECONDS = 1e-13
"""Where the fit starts on a GPU whose peak is unknown."""

LEAST_STEPS, MOST_STEPS = 4, 1000

FITTED = ("flops", "layer_passes", "updates")


@dataclass(frozen=True)
class Calibration:
    """What a few steps took on one machine.

    Attributes:
        machine: Its `Machine.name`.
        date: When it was timed, ISO 8601 in UTC.
        constants: Seconds for one FLOP, layer pass and update, fitted to the steps.
        timings: What a step, an evaluation, loading and encoding took, for each model and method.
        busy: Whether others used the machine's processors meanwhile: all timings may then be too long.
        peak_flops: The most FLOP/s that one device reached, in products of matrices; None in records from before it was measured.
    """

    machine: str
    date: str
    constants: Mapping[str, float]
    timings: tuple[Timing, ...]
    busy: bool = False
    peak_flops: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"schema": 1, **asdict(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Calibration:
        """Rebuild from `to_json`; keys of a later schema are ignored.

        Raises:
            UsageError: It is no such record: a part is missing, an amount has a name that no forecast knows, or what should be a
                finite number of at least 0 is none.
        """
        try:
            timings = tuple(_timing(each) for each in record["timings"])
            words = str(record["machine"]), str(record["date"])
            peak = record.get("peak_flops")
            known = None if peak is None else _number(peak)
            return cls(*words, _amounts(record["constants"]), timings, bool(record.get("busy")), known)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"this is no calibration: {error!r}. Remove the file and run `workbench plan STUDY --calibrate`."
            ) from error


def kept(folder: Path = Path()) -> Calibration | None:
    """The calibration that is kept in a folder; None where there is none.

    Raises:
        UsageError: The file cannot be read, or is no calibration.
    """
    try:
        return Calibration.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, UsageError):
        text = f"{FILE} was ignored: it is no calibration. `workbench plan STUDY --calibrate` makes it anew."
        raise UsageError(text) from None


def _timing(record: Mapping[str, Any]) -> Timing:
    words = {name: str(record[name]) for name in ("phase", "model", "method")}
    return Timing(**words, amounts=_amounts(record["amounts"]), seconds=_number(record["seconds"]))


def _amounts(record: Mapping[str, Any]) -> dict[str, float]:
    amounts = {name: _number(value) for name, value in dict(record).items()}
    if unknown := amounts.keys() - {*CONSTANTS, "flops"}:
        raise ValueError(f"no amount is called {', '.join(sorted(map(str, unknown)))}")
    return amounts


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r} is no finite number of at least 0")
    return float(value)


PATIENCE = 2
"""A timing that has taken this many times longer than it was given is ended: of the pairs left out the others tell."""


def calibrate(
    study: Study,
    seconds: float = 10.0,
    *,
    machine: Machine | None = None,
    busy: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    observe: Callable[[str], None] = lambda text: None,
) -> Calibration:
    """Train and evaluate a little of every model with every method of the study, and time it.

    What is fetched or imported once comes first and is not in the time. Steps are those of the training loop: micro-batches,
    clipping, AdamW, averaging. Nothing is kept of what is trained, and torch's random state is left as it was.

    Args:
        study: The study; pairs that cannot be built are left out.
        seconds: About how long the timing takes in all, with building the models; each pair takes at least four steps.
        machine: This machine, when it is known already.
        busy: Whether others use its processors now.
        clock: Seconds that only rise.
        observe: Is told what is being timed.
    """
    import torch

    machine = machine or Machine.here()
    forecaster = Forecaster(study, machine=machine)
    recipes = _recipes(study)
    for recipe, _ in recipes:
        training.warm_up(recipe)
    timings: list[Timing] = []
    steps: list[Timing] = []
    end = clock() + seconds
    for i, (recipe, phase) in enumerate(recipes):
        if timings and clock() > end + PATIENCE * seconds:
            observe(f"no more: {len(recipes) - i} pairs are left out, as this machine takes too long")
            break
        observe(f"{recipe.method.name} on {recipe.model_name}")
        # What is left is shared among the pairs that are left: a quick pair leaves more to the
        # others.
        until = clock() + max(0.0, end - clock()) / (len(recipes) - i)
        # Without `devices` fork_rng saves the state of every GPU, which begins CUDA on each.
        cuda = [torch.cuda.current_device()] if machine.kind == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            try:
                bench = _Bench(recipe, forecaster, clock, phase=phase, cuda=bool(cuda))
                prepared = bench.prepare()
                of_recipe, of_one = bench.steps(until)
                # Of what others start from only the steps count: the rest of it is a small part.
                timings += of_recipe if phase == "pretrain" else [*prepared, *of_recipe, bench.evaluate()]
                # Steps of one example are for the fit alone: beside whole batches they tell calls
                # from FLOPs.
                steps += [*of_recipe, *of_one]
            except (UsageError, Infeasible, MemoryError, torch.OutOfMemoryError):  # the plan says it, and so will the sweep
                continue
    # What a GPU reaches may be unknown before anything is timed; the fit needs a start above 0.
    start = {name: forecaster.constants[name] or GPU_FLOP_SECONDS for name in FITTED}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    peak = measured_peak_flops(clock=clock)
    return Calibration(machine.name, date, fit(steps, start, FITTED), tuple(timings), busy, peak)


def _recipes(study: Study) -> list[tuple[Recipe, str]]:
    """A recipe for each model and method, with the first of other options and ranges at their low end, and the phase that its
    steps are of.

    What the models of a study start from takes steps of the phase `pretrain`. What a model has learned before makes no difference
    to its speed, so that each stands here for itself, with weights that need not be made first.
    """
    by_pair: dict[tuple[str, str, str], Recipe] = {}
    for start, method in starts.methods_of(study):
        if (start.architecture, method.name, "train") not in by_pair:
            by_pair[start.architecture, method.name, "train"] = _alone(next(starts.recipes(study, start, method)))
    for parent, *_ in starts.parents(study):
        by_pair.setdefault((parent.architecture, parent.method.name, "pretrain"), _alone(parent))
    return [(recipe, phase) for (_, _, phase), recipe in by_pair.items()]


def _alone(recipe: Recipe) -> Recipe:
    return (
        recipe if recipe.parent is None else replace(recipe, task=recipe.task.settled(), model=recipe.architecture, pretrain=None)
    )


def _median(steps: list[Timing]) -> Timing:
    """The step of median speed: one that was interrupted does not tell what steps take."""
    return sorted(steps, key=lambda step: step.seconds / step.amounts["flops"])[(len(steps) - 1) // 2]


class _Bench:
    """Times a model with a method."""

    def __init__(
        self, recipe: Recipe, forecaster: Forecaster, clock: Callable[[], float], *, phase: str = "train", cuda: bool
    ) -> None:
        import torch

        self._phase = phase

        self.recipe, self.forecaster, self._clock, self._cuda = recipe, forecaster, clock, cuda
        self.where = torch.device("cuda", 0) if cuda else torch.device("cpu")

    def prepare(self) -> list[Timing]:
        """Load and encode."""
        recipe, splits = self.recipe, self.recipe.task.splits()
        began = self._clock()
        self.tuning = training.Tuning(recipe, self.where, None)
        loaded = self._clock()
        self._encode(splits)
        encoded = self._clock()
        self._encode(splits)
        shortest = min(encoded - loaded, self._clock() - encoded)  # hundredths of a second, which any interruption doubles
        amounts = self.forecaster.amounts(recipe)
        rows = {id(each): each for each in (self.train, self.dev.labelled, self.dev.asked)}.values()
        return [
            self._timing("load", amounts["load"], loaded - began),
            self._timing("data", {"encoded": float(sum(each.lengths.sum() for each in rows))}, shortest),
        ]

    def _encode(self, splits: Splits) -> None:
        """Encode a few examples of either side, none to train on where nothing trains."""
        formulation, processor, trains = self.tuning.formulation, self.tuning.processor, self.recipe.method.trains
        self.train = formulation.encode(splits.train[:EXAMPLES] if trains else (), processor)
        graded = splits.dev[: WRITTEN_EXAMPLES if self.tuning.inference.writes else DEV_EXAMPLES]
        shots = methods.shots(self.recipe.method, formulation, splits.train)
        self.dev = training.questions(formulation, graded, processor, shots, loss=self.recipe.learns)

    def steps(self, until: float) -> tuple[list[Timing], list[Timing]]:
        """Time steps of the recipe's batch size and of one example in turn, after one of each that is not counted.

        The medians of every other step are two timings: how far they lie apart tells how much others disturb this machine.
        """
        if not len(self.train):
            return [], []
        sizes = (self.recipe.batch_size, 1)
        by_size: dict[int, list[Timing]] = {size: [] for size in sizes}
        for i in range(MOST_STEPS):
            for size in sizes:
                began = self._clock()
                tokens = self._step(i * size, size)
                if i:
                    by_size[size].append(self._train_timing(size, tokens, self._clock() - began))
            if i >= LEAST_STEPS and self._clock() >= until:
                break
        whole, one = ([_median(steps[::2]), _median(steps[1::2])] for steps in (by_size[size] for size in sizes))
        return whole, one

    def _train_timing(self, size: int, tokens: int, seconds: float) -> Timing:
        recipe = replace(self.recipe, batch_size=size)
        amounts = self.forecaster.work.of_steps(recipe, 1)["train"]
        share = tokens / (size * self.forecaster.work.tokens_per_example(recipe))
        return self._timing(self._phase, amounts | {"flops": amounts["flops"] * share}, seconds)

    def _step(self, first: int, size: int) -> int:
        """Make an optimiser step and return its tokens."""
        # An example may have several rows, and they stand together in the order of examples.
        count = int(self.train.example[-1]) + 1
        wanted = [(first + k) % count for k in range(size)]
        batch = np.concatenate([np.flatnonzero(self.train.example == i) for i in wanted])
        _, done = self.tuning.make_step(self.train, batch, size)
        self._wait()
        return done.tokens

    def evaluate(self) -> Timing:
        """Time one evaluation of a few dev examples, from logits to scores."""
        began = self._clock()
        self.tuning.evaluate(self.dev, lambda: 0.0)  # whose own speed is not asked for
        self._wait()
        seconds = self._clock() - began
        return self._timing("evaluate", self.forecaster.work.of_steps(self.recipe, 0, len(self.dev.examples))["evaluate"], seconds)

    def _timing(self, phase: str, amounts: Mapping[str, float], seconds: float) -> Timing:
        return Timing(phase, self.recipe.architecture, self.recipe.method.name, dict(amounts), seconds)

    def _wait(self) -> None:
        if self._cuda:
            import torch

            # Kernels run on after the call that launched them: without it only launches are timed.
            torch.cuda.synchronize()
