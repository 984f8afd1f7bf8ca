"""`workbench mlflow`: the MLflow UI on the store that the sweeps write."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli import complete
from workbench.cli.notebook import catch_up
from workbench.cli.options import gathered
from workbench.cli.printing import messages, waiting
from workbench.cli.shared_options import LOOPBACK, listening_options, price_options, storage_option, tracking_option
from workbench.cli.studies import ledger_url, offer_of
from workbench.errors import UsageError
from workbench.ledger import Ledger
from workbench.prices import label_usd_of
from workbench.quantities import many
from workbench.study import load
from workbench.tracking import default_uri, serve

if TYPE_CHECKING:
    from workbench.tracking import Page


@dataclass(frozen=True, kw_only=True)
class MlflowOptions:
    """The arguments and options of `workbench mlflow`."""

    study: str | None
    catch_up: bool
    port: int
    host: str
    platform: str | None
    label_usd: float | None
    storage: str | None
    tracking_uri: str | None


@click.command()
@click.argument("study", required=False, shell_complete=complete.study_files)
@click.option("--catch-up", is_flag=True, help="Write what MLflow lacks of STUDY, from its ledger, and serve nothing.")
@listening_options(port=5000)
@price_options
@storage_option
@tracking_option
@gathered(MlflowOptions)
def mlflow(asked: MlflowOptions) -> None:
    """Serve the MLflow UI on the right store, with one worker, and say what to open. Ctrl-C ends it.

    With --catch-up it writes to the store what it lacks of the file STUDY instead: it was away while the study was swept.
    """
    if asked.catch_up:
        if asked.study is None:
            raise UsageError("--catch-up needs the study's file: workbench mlflow STUDY --catch-up.")
        sys.exit(_catch_up(asked, asked.study))
    if asked.study is not None:
        raise UsageError("the MLflow UI shows all studies of a store: leave STUDY out, or say what of it with --catch-up.")
    uri = asked.tracking_uri or default_uri(Path.cwd())
    # SIGTERM ends it as Ctrl-C does, or the server would live on and hold the port.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    page = serve(uri, host=asked.host, port=asked.port)
    if asked.host not in LOOPBACK:
        messages.print(
            f"It listens on {asked.host}: whoever can reach this machine can read your runs, and change them.",
            style="yellow",
            markup=False,
        )
    try:
        with waiting("Starting MLflow …"):
            ready = page.ready()
        if ready:
            _tell(page)
        code = page.process.wait()
    # The server is a process of its own: without this it would outlive the command.
    except KeyboardInterrupt:
        page.process.terminate()
        page.process.wait()
        code = 0
    sys.exit(code)


def _catch_up(asked: MlflowOptions, path: str) -> int:
    """Write what MLflow lacks of a study, and say how much that was. Return the exit code."""
    study = load(path)
    ledger = Ledger.find(study.name, ledger_url(asked.storage), path=path, study=study)
    offer, label_usd = offer_of(asked.platform, study), label_usd_of(asked.label_usd, study)
    lacked, behind = catch_up(study, ledger, offer, label_usd, asked.tracking_uri)
    if not behind:
        text = f"{many(lacked, 'run')} written" if lacked else "nothing was missing"
        messages.print(f"MLflow has all of {ledger.name}: {text}.", markup=False)
    return 4 if behind else 0


def _tell(page: Page) -> None:
    """Say what to open: the runs of the newest study first."""
    try:
        studies = page.studies()
    except (OSError, ValueError):  # the page itself says what is wrong with its store
        studies = {}
    width = max(map(len, studies), default=0)
    messages.print(f"The MLflow UI is at {page.url}. Ctrl-C ends it. Open in a browser, newest first:", markup=False)
    for name, address in studies.items() or {"all studies": page.url}.items():
        messages.print(f"  {name:{width}}  {address}", markup=False, soft_wrap=True)
