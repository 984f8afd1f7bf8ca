"""The provenance of Results: the versions, commit, device and prices that a reader needs years
later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import carbon, prices, process, training
from workbench.front.confirmed import confirmed_front
from workbench.front.objectives import View
from workbench.meter import Meter
from workbench.prices import Offer
from workbench.result import Result, offer_record
from workbench.study import Study

if TYPE_CHECKING:
    from workbench.sweep.job import Job

_PACKAGES = ("torch", "transformers", "peft", "optuna", "mlflow")


def of(study: Study, meter: Meter) -> dict[str, Any]:
    """The provenance of all Results of one start of a sweep, as plain data."""
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "git_commit": _git_commit(study.path),
        "device": meter.description,
        "bfloat16": training.has_bfloat16(training.device().type),  # what `precision="auto"` rests on
        "host": process.host().partition("/")[0],
    }


def note_start(job: Job, provenance: Mapping[str, Any], results: Sequence[Result], how: Mapping[str, str | int]) -> None:
    """Note one start of a job in its notebook; `provenance` is that of its Results, `how` says who decides, as plain data."""
    study, offer = job.study, job.offer
    parent = {
        "question": study.question,
        "command": process.command_line(),
        "git": provenance["git_commit"],
        "versions": provenance["versions"],
        "limits": dataclasses.asdict(job.limits),
        "offer": offer_record(offer),
        "label_usd": job.label_usd,
        "workers": job.workers,
    }
    front = confirmed_front(results, View(study.maximize, study.costs, {}, offer, job.label_usd, require=study.bounds))
    files = documents(provenance, offer, job.label_usd)
    job.notebook.start({**parent, **how}, results, front={r.run_id for r in front}, artifacts=files)


def documents(provenance: Mapping[str, Any], offer: Offer, label_usd: float) -> dict[str, str]:
    """The files that are kept with each start of a sweep, by name: all prices as they were known
    then, and the whole environment.
    """
    grid = carbon.intensity(offer)
    seen = {
        "offer": offer.to_json(),
        "label_usd": label_usd,
        "carbon": dataclasses.asdict(grid) | {"id": grid.id, "pue": carbon.pue(offer)},
        # The whole book, not the one offer: years later a run
        # can be priced elsewhere at the prices of its day.
        "book": [each.to_json() for each in prices.load()],
    }
    environment = {
        "python": sys.version,
        "platform": platform.platform(),
        "device": provenance["device"],
        "git_commit": provenance["git_commit"],
        "packages": _packages(),
    }
    files = {"prices.json": seen, "environment.json": environment}
    return {name: json.dumps(record, indent=2, default=str, ensure_ascii=False) for name, record in files.items()}


@functools.cache  # reading them takes a fifth of a second
def _packages() -> dict[str, str]:
    """The version of each installed package, by name."""
    found = {named["Name"]: named["Version"] for each in metadata.distributions() if (named := each.metadata)["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _git_commit(path: Path | None) -> str | None:
    """The commit of the study's folder, with a `+` where it has changes; None outside a
    repository.
    """
    if path is None:
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
