"""What a sweep may still spend. Spending is measured, never guessed, and the sweep stops before a
limit.

Three gates keep a budget, each for what the one before could not see. A run whose forecast does not
fit is not started. A run that would overrun, judged by its own speed, is stopped at the checkpoint
before. And a watch reads the meter four times a second, and stops whatever runs when only the
reserve is left. A budget is therefore passed by no more than `OVERSHOOT_SECONDS` of work.

Of several workers on one ledger each hears there what the others spend. While the ledger is away it
hears nothing, and waiting is spending: each takes all that it saw at work in the last minute to go
on spending at their machines' prices, and ends when that and its own work come to the budget. Of
what was left when they heard of each other last, R, each of N alike so spends R / N, working or
waiting, and the bill passes the budget by no more than it would with the ledger there. On no bill,
and told where it has ended a worker, is what one has waited since its last Result; nor are the wait
to hand in what it has made, and that of a worker that begins while the ledger is away, which knows
of no budget yet. Two things this cannot see: workers that have come since the last reading, and a
network that swallows what is sent, where a call takes up to half a minute to fail.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict

from workbench.estimate import Estimate
from workbench.forecast import CostForecast
from workbench.front.budgets import BudgetUse, budget_uses
from workbench.prices import Offer, Prices
from workbench.result import Result, Spending, spending
from workbench.sweep.limits import Limits
from workbench.sweep.periodic import Regularly

RESERVE_SECONDS = 1.0
"""Work that is kept back of every budget, to stop a run and to write down what it was."""

WATCH_SECONDS = 0.25
"""How often the meter is read against the budget: a reading takes 0.3 ms."""

OVERSHOOT_SECONDS = 2.0
"""By how many seconds of work a budget may be passed.

This is how long an operation that cannot be broken off takes beyond the reserve: one kernel, or
writing a Result and the state of a checkpoint. A state that takes longer to write passes the budget
by that time. Each of several sweeps on one ledger may pass it by so much, since each hears of the
others' spending once a second."""


class Budget:
    """The limits of a sweep at its prices.

    Args:
        limits: When to stop.
        offer: The machine that works.
        label_usd: What a label costs, in US$.
        gpus: How many of its GPUs the sweep holds.
    """

    def __init__(self, limits: Limits, offer: Offer, label_usd: float, *, gpus: int = 0) -> None:
        self.limits, self.offer, self.label_usd, self._gpus = limits, offer, label_usd, gpus

    @property
    def watched(self) -> bool:
        """Whether there is a budget that is used up while a run trains."""
        return (self.limits.max_hours, self.limits.max_usd, self.limits.max_energy_kwh) != (None, None, None)

    def spent(self, results: Sequence[Result]) -> Spending:
        """What all starts of the study have spent."""
        return spending(results, self.offer, self.label_usd)

    def reached(self, results: Sequence[Result]) -> str:
        """Which limit has been reached, in words; empty when none."""
        return self.limits.done(results) or self.exhausted(self.spent(results))

    def exhausted(self, spent: Spending) -> str:
        """Say which budget is spent but for its reserve, or cannot be kept because its spending is
        unknown; empty when there is none.
        """
        for bound in self._bounds(spent):
            # Taking an unknown amount for 0 would let the
            # sweep spend without limit. It ends instead.
            if bound.spent is None:
                return f"what was spent of {bound.words(bound.most)} cannot be measured here, so that budget cannot be kept"
            if bound.spent == 0 and self._reserve(bound, spent) >= bound.most:
                return f"the budget of {bound.words(bound.most)} is less than a second of work"
            if bound.spent + self._reserve(bound, spent) >= bound.most:
                return f"the budget of {bound.words(bound.most)} is spent ({bound.words(bound.spent)})"
        # Labels need no reserve: they are bought as a run
        # starts, and the budget may be used to the last.
        if self.limits.max_labels is not None and spent.labels > self.limits.max_labels:
            return f"the budget of {self.limits.max_labels:,} labels is spent ({spent.labels:,})"
        return ""

    def usd_left(self, spent: Spending) -> float | None:
        """US$ that may still be spent on compute, by the tighter of the limits in US$ and in hours;
        None where there is neither.
        """
        second = self.of_work(1.0, None, 0).usd
        worth = {"usd": 1.0, "seconds": second}
        known = [(bound.most - (bound.spent or 0.0), worth.get(bound.name)) for bound in self._bounds(spent)]
        return min((max(0.0, left) * usd for left, usd in known if usd is not None), default=None)

    def overrun(self, spent: Spending, more: Spending) -> str:
        """Say which budget `more` would pass: `$0.02, of $0.01 left`; empty when none. An unknown
        amount is not refused here: `exhausted` ends the sweep for it.
        """
        for bound, then in zip(self._bounds(spent), self._bounds(spent + more), strict=True):
            if bound.spent is not None and then.spent is not None and then.spent + self._reserve(bound, spent) > bound.most:
                return f"{bound.words(then.spent - bound.spent)}, of {bound.words(max(0.0, bound.most - bound.spent))} left"
        labels = spent.labels + more.labels
        if self.limits.max_labels is not None and labels > self.limits.max_labels:
            return f"{more.labels:,} more labels, of {self.limits.max_labels - spent.labels:,} left"
        return ""

    def of_work(self, seconds: float, energy_j: float | None, labels: int) -> Spending:
        """What so much work on this machine costs. Where `energy_j` is None, no budget of energy
        refuses it.
        """
        joules = None if energy_j is None else Estimate.exact(energy_j)
        return self.forecast(Estimate.exact(seconds), joules, labels).spending

    def forecast(self, seconds: Estimate, energy_j: Estimate | None, labels: int) -> CostForecast:
        """What so much work on this machine will cost, with its band."""
        paid = Prices(self.offer, self.label_usd)
        return CostForecast.here(seconds, energy_j, paid, gpus=self._gpus, labels=labels)

    def _bounds(self, spent: Spending) -> list[BudgetUse]:
        """The bounds of what is used up over time: all but that of labels."""
        return [bound for bound in budget_uses(spent, asdict(self.limits)) if bound.name != "labels"]

    def _reserve(self, bound: BudgetUse, spent: Spending) -> float:
        """What is kept back of a budget, in its own unit."""
        # The mean power of the sweep so far. Without a measurement no joules are kept back.
        watts = (spent.energy_j or 0.0) / spent.seconds if spent.seconds else 0.0
        rates = {"usd": float(self.offer.usd_per_hour) / 3600, "seconds": 1.0, "energy_j": watts}
        return rates[bound.name] * RESERVE_SECONDS


def watch(budget: Budget, spent: Callable[[], Spending], stop: Callable[[str], None]) -> contextlib.AbstractContextManager[object]:
    """Stops the main thread's work when a budget is spent but for its reserve, while it is entered.

    A sweep that does not run in the main thread cannot be broken off: there budgets end it at checkpoints alone.

    Args:
        budget: The budget.
        spent: What is spent until now, the work under way included. Called from another thread; may raise.
        stop: Is told the reason before the main thread is interrupted, as by SIGTERM.
    """
    # Python runs signal handlers in the main thread alone.
    if not budget.watched or threading.current_thread() is not threading.main_thread():
        return contextlib.nullcontext()

    def look() -> None:
        reason = budget.exhausted(spent())
        if reason:
            stop(reason)
            # A real signal, which a call that waits (a download) returns from: a simulated one would wait for it.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            looking.end()

    looking = Regularly(look, WATCH_SECONDS, name="budget")
    return looking
