"""The server as uvicorn runs it: MLflow's scoring server of each model, behind the checks of the router. It runs in a
process of its own, which `workbench.serving.server` starts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import process
from workbench.serving import bundle, loading
from workbench.serving.backend import Backend
from workbench.serving.log import Log
from workbench.serving.metering import Metering, Parts
from workbench.serving.requests import Limits
from workbench.serving.router import Router
from workbench.serving.shadow import Shadow

CONFIG, TOKEN = "WORKBENCH_SERVING", "WORKBENCH_TOKEN"
"""Variables of the environment: what `create` reads, and the token that requests must bring."""


def create() -> Router:
    """The server, by what the environment says. Called by uvicorn."""
    config = json.loads(os.environ[CONFIG])
    threading.Thread(target=_end_with_parent, name="workbench-parent", daemon=True).start()
    backends = _backends(config)
    on_stop = list[Callable[[], None]]()
    if watched := [each for each in backends.values() if each.log.is_kept]:
        if config["shadow"] is not None:
            first = watched[0]
            first.shadow = Shadow(config["shadow"], first.log, str(config["models"][0]["model"]["model_id"]))
            on_stop.append(first.shadow.close)
        on_stop += _metered(watched)
    return Router(backends, Limits(**config["limits"]), os.environ.get(TOKEN, ""), on_stop)


def _backends(config: Mapping[str, Any]) -> dict[str, Backend]:
    """The models by name, in their order. Those on one base share its weights, and so are not merged."""
    bases = [bundle.base(bundle.inside(Path(each["folder"]))) for each in config["models"]]
    several = [bases.count(base) > 1 for base in bases]
    with loading.sharing():
        shared = {i: _backend(each, config) for i, each in enumerate(config["models"]) if several[i]}
    return {each["name"]: shared[i] if several[i] else _backend(each, config) for i, each in enumerate(config["models"])}


def _backend(about: Mapping[str, Any], config: Mapping[str, Any]) -> Backend:
    """A model that is loaded."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    files = bundle.inside(Path(about["folder"]))  # before MLflow has read a line of it
    model = mlflow.pyfunc.load_model(about["folder"])
    asked, known = bundle.asked(files), bundle.reference(files)
    log = Log(Path(about["log"]) if about["log"] else None, about["model"], asked, inputs=config["inputs"], dev=known)
    if log.is_kept:
        second = config["shadow"]
        named = None if second is None else {name: second[name] for name in ("model", "version", "model_id", "share")}
        log.event(
            "start",
            process=process.this_process(),
            evidence=bundle.evidence(files),
            reference=known.to_json(),
            inputs=config["inputs"],
            url=config["url"],
            shadow=named,
        )
    return Backend(scoring_server.init(model), asked, Limits(**config["limits"]), log)


def _metered(backends: Sequence[Backend]) -> list[Callable[[], None]]:
    """Have logs say what the server consumes, each its model's part; what is to be called when the server ends."""
    first = backends[0]
    to = Parts([(each.log, lambda each=each: each.model_seconds) for each in backends])  # type: ignore[misc]
    more = lambda: {"shadow_dropped": first.shadow.dropped} if first.shadow else {}  # noqa: E731
    meter = Metering(to, lambda: sum(each.requests for each in backends), more)
    meter.start()
    return [meter.close, *(lambda log=each.log: log.event("stop") for each in backends)]


def _end_with_parent() -> None:
    """End this process when the one that started it has gone, however that ended: its end of our standard input is closed then."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
