"""The hidden command `workbench worker`: one of the processes of `workbench sweep --workers N`,
started by its supervisor.

It gets the same words as its sweep, reads its orders from standard input, and reports to the
supervisor on standard output; see `workbench.sweep.workers`.
"""

from __future__ import annotations

import sys

import click

from workbench.cli.common import messages
from workbench.cli.forecasting import forecaster_of
from workbench.cli.notebook import MLFLOW_PATIENCE_SECONDS
from workbench.cli.options import gathered
from workbench.cli.setup import prices_of
from workbench.cli.sweep import SweepOptions, opened, sweep_options
from workbench.cli.workers import Reporting, tell
from workbench.ledger import AWAY_SECONDS, Patience
from workbench.sweep import Neighbours, Orders
from workbench.sweep import sweep as work


@click.command(hidden=True)
@sweep_options
@gathered(SweepOptions)
def worker(asked: SweepOptions) -> None:
    """Work on a sweep that another process has begun, and ends."""
    offer, label_usd = prices_of(asked)
    # It is begun in the middle of a sweep: as that it waits for a ledger that is away.
    patience = Patience(AWAY_SECONDS, lambda text: messages.print(text, style="yellow", markup=False))
    setup = opened(asked, offer, label_usd, lambda: None, patience)
    setup.forecaster = forecaster_of(asked.loaded, asked.storage, setup.ledger.results())
    orders = Orders.read(sys.stdin)
    meter = setup.measured.meter
    Neighbours(meter, sys.stdin)
    with setup.notebook(orders.sweep) as notebook, meter, Reporting(setup.view, setup.budget) as progress:
        job = setup.job(
            notebook,
            progress,
            before=orders.before,
            workers=orders.workers,
            joined=True,
            apart=orders.apart,
            log_samples=asked.log_samples,
        )
        outcome = work(job, sampler=asked.sampler, seed=asked.seed)
    # Told before MLflow is waited for: a worker that
    # said this is not started again, however it ends.
    tell(ended=outcome.reason, interrupted=outcome.interrupted)
    notebook.close(MLFLOW_PATIENCE_SECONDS)
    sys.exit(130 if outcome.interrupted else 0)
