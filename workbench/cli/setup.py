"""What the commands that train share: their options, what is opened for them, and how they ask and
tell before they spend.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import complete
from workbench.cli.notebook import MLFLOW_PATIENCE_SECONDS, catch_up_first, open_notebook
from workbench.cli.options import POSITIVE, setting
from workbench.cli.shared_options import json_option, price_options, states_option, storage_option, tracking_option
from workbench.cli.studies import ledger_url, offer_of, shared_states
from workbench.front.objectives import View
from workbench.meter import training_meter
from workbench.prices import METADATA, interruption, label_usd_of, own_offer
from workbench.settings import stated
from workbench.study import load
from workbench.sweep import Budget, Job, Limits, check_offer
from workbench.usage import Usage

if TYPE_CHECKING:
    from workbench.forecast import Forecaster
    from workbench.ledger import Ledger
    from workbench.meter import Meter, Tenant, Window
    from workbench.prices import Offer
    from workbench.study import Study
    from workbench.sweep import Observer
    from workbench.tracking import MlflowTracker
    from workbench.training import SharedFiles

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of every command that trains, by the names that click gives them.

    Attributes:
        study: The study's file.
        max_hours: Hours of work in all; None for no limit.
        max_usd: US$ to spend in all; None for the study's limit.
        max_energy_kwh: Energy in all, in kWh; None for no limit.
        yes: Whether much may be spent without asking.
        platform: The offer that prices compute; None: the study's.
        label_usd: Price of a label in US$; None: the study's.
        storage: The ledger's database; None: the file in this folder.
        tracking_uri: MLflow's store; None: the file in this folder.
        states: Where machines share states and weights; None: nowhere.
        as_json: Whether data are printed for programs.
    """

    study: str
    max_hours: float | None
    max_usd: float | None
    max_energy_kwh: float | None
    yes: bool
    platform: str | None
    label_usd: float | None
    storage: str | None
    tracking_uri: str | None
    states: str | None
    as_json: bool

    @cached_property
    def loaded(self) -> Study:
        """The study, loaded once. Raises StudyError."""
        return load(self.study)

    def limits(self) -> Limits:
        """The budgets, with no limit on the number of runs."""
        max_usd = stated("max_usd", self.max_usd, self.loaded)
        return Limits(max_hours=self.max_hours, max_usd=max_usd, max_energy_kwh=self.max_energy_kwh)


def budget_options(counted: str = "", said: str = "on compute and labels.") -> Callable[[F], F]:
    """Declare `--max-hours`, `--max-usd` and `--max-energy-kwh`.

    Args:
        counted: What else they count, in the words of the help.
        said: What the dollars are spent on, in the words of the help.
    """
    hours, energy = "Hours of work in all", "Energy of processors and GPUs in all" if not counted else "Energy in all"

    def decorate(command: F) -> F:
        usd = f"US$ to spend in all, {said} [default: the study's]"
        command = setting("--max-energy-kwh", type=POSITIVE, metavar="KWH", help=f"{energy}{counted}.")(command)
        command = setting("--max-usd", type=POSITIVE, metavar="USD", help=usd)(command)
        return setting("--max-hours", type=POSITIVE, metavar="H", help=f"{hours}{counted}.")(command)

    return decorate


def study_argument(command: F) -> F:
    """Declare STUDY: the file of a study."""
    return click.argument("study", shell_complete=complete.study_files)(command)


def yes_option(command: F) -> F:
    """Declare `--yes`: spend without asking."""
    return click.option("--yes", is_flag=True, help="Do not ask before spending on a paid platform.")(command)


def place_options(command: F) -> F:
    """Declare the options of prices and stores, and `--json`."""
    return price_options(storage_option(tracking_option(states_option(json_option(command)))))


@dataclass
class Measured:
    """The meter of a command, and its bill until the work begins.

    Attributes:
        meter: The meter of this process.
        holder: Its tenant whose windows are the bill.
        window: The window that is open.
        before: What was consumed before that window.
    """

    meter: Meter
    holder: Tenant
    window: Window
    before: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, study: Study, offer: Offer, devices: int = 1) -> Measured:
        """Measure so many GPUs from now on. Raises Refused where the offer does not price this machine."""
        # The meter comes first: loading data and models is part of what a sweep costs.
        meter = training_meter(devices)
        holder = meter.hold(name=study.name)
        measured = cls(meter, holder, holder.window())
        check_offer(offer, meter)
        return measured

    def closed(self) -> Usage:
        """Stop counting, and return all that was consumed until now."""
        self.before += self.window.close()
        return self.before

    @contextlib.contextmanager
    def unbilled(self) -> Iterator[None]:
        """Leave the block off the bill: the time that a person takes to answer is not the
        sweep's.
        """
        self.closed()
        yield
        self.window = self.holder.window()


@dataclass
class Setup:
    """A study with its prices, its ledger and its meter: what a command that trains has opened.

    Attributes:
        options: What was asked for.
        offer: What prices compute.
        label_usd: Price of a label, in US$.
        measured: The meter.
        ledger: The study's.
        limits: When the work ends.
        forecaster: Says what runs will take; None where nothing is to be run.
    """

    options: TrainingOptions
    offer: Offer
    label_usd: float
    measured: Measured
    ledger: Ledger
    limits: Limits
    forecaster: Forecaster | None = None

    @property
    def study(self) -> Study:
        """The study."""
        return self.options.loaded

    @property
    def folder(self) -> Path:
        """Where states and weights are kept."""
        return Path.cwd() / ".workbench" / self.study.name

    @cached_property
    def states(self) -> SharedFiles | None:
        """Where other machines find states and weights, and this one theirs; None where they stay in `folder`."""
        return shared_states(self.options.states, self.study.name)

    @cached_property
    def view(self) -> View:
        """The study's objectives at these prices."""
        return View.of(self.ledger.description, self.offer, self.label_usd)

    @cached_property
    def budget(self) -> Budget:
        """The limits at these prices."""
        return Budget(self.limits, self.offer, self.label_usd, gpus=len(self.measured.meter.devices))

    def catch_up(self) -> None:
        """Write to MLflow what it lacks, where there is nothing else to do."""
        catch_up_first(self.study, self.ledger, self.offer, self.label_usd, self.options.tracking_uri)

    @contextlib.contextmanager
    def notebook(self, sweep: str | None = None) -> Iterator[MlflowTracker]:
        """Open the MLflow notebook for the work and for its end. `sweep` is the id of a sweep that
        several processes are part of.
        """
        opened = open_notebook(self.study, self.ledger, self.offer, self.label_usd, self.options.tracking_uri, sweep=sweep)
        try:
            yield opened
        # Ctrl-C and refusals too: what is queued for MLflow would be lost with the process.
        except BaseException:
            # How the run ended is on its way; the next start ends the sweep's own entry.
            opened.close(MLFLOW_PATIENCE_SECONDS)
            raise

    def job(self, notebook: MlflowTracker, observer: Observer, **more: Any) -> Job:
        """Make the job. `more` are further fields of it."""
        return Job(
            study=self.study,
            ledger=self.ledger,
            notebook=notebook,
            offer=self.offer,
            label_usd=self.label_usd,
            limits=self.limits,
            folder=self.folder,
            observer=observer,
            meter=self.measured.meter,
            holder=self.measured.holder,
            window=self.measured.window,
            forecaster=self.forecaster,
            states=self.states,
            notice=functools.partial(interruption, self.offer.platform) if self.options.platform == METADATA else None,
            **{"before": self.measured.before, **more},
        )


def prices_of(options: TrainingOptions) -> tuple[Offer, float]:
    """Return the offer of this machine and the price of a label that a command goes by.

    Raises:
        UsageError: There is no such offer.
        EnvironmentFault: The cloud's metadata were asked for, and there are none.
    """
    return offer_of(own_offer(options.platform), options.loaded), label_usd_of(options.label_usd, options.loaded)


def url_of(options: TrainingOptions) -> str:
    """Return the URL of the ledger that a command uses."""
    return ledger_url(options.storage)
