"""`workbench sweep`: the main job."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from workbench import forecast, search
from workbench.cli import complete, workers
from workbench.cli.confirm import SEEDS, confirm_front
from workbench.cli.crew import Crew, Workers, launcher_of, runs_to_come
from workbench.cli.forecasting import UNBOUNDED_RUNS, budget_text, expectation, forecaster_of, most_runs, warn_if_busy
from workbench.cli.notebook import end_notebook
from workbench.cli.options import COUNT, POSITIVE, SHARE, Whole, gathered, placed, setting
from workbench.cli.printing import messages, waiting
from workbench.cli.progress import Progress
from workbench.cli.setup import (
    Measured,
    Setup,
    TrainingOptions,
    budget_options,
    place_options,
    prices_of,
    study_argument,
    url_of,
    yes_option,
)
from workbench.cli.spending import ask, show_outcome
from workbench.cli.studies import dropped_limits
from workbench.errors import UsageError
from workbench.front.budgets import budget_uses
from workbench.front.members import pareto_front
from workbench.front.objectives import View
from workbench.ledger import OPENING_SECONDS, Away, Ledger, Patience
from workbench.prices import Prices
from workbench.quantities import dollars
from workbench.result import by_run, labels_bought, originals, spent_usd
from workbench.settings import AUTO, stated
from workbench.sweep import Unwritten, check_data, graded_by, provenance
from workbench.sweep import sweep as work

if TYPE_CHECKING:
    from workbench.prices import Offer
    from workbench.study import Study
    from workbench.sweep import Limits, Outcome

F = TypeVar("F", bound=Callable[..., Any])

_PREPARING = "Preparing data and models"

_LIMITS = "--trials, --max-hours, --max-usd, --max-energy-kwh, --max-labels"


@dataclass(frozen=True, kw_only=True)
class SweepOptions(TrainingOptions):
    """The options of `sweep`, by the names that click gives them.

    Attributes:
        trials: Runs in all; None: what the study says.
        max_labels: Distinct labels to buy in all; None is no bound.
        confirm_share: Share of the budgets that is kept to confirm the front; None: it is not
            confirmed.
        confirm_seeds: New seeds then.
        stop_below: Least growth that the next US$ is expected to buy; None is no bound.
        workers: Processes that work at once; `auto`: as many as the machine's devices are worth. With `ray`: on each GPU.
        devices: GPUs that hold a run together, or `auto`; None: what the study says.
        ray: The address of a cluster of Ray's that they work on; None: they work on this machine.
        log_samples: Examples that are put on record with each checkpoint.
        seed: Of the search.
        sampler: Who decides.
    """

    trials: int | None
    max_labels: int | None
    confirm_share: float | None
    confirm_seeds: int
    stop_below: float | None
    workers: int | str
    devices: int | str | None
    ray: str | None
    log_samples: int
    seed: int
    sampler: str

    def limits(self) -> Limits:
        """When the sweep ends, if nothing is kept to confirm its front."""
        trials = stated("trials", self.trials, self.loaded)
        return replace(super().limits(), trials=trials, max_labels=self.max_labels, stop_below=self.stop_below)

    @cached_property
    def together(self) -> int:
        """How many GPUs hold a run together."""
        asked = stated("devices", self.devices, self.loaded)
        if asked != AUTO:
            return int(asked)
        if not workers.visible():  # without a GPU nothing is too large for one
            return 1
        return forecast.typical(forecaster_of(self.loaded, self.storage)).devices or 1

    def work(self) -> dict[str, Any]:
        """How runs are made, as fields of a job."""
        return {"devices": self.together, "log_samples": self.log_samples}

    def check(self, offer: Offer, label_usd: float) -> None:
        """Raise UsageError where the sampler cannot search this space, or cannot end as it is told
        to.
        """
        if self.workers == AUTO and self.ray is not None:
            raise UsageError(
                "--workers auto is for the devices of one machine: how idle those of --ray's cluster are is not measured. "
                "Name a number, which is how many are to share each GPU, or leave it out for one."
            )
        with placed("sampler"):
            search.check_sampler(self.sampler, self.loaded)
        if self.stop_below is not None:
            search.check_stop_below(self.loaded, Prices(offer, label_usd), self.sampler)


def sweep_options(command: F) -> F:
    """Declare the options of `SweepOptions`, for `sweep` and for its workers, which are started
    with the same words.
    """
    whole = Whole(min=0)
    declared = (
        study_argument,
        setting("--trials", type=COUNT, help="Runs in all, those of earlier starts included. [default: the study's]"),
        budget_options(),
        setting("--max-labels", type=COUNT, metavar="N", help="Distinct labels to buy in all."),
        setting(
            "--confirm-share",
            type=SHARE,
            metavar="SHARE",
            help="Keep this share of US$, hours and energy, and confirm the front with it at the end.",
        ),
        setting("--confirm-seeds", type=SEEDS, default=3, show_default=True, help="New seeds then."),
        setting(
            "--stop-below",
            type=POSITIVE,
            metavar="X",
            help="Stop when the next US$ is expected to add less than X to the hypervolume (score x decades of cost).",
        ),
        setting(
            "--workers",
            type=Workers(min=1),
            default=1,
            show_default=True,
            metavar="N|auto",
            help="Processes that work at once on this machine: each has one of its GPUs, or a share of its CPUs. auto: as many as "
            "its CPUs are enough for; on a GPU one, and more while it is measured to be idle and they gain. With --ray: how many "
            "share each GPU whose memory is forecast to hold their runs.",
        ),
        click.option(
            "--ray",
            is_flag=False,
            flag_value="auto",
            metavar="[ADDRESS]",
            help="Work on a cluster of Ray's that is running (`ray start --head` starts one): a worker for each GPU, and for each "
            "machine without one. [ADDRESS: HOST:PORT of its head; without it the cluster of this machine]",
        ),
        setting(
            "--devices",
            type=Workers(min=1),
            metavar="K",
            help="GPUs that hold each run's model together, for one larger than a GPU: a number, or auto, by the forecast of its "
            "memory; without GPUs as many processes. [default: the study's]",
        ),
        setting(
            "--log-samples",
            type=whole,
            default=0,
            show_default=True,
            metavar="N",
            help="Put N examples of the dev set on record with each checkpoint's predictions, in ledger and MLflow.",
        ),
        yes_option,
        setting("--seed", type=whole, default=0, show_default=True, help="Of the search."),
        setting(
            "--sampler",
            default="front",
            show_default=True,
            metavar="NAME",
            shell_complete=complete.samplers,
            help="Who decides: front, or optuna:CLASS.",
        ),
        place_options,
    )
    # Decorators apply from the bottom up, and the help lists options from the top down.
    for option in reversed(declared):
        command = option(command)
    return command


@click.command()
@sweep_options
@gathered(SweepOptions)
def sweep(asked: SweepOptions) -> None:
    """Search the space of the file STUDY for the front of cost and quality.

    Limits count all starts together: running the same command again continues, and does nothing
    once a limit is reached. A run that is forecast not to fit a budget is not started; one that
    would pass it is stopped. Runs are left at checkpoints and taken up again, wherever the next US$
    is expected to add most to the front; --trials counts those started. Ctrl-C goes on to the next
    checkpoint and prints the front; a second one stops at once. Nothing finished is lost.
    """
    offer, label_usd = prices_of(asked)
    with waiting(f"{_PREPARING}: programs are loaded, data read and checked, models built once without weights …") as say:
        setup, reached = _set_up(asked, offer, label_usd, lambda what: say(f"{_PREPARING}: {what} …"))
    if reached:
        _end_at_once(setup, asked, reached)
    outcome, code = _worked(setup, asked)
    sys.exit(code or (130 if outcome.interrupted else 0 if pareto_front(outcome.results, setup.view) else 1))


def opened(
    asked: SweepOptions, offer: Offer, label_usd: float, first: Callable[[], None], patience: Patience | None = None
) -> Setup:
    """Open what a sweep and each of its workers need, the meter first, so that all that follows is
    on the bill.

    Args:
        asked: The options.
        offer: What prices compute.
        label_usd: Price of a label, in US$.
        first: Called before the ledger is opened, which makes one where there is none.
        patience: How long to wait for a ledger that is away; None for a few seconds.
    """
    # Before anything is opened: a sampler that cannot search the space leaves no trace.
    asked.check(offer, label_usd)
    measured = Measured.of(asked.loaded, offer, asked.together)
    first()
    patience = patience or Patience(OPENING_SECONDS)
    try:
        with patience.hurried():
            ledger = Ledger.open(asked.loaded, url_of(asked), patience)
    except Away:
        with measured.unbilled():  # what is left of a budget is not known yet
            ledger = Ledger.open(asked.loaded, url_of(asked), patience)
    whole = asked.limits()
    limits = whole if asked.confirm_share is None else whole.keeping(asked.confirm_share)
    return Setup(asked, offer, label_usd, measured, ledger, limits)


def _set_up(asked: SweepOptions, offer: Offer, label_usd: float, say: Callable[[str], None]) -> tuple[Setup, str]:
    """Open all that a sweep needs, and say which limit is reached already; empty when none is.
    Where one is, nothing is checked or forecast. `say` is told what goes on.
    """
    checked = False

    def first() -> None:  # what is refused leaves no empty study behind
        nonlocal checked
        if not Ledger.holds(asked.loaded.name, url_of(asked)):
            check_study(asked.loaded, say)
            checked = True
        say("opening the ledger")

    say("loading programs")
    setup = opened(asked, offer, label_usd, first)
    setup.ledger.note_inputs()
    # A lease is another sweep at work, or a dead one that has to be put right: both are told of by
    # the sweep itself.
    left = Unwritten(setup.folder) or setup.ledger.leases()
    reached = "" if left else _reached(setup, asked.sampler)
    if not reached:
        if not checked:
            check_study(asked.loaded, say)
        say("looking at what grades the points, and at earlier runs")
        setup.ledger.note_grading(graded_by(asked.loaded))
        setup.forecaster = forecaster_of(asked.loaded, asked.storage, setup.ledger.results())
    return setup, reached


def check_study(study: Study, say: Callable[[str], None] = lambda what: None) -> None:
    """Say what looks wrong, and raise UsageError where a sweep would fail. `say` is told what goes on."""
    say("finding the models")
    forecast.find_models(study)
    say("reading and checking the data")
    for line in check_data(study):  # first, as in `plan`
        messages.print(line, style="yellow", markup=False)
    say("building each model with each method, without weights")
    forecast.check(study)


def _reached(setup: Setup, sampler: str) -> str:
    """Which limit has been reached, in words; empty when none.

    With the search's own sampler the last of the trials has only been started when their number is
    full: whether they are taken further is for the search to say, unless its last sweep ended by
    itself.
    """
    results, ended = setup.ledger.results(), setup.ledger.ended
    settled = sampler != search.DEFAULT or (ended is not None and not ended["interrupted"])
    return setup.budget.reached(results) if settled else setup.budget.exhausted(setup.budget.spent(results))


def _end_at_once(setup: Setup, asked: SweepOptions, reached: str) -> NoReturn:
    """Say that there is nothing to do, confirm the front if that is asked for, show it, and
    exit.
    """
    setup.catch_up()
    messages.print(f"Nothing to do: {reached}. Raise the limit to go on ({_LIMITS}).")
    # Confirming opens a meter of its own.
    setup.measured.meter.close()
    _confirm(setup, asked)
    results = setup.ledger.results()
    show_outcome(setup.study, setup.ledger, results, setup.view, asked.limits(), as_json=asked.as_json)
    sys.exit(0 if pareto_front(results, setup.view) else 1)


def _confirm(setup: Setup, asked: SweepOptions) -> None:
    """Confirm the front with the share that was kept for it, and exit. Do nothing where that was
    not asked for or there is no front.
    """
    if asked.confirm_share is not None and pareto_front(setup.ledger.results(), setup.view):
        confirm_front(asked, asked.confirm_seeds, asked.limits())


def _tell_and_ask(setup: Setup, asked: SweepOptions) -> None:
    """Say what the sweep will take, and ask where that may be much. Raises Refused."""
    assert setup.forecaster is not None
    _print_head(setup.study.question, setup.view, len(setup.study.dimensions))
    if gone := dropped_limits(setup.ledger.description["limits_had"], dataclasses.asdict(setup.limits)):
        messages.print(gone, style="yellow", markup=False)
    warn_if_busy()
    results = setup.ledger.results()
    made, runs = len(by_run(originals(results))), runs_to_come(setup)
    run = forecast.typical(setup.forecaster)
    if run.devices is not None and run.devices > asked.together:
        text = f"A run is forecast to need the memory of {run.devices} of these GPUs: --devices {run.devices} has them hold it."
        messages.print(text, style="yellow", markup=False)
    labels = max(labels_bought(results).values(), default=0)
    terms = forecast.Terms(Prices(setup.offer, setup.label_usd), same_machine=True)
    taken = forecast.of_runs(run, runs, terms, starts=1, labels_bought=labels)
    budgets = budget_uses(setup.budget.spent(results), dataclasses.asdict(setup.limits))
    if made < (most_runs(setup.study, setup.limits.trials) or UNBOUNDED_RUNS):
        told = (expectation(taken, runs, setup.offer, more=made > 0), budget_text(taken, runs, budgets))
        messages.print(" ".join(filter(None, told)), markup=False)
    with setup.measured.unbilled():
        ask(setup.budget, taken.usd if taken else None, yes=asked.yes, bounded=bool(setup.limits.trials))


def _worked(setup: Setup, asked: SweepOptions) -> tuple[Outcome, int]:
    """Sweep, show what came of it, and confirm the front where that was asked for.

    Returns:
        How it ended, and the exit code of a worker that failed, or 0.
    """
    _tell_and_ask(setup, asked)
    sweep_id, code = workers.new_sweep(), 0
    with setup.notebook(sweep_id) as notebook, setup.measured.meter, Progress(setup.view, setup.budget) as progress:
        crew = Crew(asked.workers, asked.together, setup)
        crew.tell()
        job = setup.job(notebook, progress, **asked.work(), workers=crew.count, sweep=sweep_id)
        if crew.alone and asked.ray is None:
            outcome = work(job, sampler=asked.sampler, seed=asked.seed)
        else:
            how: dict[str, str | int] = {"sampler": asked.sampler, "seed": asked.seed}
            made_with = provenance.of(setup.study, setup.measured.meter)
            launcher, autoscaler = launcher_of(asked, setup, crew)  # first: a sweep that has no cluster has not begun
            # A single worker notes the beginning itself. Of several none does: without
            # this the study would go on showing how the sweep before it ended.
            setup.ledger.note_begin(dataclasses.asdict(setup.limits), sweep_id)
            provenance.note_start(job, made_with, setup.ledger.results(running=True), how)
            job = replace(job, before=setup.measured.closed())
            outcome, code = workers.supervise(job, sweep_id, launcher, autoscaler=autoscaler)
    messages.print(f"\nThe sweep ended: {outcome.reason}.{_unspent(setup, outcome)}")
    then = "sweep" if outcome.interrupted else ""
    if asked.confirm_share is None or outcome.interrupted or code:
        show_outcome(setup.study, setup.ledger, outcome.results, setup.view, asked.limits(), as_json=asked.as_json, then=then)
        end_notebook(notebook, outcome, setup.view)
        return outcome, code
    end_notebook(notebook, outcome, setup.view)
    _confirm(setup, asked)
    show_outcome(setup.study, setup.ledger, outcome.results, setup.view, asked.limits(), as_json=asked.as_json)
    return outcome, code


def _unspent(setup: Setup, outcome: Outcome) -> str:
    """What is left of a budget of dollars where the number of trials has ended the sweep, and how it is spent."""
    limits, spent = setup.limits, spent_usd(outcome.results, setup.offer, setup.label_usd)
    if limits.max_usd is None or spent is None or not limits.done(outcome.results) or spent > 0.9 * limits.max_usd:
        return ""
    left, more = dollars(limits.max_usd - spent), 2 * (limits.trials or 0)
    return f" {left} of {dollars(limits.max_usd)} are left: --trials {more} goes on for them."


def _print_head(question: str, view: View, dimensions: int) -> None:
    if question:
        messages.print(question, style="bold", markup=False)
    messages.print(
        f"Maximise {view.maximize}, minimise {' and '.join(view.minimize)}; "
        f"{dimensions} setting{'' if dimensions == 1 else 's'} to find. "
        f"Compute at {dollars(float(view.offer.usd_per_hour))} an hour ({view.offer.name}), "
        f"labels at {dollars(view.label_usd)} each."
    )
