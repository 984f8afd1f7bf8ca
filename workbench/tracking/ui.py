"""MLflow's own web page on the store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from workbench.errors import EnvironmentFault, UsageError
from workbench.process import check_port, reached_at, without_secrets
from workbench.tracking import experiment, store

_QUIETLY = ("--uvicorn-opts", "--log-level warning")
_LOOK_SECONDS = 0.2
_SHOWN = 10  # studies whose addresses are told, the newest
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # our own page: no proxy lies between


@dataclass(frozen=True)
class Page:
    """MLflow's page while it is served.

    Attributes:
        process: Serves it; terminate or interrupt it to stop.
        url: Where it is.
    """

    process: subprocess.Popen[bytes]
    url: str

    def ready(self) -> bool:
        """Wait until it answers; False where its process has ended before."""
        while self.process.poll() is None:
            try:
                with _LOCAL.open(f"{self.url}/health", timeout=5):
                    return True
            except OSError:
                time.sleep(_LOOK_SECONDS)
        return False

    def studies(self) -> dict[str, str]:
        """The newest studies in the store and the address of each one's table of runs, the newest first. Raises OSError."""
        asked = json.dumps({"max_results": _SHOWN, "order_by": ["creation_time DESC"]}).encode()
        where = f"{self.url}/ajax-api/2.0/mlflow/experiments/search"
        request = urllib.request.Request(where, asked, {"Content-Type": "application/json"})  # noqa: S310  http, and our own
        with _LOCAL.open(request, timeout=30) as answer:
            experiments = json.load(answer).get("experiments", [])
        own = [experiment for experiment in experiments if experiment["experiment_id"] != "0"]  # that one is MLflow's, and empty
        return {experiment["name"]: self._address(experiment) for experiment in own}

    def _address(self, found: dict[str, object]) -> str:
        tags = found.get("tags") or []
        assert isinstance(tags, list)
        ready = any(tag["key"].endswith(f".{experiment.VIEW}") for tag in tags)  # older stores have no view
        view = f"&viewStateShareKey={experiment.VIEW}" if ready else ""
        # MLflow 3.6 and later open on an experiment's traces unless the browser, or the address, asks for training.
        return f"{self.url}/#/experiments/{found['experiment_id']}/runs?workflowType=machine_learning{view}"


def ui_command(tracking_uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The command that serves MLflow's page on the store, with one worker: four, its default, take four times the memory.

    Raises:
        UsageError: The store is a server, which has a page of its own.
        EnvironmentFault: There is no such SQLite file, or the installed MLflow cannot use the store.
    """
    if re.match(r"https?:", tracking_uri):
        raise UsageError(f"{without_secrets(tracking_uri)} is an MLflow server and has its own page: open it in a browser.")
    path = store.sqlite_path(tracking_uri)
    if path is not None and not path.is_file():
        raise EnvironmentFault(f"there is no MLflow store {path} yet. Run `workbench sweep` first, or give --tracking-uri.")
    store.examine(tracking_uri)
    root = store.artifact_root(tracking_uri)
    places = ["--backend-store-uri", store.absolute(tracking_uri), *(["--artifacts-destination", root] if root else [])]
    return [sys.executable, "-m", "mlflow", "server", *places, "--host", host, "--port", str(port), *_QUIETLY, "--workers", "1"]


def serve(tracking_uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> Page:
    """Start MLflow's page on the store; it answers some 7 seconds later.

    Raises:
        UsageError, EnvironmentFault: As `ui_command`; also where the port is taken.
    """
    command = ui_command(tracking_uri, host=host, port=port)
    check_port(host, port)
    # Job execution starts further processes, for features of MLflow that a sweep has no use for.
    quiet = {**store.SETTINGS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, env={**quiet, **os.environ}, stdout=2)  # what it says is no data
    return Page(process, f"http://{reached_at(host)}:{port}")
