"""What a decision is asked with, beside the study and its history: prices, wishes, limits, and states at hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from workbench.prices import Prices
from workbench.result import Room
from workbench.space import Value
from workbench.study import Recipe

DEFAULT = "front"
"""The sampler that is this package's own search; the others are `optuna:CLASS`."""

Admits = Callable[[Mapping[str, Value], float | None], bool]
"""Whether settings may be run until so many epochs (None: to their end), e.g. within what is left of a budget."""


@dataclass(frozen=True)
class CheckpointForecast:
    """A checkpoint that a recipe passes, as it is forecast.

    Attributes:
        epochs: Passes over the training examples by then.
        progress: Examples processed by then, repeats included.
        labels: Distinct labelled examples used by then.
        cost: Its cost from cold, in the study's first cost at the prices of now, labels included where that cost counts them;
            None: unknown.
        amount: What stands in for costs where they are unknown, in proportion: optimiser steps x parameters.
        load: The part of the cost that loading the model takes, which is spent once more when a frozen run is taken up.
        fits: Chance that it does not run out of memory.
    """

    epochs: float
    progress: float
    labels: float
    cost: float | None
    amount: float
    load: float = 0.0
    fits: float = 1.0


CheckpointForecasts = Callable[[Recipe], Sequence[CheckpointForecast]]
"""Tells the checkpoints that a recipe passes, shortest first, with their forecast costs."""


@dataclass(frozen=True)
class Costs:
    """What runs have cost and will cost: measured usage at these prices, and forecasts of what lies ahead at the same prices.

    Attributes:
        prices: Prices of compute and labels now.
        checkpoints: Forecasts of the checkpoints that a recipe passes.
        cold_start_cost: What a start from cold costs beside its checkpoint, in the study's first cost.
    """

    prices: Prices
    checkpoints: CheckpointForecasts
    cold_start_cost: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a study is searched.

    Attributes:
        sampler: `front`, or `optuna:CLASS`: then whole runs are proposed, and interrupted ones finished first.
        seed: Seed of all that is random in a decision.
        reference: The value of each objective at which a point adds nothing to the hypervolume; None leaves it to the search.
        stop_below: Stop when the best decision's `gain_per_usd` is below it; None never stops for that.
        may_wait: Whether a worker may wait for what others will find though it could do something: where that saves its cost.
            A machine that workers share costs the same meanwhile.
        ahead: How many steps more are decided at once, for other workers; only this package's own search does.
    """

    sampler: str = DEFAULT
    seed: int = 0
    reference: Mapping[str, float] | None = None
    stop_below: float | None = None
    may_wait: bool = True
    ahead: int = 0


def admit_all(settings: Mapping[str, Value], until: float | None) -> bool:
    """An `Admits` without limits."""
    return True


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What may still be begun and spent.

    Attributes:
        starts: How many runs may still be started; None for any number. Where none may, those begun go on while that is worth
            more than a new one. Where their number is bounded each start is worth what a whole run costs, or the share of `usd`
            that falls to it if that is less: the search weighs a start by that too, or it would use them up for the cheapest
            runs.
        usd: What may still be spent; None where that is not bounded.
        admits: Whether settings fit what is left.
    """

    starts: int | None = None
    usd: float | None = None
    admits: Admits = admit_all


@dataclass(frozen=True, kw_only=True)
class States:
    """What the worker that asks has: whose states are at hand, so that going on repeats nothing, and how much it holds.

    Attributes:
        cached: Ids of the runs whose last state is kept.
        current: Id of the run that is in memory now.
        room: What holds the models of its runs; None: unknown, and what ran out of memory anywhere is not tried again.
    """

    cached: Collection[str] = ()
    current: str | None = None
    room: Room | None = None
