"""`--workers N|auto` and `--ray`: how many workers a sweep begins with, whether there come to be more, and what starts them."""

from __future__ import annotations

import dataclasses
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from workbench import forecast
from workbench.cli.forecasting import UNBOUNDED_RUNS, most_runs
from workbench.cli.options import Whole
from workbench.cli.printing import messages
from workbench.cli.studies import ledger_url
from workbench.cli.workers import together, visible
from workbench.errors import EnvironmentFault, UsageError
from workbench.front.budgets import seconds_left
from workbench.meter import Meter
from workbench.quantities import many
from workbench.result import by_run, originals
from workbench.settings import AUTO
from workbench.sweep import Autoscaler, LocalLauncher, Needs, RayLauncher, most_on, on_processors

if TYPE_CHECKING:
    from workbench.cli.setup import Setup
    from workbench.cli.sweep import SweepOptions
    from workbench.forecast import Typical
    from workbench.sweep import Launcher


class Workers(Whole):
    """A number of workers, or of devices that hold a run together; or `auto`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word. Raises BadParameter."""
        if value == AUTO:
            return AUTO
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor {AUTO!r}.", param, ctx)
        return super().convert(value, param, ctx)


class Crew:
    """The workers of a sweep on this machine.

    Args:
        workers: How many were asked for, or `AUTO`.
        devices: How many GPUs hold a run together.
        setup: What the sweep has opened: for `AUTO` its runs are forecast.
    """

    def __init__(self, workers: int | str, devices: int, setup: Setup) -> None:
        self._workers, self._devices, self._setup = workers, devices, setup

    @cached_property
    def gpus(self) -> list[str]:
        """The GPUs, in groups that hold a run together, as `CUDA_VISIBLE_DEVICES` names them."""
        return together(visible(), self._devices)

    @cached_property
    def count(self) -> int:
        """How many there are at first."""
        if isinstance(self._workers, int):
            return self._workers
        if self.gpus or self._devices > 1:
            return max(1, len(self.gpus))
        return on_processors(self._run, runs_to_come(self._setup))

    @property
    def grows(self) -> bool:
        """Whether there may come to be more of them on a GPU."""
        return self._workers == AUTO and self._devices == 1 and bool(self.gpus)

    @property
    def alone(self) -> bool:
        """Whether one worker does all the work: then it is the process of the command."""
        return self.count == 1 and not self.grows

    def tell(self) -> None:
        """Say how many there are where nobody has said it; on GPUs each change is told when it comes."""
        if self._workers == AUTO and not self.grows:
            what = f"groups of {self._devices} GPUs" if self.gpus else "processors"
            messages.print(f"{many(self.count, 'worker')} on this machine's {what} (--workers auto).")

    def launcher(self) -> LocalLauncher:
        """What starts them."""
        return LocalLauncher(self.count, self.gpus, len(self.gpus) * most_on(len(self.gpus)) if self.grows else None)

    def autoscaler(self, launcher: LocalLauncher) -> Autoscaler:
        """What says how many there are to be on each GPU, where that `grows`."""
        meter = Meter(sample_interval_seconds=None)
        return Autoscaler(launcher, self.gpus, self._run, meter, seconds_left=self._seconds_left)

    def _seconds_left(self) -> float | None:
        """Seconds until the sweep ends, going on as until now; None where nothing bounds it, or the ledger is away."""
        try:
            results = self._setup.ledger.results(running=True)
        except EnvironmentFault:
            return None
        made = [r for r in results if r.status != "running"]
        done = {r.run_id for r in originals(made) if r.status in ("complete", "infeasible")} - {
            r.run_id for r in results if r.status == "running"
        }
        left = seconds_left(self._setup.budget.spent(made), dataclasses.asdict(self._setup.limits), len(done))
        # Budgets and trials are counted in seconds of work, which the workers spend side by side.
        return None if left is None else left / max(1, len(results) - len(made))

    @cached_property
    def _run(self) -> Typical:
        assert self._setup.forecaster is not None
        return forecast.typical(self._setup.forecaster)


def runs_to_come(setup: Setup) -> int:
    """How many runs a sweep is still to make, at least 1: where none may start, those begun may go on."""
    made = len(by_run(originals(setup.ledger.results())))
    return max(1, (most_runs(setup.study, setup.limits.trials) or UNBOUNDED_RUNS) - made)


def launcher_of(asked: SweepOptions, setup: Setup, crew: Crew) -> tuple[Launcher, Autoscaler | None]:
    """What starts the workers that were asked for, and what says how many there are to be on each GPU; None where that is settled.

    Raises:
        EnvironmentFault: There is no cluster at the address.
        UsageError: The ledger is a file, and machines of the cluster could not reach it.
    """
    assert setup.forecaster is not None
    if asked.ray is None:
        local = crew.launcher()
        return local, crew.autoscaler(local) if crew.grows else None
    if asked.together > 1:
        raise UsageError("--devices, or the devices= of a study, is for the GPUs of one machine; --ray has each worker use one.")
    needs = Needs.of(forecast.typical(setup.forecaster), crew.count)
    launcher = RayLauncher(asked.ray, needs, lambda text: messages.print(text, style="yellow", markup=False))
    others = sorted(launcher.hosts() - {socket.gethostname()})
    if others and ledger_url(asked.storage).startswith("sqlite"):
        launcher.close()
        raise UsageError(
            f"the ledger is a file, and {others[0]} is another machine. Name one that all of them reach: "
            "--storage postgresql+psycopg2://user@host/name."
        )
    return launcher, None
