"""A study's runs as the arms of the search: what was measured of them, and what is forecast of the rest."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.errors import UsageError
from workbench.prices import Prices
from workbench.result import COSTS, Result, by_run, cost, originals
from workbench.search import history
from workbench.search.arms import Arm, Milestone
from workbench.search.request import CheckpointForecast, CheckpointForecasts, Costs, States
from workbench.space import Value
from workbench.study import Recipe, Study

_MOST_RECIPES = 4096
"""How many recipes are remembered: resolving settings is half of the time of a decision on a small history, and most are met
again."""

_GROWTH = 1e-6
"""Relative amount by which a checkpoint costs more than the one before at least: measured costs can lie closer than their noise."""


@dataclass(frozen=True)
class Run:
    """A run that exists or could be started.

    Attributes:
        settings: The settings of its longest form.
        epochs: Passes over the training examples at each of its milestones.
        arm: What the search sees of it.
        run_id: Its id; None for one that could be started.
    """

    settings: Mapping[str, Value]
    epochs: Sequence[float]
    arm: Arm
    run_id: str | None = None

    @property
    def key(self) -> object:
        return self.arm.key

    @property
    def free(self) -> bool:
        """Whether it could be taken further now."""
        return self.arm.pending is None and not self.arm.infeasible and self.arm.done < len(self.arm.milestones)

    def until(self, count: int) -> Run:
        """The same run with at most its first `count` milestones; those that it has passed stay."""
        last = max(count, self.arm.done)
        return replace(self, epochs=self.epochs[:last], arm=replace(self.arm, milestones=self.arm.milestones[:last]))


def key_of(settings: Mapping[str, Value]) -> object:
    """What tells a run from the others of its study: all its settings but how long it goes."""
    return tuple(sorted((name, value) for name, value in settings.items() if name != "epochs"))


def new_runs(study: Study, drawn: Sequence[Mapping[str, Value]], forecasts: CheckpointForecasts) -> list[Run]:
    """The runs that could be started with these settings."""
    name = study.name
    return [_new(study, name, study.longest(settings), forecasts) for settings in drawn]


_recipes: dict[tuple[str, object], Recipe] = {}


def _new(study: Study, name: str, whole: dict[str, Value], forecasts: CheckpointForecasts) -> Run:
    key = key_of(whole)
    if (name, key) not in _recipes:
        if len(_recipes) >= _MOST_RECIPES:
            _recipes.clear()
        _recipes[name, key] = study.resolve(whole)
    ahead = forecasts(_recipes[name, key])
    costs = _filled(ahead)
    milestones = [Milestone(c.progress, c.labels, costs[i]) for i, c in enumerate(ahead)]
    return Run(whole, [c.epochs for c in ahead], Arm(key, _searched(whole), _rising(milestones), fits=ahead[-1].fits))


def known_runs(study: Study, results: Sequence[Result], costs: Costs, states: States) -> list[Run]:
    """The runs that Results tell of. One that the study as it stands does not contain is left out."""
    alone, runs = history.left_alone(results), []
    for run_id, segments in by_run(originals(results)).items():
        whole = study.longest(segments[-1].settings)
        try:
            recipe = study.resolve(whole)
        except UsageError:  # of an older form of the study
            continue
        # Data, model files or a task's code have changed since where the ids differ: that run is another one now.
        if recipe.run_id == run_id:
            run = _known(study, whole, segments, costs.prices, costs.checkpoints(recipe))
            unfit = run_id in alone or any(r.status == "infeasible" for r in segments)
            resume = 0.0 if run_id == states.current else run.arm.resume
            at_hand = run_id in states.cached or run_id == states.current
            runs.append(replace(run, run_id=run_id, arm=replace(run.arm, infeasible=unfit, cached=at_hand, resume=resume)))
    return runs


def _known(
    study: Study, whole: Mapping[str, Value], segments: Sequence[Result], at: Prices, ahead: Sequence[CheckpointForecast]
) -> Run:
    """A run: what it has passed as it was measured, what is ahead as it is forecast, at the ratio that the two have had so far."""
    passed = _passed(study, segments)
    ahead_costs = _filled(ahead)
    measured = [cost(r, study.costs[0], at.offer, at.label_usd) for r in passed]
    first = COSTS[study.costs[0]]
    usd_of_label = (first.of_labels(1, at.label_usd) or 0.0) if first.mixes_labels else 0.0
    ratio = _ratio(passed, measured, ahead, ahead_costs, usd_of_label)
    milestones, epochs = [], []
    for r, actual in zip(passed, measured, strict=True):
        guess = _at(ahead, ahead_costs, float(r.examples)) if actual is None else actual
        milestones.append(Milestone(float(max(1, r.examples)), float(max(1, r.labels)), guess))
        epochs.append(r.epochs)
    for c, forecast in zip(ahead, ahead_costs, strict=True):
        if not epochs or c.epochs > epochs[-1]:
            # A label has its price whatever machine is slow: only compute is scaled by the ratio.
            labels = c.labels * usd_of_label
            milestones.append(Milestone(c.progress, c.labels, (forecast - labels) * ratio + labels))
            epochs.append(c.epochs)
    losses = [r.scores["dev_loss"] for r in passed if "dev_loss" in r.scores]
    arm = Arm(
        key=key_of(whole),
        settings=_searched(whole),
        milestones=_rising(milestones),
        scores=[r.scores[study.maximize] for r in passed],
        losses=losses if len(losses) == len(passed) else (),
        slacks=[
            [slack(r.scores.get(name), bound) for r in passed]
            for name, bound in study.bounds.items()
            if passed and name != study.maximize
        ],
        pending=_pending(segments, epochs, len(passed)),
        resume=ahead[-1].load * ratio,
        fits=ahead[-1].fits,
    )
    return Run(whole, epochs, arm)


def slack(score: float | None, bound: Mapping[str, float]) -> float:
    """By how much a score keeps a bound, as `Study.bounds` has it; nan where it is unknown."""
    if score is None:
        return math.nan
    return score - bound["at_least"] if "at_least" in bound else bound["at_most"] - score


def _passed(study: Study, segments: Sequence[Result]) -> list[Result]:
    """The checkpoints that a run has passed, shortest first."""
    by_epochs = {r.epochs: r for r in segments if r.status == "complete" and study.maximize in r.scores}
    return [by_epochs[epochs] for epochs in sorted(by_epochs)]


def _pending(segments: Sequence[Result], epochs: Sequence[float], done: int) -> int | None:
    """The milestone to which a worker is taking the run now, by index; None when nobody is."""
    aims = [r.epochs for r in segments if r.status == "running"]
    if not aims:
        return None
    # One that is past all milestones, or ends one that is recorded already, is taken to the last.
    return next((i for i in range(done, len(epochs)) if epochs[i] >= max(aims)), len(epochs) - 1)


def _filled(ahead: Sequence[CheckpointForecast]) -> list[float]:
    """Costs of checkpoints; where some are unknown all are in proportion to the work, at the rate of those that are known."""
    rates = [c.cost / c.amount for c in ahead if c.cost is not None and c.cost > 0]
    rate = statistics.median(rates) if rates else 1.0
    return [c.amount * rate if c.cost is None or c.cost <= 0 else c.cost for c in ahead]


def _ratio(
    passed: Sequence[Result],
    measured: Sequence[float | None],
    ahead: Sequence[CheckpointForecast],
    costs: Sequence[float],
    usd_of_label: float,
) -> float:
    """Measured by forecast cost, labels left out, at the furthest checkpoint where both are known; 1 without one."""
    for r, actual in zip(reversed(passed), reversed(measured), strict=True):
        labels = r.labels * usd_of_label
        forecast = _at(ahead, costs, float(r.examples)) - labels
        if actual is not None and actual > labels and forecast > 0:
            return (actual - labels) / forecast
    return 1.0


def _at(ahead: Sequence[CheckpointForecast], costs: Sequence[float], progress: float) -> float:
    """The forecast cost at some progress: on straight lines between the checkpoints, and on the first and last of them beyond."""
    if len(ahead) < 2:
        return costs[0]
    i = next((i for i in range(1, len(ahead) - 1) if ahead[i].progress >= progress), len(ahead) - 1)
    low, high = ahead[i - 1], ahead[i]
    share = (progress - low.progress) / (high.progress - low.progress)
    return max(costs[i - 1] + share * (costs[i] - costs[i - 1]), 0.05 * costs[0])


def _rising(milestones: Sequence[Milestone]) -> list[Milestone]:
    """The same milestones, each costing more than the one before: a checkpoint further on never costs less."""
    rising: list[Milestone] = []
    for milestone in milestones:
        least = rising[-1].cost * (1 + _GROWTH) if rising else 1e-12
        rising.append(replace(milestone, cost=max(milestone.cost, least)))
    return rising


def _searched(settings: Mapping[str, Value]) -> dict[str, Value]:
    """What the search is told of settings: all but the length, which is the progress of the milestones."""
    # Epochs are no setting to the surrogate: runs that differ in nothing else are one run at two milestones.
    return {name: value for name, value in settings.items() if name != "epochs"}
