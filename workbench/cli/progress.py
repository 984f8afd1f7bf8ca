"""The lines that a sweep prints while it works, and the live line below them on a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.live import Live
from rich.text import Text

from workbench.cli.printing import messages
from workbench.front.budgets import seconds_left
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.quantities import count, duration, many
from workbench.report.answers import cost_text
from workbench.report.progress import spent_text
from workbench.report.text import settings_text
from workbench.result import Result, Spending, originals
from workbench.sweep import Budget, Observer
from workbench.sweep.periodic import Regularly
from workbench.training.batches import steps_for

if TYPE_CHECKING:
    from workbench.ledger import Lease

REFRESHES_PER_SECOND = 4

QUIET_SECONDS = 30.0
"""Where nothing moves, off a terminal or with --no-progress, a line says at least this often that the work goes on."""

_LOOKS_SECONDS = 1.0
"""How often it is looked whether such a line is due."""


class Progress(Observer):
    """An observer of the sweep that prints one line as a run begins and one per Result; on a terminal also one that moves, and
    elsewhere one where nothing has been said for a while.

    Epochs are told of those that the run may have in all: `to 1 of 2 epochs`, `at 0.5 of 2 epochs`.

    Args:
        view: Prices and objectives.
        budget: The budget of the sweep.
        ahead: Returns the seconds that what is planned will still take after these Results; None where that is unknown, or
            nothing is planned.
        clock: Gives seconds.
    """

    def __init__(
        self,
        view: View,
        budget: Budget,
        ahead: Callable[[Sequence[Result]], float | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._budget, self._trials, self._ahead = view, budget, budget.limits.trials, ahead
        self._limits, self._clock = dataclasses.asdict(budget.limits), clock
        # Of several workers' lines the supervisor has none to say: it is told of nothing that is done.
        self._doing, self._since, self._said = "", clock(), clock()
        self._run = self._score = self._tail = self._spent = self._left = ""
        self._target = self._whole = 0.0
        # Transient: the moving line leaves nothing behind among the lines that stay.
        self._live = Live(get_renderable=self._line, console=messages, refresh_per_second=REFRESHES_PER_SECOND, transient=True)
        self._beside = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        if messages.moves:
            self._live.start(refresh=True)
        elif not messages.quiet:
            self._beside.enter_context(Regularly(self.beat, _LOOKS_SECONDS, name="progress"))
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._beside.close()

    def beat(self) -> None:
        """Print what goes on, where nothing has been printed for `QUIET_SECONDS`. From another thread."""
        now = self._clock()
        if self._doing and now - self._said >= QUIET_SECONDS:
            self._print(f"    {self._now(now)}")

    def note(self, text: str) -> None:
        """Print a message."""
        self._print(text, style="yellow")

    def doing(self, text: str) -> None:
        """Say what goes on from now."""
        self._doing, self._since = text, self._clock()

    def started(self, lease: Lease, run: int, target: float, *, whole: float, since: float) -> None:
        """Print that a run begins or goes on."""
        result = lease.result
        settings = settings_text(result)
        labels = _labels(result.recipe, target)
        epochs = f", to {_epochs(target, whole)}" if whole else ""
        self._run = f"[{run}/{self._trials}]" if self._trials else f"[{run}]"
        # Replicates are no trials, so they have no place in their count.
        if result.replicate_of is not None:
            self._run = f"[seed {result.seed}]" if result.recipe["epochs"] else "[test split]"
        self._target, self._whole, self._score = target, whole, ""
        method = f"{result.method} ({settings})" if settings else result.method
        so_far = f"; {self._tail}" if self._tail else ""
        again = f" goes on from {since:g}:" if since else "" if result.trial == result.number else " once more:"
        what = f"trial {result.trial}{again}  {method} on {result.model}{labels}{epochs}"
        self._print(f"{self._run} {what}{so_far}")

    def continuing(self, target: float) -> None:
        """Note the epochs that the run goes on to."""
        self._target = target

    def recorded(self, result: Result, results: Sequence[Result]) -> None:
        """Print what a Result came to, and what is spent."""
        self._since = self._clock()
        spent = self._budget.spent(results)
        self._spent, self._left = spent_text(spent, self._limits, rated=False), self._time_left(result, results, spent)
        self._tail = ", ".join(filter(None, (spent_text(spent, self._limits), self._left)))
        line = f"{result.status} ({result.reason})"
        if result.status == "complete" and not result.scores:
            line = "graded on the test split: " + ", ".join(
                f"{self._view.maximize} {tested[self._view.maximize]:.1f}" for tested in result.test_scores.values()
            )
        elif result.status == "complete":
            at = f" at {_epochs(result.epochs, self._whole)}" if result.epochs else ""
            self._score = f"{self._view.maximize} {result.scores[self._view.maximize]:.1f}{at}"
            price = " and ".join(cost_text(self._view, result, name) for name in self._view.minimize)
            price += f" (contended; it took {duration(result.cold.seconds)})" if result.contended else ""
            line = f"{self._score} for {price}{'  on the front' if result in pareto_front(results, self._view) else ''}"
            if tested := result.test_scores.get(result.recipe_id):
                line += f"; {tested[self._view.maximize]:.1f} on the test split"
        self._print(f"    {line}; {self._tail}")

    def _print(self, text: str, **how: Any) -> None:
        self._said = self._clock()
        messages.print(text, markup=False, **how)

    def _time_left(self, result: Result, results: Sequence[Result], spent: Spending) -> str:
        """Return the time until all trials, or what is planned, are done, or until a budget is spent."""
        done = {r.run_id for r in originals(results) if r.status in ("complete", "infeasible")}
        if result.status == "complete" and result.epochs < self._target:
            # A run on its way to its target is not done, though it has a checkpoint.
            done.discard(result.run_id)
        bounds = (seconds_left(spent, self._limits, len(done)), self._ahead(results))
        left = min((bound for bound in bounds if bound is not None), default=None)
        return f"about {duration(left)} left" if left else ""

    def _now(self, now: float) -> str:
        return f"{self._run} {self._doing} {duration(now - self._since)}".strip() if self._doing else ""

    def _line(self) -> Text:
        """The moving line: the fullest of its forms that the terminal has room for."""
        now, brief = self._now(self._clock()), ", ".join(filter(None, (self._spent, self._left)))
        forms = (
            (now, self._score, self._tail),
            (now, self._score, brief),
            (now, self._score, self._left),
            (now, self._left),
            (now,),
        )
        texts = [" · ".join(filter(None, form)) for form in forms]
        fitting = next((text for text in texts if cell_len(text) <= messages.width), texts[-1])
        return Text(fitting, no_wrap=True, overflow="ellipsis", style="cyan")


def _epochs(count: float, whole: float) -> str:
    """Write epochs of those that a run may have in all: `0.5 of 2 epochs`; of all of them `2 epochs`."""
    return f"{count:g} of {many(whole, 'epoch')}" if count < whole else many(count, "epoch")


def _labels(recipe: Mapping[str, Any], target: float) -> str:
    """Write how many labels a run will have read at its target, and of how many where that is not all, within the first epoch."""
    train = recipe["task"].get("train")
    if not train:
        return ""
    # Training reads whole batches, and the last one of an epoch may be short.
    read = min(train, steps_for(target, recipe["batch_size"], train) * recipe["batch_size"]) if target else train
    part = f"{count(read)} of " if read < train and target < 1 else ""
    return f", {part}{many(train, 'label')}"
