"""What to run next, decided on plain Results.

Every decision is made from the Results at the current prices, so a new price or a restart changes nothing but the numbers, and
the same history and seed give the same decision.

    next_run      the next step: start a run, continue one to a checkpoint, wait, or stop
    request       what a decision is asked with: prices, strategy, allowance, states at hand
    runs          a study's runs as arms: what was measured, what is forecast
    history       which runs were broken off, and which are better left alone
    arms          what the search chooses between, on plain numbers
    first_runs    the runs for which no model is asked: those that try each option once, and those that are drawn
    engine        the search itself: one index over new and frozen runs
    propose       settings of the next whole run, by an Optuna sampler
    optuna_study  the in-memory study, and Optuna's samplers on it
    sampler       `FrontSampler`, the search for a plain Optuna study
    spread        settings far from all that were run, and what is covered by them
    bounds        the chance that a checkpoint keeps what is required
    baseline      Optuna's samplers as peers in a comparison of searches, on plain settings
    features      settings as columns of numbers
    improvement   how much a run that goes on is expected to grow the hypervolume
    quality       what is believed of every checkpoint's score
    surrogate     a Gaussian process over runs and their progress
    warp          scores as numbers that a Gaussian process can model, and back
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workbench.search.history import MAX_INTERRUPTIONS, begun, left_alone, unfinished
from workbench.search.next_run import LEARNING_RUNS, End, Step, check_stop_below, decide
from workbench.search.optuna_study import check_sampler
from workbench.search.propose import SPREAD_RUNS, propose
from workbench.search.request import DEFAULT, Allowance, CheckpointForecast, Costs, States, Strategy

if TYPE_CHECKING:
    from workbench.search.sampler import FrontSampler

__all__ = [
    "DEFAULT",
    "End",
    "LEARNING_RUNS",
    "MAX_INTERRUPTIONS",
    "SPREAD_RUNS",
    "Allowance",
    "CheckpointForecast",
    "Costs",
    "FrontSampler",
    "States",
    "Step",
    "Strategy",
    "begun",
    "check_sampler",
    "check_stop_below",
    "decide",
    "left_alone",
    "propose",
    "unfinished",
]


def __getattr__(name: str) -> Any:
    """`FrontSampler` is a class of Optuna's, which is imported only when it is asked for."""
    if name == "FrontSampler":
        return importlib.import_module("workbench.search.sampler").FrontSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
