"""Amounts of work become seconds: by a formula with assumed constants, which observations correct.

A phase takes the sum of its amounts times a constant each. Observations never replace that sum, they correct it by a ratio: by
that of the same model and method where there are any, drawn towards that of the model's other methods, and that towards all.
Errors of such products are ratios too, so spreads are those of logarithms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.estimate import Estimate

CPU_FLOPS = 4e10
"""FLOP/s that a thread reaches in training at float32: assumed. One of an AMD EPYC reached 9e10 in our calibration of the built-in
models; many processors have half of its peak or less."""

CONSTANTS: Mapping[str, float] = {
    "layer_passes": 2.0e-3,  # one layer there and back in one micro-batch: the calls, whatever the tokens
    "updates": 2.0e-9,  # one number through clipping, AdamW and averaging: memory traffic
    "decoded": 5.0e-10,  # one number of the model, read once more for one more token of a batch: memory traffic
    "graded": 5.0e-4,  # one dev example, from logits to score
    "loads": 0.1,
    "parameters": 1.0e-8,  # reading and initialising one
    "encoded": 5.0e-6,  # one token out of text
    "fitted": 3.0e-8,  # one example x class x number of its embedding, in a regression
    "compared": 1.5e-10,  # one number of one example's embedding, with that of one that was chosen
}
"""Seconds for one of each amount: rounded from measurements on two virtual CPUs. `flops` depends on the machine."""

GPU_CONSTANTS: Mapping[str, float] = {
    **CONSTANTS,
    "layer_passes": 1.0e-3,
    "updates": 1.0e-10,
    "decoded": 1.0e-11,
    "parameters": 2.0e-9,
}
"""Seconds for one of each amount on a GPU: about 100 launches of 10 us, and 60 bytes at 600 GB/s; assumed, with the formula's
band."""

FORMULA_SPREAD = math.log(3) / 1.645
"""Spread of the formula: nine in ten outcomes lie within a factor of 3, which is assumed."""

_Z = 1.645  # the normal's 95th percentile: nine in ten lie within
_PRIOR_FREEDOM = 3.0  # observations that the assumed spreads below are worth
_BETWEEN = 0.3  # spread of the ratios of a model's methods, and of models: assumed until seen


@dataclass(frozen=True)
class Timing:
    """What a phase took.

    Attributes:
        phase: Out of `workbench.usage.PHASES`.
        model: The model's name.
        method: The method's name.
        amounts: What was done, by the names of `CONSTANTS` and `flops`.
        seconds: What it took, > 0.
    """

    phase: str
    model: str
    method: str
    amounts: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Guess:
    """Seconds of a phase as they are known after some correction.

    Attributes:
        seconds: The best guess.
        spread: Standard deviation of its logarithm.
        freedom: Observations that the spread is known from.
        basis: How the seconds are known, out of `estimate.BASES`.
        note: From what.
        own: Whether this model and method itself was observed.
    """

    seconds: float
    spread: float
    freedom: float = math.inf
    basis: str = "formula"
    note: str = ""
    own: bool = False

    @property
    def estimate(self) -> Estimate:
        """The seconds with the band in which nine in ten outcomes are meant to lie (Student's t for few observations)."""
        return Estimate.within(self.seconds, math.exp(_student(self.freedom) * self.spread), self.basis, self.note)


def formula(amounts: Mapping[str, float], constants: Mapping[str, float]) -> float:
    """Seconds by amounts and constants. Raises KeyError for an amount without a constant."""
    return sum(amount * constants[name] for name, amount in amounts.items())


class Correction:
    """Ratios of what was observed to what was guessed before, and how they spread."""

    def __init__(
        self, basis: str, where: str, spread: float, pairs: Iterable[tuple[Timing, Guess]], *, shared: float = 0.0
    ) -> None:
        """`spread` is assumed of two observations of one pair until there are some; by `shared` all may be off together."""
        self._basis, self._where, self._shared = basis, where, shared
        self._ratios: dict[str, dict[tuple[str, str], list[float]]] = {}
        self._assumed: dict[str, float] = {}
        self._within = spread
        for timing, guess in pairs:
            if timing.seconds > 0 and guess.seconds > 0:
                of_phase = self._ratios.setdefault(timing.phase, {})
                of_phase.setdefault((timing.model, timing.method), []).append(math.log(timing.seconds / guess.seconds))
                self._assumed[timing.phase] = max(self._assumed.get(timing.phase, 0.0), guess.spread)

    def apply(self, guess: Guess, phase: str, model: str, method: str) -> Guess:
        """Return a guess as this correction changes it: not at all where its phase was never
        observed.
        """
        ratios = self._ratios.get(phase)
        if not ratios:
            return guess
        # `within`: of observations of one pair; `among`: of the means of pairs.
        within, freedom = _pooled_spread(list(ratios.values()), self._within)
        between = min(_BETWEEN, self._assumed[phase])
        of_model = {pair: found for pair, found in ratios.items() if pair[0] == model}
        everything = [statistics.fmean(found) for found in ratios.values()]
        among, _ = _pooled_spread([everything], between)
        own = ratios.get((model, method), [])
        mean = statistics.fmean(everything)
        # Of a pair that was not observed: how pairs differ, and how surely their mean is known; of
        # a new model also how models differ.
        variance = among**2 * (1 + 1 / len(everything)) + (0.0 if of_model else between**2)
        if of_model:
            means = [statistics.fmean(found) for found in of_model.values()]
            mean = _drawn(means, mean, 1.0)
        if own:
            # Its own observations win the more, the less they spread beside what tells pairs apart.
            mean = _drawn(own, mean, min(1.0, (within / among) ** 2) if among else 1.0)
            variance = within**2 / len(own)
        spread = math.sqrt(within**2 + variance + self._shared**2)
        # A short timing adds to what the formula says, whose band holds without it.
        if self._basis == "calibrated" and _student(freedom) * spread > _student(guess.freedom) * guess.spread:
            spread, freedom = guess.spread, guess.freedom
        runs = len(own) or sum(map(len, (of_model or ratios).values()))
        whose = f"of {method} on {model}" if own else f"of other methods on {model}" if of_model else "of other models"
        note = f"{self._where}, {runs} {'timing' if runs == 1 else 'timings'} {whose}"
        return replace(
            guess,
            seconds=guess.seconds * math.exp(mean),
            spread=spread,
            freedom=freedom,
            basis=self._basis,
            note=note,
            own=guess.own or bool(own),
        )


def fit(timings: Sequence[Timing], start: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Fit constants >= 0 for `names` by least squares of relative errors; coordinate descent from
    `start`.

    Each is drawn towards its start with a fiftieth of the weight of a timing that held nothing
    else: what the timings do not tell apart stays in proportion.
    """
    fitted = {name: start[name] for name in names}
    rows = [{name: t.amounts.get(name, 0.0) / t.seconds for name in names} for t in timings if t.seconds > 0]
    if not rows:
        return fitted
    # First one factor for the machine's speed, then what tells the constants apart.
    scale = statistics.fmean(1 / max(1e-12, sum(row[name] * start[name] for name in names)) for row in rows)
    aim = {name: start[name] * scale for name in names}
    fitted = dict(aim)
    for _ in range(300):
        for name in names:
            weight = 0.02 / max(1e-30, aim[name]) ** 2
            others = [1 - sum(row[n] * fitted[n] for n in names if n != name) for row in rows]
            top = sum(row[name] * rest for row, rest in zip(rows, others, strict=True)) + weight * aim[name]
            fitted[name] = max(0.0, top / (sum(row[name] ** 2 for row in rows) + weight))
    return fitted


def _drawn(values: Sequence[float], towards: float, weight: float) -> float:
    """Return the mean of values, drawn towards one as if `weight` more values lay there."""
    return (sum(values) + weight * towards) / (len(values) + weight)


def _pooled_spread(groups: Sequence[Sequence[float]], assumed: float) -> tuple[float, float]:
    """Standard deviation within groups, drawn towards what is assumed, and its degrees of freedom."""
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    freedom = sum(len(group) - 1 for group in groups)
    return math.sqrt((_PRIOR_FREEDOM * assumed**2 + squares) / (_PRIOR_FREEDOM + freedom)), _PRIOR_FREEDOM + freedom


def _student(freedom: float) -> float:
    """95th percentile of Student's t, by Cornish and Fisher's expansion: within 2 % from 3 degrees of freedom."""
    if math.isinf(freedom):
        return _Z
    z, v = _Z, freedom
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
