"""What a free worker does next, in settings: the runs of a study put before the search as arms, and its decision read back.

The first of several costs is the one that the search divides by; the others are measured, and shape the front that is shown.
"""

from __future__ import annotations

import functools
import math
import random
import statistics
import zlib
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from workbench.errors import UsageError
from workbench.prices import Prices
from workbench.result import COSTS, Result, originals, seen_from
from workbench.search import history
from workbench.search.arms import Arm, Decision
from workbench.search.propose import propose
from workbench.search.request import DEFAULT, Admits, Allowance, CheckpointForecasts, Costs, States, Strategy
from workbench.search.runs import Run, key_of, known_runs, new_runs
from workbench.search.spread import every
from workbench.space import Dimension, Uniform, Value, draw
from workbench.study import Study

if TYPE_CHECKING:
    from workbench.search.engine import Reference

POOL = 300
"""Configurations that could be started and are compared at each decision."""

PARTS = 4
"""The pool is drawn in so many parts, of which one is drawn anew with each run that begins."""

TRY_SHARE = 0.1
"""To try a method or a model of which nothing is known costs at most this share of what may still be spent."""

LEARNING_RUNS = 8
"""No sweep ends for want of growth before so many runs have a score: until then nothing is known of what growth to expect."""


class End(StrEnum):
    """Why nothing is left to do, whatever else there is to say."""

    EXHAUSTED = "every configuration of the space has been run"
    NO_START = "no more runs may be started"


@dataclass(frozen=True)
class Step:
    """What to do next, in settings.

    Attributes:
        action: `start` a run, `continue` one, `wait` until another worker has recorded something, or `stop`.
        settings: Settings of the run, its `epochs` being how far it may go at most; None where there is no run.
        until: Epochs of the checkpoint it is taken to before the search is asked again; None: to its end.
        gain_per_usd: Expected growth of the hypervolume, in score x decades of cost, for a US$; None where it is not known.
        reason: Why, in words for people; no program reads it.
        end: Why there is nothing to do, where it is one of these.
        further: What other workers may do, decided by the same model: each step with those before it taken as under way.
    """

    action: str
    settings: dict[str, Value] | None = None
    until: float | None = None
    gain_per_usd: float | None = None
    reason: str = ""
    end: End | None = None
    further: tuple[Step, ...] = ()

    @classmethod
    def ended(cls, action: str, end: End, gain_per_usd: float | None = None) -> Step:
        """Nothing is to be done, for a reason that programs go by."""
        return cls(action, gain_per_usd=gain_per_usd, reason=end.value, end=end)


def decide(
    study: Study,
    results: Sequence[Result],
    costs: Costs,
    strategy: Strategy | None = None,
    allowance: Allowance | None = None,
    states: States | None = None,
) -> Step:
    """What a free worker does next. The same history, prices and seed give the same decision.

    Args:
        study: The study.
        results: Its Results so far, those being made included; a running one's `epochs` are those it is taken to.
        costs: Prices now, and what lies ahead of recipes at these prices.
        strategy: Who decides, and by what; None: this package's own search.
        allowance: What may still be begun and spent; None: anything.
        states: Which runs can be gone on with at no cost but their own, and what the device holds; None: none, and unknown.

    Raises:
        UsageError: There is no such sampler, it cannot search this space, or `stop_below` is asked of what has no US$.
    """
    strategy, allowance, states = strategy or Strategy(), allowance or Allowance(), states or States()
    begun, results = history.begun(results), seen_from(results, states.room)
    if strategy.sampler != DEFAULT:
        return _whole(study, results, costs.prices, strategy, allowance)
    from workbench.search.engine import FrontSearch

    # Replicates of a confirmation are no runs of the search: their new seeds would count as new evidence of one point.
    results = originals(results)
    usd = _usd_per_cost(study, costs.prices)
    if strategy.stop_below is not None:
        check_stop_below(study, costs.prices)
    runs = known_runs(study, results, costs, states)
    dimensions = {name: dimension for name, dimension in study.dimensions.items() if name != "epochs"}
    admits = allowance.admits
    # What a person asked for, or what a stop broke off, is not weighed again: it had been the best there was.
    before = _before_all(runs, results, admits, begun if allowance.starts == 0 else None)
    if before is not None:
        return before
    runs = _with_pool(runs, study, dimensions, strategy.seed, costs.checkpoints)
    engine = FrontSearch(dimensions, seed=_salt(strategy.seed, len(results)), reference=_reference(study, strategy))
    # With twelve starts and no penalty of a start a sweep began twelve of the cheapest runs, and ended with most of its
    # money unspent.
    penalty = _start_penalty(runs, allowance, usd)
    ask = functools.partial(
        engine.decide,
        cold_start_cost=costs.cold_start_cost,
        start_penalty=penalty,
        try_within=_try_within(len(begun), allowance, usd),
        may_wait=strategy.may_wait,
    )
    chosen, decision = _admitted(ask, runs, admits)
    if chosen is not None and chosen.run_id not in begun and allowance.starts == 0:
        if decision.gain > 0:  # it would add more than any run that there is
            return _idle(runs, End.NO_START, _gain_per_usd(decision, usd))
        # Drawn as one of the first, of which nothing is known: those that there are can still say something.
        chosen, decision = _admitted(ask, [run for run in runs if run.run_id in begun], admits)
        if chosen is None:
            return _idle(runs, End.NO_START)
    if chosen is None:
        return Step.ended("stop", End.EXHAUSTED) if decision.action == "stop" else Step(decision.action, reason=decision.reason)
    gain_per_usd = _gain_per_usd(decision, usd)
    reason = _no_use(gain_per_usd, strategy.stop_below, sum(run.arm.done > 0 for run in runs))
    if reason:
        return _idle(runs, reason, gain_per_usd)
    more = _further(functools.partial(ask, known=True), runs, (chosen, decision), admits, (strategy.ahead, allowance.starts))
    return replace(_step(chosen, decision, gain_per_usd), further=tuple(_step(*each, None) for each in more))


def _reference(study: Study, strategy: Strategy) -> Reference:
    """The point from which gains are counted: the strategy's, and none below the least score that the study takes."""
    from workbench.search.engine import Reference

    origin = strategy.reference
    reference = Reference() if origin is None else Reference(score=origin[study.maximize], cost=origin[study.costs[0]])
    if study.maximize not in study.bounds:
        return reference
    # Of a bound of the score itself no model is needed: what is below it adds nothing.
    least = study.bounds[study.maximize]["at_least"]
    return replace(reference, score=least if reference.score is None else max(least, reference.score))


def _step(chosen: Run, decision: Decision, gain_per_usd: float | None) -> Step:
    action = "start" if chosen.run_id is None else "continue"
    return Step(action, dict(chosen.settings), chosen.epochs[decision.milestone], gain_per_usd, decision.reason)


def _further(
    ask: Callable[[list[Arm]], Decision],
    runs: Sequence[Run],
    first: tuple[Run, Decision],
    admits: Admits,
    most: tuple[int, int | None],
) -> Iterator[tuple[Run, Decision]]:
    """What comes after a decision while it is carried out, by the same model.

    Args:
        ask: Decides by what was learnt before.
        runs: The runs that the first decision was made between.
        first: The run that it chose, and the decision.
        admits: Whether settings fit what is left.
        most: How many steps, and how many runs may still be started, the first one included; None for any number.
    """
    (chosen, decision), (count, starts) = first, most
    for _ in range(count):
        if starts is not None and chosen.run_id is None:
            starts -= 1
        taken = replace(chosen, arm=replace(chosen.arm, pending=decision.milestone))
        runs = [taken if run.key == chosen.key else run for run in runs]
        following, decision = _admitted(ask, runs, admits)
        if following is None or (following.run_id is None and starts == 0):
            return
        chosen = following
        yield chosen, decision


def _before_all(runs: Sequence[Run], results: Sequence[Result], admits: Admits, among: Collection[str] | None) -> Step | None:
    """What comes before anything is weighed, if it fits: another try that a person asked for, or what was stopped on its way.

    What was stopped goes to where it was going: that was the best there was. Only runs in `among` are considered when no new
    run may start; None considers all.
    """
    again, stopped = history.asked_again(results), history.stopped(results)
    for run in runs:
        if not run.free or run.run_id is None or (among is not None and run.run_id not in among):
            continue
        until = run.epochs[run.arm.done]
        if run.run_id in again and admits(run.settings, until):
            return Step("continue", dict(run.settings), until, reason="you asked for another try")
        until = next((e for e in run.epochs[run.arm.done :] if e >= stopped.get(run.run_id, math.inf)), math.inf)
        if until < math.inf and admits(run.settings, until):
            return Step("continue", dict(run.settings), until, reason="it was stopped on its way")
    return None


def _idle(runs: Sequence[Run], reason: str | End, gain_per_usd: float | None = None) -> Step:
    """There is nothing to do now; while others are at work, what they find may change that."""
    busy = any(run.arm.pending is not None for run in runs)
    action = "wait" if busy else "stop"
    if isinstance(reason, End):
        return Step.ended(action, reason, gain_per_usd)
    return Step(action, gain_per_usd=gain_per_usd, reason=reason)


def check_stop_below(study: Study, at: Prices, sampler: str = DEFAULT) -> None:
    """Raise UsageError unless growth for a US$ is known: by this package's own search, where the first cost has a price."""
    if sampler != DEFAULT:
        raise UsageError(
            f"--stop-below is for the sampler front, as {sampler} tells no growth that it expects. Leave one of them out."
        )
    if _usd_per_cost(study, at) is None:
        raise UsageError(f"growth for a US$ is not known of a study that minimises {study.costs[0]}: leave --stop-below out.")


def _usd_per_cost(study: Study, at: Prices) -> float | None:
    """US$ for one unit of the study's first cost; None where it has no price."""
    return COSTS[study.costs[0]].usd_each(at.offer, at.label_usd)


def _whole(study: Study, results: Sequence[Result], at: Prices, strategy: Strategy, allowance: Allowance) -> Step:
    """The next whole run: one that was interrupted, else what an Optuna sampler proposes."""

    def admits(settings: Mapping[str, Value]) -> bool:
        return allowance.admits(settings, None)

    waiting = [dict(r.settings) for r in history.unfinished(results) if admits(r.settings)]
    if waiting:
        return Step("continue", waiting[0], reason="it was interrupted")
    if allowance.starts == 0:
        return Step.ended("stop", End.NO_START)
    settings = propose(study, results, at, sampler=strategy.sampler, seed=strategy.seed, admits=admits)
    if settings is None:
        return Step.ended("stop", End.EXHAUSTED)
    return Step("start", settings, reason=f"proposed by {strategy.sampler}")


def _with_pool(
    runs: Sequence[Run], study: Study, dimensions: Mapping[str, Dimension], seed: int, checkpoints: CheckpointForecasts
) -> list[Run]:
    """The runs, and those that could be started: all that are left of a small space, else `POOL` drawn from it.

    A part of the pool is drawn anew with each run that begins, so that a space of real numbers is not searched in the same
    places for ever.
    """
    taken = {run.key for run in runs}
    drawn: list[dict[str, Value]] = []
    for part in range(PARTS):
        rng = random.Random(_salt(seed, len(taken) - part))
        drawn += [draw(dimensions, rng) for _ in range(-(-POOL // PARTS))]
    # How often a configuration was drawn is kept before duplicates go: it is the share of the space that it stands for.
    times = Counter(map(key_of, drawn))
    if not any(isinstance(dimension.space, Uniform) for dimension in dimensions.values()):
        drawn += every(dimensions, POOL + len(taken))
    fresh: dict[object, dict[str, Value]] = {}
    for settings in drawn:
        key = key_of(settings)
        if key not in taken and len(fresh) < POOL:
            fresh.setdefault(key, settings)
    pool = [*runs, *new_runs(study, list(fresh.values()), checkpoints)]
    # A method that has no settings, as one that only asks, would else stand once beside hundreds of another's learning rates.
    return [replace(run, arm=replace(run.arm, drawn=max(1, times[run.key]))) for run in pool]


def _start_penalty(runs: Sequence[Run], allowance: Allowance, usd_per_cost: float | None) -> float:
    """What is added to the cost of a new run when it is weighed, in the study's first cost: what one
    of the starts that are left is worth; 0 where their number is not bounded.

    Whoever bounds the runs alone would pay for so many whole ones. On recorded runs, with twelve starts, that finds more of the
    hypervolume on four tables of six and as much on two (`tests/benchmarks/results/starts.json`).
    """
    whole = [run.arm.milestones[-1].cost for run in runs if not run.arm.done]
    if allowance.starts is None or not whole:
        return 0.0
    mean = statistics.fmean(whole)
    if allowance.usd is None or not usd_per_cost or not allowance.starts:
        return mean
    return min(mean, max(0.0, allowance.usd) / usd_per_cost / allowance.starts)


def _try_within(begun: int, allowance: Allowance, usd_per_cost: float | None) -> float:
    """What a run may cost that is begun only to try an option that no run had, in the study's first cost."""
    # A third of the starts is kept for what the first ones show: with more methods than starts nothing would be found out else.
    if allowance.starts is not None and 3 * begun >= 2 * (begun + allowance.starts):
        return 0.0
    if allowance.usd is None or not usd_per_cost:
        return math.inf
    return TRY_SHARE * max(0.0, allowance.usd) / usd_per_cost


def _admitted(ask: Callable[[list[Arm]], Decision], runs: Sequence[Run], admits: Admits) -> tuple[Run | None, Decision]:
    """The first decision that is admitted, and its run.

    All other runs are asked about only when one is refused: `admits` forecasts each, and most decisions are admitted.
    """
    # The second pass asks `admits` of every run, which forecasts it: on most decisions the first one is enough.
    for left in (runs, None):
        if left is None:
            left = [short for run in runs if (short := _shortened(run, admits)) is not None]
        decision = ask([run.arm for run in left])
        chosen = next((run for run in left if run.key == decision.key), None) if decision.action in ("start", "continue") else None
        if chosen is None or admits(chosen.settings, chosen.epochs[decision.milestone]):
            break
    return chosen, decision


def _shortened(run: Run, admits: Admits) -> Run | None:
    """The run with only those of its milestones that are admitted; None when none is, and it has passed none.

    Where one is refused so are those beyond it, which cost more: hence the bisection.
    """
    if not run.free:
        return run
    admitted = bisect(run.epochs, False, lo=run.arm.done, key=lambda until: not admits(run.settings, until))
    return run.until(admitted) if admitted else None


def _gain_per_usd(decision: Decision, usd: float | None) -> float | None:
    """Growth for a US$ in score x decades of cost, as `front.hypervolume` has it; the search uses natural logarithms."""
    if usd is None or decision.spend <= 0 or not math.isfinite(decision.gain):
        return None
    return decision.gain / math.log(10) / (decision.spend * usd)


def _no_use(gain_per_usd: float | None, stop_below: float | None, scored: int) -> str:
    """Why nothing more should be spent, in words; empty when something should."""
    if stop_below is None or gain_per_usd is None or gain_per_usd >= stop_below or scored < LEARNING_RUNS:
        return ""
    growth = f"{gain_per_usd:.3g} to the hypervolume (score x decades of cost)"
    return f"the next US$ is expected to add {growth}, less than {stop_below:g}"


def _salt(seed: int, length: int) -> int:
    """A seed for a history of this length."""
    return zlib.crc32(f"{seed}/{length}".encode())
