"""Settings of the next run: spread over the space at first, then asked of a sampler."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence

from workbench.prices import Prices
from workbench.result import Result, originals
from workbench.search import optuna_study, spread
from workbench.space import Value, allowed
from workbench.study import Study

TPE = "optuna:TPESampler"
SPREAD_RUNS = 8
"""Runs that are spread over the space before the TPE sampler is asked."""

_ATTEMPTS = 8


def propose(
    study: Study,
    results: Sequence[Result],
    prices: Prices,
    *,
    sampler: str = TPE,
    seed: int = 0,
    admits: Callable[[Mapping[str, Value]], bool] = lambda settings: True,
) -> dict[str, Value] | None:
    """Settings of the next run, or None when every configuration of the space has been run, or none that is left is admitted.

    Args:
        study: The study.
        results: Its Results so far, those being made included: nothing is proposed that one of them covers.
        prices: Prices of compute and labels now.
        sampler: `optuna:CLASS`, a sampler of `optuna.samplers`. With TPE, the first `SPREAD_RUNS` runs are spread over
            the space instead.
        seed: Seed of all that is random here.
        admits: Whether settings may be run, e.g. within what is left of a budget.

    Raises:
        UsageError: There is no such sampler, or it cannot search this space.
    """
    results = originals(results)
    runs = optuna_study.last_words(results)
    # An interrupted run is taken up by whoever continues it: proposing its settings anew would make it twice.
    taken = {r.run_id: dict(r.settings) for r in results if r.status == "interrupted"}
    taken |= {run.run_id: dict(run.settings) for run in runs}
    others = list(taken.values())
    if len(others) >= SPREAD_RUNS or sampler != TPE:
        for attempt in range(_ATTEMPTS):
            chosen = zlib.crc32(f"{seed}/{len(results)}/{attempt}".encode())
            settings = optuna_study.ask(study, runs, prices, sampler, chosen)
            # A sampler with few categories proposes what was run again and again: a few other seeds, then the farthest free one.
            if allowed(study.dimensions, settings) and not spread.covered(settings, others) and admits(settings):
                return settings
    return spread.farthest(study, others, random.Random(f"{seed}/{len(results)}"), admits)
