"""`workbench worker`: a machine that joins the sweep of a study.

With the hidden `--supervised` it is one of the processes that `sweep` and `worker` start themselves: it gets the same words, reads
its orders from standard input, and reports to its supervisor on standard output; see `workbench.sweep.workers`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from workbench.cli import workers
from workbench.cli.crew import Crew, launcher_of
from workbench.cli.forecasting import forecaster_of
from workbench.cli.notebook import MLFLOW_PATIENCE_SECONDS, end_notebook
from workbench.cli.options import gathered
from workbench.cli.printing import messages, waiting
from workbench.cli.progress import Progress
from workbench.cli.setup import prices_of, url_of
from workbench.cli.spending import ask
from workbench.cli.sweep import SweepOptions, check_study, opened, sweep_options
from workbench.cli.workers import Reporting, tell
from workbench.errors import EnvironmentFault
from workbench.ledger import AWAY_SECONDS, Ledger, Patience
from workbench.quantities import dollars
from workbench.sweep import Limits, Neighbours, Orders, Standing, graded_by, provenance
from workbench.sweep import sweep as work

if TYPE_CHECKING:
    from workbench.cli.setup import Setup
    from workbench.sweep import Outcome


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(SweepOptions):
    """The options of `worker`: those of a sweep, and whether another process has started it."""

    supervised: bool

    def within(self, noted: Limits) -> Limits:
        """The limits of the sweep that is joined, but for those that were stated anew."""
        stated = {name: getattr(self, name) for name in ("trials", *_BUDGETS, "max_labels", "stop_below")}
        return replace(noted, **{name: most for name, most in stated.items() if most is not None})


_BUDGETS = ("max_usd", "max_hours", "max_energy_kwh")


@click.command()
@sweep_options
@click.option("--supervised", is_flag=True, hidden=True)
@gathered(WorkerOptions)
def worker(asked: WorkerOptions) -> None:
    """Work on the sweep of the file STUDY beside other machines: the same line on each of them, in any order.

    Machines that name one ledger (--storage) work on one sweep: budgets and labels are counted once, by the limits of whoever came
    first, and nothing is made twice. Each bills its own offer: --platform, or its line in the table [machines] of workbench.toml;
    --platform metadata asks its cloud, which is also asked whether it is about to take the machine away. With --states one goes on
    with what another has left. It ends with the sweep; Ctrl-C, a SIGTERM, or its cloud's notice ends this machine's work alone, and
    what it was making is left for the others.
    """
    if asked.supervised:
        _supervised(asked)
    offer, label_usd = prices_of(asked)

    def first() -> None:
        if not Ledger.holds(asked.loaded.name, url_of(asked)):
            check_study(asked.loaded)

    with waiting("Preparing data and models …"):
        setup = opened(asked, offer, label_usd, first)
        setup.ledger.note_inputs()
        setup.ledger.note_grading(graded_by(asked.loaded))
        setup.forecaster = forecaster_of(asked.loaded, asked.storage, setup.ledger.results())
        # Read last: a sweep that was started a little earlier notes its beginning when it has prepared as much as this has.
        begun = setup.ledger.description if setup.ledger.ended is None else {}
        if begun.get("limits"):
            setup.limits = asked.within(Limits(**begun["limits"]))
    with setup.measured.unbilled():
        ask(setup.budget, None, yes=asked.yes, bounded=bool(setup.limits.trials))
    outcome, code = _joined(setup, asked, str(begun.get("sweep") or ""))
    sys.exit(code or (130 if outcome.interrupted else 0))


def _joined(setup: Setup, asked: WorkerOptions, sweep_id: str) -> tuple[Outcome, int]:
    """Work until the sweep ends; who begins it and who ends it last says so in the ledger.

    Args:
        setup: What has been opened.
        asked: The options.
        sweep_id: The id of the sweep that others have begun; empty where nobody has.

    Returns:
        How it ended, and the exit code of a worker process that failed, or 0.
    """
    begins, sweep_id, code = not sweep_id, sweep_id or workers.new_sweep(), 0
    rate = dollars(float(setup.offer.usd_per_hour))
    messages.print(f"{'Beginning' if begins else 'Joining'} the sweep; this machine is {setup.offer.name}, at {rate} an hour.")
    with setup.notebook(sweep_id) as notebook, setup.measured.meter, Progress(setup.view, setup.budget) as progress:
        crew = Crew(asked.workers, asked.together, setup)
        crew.tell()
        launcher, autoscaler = (None, None) if crew.alone and asked.ray is None else launcher_of(asked, setup, crew)
        job = setup.job(notebook, progress, **asked.work(), workers=crew.count, sweep=sweep_id, joined=True)
        if begins:
            setup.ledger.note_begin(dataclasses.asdict(setup.limits), sweep_id)
            how: dict[str, str | int] = {"sampler": asked.sampler, "seed": asked.seed}
            made_with = provenance.of(setup.study, setup.measured.meter)
            provenance.note_start(job, made_with, setup.ledger.results(running=True), how)
        if launcher is None:
            # It has the machine to itself: while it waits nobody is charged for it.
            outcome = work(replace(job, standing=Standing(apart=True)), sampler=asked.sampler, seed=asked.seed)
        else:
            job = replace(job, before=setup.measured.closed())
            outcome, code = workers.supervise(job, sweep_id, launcher, ends=False, autoscaler=autoscaler)
    messages.print(f"\nThis machine's work ended: {outcome.reason}.")
    last = False
    with contextlib.suppress(EnvironmentFault):  # it is away, and was waited for
        last = not setup.ledger.leases()
        # A machine that waited for work, and is stopped after the others have ended the sweep, ends it no second time.
        if last and (not outcome.interrupted or setup.ledger.ended is None):
            setup.ledger.note_end(outcome.reason, interrupted=outcome.interrupted)
    if last:
        end_notebook(notebook, outcome, setup.view)
    else:
        messages.print("Other machines are still at work on the sweep.")
        notebook.close(MLFLOW_PATIENCE_SECONDS)
    return outcome, code


def _supervised(asked: WorkerOptions) -> None:
    """Work on a sweep that another process has begun, and ends."""
    offer, label_usd = prices_of(asked)
    # It is begun in the middle of a sweep: as that it waits for a ledger that is away.
    patience = Patience(AWAY_SECONDS, lambda text: messages.print(text, style="yellow", markup=False))
    # Told as soon as its meter is open: until then the others are charged for the whole machine.
    setup = opened(asked, offer, label_usd, lambda: tell(waiting=False), patience)
    noted = setup.ledger.description["limits"]
    if noted and asked.confirm_share is None:  # whoever keeps a share has said so in the same words
        setup.limits = asked.within(Limits(**noted))
    setup.forecaster = forecaster_of(asked.loaded, asked.storage, setup.ledger.results())
    orders = Orders.read(sys.stdin)
    meter = setup.measured.meter
    standing = Neighbours(meter, sys.stdin).standing
    with setup.notebook(orders.sweep) as notebook, meter, Reporting(setup.view, setup.budget) as progress:
        job = setup.job(
            notebook,
            progress,
            before=orders.before,
            workers=orders.workers,
            devices=asked.together,
            joined=True,
            standing=standing,
            log_samples=asked.log_samples,
        )
        outcome = work(job, sampler=asked.sampler, seed=asked.seed)
    # Told before MLflow is waited for: a worker that
    # said this is not started again, however it ends.
    tell(ended=outcome.reason, interrupted=outcome.interrupted, here_alone=outcome.here_alone)
    notebook.close(MLFLOW_PATIENCE_SECONDS)
    sys.exit(130 if outcome.interrupted else 0)
