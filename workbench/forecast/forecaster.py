"""What a recipe will take: seconds by phase, energy, memory, FLOPs, tokens and labels, without training it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench import estimate
from workbench.errors import UsageError
from workbench.estimate import Estimate, least_sure
from workbench.forecast import memory
from workbench.forecast.amounts import Amounts, form_of
from workbench.forecast.forecast import Forecast
from workbench.forecast.machine import Machine, name_of
from workbench.forecast.timing import CONSTANTS, CPU_FLOPS, FORMULA_SPREAD, GPU_CONSTANTS, Correction, Guess, Timing, formula
from workbench.prices.datasheets import ARITHMETIC_SHARE
from workbench.quantities import many
from workbench.result import Result
from workbench.study import Recipe, Study
from workbench.training import memory as activations
from workbench.training import shared_parents
from workbench.training.batches import widest
from workbench.usage import Work, total

if TYPE_CHECKING:
    from workbench.forecast.calibration import Calibration

MEASURED_SPREAD, CALIBRATED_SPREAD = 0.08, 0.15
"""Standard deviation of the logarithm of seconds, of a run and of a short timing of one pair: assumed until seen. A timing of
seconds does not see who will use the machine in the next hour: at 0.1 the band held 4 of 6 runs on a shared one."""

MEASURED_MEMORY_FACTOR = 1.15
"""Factor of the band around the highest peak that runs of a pair have had: assumed."""
WATTS_ERROR = {"measured": 0.1, "formula": 0.5}
"""Relative uncertainty of watts: assumed of runs that differ; of no run, that of the meter's average processor."""


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
        self.work = Amounts(self.machine)
        self._peaks: dict[tuple[Any, ...], Estimate | None] = {}
        self.constants: dict[str, float | None] = _constants(self.machine)
        self._timed: list[Correction] = []  # corrections by a short timing: the first of `_corrections`
        self._corrections: list[Correction] = []
        self.calibration = calibration if calibration and calibration.machine == self.machine.name else None
        if self.calibration:
            self.constants = {**self.constants, **self.calibration.constants}
            timings = [(t, self._formula(t.amounts)) for t in self.calibration.timings]
            # Beside other work a step can take several times as long, and all of them do: a band as wide as a formula's, no wider.
            busy = self.calibration.busy
            where, shared = f"timed on this machine{', which was busy' if busy else ''}", FORMULA_SPREAD if busy else 0.0
            self._timed.append(Correction("calibrated", where, CALIBRATED_SPREAD, timings, shared=shared))
        self.learn(list(results))

    def run(self, recipe: Recipe) -> Forecast:
        """Forecast the whole recipe, from nothing.

        Raises:
            UsageError: The method cannot be applied to the model.
        """
        return self._forecast(recipe, 0.0, float(recipe.epochs), cold=True)

    def segment(self, recipe: Recipe, from_epochs: float, to_epochs: float, *, cold: bool | None = None) -> Forecast:
        """Forecast what it adds to go on from one length of a recipe to another: training and
        evaluations.

        Args:
            recipe: A recipe of at least `to_epochs`.
            from_epochs: Epochs that are made already; 0 is the start.
            to_epochs: Epochs after it.
            cold: Whether model and data have to be loaded; None: where `from_epochs` is 0.
        """
        return self._forecast(recipe, from_epochs, to_epochs, cold=from_epochs <= 0 if cold is None else cold)

    def amounts(self, recipe: Recipe) -> dict[str, dict[str, float]]:
        """Return the work of each phase, with one evaluation, by the names of `timing.CONSTANTS`
        and `flops`.
        """
        return self.work.of(recipe)

    def checkpoints(self, recipe: Recipe) -> list[float]:
        """Epochs at which the recipe is evaluated."""
        return self.work.checkpoints(recipe)

    def key(self, recipe: Recipe) -> Hashable:
        """Return a key by which forecasts can be kept: recipes that differ in a learning rate
        alone, say, have one key.
        """
        return self.work.key(recipe)

    # How it is put together

    def _forecast(self, recipe: Recipe, start: float, end: float, *, cold: bool) -> Forecast:
        data, pair = self.work.data_of(recipe), self.work.pair(recipe)
        done, aim = (self.work.steps(recipe, start) if start > 0 else 0), self.work.steps(recipe, end)
        steps = max(0, aim - done)
        amounts = self.work.of_steps(recipe, steps, done=done)
        phases = {
            phase: self._seconds(phase, of_phase, recipe)
            for phase, of_phase in amounts.items()
            if cold or phase in ("train", "evaluate")
        }
        evaluations = max(1, sum(start < epochs <= end for epochs in self.work.checkpoints(recipe)))
        seconds = estimate.total(phases.values())
        if seconds is not None and phases["train"] is not None:  # what the others rest on is much the same
            seconds = replace(seconds, note=phases["train"].note)
        # The cold seconds hold one evaluation; a sweep makes one at every checkpoint.
        more = None if phases["evaluate"] is None else phases["evaluate"] * float(evaluations - 1)
        between = self._between and self._between * float(evaluations)
        spent = estimate.total([seconds, more, between] if between else [seconds, more])
        labels = self.work.labels(recipe, aim)
        found = Forecast(
            model=recipe.model_name,
            method=recipe.method.name,
            seconds=seconds,
            spent_seconds=spent,
            phases=phases,
            energy_j=self._energy(seconds),
            peak_memory_bytes=self._peak(recipe),
            flops=None if pair.shape is None else amounts["train"]["flops"] + amounts["evaluate"]["flops"],
            tokens=steps * recipe.batch_size * data.tokens,
            steps=steps,
            labels=sum(labels.values()),
            labels_by_order=labels,
            evaluations=evaluations,
            parameters=pair.parameters,
            trainable_parameters=pair.trainable,
            work={
                phase: _work(phase, amounts[phase], steps, known=self.work.pair(_of_phase(phase, recipe)).shape is not None)
                for phase in phases
            },
            between_seconds=between,
            spent_energy_j=self._energy(spent),
        )
        return found.sharing(0.0) if recipe.parents and all(map(shared_parents.is_within_reach, recipe.parents)) else found

    def _formula(self, amounts: Mapping[str, float]) -> Guess:
        """Guess seconds by the constants, assumed or calibrated; 0 where the speed of the machine
        is unknown.
        """
        if "flops" in amounts and self.constants.get("flops") is None:
            return Guess(0.0, FORMULA_SPREAD)
        return Guess(formula(amounts, self.constants), FORMULA_SPREAD, note="assumed speeds")  # type: ignore[arg-type]

    def _seconds(self, phase: str, amounts: Mapping[str, float], recipe: Recipe) -> Estimate | None:
        of = _of_phase(phase, recipe)
        known = "flops" not in amounts or self.work.pair(of).shape is not None
        if not any(amounts.values()):
            return Estimate.exact(0.0)  # nothing is done
        guess = self._formula(amounts)
        for correction in self._corrections:
            guess = correction.apply(guess, phase, of.architecture, of.method.name)
        return guess.estimate if guess.seconds > 0 and (known or guess.own) else None

    def _energy(self, seconds: Estimate | None) -> Estimate | None:
        if seconds is None or self._watts is None:
            return None
        low, value, high = seconds.low * self._watts.low, seconds.value * self._watts.value, seconds.high * self._watts.high
        basis = least_sure(seconds.basis, self._watts.basis)
        return Estimate(value, low, high, basis, self._watts.note)

    def _peak(self, recipe: Recipe) -> Estimate | None:
        """The highest memory of a run, that of making what it starts from included."""
        asked = () if recipe.teacher is None else (recipe.teacher,)
        peaks = [self._own_peak(recipe), *map(self._peak, (*recipe.parents, *asked))]
        known = [each for each in peaks if each is not None]
        return max(known, key=lambda each: each.value) if len(known) == len(peaks) else None

    def _own_peak(self, recipe: Recipe) -> Estimate | None:
        key = (recipe.task, self.work.pair_key(recipe), recipe.batch_size)
        measured = self._measured_memory.get(_memory_key(recipe))
        if measured:
            note = f"the highest of {many(len(measured), 'run')}"
            return Estimate.within(float(max(measured)), MEASURED_MEMORY_FACTOR, "measured", note)
        if key not in self._peaks:
            data, pair = self.work.data_of(recipe), self.work.pair(recipe)
            # The widest micro-batch decides, so it is made of the longest rows; a sample that is
            # smaller than a batch is taken again.
            longest = sorted(data.train or data.dev, key=sum)[-recipe.batch_size :]
            lengths = list(itertools.chain(*longest)) * -(-recipe.batch_size // len(longest))
            whole = (len(lengths), max(lengths))
            shape = whole if data.together else widest(lengths, self.machine.kind, packed=self.work.packs(recipe))
            own = memory.state_bytes(pair.parameters, pair.trainable, recipe.weights)
            self._peaks[key] = memory.peak(
                state=own + memory.beside_bytes(recipe.task, recipe.method, pair.model),
                activations=memory.Activations(
                    saved=activations.saved_bytes(pair.model, data.objective, data.rows, shape) if recipe.method.trains else 0,
                    layers=pair.shape.layers if pair.shape else None,
                    width=pair.shape.width if pair.shape else None,
                    shape=shape,
                ),
                kind=self.machine.kind,
                resident=self.machine.resident_bytes,
            )
        return self._peaks[key]

    # What Results teach

    def learn(self, results: Sequence[Result]) -> None:
        """Correct the forecasts by the study's Results, in place of those known before.

        Ratios, watts and peaks are those of each run's last Result that was made on this machine.
        """
        self._corrections = list(self._timed)
        # A Result with test scores alone was only graded: it made no model, and took no training.
        made = [r for r in results if r.status == "complete" and (r.scores or not r.test_scores)]
        here = [r for r in made if name_of(r.provenance.get("device", {})) == self.machine.name]
        # Checkpoints of one run share its luck: a run counts once, by the longest.
        last = {r.run_id: r for r in sorted(here, key=lambda r: r.step)}
        timings: list[tuple[Timing, Guess]] = []
        self._measured_memory: dict[Hashable, list[int]] = {}
        for result in last.values():
            try:
                recipe = self.study.resolve(result.settings)
                timings += self._timings(recipe, result)
            except UsageError:  # of an older form of the study
                continue
            bytes_ = total(usage for phase, usage in result.usage.items() if phase != "pretrain")
            peak = bytes_.gpu_peak_memory_bytes if self.machine.kind == "cuda" else bytes_.peak_memory_bytes
            if peak:
                self._measured_memory.setdefault(_memory_key(recipe), []).append(peak)
        if timings:
            self._corrections.append(Correction("measured", "measured on this machine", MEASURED_SPREAD, timings))
        self._watts = _watts(list(last.values()), self.machine)
        self._between = _between(here)

    def _timings(self, recipe: Recipe, result: Result) -> list[tuple[Timing, Guess]]:
        own = result.parts[0]  # what other machines did of it says nothing of this one
        steps = own.usage["train"].work.steps if result.elsewhere and "train" in own.usage else result.step
        amounts = self.work.of_steps(recipe, steps)
        expected = result.step * recipe.batch_size * self.work.data_of(recipe).tokens
        if result.tokens and expected:  # the run's own tokens rather than those of a sample
            amounts["train"]["flops"] *= result.tokens / expected
        timings = []
        for phase, of_phase in amounts.items():
            if phase in own.usage:
                guess, of = self._formula(of_phase), _of_phase(phase, recipe)
                for correction in self._corrections:
                    # Measured against what the calibration said already, not against the bare
                    # formula.
                    guess = correction.apply(guess, phase, of.architecture, of.method.name)
                # Without what other programs caused: a forecast is of the machine alone.
                timing = Timing(phase, of.architecture, of.method.name, of_phase, own.undisturbed[phase].seconds)
                timings.append((timing, guess))
        return timings


def _constants(machine: Machine) -> dict[str, float | None]:
    if machine.kind == "cpu":
        return {**CONSTANTS, "flops": 1 / (CPU_FLOPS * min(machine.threads, machine.cpus))}
    return {**GPU_CONSTANTS, "flops": 1 / (ARITHMETIC_SHARE * machine.peak_flops) if machine.peak_flops else None}


def _of_phase(phase: str, recipe: Recipe) -> Recipe:
    """Return the recipe whose model and method decide how long a phase takes: of what it starts from that is its parent."""
    return recipe.parents[0] if phase == "pretrain" and recipe.parents else recipe


def _memory_key(recipe: Recipe) -> Hashable:
    """Return a key that a recipe shares with the runs whose measured peaks speak for it.

    The form of its task is in it: a run of short rows says nothing of one of long rows.
    """
    return (form_of(recipe.task), recipe.architecture, recipe.method.name, recipe.method.asking, recipe.weights, recipe.batch_size)


def _work(phase: str, amounts: Mapping[str, float], steps: int, *, known: bool) -> Work:
    """Return the work of a phase; its FLOPs are unknown where they are a stand-in for ratios (not
    `known`).
    """
    flops_ = amounts.get("flops", 0.0) if known or "flops" not in amounts else None
    return Work(steps=steps if phase == "train" else 0, flops=flops_)


def _watts(results: Sequence[Result], machine: Machine) -> Estimate | None:
    """Mean power of these Results by the meter, else by the machine's own account."""
    metered = [(cold.energy_j, cold.seconds, dict(cold.sources)) for cold in (r.parts[0].alone for r in results) if cold.energy_j]
    if metered and (seconds := sum(s for _, s, _ in metered)) > 0:
        guessed = any("estimated" in source for _, _, sources in metered for source in sources.values())
        note = "watts of earlier runs, which the meter estimated" if guessed else "watts of earlier runs"
        return _uncertain(sum(j for j, _, _ in metered) / seconds, "measured", note)
    if machine.watts is None:
        return None
    return _uncertain(machine.watts, "formula", f"{machine.watts:.0f} W assumed")


def _uncertain(watts: float, basis: str, note: str) -> Estimate:
    error = WATTS_ERROR[basis]
    return Estimate(watts, watts * (1 - error), watts * (1 + error), basis, note)


def _between(results: Sequence[Result]) -> Estimate | None:
    """Seconds that a Result takes beside its phases: writing it, its state and weights."""
    phases = ("checkpoint", "decide", "idle")
    waits = [sum(r.spent[phase].seconds for phase in phases if phase in r.spent) for r in results if r.spent]
    if not waits:
        return None
    return Estimate(statistics.fmean(waits), min(waits), max(waits), "measured", "")
