"""`workbench dashboard`: the pages of a study in the browser, served by this machine for this machine."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from workbench.cli.options import gathered
from workbench.cli.printing import messages
from workbench.cli.shared_options import LOOPBACK, listening_options, storage_option, tracking_option
from workbench.cli.studies import ledger_url, open_ledger
from workbench.errors import EnvironmentFault, UsageError, WorkbenchError
from workbench.ledger import shown
from workbench.process import EVERYWHERE, check_port, reached_at


@dataclass(frozen=True, kw_only=True)
class DashboardOptions:
    """The options of `dashboard`, by the names that click gives them.

    Attributes:
        study: The study's file or name; None: the newest.
        port: Where it listens.
        host: On which address.
        no_browser: Whether no browser is opened.
        mlflow_url: Where the MLflow UI answers; None: on this machine.
        public_url: Where a reverse proxy shows it; None without one.
        tracking_uri: MLflow's store; None: the file in this folder.
        storage: The ledger's database; None: the file in this folder.
    """

    study: str | None
    port: int
    host: str
    no_browser: bool
    mlflow_url: str | None
    public_url: str | None
    tracking_uri: str | None
    storage: str | None


@click.command()
@click.argument("study", required=False)
@listening_options(port=8501)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.option("--mlflow", "mlflow_url", metavar="URL", help="Where the MLflow UI answers. [default: http://127.0.0.1:5000]")
@click.option(
    "--public-url",
    metavar="URL",
    callback=lambda ctx, param, value: None if value is None else _public_address(value),
    help="Where a reverse proxy shows it, as https://bench.example.org/path/: pages from elsewhere are refused.",
)
@tracking_option
@storage_option
@gathered(DashboardOptions)
def dashboard(asked: DashboardOptions) -> None:
    """Show STUDY (a study file, or its name; the newest when none is named) in the browser. Ctrl-C ends it.

    It reads the ledger and never writes: it can run beside a sweep, which it neither blocks nor slows. Nothing is loaded from
    elsewhere and nothing is sent anywhere. A reverse proxy before it has to pass WebSockets on; whether it passes on the path of
    --public-url too, or takes it off, is the same.
    """
    app = folder() / "app.py"
    if asked.study:
        os.environ["WORKBENCH_DASHBOARD_STUDY"] = open_ledger(asked.study, asked.storage).name
    # Streamlit runs the app as a script without arguments, so they go through the environment.
    os.environ["WORKBENCH_STORAGE"] = ledger_url(asked.storage)
    served = asked.tracking_uri if asked.tracking_uri and asked.tracking_uri.startswith("http") else "http://127.0.0.1:5000"
    os.environ["WORKBENCH_MLFLOW_URL"] = (asked.mlflow_url or served).rstrip("/")
    if asked.host not in LOOPBACK:
        messages.print(
            f"Listening on {asked.host}: everyone who reaches this machine there sees your runs.", style="yellow", markup=False
        )
    check_port(asked.host, asked.port)
    base = urlsplit(asked.public_url or "").path.rstrip("/")
    address = f"http://{reached_at(asked.host)}:{asked.port}{base and f'{base}/'}"
    outside = f"{asked.public_url}, by its proxy; here {address}" if asked.public_url else address
    messages.print(f"Dashboard: {outside} (ledger {shown(ledger_url(asked.storage))}). Ctrl-C ends it.", markup=False)
    import streamlit
    from starlette.middleware import Middleware

    @contextlib.asynccontextmanager
    async def opened(_: object) -> AsyncIterator[None]:
        # Read ahead while the first reader is on the way. With 10,000 runs
        # something shows 1.6 s after a fresh server is asked, and 0.7 s later on.
        threading.Thread(target=_warm, args=(app.parent,), daemon=True).start()
        if not asked.no_browser:  # in a thread: a browser that blocks must not hold the server back
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        yield

    streamlit.App(app, lifespan=opened, middleware=[Middleware(_Rooted, base=base)]).run(
        config=settings(asked.host, asked.port, asked.public_url)
    )


def _public_address(url: str) -> str:
    """The address at which a proxy shows the dashboard, ending in `/`. Raises UsageError where it is none."""
    try:
        parts = urlsplit(url)
        # `port` is read for its own check: it raises where it is no number up to 65535.
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # of a port or a bracket
        known = False
    if (
        not known
        or parts.username is not None
        or not re.fullmatch(r"(/[\w~-][\w.~-]*)*/?", parts.path)
        or parts.query
        or parts.fragment
    ):
        raise UsageError(f"--public-url {url!r} is no address of a folder. Give one such as https://bench.example.org/path/.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


class _Rooted:
    """Tells the page in the browser where its server is: at the root of its address, or at `base` below it.

    Otherwise an address that names a page is first tried as the server's own place, and the browser notes two errors. What a proxy
    passes on without `base` is taken as if it were there.
    """

    def __init__(self, app: Any, base: str = "") -> None:
        self.app, self.base = app, base
        place = f"location.origin + {json.dumps(base)}" if base else "location.origin"
        script = f"<script>window.__streamlit = {{BACKEND_BASE_URL: {place}, MAIN_PAGE_BASE_URL: {place}}}</script>"
        self.script = script.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # Some proxies take the public path off and some pass
        # it on; Streamlit is told of it and expects it.
        if self.base and scope["type"] in ("http", "websocket") and not f"{scope['path']}/".startswith(f"{self.base}/"):
            raw = scope.get("raw_path") or scope["path"].encode()
            scope = {**scope, "path": self.base + scope["path"], "raw_path": self.base.encode() + raw}
        if scope["type"] != "http" or b"text/html" not in dict(scope["headers"]).get(b"accept", b""):
            await self.app(scope, receive, send)
            return
        # A compressed page could not be changed, and the
        # answer "not modified" would have no page in it.
        plain = [
            (name, value)
            for name, value in scope["headers"]
            if name not in (b"accept-encoding", b"if-none-match", b"if-modified-since")
        ]
        start: dict[str, Any] = {}
        body = b""

        async def changed(message: Any) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                page = body.replace(b"<head>", b"<head>" + self.script, 1)
                # The script makes the page longer, and its old tag would stand for another content.
                kept = [(name, value) for name, value in start["headers"] if name not in (b"content-length", b"etag")]
                await send({**start, "headers": [*kept, (b"content-length", str(len(page)).encode())]})
                await send({**message, "body": page})

        await self.app({**scope, "headers": plain}, receive, changed)


def _warm(pages: Path) -> None:
    """Load and read what the first page needs while its reader is still on the way. What is wrong with the ledger the page says."""
    sys.path.insert(0, str(pages))  # where Streamlit finds the app's modules too, once it has run it
    with contextlib.suppress(WorkbenchError):
        importlib.import_module("context").warm(os.environ["WORKBENCH_STORAGE"], os.environ.get("WORKBENCH_DASHBOARD_STUDY"))
    for name in ("pandas", "plotly.graph_objects", "workbench.figures"):
        importlib.import_module(name)


def folder() -> Path:
    """Where the app lies: beside the package in a checkout, inside it in a wheel. Raises EnvironmentFault where it is missing."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_dashboards", package.parent / "dashboards"):
        if (place / "app.py").is_file():
            return place
    raise EnvironmentFault(
        "this installation has no dashboard: the folder workbench/_dashboards is missing. Install workbench anew."
    )


def settings(host: str, port: int, public_url: str | None = None) -> dict[str, object]:
    """Streamlit's options: local, guarded, and silent towards the outside.

    Where an address is set, Streamlit does not ask a server on the internet for the public address
    of this machine. The allowed hosts guard the WebSocket against pages elsewhere whose name has
    been made to resolve to this machine. A server that listens on all addresses may be reached by
    names that cannot be known here. Behind a proxy the WebSocket has the public host as its origin,
    and as its host either that or our own, depending on the proxy: both are let in, and no third.

    Args:
        host: The address that it listens on.
        port: Its port.
        public_url: Where a reverse proxy shows it; None without one.
    """
    public = urlsplit(public_url or "")
    allowed = [host.strip("[]"), "127.0.0.1", "localhost", *([public.hostname] if public.hostname else [])]
    return {
        "server.address": host,
        "server.port": port,
        # Or Streamlit asks for an e-mail address at its first start, and waits.
        "server.headless": True,
        "server.allowedHosts": ["*"] if host in EVERYWHERE else list(dict.fromkeys(allowed)),
        "server.corsAllowedOrigins": [f"{public.scheme}://{public.netloc}"] if public.hostname else [],
        "server.baseUrlPath": public.path.strip("/"),
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        # The app does not change while it is served, so there is nothing to watch.
        "server.fileWatcherType": "none",
        "browser.serverAddress": reached_at(host),
        "browser.serverPort": port,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "client.showErrorLinks": False,
        "logger.hideWelcomeMessage": True,
        "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#56B4E9",
        "runner.magicEnabled": False,  # or it shows every text that stands alone in the script
    }
