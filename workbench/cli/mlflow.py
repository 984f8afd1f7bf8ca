"""`workbench mlflow`: the MLflow UI on the store that the sweeps write."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.common import LOOPBACK, listening_options, messages, tracking_option, waiting

if TYPE_CHECKING:
    from workbench.tracking import Page


@click.command()
@listening_options(port=5000)
@tracking_option
def mlflow(port: int, host: str, tracking_uri: str | None) -> None:
    """Serve the MLflow UI on the right store, with one worker, and say what to open. Ctrl-C ends it."""
    from workbench.tracking import default_uri, serve

    uri = tracking_uri or default_uri(Path.cwd())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: or the server would live on, and hold the port
    page = serve(uri, host=host, port=port)
    if host not in LOOPBACK:
        messages.print(
            f"It listens on {host}: whoever can reach this machine can read your runs, and change them.",
            style="yellow",
            markup=False,
        )
    try:
        with waiting("Starting MLflow …"):
            ready = page.ready()
        if ready:
            _tell(page)
        code = page.process.wait()
    except KeyboardInterrupt:
        page.process.terminate()
        page.process.wait()
        code = 0
    sys.exit(code)


def _tell(page: Page) -> None:
    """Say what to open: the newest study's runs, and where others are."""
    try:
        studies = page.studies()
    except (OSError, ValueError):  # the page itself says what is wrong with its store
        studies = {}
    width = max(map(len, studies), default=0)
    messages.print(f"The MLflow UI is at {page.url}. Ctrl-C ends it. Open in a browser, newest first:", markup=False)
    for name, address in studies.items() or {"all studies": page.url}.items():
        messages.print(f"  {name:{width}}  {address}", markup=False, soft_wrap=True)
