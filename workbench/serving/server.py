"""The server of a deployed model, as a process with the environment that it needs."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import EnvironmentFault
from workbench.serving.app import CONFIG, TOKEN
from workbench.serving.requests import Limits
from workbench.tracking import Page, store

REQUEST_SECONDS = 300
"""How long a request may take in all, the wait for others included."""

LAST_SECONDS = 30
"""How long requests that are being answered are waited for when the server is to end."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is served.

    Attributes:
        host: The address to listen on.
        port: The port.
        limits: What is taken at once.
        inputs: Whether the log holds the rows and the answers too, redacted.
        token: What requests must bring; empty: nothing.
        shadow: A second model beside the only one, as `shadow.Shadow` takes it; None: there is none. It needs the log.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)
    inputs: bool = False
    token: str = ""
    shadow: Mapping[str, Any] | None = None


class Served(NamedTuple):
    """A model that is served.

    Attributes:
        name: By which requests name it, where there are several.
        folder: The model as MLflow loads it.
        about: What each line of the log says of it: name, version, id.
        log: The file of its log; None: nothing is kept, and nothing is metered.
    """

    name: str
    folder: Path
    about: Mapping[str, Any]
    log: Path | None


def start(models: Sequence[Served], options: Options) -> Page:
    """Start the server of one model, or of several; it answers some 10 seconds later, and ends with this process.

    Args:
        models: The models.
        options: How they are served.

    Raises:
        EnvironmentFault: The port is taken.
    """
    with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise EnvironmentFault(
                f"port {options.port} on {options.host} cannot be used ({error.strerror}). Give another one: --port."
            ) from error
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, f"[{options.host}]" if ":" in options.host else options.host)  # noqa: S104
    url = f"http://{shown}:{options.port}"
    config = {
        "models": [
            {
                "name": each.name,
                "folder": str(each.folder),
                "model": dict(each.about),
                "log": None if each.log is None else str(each.log.resolve()),
            }
            for each in models
        ],
        "limits": asdict(options.limits),
        "inputs": options.inputs,
        "url": url,
        "shadow": None if options.shadow is None else dict(options.shadow),
    }
    environment = {**store.SETTINGS, "PYTHONWARNINGS": "ignore", **os.environ, CONFIG: json.dumps(config)}
    environment["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(REQUEST_SECONDS)
    # The programs of this very environment, whether or not it is activated.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment.pop(TOKEN, None)
    if options.token:
        environment[TOKEN] = options.token
    # -P: what lies in this folder, such as a study called like a package, is not imported in a package's place.
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "workbench.serving.app:create"]
    command += ["--host", options.host, "--port", str(options.port)]
    # The name of the software is nobody's business; the log is ours.
    command += ["--log-level", "warning", "--no-access-log", "--no-server-header"]
    command += ["--timeout-graceful-shutdown", str(LAST_SECONDS)]
    # What it says is no data. Its standard input is closed when this process ends, even by kill -9: then it ends too. In a group of
    # its own: Ctrl-C is for the command, which ends it; while its libraries are loaded they would answer with a traceback.
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=2, process_group=0)
    return Page(process, url)


def curl(url: str, row: Mapping[str, Any], *, token: bool = False) -> str:
    """A command that asks a server about one row."""
    body = json.dumps({"dataframe_records": [row]})
    secret = ['-H "Authorization: Bearer $WORKBENCH_TOKEN"'] if token else []
    return " ".join(["curl", f"{url}/invocations", *secret, "-H 'Content-Type: application/json'", "-d", shlex.quote(body)])
