"""What the commands that forecast share: the forecaster of a study, with what was timed and run here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench import cgroups
from workbench.cli.printing import messages
from workbench.cli.studies import ledger_url
from workbench.errors import EnvironmentFault, UsageError
from workbench.forecast import Calibration, Forecaster, Terms, calibration, trials_within
from workbench.ledger import Ledger
from workbench.meter import host
from workbench.prices import Offer, Prices
from workbench.quantities import banded, dollars, duration, many
from workbench.result import labels_bought, spent_usd
from workbench.search.spread import every
from workbench.space import Uniform

if TYPE_CHECKING:
    from workbench.estimate import Estimate
    from workbench.forecast import CostForecast, Typical
    from workbench.front.budgets import BudgetUse
    from workbench.result import Result
    from workbench.study import Study

CALIBRATION = calibration.FILE
"""Where `plan --calibrate` keeps what it timed, in the folder of the ledger."""

UNBOUNDED_RUNS = 100
"""How many runs are forecast of a sweep that nothing bounds."""

_BEGINS_MORE = "a sweep leaves most of its runs early, and so may begin more"
"""What a number of runs that a budget pays for has to be read with."""

_BUSY_SHARE = 0.25
"""The share of the CPUs in use from which a machine is busy. With one CPU of two in use by others,
a run on both can take many times as long.
"""


def forecaster_of(study: Study, storage: str | None, results: Sequence[Result] | None = None) -> Forecaster:
    """Return a forecaster that knows what was timed here, and the study's Results: those given, else those of its ledger."""
    return Forecaster(study, results_of(study, storage) if results is None else results, kept_calibration())


def most_runs(study: Study, trials: int | None) -> int | None:
    """Return how many runs a sweep makes at most, by its limit and by the settings that the study has; None for any number.

    The lengths of runs do not count, since a longer run goes on from a shorter one.
    """
    dimensions = {name: dimension for name, dimension in study.dimensions.items() if name != "epochs"}
    if any(isinstance(dimension.space, Uniform) for dimension in dimensions.values()):
        return trials
    bound = trials or UNBOUNDED_RUNS
    # Counted only up to the bound: a space can have millions of settings.
    settings = sum(1 for _ in every(dimensions, bound))
    return settings if settings < bound else trials


def expectation(taken: CostForecast | None, runs: int, offer: Offer, *, more: bool = False) -> str:
    """Say what so many runs of a sweep take: `12 runs are forecast to take 6 min (4 min to 9 min) …`.

    `taken` is what `forecast.of_runs` says of them at the offer. With `more` they are told as further runs.
    """
    count = many(runs, "more run") if more else f"{many(runs, 'run')} of this study"
    if taken is None:
        return f"What {count} will take is unknown."
    usd = "an unknown sum" if taken.usd is None else banded(taken.usd, dollars, basis=False)
    where = f" on {offer.name}" if taken.carried else ""
    verb = "is" if runs == 1 else "are"
    return f"{count} {verb} forecast to take {banded(taken.seconds, duration, basis=False)} and {usd}{where}, {basis_of(taken)}."


def budget_text(taken: CostForecast | None, runs: int, bounds: Sequence[BudgetUse], *, leaves: bool = True) -> str:
    """Say that a budget ends a sweep before so many runs; empty where none does, or that is unknown.

    Args:
        taken: What so many runs take.
        runs: The number of runs.
        bounds: The budgets of the sweep, and what is spent of each.
        leaves: Whether runs may be left before their end.
    """
    if taken is None:
        return ""
    shares = [
        (max(0.0, bound.most - bound.spent) / forecast.value, bound)
        for bound in bounds
        if bound.spent is not None
        and bound.name != "labels"
        and (forecast := taken.cost(bound.name)) is not None
        and forecast.value > 0
    ]
    # Of several budgets the one that is spent first ends the sweep.
    share, bound = min(shares, key=lambda pair: pair[0], default=(1.0, None))
    if bound is None or share >= 1:
        return ""
    count = share * runs
    left = f"What is left of {bound.words(bound.most)}" if bound.spent else f"The budget of {bound.words(bound.most)}"
    buys = f"about {count:.0f} of them" if count >= 1.5 else "about one of them" if count >= 0.75 else "less than one of them"
    return f"{left} is spent sooner: it pays for {buys}{f', run whole; {_BEGINS_MORE}' if leaves else ''}."


def basis_of(taken: CostForecast) -> str:
    """Return the basis of the seconds, with `scaled` beside it where they were carried over to another machine."""
    basis = taken.seconds.basis
    return f"{basis}, scaled" if taken.carried and basis != "scaled" else basis


def band(of: Estimate) -> str:
    """Write the band in short: `±8 %`, or `×/÷ 3` where it is wide."""
    if of.value <= 0:
        return ""
    # A band of a factor of 3 is no "±": what lies below would be negative.
    factor = of.high / of.value
    return f"±{100 * of.error:.0f} %" if factor < 1.5 else f"×/÷ {factor:.2g}"


@dataclass(frozen=True)
class Bought:
    """How many runs are left in a budget.

    Attributes:
        budget: US$ of the whole budget.
        label_usd: Price of a label in US$.
        spent: US$ of it that the study has spent already; None where that is unknown.
        trials: Number of runs that the rest pays for; None where that is unknown.
    """

    budget: float
    label_usd: float
    spent: float | None
    trials: Estimate | None

    @classmethod
    def of(cls, run: Typical | None, offer: Offer, budget: float, label_usd: float, results: Sequence[Result]) -> Bought:
        """Work it out at an offer, after these Results. `run` is None where some pair cannot be trained."""
        spent = spent_usd(results, offer, label_usd)
        if run is None or spent is None:
            return cls(budget, label_usd, spent, None)
        labels = max(labels_bought(results).values(), default=0)
        trials = trials_within(run, Terms(Prices(offer, label_usd)), budget, spent_usd=spent, labels_bought=labels)
        return cls(budget, label_usd, spent, trials)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"budget_usd": self.budget, "spent_usd": self.spent, "trials_within_budget": self.trials and asdict(self.trials)}

    @property
    def text(self) -> str:
        """Say it in a sentence."""
        trials, budget = self.trials, dollars(self.budget)
        if self.spent is None:
            return f"How many runs {budget} still buys is unknown: so is what this study has spent already."
        if trials is None:
            return f"How many runs {budget} buys is unknown: so is what some take."
        labels = f", labels at {dollars(self.label_usd)} bought once" if self.label_usd else ""
        more, so_far = (
            ("more ", f"Of {budget}, {dollars(self.spent)} of it spent already: the rest") if self.spent else ("", budget)
        )
        about = f"{trials.value:,.0f}"
        return (
            f"{so_far} buys about {about} {more}run{'' if about == '1' else 's'} ({trials.low:,.0f} to {trials.high:,.0f}; "
            f"{', '.join(filter(None, (trials.basis, trials.note)))}{labels}), run whole; {_BEGINS_MORE}."
        )


def keep_calibration(made: Calibration) -> None:
    """Write down what was timed."""
    CALIBRATION.parent.mkdir(exist_ok=True)
    CALIBRATION.write_text(json.dumps(made.to_json(), indent=1) + "\n", encoding="utf-8")


def kept_calibration() -> Calibration | None:
    """Return what was timed; None where nothing was, or where the file cannot be read, which is said: it can be made again."""
    try:
        return calibration.kept()
    except UsageError as error:
        messages.print(str(error), style="yellow", markup=False)
        return None


def results_of(study: Study, storage: str | None) -> list[Result]:
    """Return the study's Results; none where it was not swept."""
    # A forecast needs no ledger: it is asked for before the first sweep too.
    with contextlib.suppress(UsageError, EnvironmentFault):
        return Ledger.find(study.name, ledger_url(storage), study=study).results()
    return []


def warn_if_busy() -> bool:
    """Return whether others use this machine's processors now, and say then that times may come out too long.

    The load average covers the last minute, in which another sweep may have ended. Where it is high, the processors are
    looked at for half a second.
    """
    cpus = cgroups.cpus_held()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    # The load alone still counts a sweep that has just
    # ended: the machine was then called busy for a minute.
    if load > _BUSY_SHARE * cpus and _cpus_in_use() > _BUSY_SHARE * cpus:
        text = f"This machine is busy (load {load:.1f} on {cpus} CPUs): times can come out many times too long."
        messages.print(text, style="yellow", markup=False)
        return True
    return False


def _cpus_in_use() -> float:
    """Return how many CPUs of this machine are busy during the next half second."""
    began, busy = time.perf_counter(), host.cpu_time().busy_s
    time.sleep(0.5)
    return (host.cpu_time().busy_s - busy) / (time.perf_counter() - began)
