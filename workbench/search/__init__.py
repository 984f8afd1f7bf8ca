"""What to run next: proposals made from plain Results.

Every proposal comes from a sampler on an in-memory study that is rebuilt from the Results at the current prices, so a new
price or a restart changes nothing but the numbers, and the same history and seed give the same proposal.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError, did_you_mean
from workbench.ledger import distribution
from workbench.prices import Offer
from workbench.result import Result, cost
from workbench.space import Choice, Dimension, Integers, Uniform, Value, sample
from workbench.study import Study

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

DEFAULT = "optuna:TPESampler"
STARTS = 8
"""Runs that are spread over the space before the sampler is asked."""

_ATTEMPTS = 64


def propose(
    study: Study, results: Sequence[Result], *, offer: Offer, label_usd: float, sampler: str = DEFAULT, seed: int = 0
) -> dict[str, Value] | None:
    """Settings of the next run, or None when every configuration of the space has been run.

    Args:
        study: The study.
        results: Its Results so far, those being made included: nothing is proposed that one of them covers.
        offer: Price of compute now.
        label_usd: Price of a label now.
        sampler: `optuna:CLASS`, a sampler of `optuna.samplers`. The first `STARTS` runs are spread over the space instead.
        seed: Of all that is random here.

    Raises:
        UsageError: There is no such sampler, or it cannot be used for several objectives.
    """
    make = _sampler_class(sampler)
    runs = _runs(results)
    taken = [dict(run.settings) for run in runs]
    if len(runs) < STARTS and sampler == DEFAULT:
        return _spread(study, taken, random.Random(f"{seed}/{len(runs)}"))
    for attempt in range(_ATTEMPTS // 8):
        settings = _ask(study, runs, offer, label_usd, make, zlib.crc32(f"{seed}/{len(runs)}/{attempt}".encode()))
        if not _covered(settings, taken):
            return settings
    return _spread(study, taken, random.Random(f"{seed}/{len(runs)}"))


def check_sampler(sampler: str) -> None:
    """Raise UsageError unless `sampler` names one that can be used."""
    _sampler_class(sampler)


def _sampler_class(sampler: str) -> Any:
    import optuna

    prefix, _, name = sampler.partition(":")
    known = [n for n in dir(optuna.samplers) if n.endswith("Sampler") and n not in ("BaseSampler", "GridSampler", "PartialFixedSampler")]
    if prefix != "optuna" or name not in known:
        raise UsageError(f"there is no sampler {sampler!r}.{did_you_mean(sampler, [f'optuna:{n}' for n in known])}")
    return getattr(optuna.samplers, name)


def _runs(results: Sequence[Result]) -> list[Result]:
    """The last word on each run: its furthest checkpoint, or what is running, or that it is infeasible."""
    last: dict[str, Result] = {}
    for result in results:
        if result.status == "interrupted":
            continue
        before = last.get(result.run_id)
        if before is None or result.status == "infeasible" or before.status != "infeasible" and result.epochs >= before.epochs:
            last[result.run_id] = result
    return list(last.values())


def _ask(study: Study, runs: Sequence[Result], offer: Offer, label_usd: float, make: Any, seed: int) -> dict[str, Value]:
    import optuna

    directions = ["maximize"] + ["minimize"] * len(study.costs)
    memory = optuna.create_study(directions=directions, sampler=_make(make, seed))
    spaces = {name: _searched(dimension) for name, dimension in study.dimensions.items()}
    values = {id(run): [run.scores[study.maximize], *(cost(run, c, offer, label_usd) or 0.0 for c in study.costs)] for run in runs if run.status == "complete"}
    worst = [pick(column) for pick, column in zip([min] + [max] * len(study.costs), zip(*values.values(), strict=True), strict=False)]
    for run in runs:
        params = {name: value for name, value in run.settings.items() if name in spaces and study.dimensions[name].space.contains(value)}
        state = optuna.trial.TrialState.COMPLETE
        if run.status == "running":
            state = optuna.trial.TrialState.RUNNING
        elif run.status == "infeasible" and not worst:
            continue
        memory.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=params,
                distributions={name: spaces[name] for name in params},
                values=None if run.status == "running" else values.get(id(run), worst),
                # Samplers read only COMPLETE trials: infeasible runs are told with the worst values seen and a constraint.
                system_attrs={"constraints": [1.0 if run.status == "infeasible" else -1.0]},
            )
        )
    trial = memory.ask()
    settings: dict[str, Value] = {}
    for name, dimension in study.dimensions.items():
        if dimension.exists(settings):
            settings[name] = trial._suggest(name, spaces[name])
    return settings


def _make(make: Any, seed: int) -> BaseSampler:
    import inspect
    import warnings

    known = inspect.signature(make.__init__).parameters
    wanted: dict[str, Any] = {"seed": seed, "constraints_func": lambda trial: trial.system_attrs["constraints"]}
    if make.__name__ == "TPESampler":
        # A group per method: settings that a trial lacks say nothing about it.
        wanted |= {"multivariate": True, "group": True, "n_startup_trials": STARTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler: BaseSampler = make(**{name: value for name, value in wanted.items() if name in known})
    return sampler


def _searched(dimension: Dimension) -> Any:
    """The distribution that is searched: the ledger's, but for epochs, where it is the study's own."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = dimension.space
    if dimension.name != "epochs":
        return distribution(dimension)
    if isinstance(space, Choice):
        return CategoricalDistribution(space.labels)
    assert isinstance(space, (Uniform, Integers))
    return (IntDistribution if isinstance(space, Integers) else FloatDistribution)(space.low, space.high, log=space.log)  # type: ignore[arg-type]


def _spread(study: Study, taken: Sequence[Mapping[str, Value]], rng: random.Random) -> dict[str, Value] | None:
    """Of random settings those farthest from all that were run: every method and model comes early."""
    best: tuple[float, dict[str, Value]] | None = None
    for _ in range(_ATTEMPTS * (1 if len(taken) < STARTS else 8)):
        settings = sample(study.recipe, rng)
        if _covered(settings, taken):
            continue
        distance = min((_distance(study, settings, other) for other in taken), default=0.0)
        # The nearest run alone leaves many ties between categories: how often an option was used breaks them.
        crowd = sum(1.0 for other in taken for name, value in settings.items() if name in _options(study) and other.get(name) == value)
        score = distance - crowd / (1 + len(taken))
        if best is None or score > best[0]:
            best = score, settings
    return best[1] if best else None


def _options(study: Study) -> list[str]:
    return [name for name, dimension in study.dimensions.items() if isinstance(dimension.space, Choice)]


def _distance(study: Study, a: Mapping[str, Value], b: Mapping[str, Value]) -> float:
    """Mean over dimensions that both have: 0 or 1 for options, the share of the range for numbers."""
    total = count = 0.0
    for name, dimension in study.dimensions.items():
        if name not in a or name not in b:
            continue
        count += 1
        total += _difference(dimension, a[name], b[name])
    return total / count if count else 1.0


def _difference(dimension: Dimension, x: Value, y: Value) -> float:
    space = dimension.space
    if isinstance(space, Choice):
        return float(x != y)
    assert isinstance(space, (Uniform, Integers)) and isinstance(x, (int, float)) and isinstance(y, (int, float))
    scale = math.log if space.log else float
    return min(1.0, abs(scale(x) - scale(y)) / (scale(space.high) - scale(space.low)))


def _covered(settings: Mapping[str, Value], taken: Sequence[Mapping[str, Value]]) -> bool:
    """Whether a run with the same settings went at least as far: its checkpoints hold this one."""
    for other in taken:
        if all(other.get(name) == value for name, value in settings.items() if name != "epochs") and len(other) >= len(settings):
            mine, theirs = settings.get("epochs"), other.get("epochs")
            if mine is None or theirs is None or float(theirs) >= float(mine):
                return True
    return False
