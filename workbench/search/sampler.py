"""The search as an Optuna sampler, for a plain `study.optimize`: whole trials, of which one objective is a cost.

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=FrontSampler(seed=0))
    study.optimize(objective, n_trials=50)

Nothing is frozen there: a trial ends with its objective, so each is an arm with one milestone. What is kept is the rest: the
hypervolume in log cost, and growth of it for a unit of cost.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from workbench.search.arms import Arm, Milestone
from workbench.search.engine import FrontSearch
from workbench.space import Choice, Dimension, Integers, Space, Uniform, Value

RANDOM_TRIALS = 6
"""Trials drawn at random before the search is asked."""

CANDIDATES = 300

_RIDGE = 0.1
"""Weight of the penalty on coefficients of a cost's logarithm: a prior standard deviation of 3 for errors of 1, weak on purpose."""


class FrontSampler(optuna.samplers.BaseSampler):
    """Samples for the front of one objective that is maximised, a quality, and one that is minimised, a cost above 0.

    Ranges may be logarithmic; parameters that only some trials have are understood where one categorical parameter decides on
    them. Those of which nothing is known yet are drawn at random.

    Args:
        seed: Seed of all that is random here; None for another one each time. The same history and seed give the same proposal.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed

    def reseed_rng(self) -> None:
        """Nothing to do: what is drawn depends on the seed and the trial's number, which no two workers share."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters seen so far, once enough trials are complete to say anything.

        Raises:
            ValueError: The study has other directions than one to maximise and one to minimise.
        """
        _axes(study)
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(done) < RANDOM_TRIALS:
            return {}
        space: dict[str, BaseDistribution] = {}
        for earlier in done:
            space |= {name: d for name, d in earlier.distributions.items() if not d.single()}
        return space

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """The parameters of the next trial, as far as the search can tell which it will have.

        Raises:
            ValueError: A trial has a cost that is not above 0.
        """
        if not search_space:
            return {}
        quality, price = _axes(study)
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        # Trials of other workers are pending arms: without them all workers would be sent to the same place.
        busy = [t for t in running if t.number != trial.number and t.params]
        complete = [({n: v for n, v in t.params.items() if n in search_space}, t.values) for t in done]
        if any(values[price] <= 0 for _, values in complete):
            raise ValueError(f"objective {price} is minimised, and the cost of a trial must be above 0.")
        # Seeded by the trial's number, which no two workers share: they would else all propose the same.
        rng = self._rng(trial.number)
        conditions = _conditions(search_space, [settings for settings, _ in complete])
        candidates = [_candidate(search_space, conditions, rng) for _ in range(CANDIDATES)]
        pending = [{n: v for n, v in t.params.items() if n in search_space} for t in busy]
        dimensions = {name: Dimension(name, _space(d)) for name, d in search_space.items()}
        costs = predict_log_cost(dimensions, [(s, values[price]) for s, values in complete], [*pending, *candidates])
        arms = [Arm(("done", i), s, [_milestone(v[price])], [v[quality]]) for i, (s, v) in enumerate(complete)]
        ahead = [[_milestone(math.exp(c))] for c in costs]
        arms += [Arm(("busy", i), s, m, pending=0) for i, (s, m) in enumerate(zip(pending, ahead, strict=False))]
        arms += [Arm(i, s, m) for i, (s, m) in enumerate(zip(candidates, ahead[len(pending) :], strict=True))]
        search = FrontSearch(dimensions, seed=zlib.crc32(f"{self._seed}/{trial.number}".encode()))
        chosen = search.decide(arms, may_wait=False).key  # Optuna has the trial run whatever is answered
        return dict(candidates[chosen]) if isinstance(chosen, int) else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter of which the search knows nothing yet, drawn at random."""
        return _draw(param_distribution, self._rng(trial.number, param_name))

    def _rng(self, *place: object) -> random.Random:
        return random.Random("/".join(map(str, (self._seed, *place))))


def predict_log_cost(
    dimensions: Mapping[str, Dimension],
    trials: Sequence[tuple[Mapping[str, Value], float]],
    candidates: Sequence[Mapping[str, Value]],
) -> list[float]:
    """Logarithms of the costs that candidates are expected to have.

    Ridge regression (Hoerl and Kennard 1970) of the logarithm of cost on numbers, logarithmic ones in their logarithm, scaled to
    their range, and on indicators of options; a parameter that is absent adds nothing.

    Args:
        dimensions: The space.
        trials: Settings with their cost, above 0; at least one.
        candidates: Settings.
    """
    mean = sum(math.log(cost) for _, cost in trials) / len(trials)
    if not candidates:
        return []
    table = np.array([_columns(dimensions, settings) for settings, _ in trials])
    y = np.array([math.log(cost) - mean for _, cost in trials])
    middle = table.mean(0)
    centred = table - middle
    # Centred, so that the penalty leaves the mean cost alone.
    weights = np.linalg.solve(centred.T @ centred + _RIDGE * np.eye(table.shape[1]), centred.T @ y)
    wanted = np.array([_columns(dimensions, settings) for settings in candidates])
    return [float(value) for value in mean + (wanted - middle) @ weights]


def _axes(study: optuna.Study) -> tuple[int, int]:
    """Which objective is the quality, and which the cost."""
    directions = list(study.directions)
    if sorted(directions) != [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]:
        told = ", ".join(d.name.lower() for d in directions)
        raise ValueError(
            f"FrontSampler needs one objective to maximise, a quality, and one to minimise, its cost; the study's directions are: "
            f"{told}. Use optuna.create_study(directions=['maximize', 'minimize'], …)."
        )
    return directions.index(StudyDirection.MAXIMIZE), directions.index(StudyDirection.MINIMIZE)


def _milestone(cost: float) -> Milestone:
    return Milestone(progress=1.0, labels=1.0, cost=cost)


_Conditions = Mapping[str, tuple[str, set[Any]] | None]


def _conditions(space: Mapping[str, BaseDistribution], seen: Sequence[Mapping[str, Any]]) -> _Conditions:
    """The condition of each parameter that trials may lack: a categorical parameter with the options that go with it, or None.

    A define-by-run space does not say when a parameter exists. Where the options of a categorical parameter part those that have it
    from those that lack it without exception, they are taken to decide on it.
    """
    conditions: dict[str, tuple[str, set[Any]] | None] = {}
    for name in space:
        having, lacking = [s for s in seen if name in s], [s for s in seen if name not in s]
        if not lacking:
            continue
        conditions[name] = None
        for other, distribution in space.items():
            if other == name or not isinstance(distribution, CategoricalDistribution) or any(other not in s for s in having):
                continue
            options = {s[other] for s in having}
            if not options & {s[other] for s in lacking if other in s}:
                conditions[name] = (other, options)
                break
    return conditions


def _candidate(space: Mapping[str, BaseDistribution], conditions: _Conditions, rng: random.Random) -> dict[str, Any]:
    """Parameters drawn at random, those alone that go with the options drawn."""
    drawn = {name: _draw(distribution, rng) for name, distribution in space.items()}

    def exists(name: str, depth: int = 0) -> bool:
        if name not in conditions:
            return True
        condition = conditions[name]
        if condition is None or depth > len(space):
            return False
        other, options = condition
        return drawn[other] in options and exists(other, depth + 1)

    return {name: value for name, value in drawn.items() if exists(name)}


def _space(distribution: BaseDistribution) -> Space:
    """The distribution as a space of the workbench."""
    if isinstance(distribution, CategoricalDistribution):
        return Choice(tuple(distribution.choices))
    if isinstance(distribution, IntDistribution):
        return Integers(distribution.low, distribution.high, distribution.log)
    number = cast(FloatDistribution, distribution)
    return Uniform(number.low, number.high, number.log)


def _draw(distribution: BaseDistribution, rng: random.Random) -> Any:
    """A value, evenly, or evenly in its logarithm."""
    if distribution.single():
        return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]
    value = _space(distribution).sample(rng)
    step = getattr(distribution, "step", None)
    if step is None or step == 1 or isinstance(distribution, CategoricalDistribution):
        return value
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    return min(high, low + step * round((cast(float, value) - low) / step))


def _columns(dimensions: Mapping[str, Dimension], settings: Mapping[str, Value]) -> list[float]:
    """A row of numbers for the regression."""
    row: list[float] = []
    for name, dimension in dimensions.items():
        space = dimension.space
        if isinstance(space, Choice):
            row += [float(name in settings and settings[name] == option) for option in space.names]
            continue
        assert isinstance(space, (Uniform, Integers))
        scale = math.log if space.log else float
        low, high = scale(space.low), scale(space.high)
        row += [float(name in settings), (scale(cast(float, settings[name])) - low) / (high - low) if name in settings else 0.0]
    return row
