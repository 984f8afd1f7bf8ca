"""What a recipe will take: seconds by phase, energy, memory, FLOPs, tokens and labels, without training it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench import estimate, flops, methods
from workbench.errors import UsageError
from workbench.estimate import BASES, Estimate
from workbench.forecast import memory, pairs
from workbench.forecast.forecast import Forecast
from workbench.forecast.machine import Machine, name_of
from workbench.forecast.sample import Data, sampled
from workbench.forecast.timing import (
    CONSTANTS,
    CPU_FLOPS,
    FORMULA_SPREAD,
    GPU_CONSTANTS,
    Correction,
    Guess,
    Timing,
    formula,
)
from workbench.methods import Method
from workbench.prices.devices import ARITHMETIC_SHARE
from workbench.result import Result
from workbench.study import Recipe, Study
from workbench.tasks.base import Task
from workbench.training import memory as activations
from workbench.training.batches import MAX_TOKENS, OVERHEAD_TOKENS, checkpoint_epochs, split, steps_for, widest
from workbench.usage import Work, total

if TYPE_CHECKING:
    from workbench.forecast.calibration import Calibration

MEASURED_SPREAD, CALIBRATED_SPREAD = 0.08, 0.15
"""Standard deviation of the logarithm of seconds, of a run and of a short timing of one pair: assumed until seen. A timing of
seconds does not see who will use the machine in the next hour: at 0.1 the band held 4 of 6 runs on a shared one."""

MEASURED_MEMORY_FACTOR = 1.15
WATTS_ERROR = {"measured": 0.1, "formula": 0.5}
"""Relative uncertainty of watts: assumed of runs that differ; of no run, that of the meter's average processor."""


@dataclass(frozen=True)
class _Pair:
    """A model with a method."""

    shape: flops.Shape | None
    parameters: int
    trainable: int
    layers: int
    frozen: bool  # there is a body below all that learns: its output for a row is computed once
    model: Any = field(repr=False)  # on the meta device: it holds no numbers


class Forecaster:
    """Forecasts recipes of one study on one machine. It never trains; what it learns of a task or model is kept.

    Args:
        study: The study.
        results: Its Results so far: those of this machine correct the forecast.
        calibration: A short timing; one of another machine is not used.
        machine: What will train; this machine when not given.
    """

    def __init__(
        self,
        study: Study,
        results: Iterable[Result] = (),
        calibration: Calibration | None = None,
        *,
        machine: Machine | None = None,
    ) -> None:
        self.study, self.machine = study, machine or Machine.here()
        self._data: dict[tuple[Any, ...], Data] = {}
        self._pairs: dict[tuple[Any, ...], _Pair] = {}
        self._per_example: dict[tuple[Any, ...], tuple[float, float]] = {}
        self._passes: dict[tuple[Any, ...], float] = {}
        self._peaks: dict[tuple[Any, ...], Estimate | None] = {}
        self.constants: dict[str, float | None] = _constants(self.machine)
        self._timed: list[Correction] = []  # corrections by a short timing: the first of `_corrections`
        self._corrections: list[Correction] = []
        self.calibration = calibration if calibration and calibration.machine == self.machine.name else None
        if self.calibration:
            self.constants = {**self.constants, **self.calibration.constants}
            timings = [(t, self._formula(t.amounts)) for t in self.calibration.timings]
            # Beside other work a step can take several times as long, and all of them do: a band as wide as a formula's.
            busy = self.calibration.busy
            where, shared = f"timed on this machine{', which was busy' if busy else ''}", FORMULA_SPREAD if busy else 0.0
            self._timed.append(Correction("calibrated", where, CALIBRATED_SPREAD, timings, shared=shared))
        self.learn(list(results))

    def run(self, recipe: Recipe) -> Forecast:
        """The whole recipe, from nothing.

        Raises:
            UsageError: The method cannot be applied to the model.
        """
        return self._forecast(recipe, 0.0, float(recipe.epochs), cold=True)

    def segment(self, recipe: Recipe, from_epochs: float, to_epochs: float, *, cold: bool | None = None) -> Forecast:
        """What going on from one length of the recipe to another adds: training, and the evaluations in between and at the end.

        Args:
            recipe: A recipe of at least `to_epochs`.
            from_epochs: Where it stands; 0 is the start.
            to_epochs: Where it will.
            cold: Whether model and data are to be loaded; None: just at the start.
        """
        return self._forecast(recipe, from_epochs, to_epochs, cold=from_epochs <= 0 if cold is None else cold)

    def amounts(self, recipe: Recipe) -> dict[str, dict[str, float]]:
        """What each phase of the recipe does, by the names of `timing.CONSTANTS` and `flops`; one evaluation."""
        return self.of_steps(recipe, self._steps(recipe, float(recipe.epochs)))

    def of_steps(self, recipe: Recipe, steps: int, graded: int | None = None, *, done: int = 0) -> dict[str, dict[str, float]]:
        """As `amounts`, of as many steps of the recipe.

        Args:
            recipe: The recipe.
            steps: How many.
            graded: Examples that it is graded by; None: all.
            done: Steps that were done before.
        """
        data, pair = self._data_of(recipe), self._pair(recipe)
        train, evaluate = self._flops_per_example(recipe)
        graded = data.dev_examples if graded is None else graded
        passes = self._passes_per_step(recipe) * pair.layers
        size, count = recipe.batch_size, data.train_examples
        seen, before = (min(count, n * size) if recipe.method.trains else count for n in (done + steps, done))
        trained, passed = train * steps * size, steps * passes
        if pair.frozen or recipe.method.fits:
            once = flops.forward(_known(pair), list(itertools.chain(*data.train))) / max(1, len(data.train))
            fresh = seen - (before if pair.frozen and recipe.method.trains else 0)
            trained = once * fresh + (self._above_per_example(recipe) * steps * size if pair.frozen else trained)
            passed = passes * fresh / size + (0 if pair.frozen else passed)
        dev_tokens = statistics.fmean(map(sum, data.dev)) * data.dev_examples + sum(data.shared)
        return {
            "data": {"encoded": data.tokens * data.train_examples + dev_tokens},
            "load": {"loads": 1.0, "parameters": float(pair.parameters)},
            "train": {"flops": trained, "layer_passes": passed, "updates": float(steps * pair.trainable)},
            "evaluate": {
                "flops": evaluate * graded + flops.forward(_known(pair), data.shared),
                "graded": float(graded),
                **self._decoded(recipe, graded),
            },
        }

    def _decoded(self, recipe: Recipe, graded: int) -> dict[str, float]:
        """What writing answers takes beside their FLOPs: every number of the model is read again for each token of a batch."""
        data = self._data_of(recipe)
        if not any(data.written):
            return {}
        limit = MAX_TOKENS.get(self.machine.kind, MAX_TOKENS["cpu"])
        batches = max(1.0, statistics.fmean(map(sum, data.asked)) * graded / limit)
        return {"decoded": batches * max(data.written) * self._pair(recipe).parameters}

    def tokens_per_example(self, recipe: Recipe) -> float:
        """Mean tokens of a training example, from the sample."""
        return self._data_of(recipe).tokens

    def checkpoints(self, recipe: Recipe) -> list[float]:
        """Epochs at which the recipe is evaluated."""
        data = self._data_of(recipe)
        return checkpoint_epochs(
            recipe.epochs, batch_size=recipe.batch_size, examples=data.train_examples, dev_examples=data.dev_examples
        )

    def key(self, recipe: Recipe) -> Hashable:
        """What a forecast depends on: recipes of equal keys, which differ in a learning rate for instance, have equal ones."""
        return (recipe.task, self._pair_key(recipe), recipe.method.name, recipe.batch_size, recipe.epochs)

    # How it is put together

    def _forecast(self, recipe: Recipe, start: float, end: float, *, cold: bool) -> Forecast:
        data, pair = self._data_of(recipe), self._pair(recipe)
        done, aim = (self._steps(recipe, start) if start > 0 else 0), self._steps(recipe, end)
        steps = max(0, aim - done)
        amounts = self.of_steps(recipe, steps, done=done)
        phases = {
            phase: self._seconds(phase, of_phase, recipe, known=pair.shape is not None or "flops" not in of_phase)
            for phase, of_phase in amounts.items()
            if cold or phase in ("train", "evaluate")
        }
        evaluations = max(1, sum(start < epochs <= end for epochs in self.checkpoints(recipe)))
        seconds = estimate.total(phases.values())
        if seconds is not None and phases["train"] is not None:  # what the others rest on is much the same
            seconds = replace(seconds, note=phases["train"].note)
        more = None if phases["evaluate"] is None else phases["evaluate"] * float(evaluations - 1)
        between = self._between and self._between * float(evaluations)
        spent = estimate.total([seconds, more, between] if between else [seconds, more])
        return Forecast(
            model=recipe.model,
            method=recipe.method.name,
            seconds=seconds,
            spent_seconds=spent,
            phases=phases,
            energy_j=self._energy(seconds),
            peak_memory_bytes=self._peak(recipe),
            flops=None if pair.shape is None else amounts["train"]["flops"] + amounts["evaluate"]["flops"],
            tokens=steps * recipe.batch_size * data.tokens,
            steps=steps,
            labels=min(data.train_examples, aim * recipe.batch_size) if recipe.method.trains else data.train_examples,
            evaluations=evaluations,
            parameters=pair.parameters,
            trainable_parameters=pair.trainable,
            work={phase: _work(phase, amounts[phase], steps, known=pair.shape is not None) for phase in phases},
            between_seconds=between,
            spent_energy_j=self._energy(spent),
        )

    def _formula(self, amounts: Mapping[str, float]) -> Guess:
        """What assumed, or calibrated, constants say; 0 seconds where the speed of the machine is unknown."""
        if "flops" in amounts and self.constants.get("flops") is None:
            return Guess(0.0, FORMULA_SPREAD)
        return Guess(formula(amounts, self.constants), FORMULA_SPREAD, note="assumed speeds")  # type: ignore[arg-type]

    def _seconds(self, phase: str, amounts: Mapping[str, float], recipe: Recipe, *, known: bool) -> Estimate | None:
        if not any(amounts.values()):
            return Estimate.exact(0.0)  # nothing is done
        guess = self._formula(amounts)
        for correction in self._corrections:
            guess = correction.apply(guess, phase, recipe.model, recipe.method.name)
        return guess.estimate if guess.seconds > 0 and (known or guess.own) else None

    def _energy(self, seconds: Estimate | None) -> Estimate | None:
        if seconds is None or self._watts is None:
            return None
        low, value, high = seconds.low * self._watts.low, seconds.value * self._watts.value, seconds.high * self._watts.high
        basis = max(seconds.basis, self._watts.basis, key=BASES.index)
        return Estimate(value, low, high, basis, self._watts.note)

    def _peak(self, recipe: Recipe) -> Estimate | None:
        key = (recipe.task, self._pair_key(recipe), recipe.batch_size)
        measured = self._measured_memory.get(_memory_key(recipe))
        if measured:
            note = f"the highest of {len(measured)} run{'' if len(measured) == 1 else 's'}"
            return Estimate.within(float(max(measured)), MEASURED_MEMORY_FACTOR, "measured", note)
        if key not in self._peaks:
            data, pair = self._data_of(recipe), self._pair(recipe)
            longest = sorted(data.train or data.dev, key=sum)[-recipe.batch_size :]
            lengths = list(itertools.chain(*longest)) * -(-recipe.batch_size // len(longest))
            whole = (len(lengths), max(lengths))
            shape = whole if data.together else widest(lengths, self.machine.kind)
            self._peaks[key] = memory.peak(
                state=memory.state_bytes(pair.parameters, pair.trainable, recipe.weights),
                saved=activations.saved_bytes(pair.model, data.objective, data.rows, shape) if recipe.method.trains else 0,
                layers=pair.shape.layers if pair.shape else None,
                width=pair.shape.width if pair.shape else None,
                shape=shape,
                kind=self.machine.kind,
                resident=self.machine.resident_bytes,
            )
        return self._peaks[key]

    # What is kept

    def _data_of(self, recipe: Recipe) -> Data:
        method = recipe.method
        key = (recipe.task, recipe.model, method.labelled, method.trains and method.fits, method.asking)
        if key not in self._data:
            self._data[key] = sampled(recipe)
        return self._data[key]

    def _pair_key(self, recipe: Recipe) -> tuple[Any, ...]:
        return (
            recipe.model,
            _form(recipe.task),
            recipe.method.kind,
            recipe.weights,
            _shaping(recipe.method),
            recipe.method.asking,
        )

    def _pair(self, recipe: Recipe) -> _Pair:
        key = self._pair_key(recipe)
        if key not in self._pairs:
            model = pairs.wrapped(recipe.task, recipe.model, recipe.method)
            shape = flops.shape(model)
            counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
            config = getattr(model, "config", None)
            layers = shape.layers if shape else int(getattr(config, "num_hidden_layers", None) or 1)
            frozen = methods.body(model) is not None
            self._pairs[key] = _Pair(
                shape, sum(n for n, _ in counts), sum(n for n, learns in counts if learns), layers, frozen, model
            )
        return self._pairs[key]

    def _flops_per_example(self, recipe: Recipe) -> tuple[float, float]:
        """Training and evaluating one example, on average over the sample.

        Where the formula has no answer, 6·N·T and 2·N·T of all parameters stand in: only ratios of runs of one pair use them.
        """
        key = (recipe.task, self._pair_key(recipe))
        if key not in self._per_example:
            data, pair = self._data_of(recipe), self._pair(recipe)
            of = _known(pair)
            train, dev = list(itertools.chain(*data.train)), list(itertools.chain(*data.dev))
            asked = [length + written for length, written in zip(itertools.chain(*data.asked), data.written, strict=True)]
            self._per_example[key] = (
                flops.training(of, train) / max(1, len(data.train)),
                (flops.forward(of, dev) + flops.forward(of, asked)) / len(data.dev),
            )
        return self._per_example[key]

    def _above_per_example(self, recipe: Recipe) -> float:
        """Training what learns alone, on what lies below it: of one example."""
        data, pair = self._data_of(recipe), self._pair(recipe)
        return flops.training(flops.above(_known(pair)), list(itertools.chain(*data.train))) / max(1, len(data.train))

    def _passes_per_step(self, recipe: Recipe) -> float:
        """Micro-batches of a step, on average over the sample."""
        data, size = self._data_of(recipe), recipe.batch_size
        key = (recipe.task, recipe.model, recipe.batch_size, data.together)
        if key not in self._passes:
            overhead = OVERHEAD_TOKENS.get(self.machine.kind, OVERHEAD_TOKENS["cpu"])
            if not data.train:
                return 0.0
            if data.together:
                return 1.0
            starts = range(0, max(1, len(data.train) - size + 1), size)
            steps = [sorted(itertools.chain(*(data.train[(s + i) % len(data.train)] for i in range(size)))) for s in starts]
            self._passes[key] = statistics.fmean(len(split(step, overhead)) for step in steps)
        return self._passes[key]

    def _steps(self, recipe: Recipe, epochs: float) -> int:
        return steps_for(epochs, recipe.batch_size, self._data_of(recipe).train_examples)

    # What Results teach

    def learn(self, results: Sequence[Result]) -> None:
        """Take in the study's Results, in place of those known before: ratios, watts and peaks of each run's last one made here."""
        self._corrections = list(self._timed)
        here = [r for r in results if r.status == "complete" and name_of(r.provenance.get("device", {})) == self.machine.name]
        last = {r.run_id: r for r in sorted(here, key=lambda r: r.step)}
        timings: list[tuple[Timing, Guess]] = []
        self._measured_memory: dict[Hashable, list[int]] = {}
        for result in last.values():
            try:
                recipe = self.study.resolve(result.settings)
                timings += self._timings(recipe, result)
            except UsageError:  # of an older form of the study
                continue
            bytes_ = total(result.usage.values())
            peak = bytes_.gpu_peak_memory_bytes if self.machine.kind == "cuda" else bytes_.peak_memory_bytes
            if peak:
                self._measured_memory.setdefault(_memory_key(recipe), []).append(peak)
        if timings:
            self._corrections.append(Correction("measured", "measured on this machine", MEASURED_SPREAD, timings))
        self._watts = _watts(list(last.values()), self.machine)
        self._between = _between(here)

    def _timings(self, recipe: Recipe, result: Result) -> list[tuple[Timing, Guess]]:
        amounts = self.of_steps(recipe, result.step)
        expected = result.step * recipe.batch_size * self._data_of(recipe).tokens
        if result.tokens and expected:  # the run's own tokens rather than those of a sample
            amounts["train"]["flops"] *= result.tokens / expected
        found = []
        for phase, of_phase in amounts.items():
            if phase in result.usage:
                guess = self._formula(of_phase)
                for correction in self._corrections:
                    guess = correction.apply(guess, phase, recipe.model, recipe.method.name)
                timing = Timing(phase, recipe.model, recipe.method.name, of_phase, result.undisturbed[phase].seconds)
                found.append((timing, guess))
        return found


def _known(pair: _Pair) -> flops.Shape:
    """Its shape; where that is unknown all of its parameters in one layer, of which only ratios are used."""
    return pair.shape or flops.Shape(pair.parameters, pair.parameters, pair.parameters, 0, 0)


def _constants(machine: Machine) -> dict[str, float | None]:
    if machine.kind == "cpu":
        return {**CONSTANTS, "flops": 1 / (CPU_FLOPS * min(machine.threads, machine.cpus))}
    return {**GPU_CONSTANTS, "flops": 1 / (ARITHMETIC_SHARE * machine.peak_flops) if machine.peak_flops else None}


def _form(task: Task) -> tuple[Any, ...]:
    """All of a task but how many labels it buys: what its rows and the model's head are made by."""
    return (type(task), *(getattr(task, field.name) for field in dataclasses.fields(task) if field.name != "train"))


def _memory_key(recipe: Recipe) -> Hashable:
    """Whose measured peaks speak for a recipe: those of rows of its form. A run of short rows says nothing of one of long rows."""
    return (_form(recipe.task), recipe.model, recipe.method.name, recipe.method.asking, recipe.weights, recipe.batch_size)


def _shaping(method: Method) -> str:
    """What of a method's settings may change shapes, as text: of a fraction (alpha, dropout) only whether there is one."""
    settings = {name: value > 0 if isinstance(value, float) else value for name, value in method.settings.items()}
    return json.dumps(settings, sort_keys=True, default=repr)


def _work(phase: str, amounts: Mapping[str, float], steps: int, *, known: bool) -> Work:
    """What a phase does; where FLOPs are a stand-in that only ratios may use (not `known`), they are unknown."""
    flops_ = amounts.get("flops", 0.0) if known or "flops" not in amounts else None
    return Work(steps=steps if phase == "train" else 0, flops=flops_)


def _watts(results: Sequence[Result], machine: Machine) -> Estimate | None:
    """Mean power of these Results by the meter, else by the machine's own account."""
    known = [(cold.energy_j, cold.seconds, dict(cold.sources)) for cold in (r.alone for r in results) if cold.energy_j]
    if known and (seconds := sum(s for _, s, _ in known)) > 0:
        guessed = any("estimated" in source for _, _, sources in known for source in sources.values())
        note = "watts of earlier runs, which the meter estimated" if guessed else "watts of earlier runs"
        return _uncertain(sum(j for j, _, _ in known) / seconds, "measured", note)
    if machine.watts is None:
        return None
    return _uncertain(machine.watts, "formula", f"{machine.watts:.0f} W assumed")


def _uncertain(watts: float, basis: str, note: str) -> Estimate:
    error = WATTS_ERROR[basis]
    return Estimate(watts, watts * (1 - error), watts * (1 + error), basis, note)


def _between(results: Sequence[Result]) -> Estimate | None:
    """Seconds that a Result takes beside its phases: writing it, its state and weights."""
    phases = ("checkpoint", "decide", "idle")
    found = [sum(r.spent[phase].seconds for phase in phases if phase in r.spent) for r in results if r.spent]
    if not found:
        return None
    return Estimate(statistics.fmean(found), min(found), max(found), "measured", "")
