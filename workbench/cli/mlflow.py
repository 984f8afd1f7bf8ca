"""`workbench mlflow`: the MLflow UI on the store that the sweeps write."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from workbench.cli.common import messages, tracking_option


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others than this machine's own show your runs to the network.",
)
@tracking_option
def mlflow(port: int, host: str, tracking_uri: str | None) -> None:
    """Open the MLflow UI on the right store, with one worker. Ctrl-C ends it."""
    from workbench.tracking import default_uri, serve

    uri = tracking_uri or default_uri(Path.cwd())
    page = serve(uri, host=host, port=port)
    messages.print(f"MLflow UI: http://{host}:{port} in a few seconds. Store: {uri}. Ctrl-C ends it.")
    try:
        code = page.wait()
    except KeyboardInterrupt:
        page.terminate()
        page.wait()
        code = 0
    sys.exit(code)
