"""The in-memory study that samplers see, rebuilt from Results for every proposal; and Optuna's samplers on it."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench import prices
from workbench.errors import UsageError, did_you_mean
from workbench.ledger import distribution
from workbench.prices import Prices
from workbench.result import Result, cost, originals
from workbench.search.runs import slack
from workbench.space import Dimension, Value
from workbench.study import Study

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler


def check_sampler(sampler: str, study: Study) -> None:
    """Raise UsageError unless `sampler` names one that can search the study's space."""
    if sampler == "front":
        return
    ask(study, [], Prices(prices.find(study.platform), study.label_usd), sampler, 0)


def last_words(results: Sequence[Result]) -> list[Result]:
    """What is to be said of each run: its furthest checkpoint, or that it is being made, or that it is infeasible.

    Of replicates nothing: they are no runs of the search.
    """
    last: dict[str, Result] = {}
    for result in originals(results):
        before = last.get(result.run_id)
        if result.status == "interrupted" or (before is not None and before.status == "infeasible"):
            continue
        if before is None or result.status == "infeasible" or result.epochs >= before.epochs:
            last[result.run_id] = result
    return list(last.values())


def ask(study: Study, runs: Sequence[Result], at: Prices, sampler: str, seed: int) -> dict[str, Value]:
    """Settings proposed by a sampler that was told of these runs. Raises UsageError when it cannot search this space."""
    dimensions = study.dimensions
    memory = rebuild(study, dimensions, runs, at, _sampler(sampler, seed))
    settings: dict[str, Value] = {}
    try:
        trial = memory.ask()
        for name, dimension in dimensions.items():
            if dimension.exists(settings):
                settings[name] = trial._suggest(name, distribution(dimension, checkpoints=False))
    except (ValueError, NotImplementedError, ImportError) as error:  # one objective only, finite spaces only, a package missing
        raise UsageError(f"{sampler} cannot search this study: {str(error).rstrip('.')}. Leave --sampler out.") from error
    return settings


def rebuild(
    study: Study,
    dimensions: Mapping[str, Dimension],
    runs: Sequence[Result],
    at: Prices,
    sampler: BaseSampler | None = None,
) -> optuna.Study:
    """The study in memory, one trial per run, valued at these prices.

    Samplers read only COMPLETE trials, so infeasible runs are told as such, with the worst values seen and a constraint. What the
    study requires is a constraint each as well: by how much a run misses it.
    """
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * len(study.costs)
    memory = optuna.create_study(directions=directions, sampler=sampler)
    values_of = {run.run_id: values for run in runs if (values := _values(study, run, at)) is not None}
    columns = list(zip(*values_of.values(), strict=True)) or [(0.0,)] * (1 + len(study.costs))
    # GPSampler and NSGA-II read only COMPLETE trials: a run that cannot be made must be one, and a bad one.
    worst = [min(columns[0]), *map(max, columns[1:])]
    missing = {run.run_id: [-slack(run.scores.get(name), bound) for name, bound in study.bounds.items()] for run in runs}
    # As far off as any that is known, and off in any case: of a run without the score nothing may be concluded from a 0.
    farthest = [max([1.0, *(amount for amount in each if not math.isnan(amount))]) for each in zip(*missing.values(), strict=True)]
    for run in runs:
        values = worst if run.status == "infeasible" else values_of.get(run.run_id)
        if values is None and run.status == "complete":
            continue
        amounts = zip(missing[run.run_id], farthest, strict=True)
        kept = [worst_amount if math.isnan(amount) else amount for amount, worst_amount in amounts]
        params = {n: v for n, v in run.settings.items() if n in dimensions and dimensions[n].space.contains(v)}
        memory.add_trial(
            create_trial(
                state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
                values=values,
                params=params,
                distributions={name: distribution(dimensions[name], checkpoints=False) for name in params},
                system_attrs={"constraints": [1.0 if run.status == "infeasible" else -1.0, *kept]},
            )
        )
    return memory


def _values(study: Study, run: Result, at: Prices) -> list[float] | None:
    """Score and costs of a run; None where it has none, or a cost is unknown."""
    if run.status != "complete":
        return None
    costs = [cost(run, name, at.offer, at.label_usd) for name in study.costs]
    return None if None in costs else [run.scores[study.maximize], *(c for c in costs if c is not None)]


def _sampler(sampler: str, seed: int) -> BaseSampler:
    prefix, _, name = sampler.partition(":")
    if prefix != "optuna" or name not in samplers():
        known = ["front", *(f"optuna:{each}" for each in samplers())]
        raise UsageError(f"there is no sampler {sampler!r}.{did_you_mean(sampler, known)}")
    wanted: dict[str, Any] = {
        "seed": seed,
        "constraints_func": lambda trial: trial.system_attrs["constraints"],
        "warn_independent_sampling": False,  # of settings that only some methods have: there is no other way
    }
    if name == "TPESampler":
        # A group per method: settings that a trial lacks say nothing about it. `propose` spreads the first runs itself.
        wanted |= {"multivariate": True, "group": True, "n_startup_trials": 1}
    return made(name, wanted)


@cache
def samplers() -> tuple[str, ...]:
    """Names of Optuna's samplers that need no more than a seed: others are given a grid, or another sampler."""
    import optuna

    return tuple(name for name in dir(optuna.samplers) if name.endswith("Sampler") and _needs_nothing(name))


def _needs_nothing(name: str) -> bool:
    import optuna

    needed = (p for p in arguments(name).values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD)
    return not inspect.isabstract(getattr(optuna.samplers, name)) and not any(needed)


def arguments(name: str) -> Mapping[str, inspect.Parameter]:
    """The arguments of a sampler of Optuna's, by name."""
    import optuna

    parameters = dict(inspect.signature(getattr(optuna.samplers, name).__init__).parameters)
    del parameters["self"]
    return parameters


def made(name: str, wanted: Mapping[str, Any]) -> BaseSampler:
    """A sampler of Optuna's with those of the arguments that it has."""
    import optuna

    takes = arguments(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler: BaseSampler = getattr(optuna.samplers, name)(**{key: value for key, value in wanted.items() if key in takes})
    return sampler
