"""What must be known to read a Result's figures years later: versions, commit, device, price."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.meter import Meter
from workbench.prices import Offer
from workbench.study import Study

_PACKAGES = ("torch", "transformers", "peft", "optuna", "mlflow")


def of(study: Study, meter: Meter) -> dict[str, Any]:
    """The provenance of all Results of one start of a sweep, as plain data."""
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "git_commit": _git_commit(study.path),
        "device": meter.description,
    }


def of_sweep(study: Study, provenance: Mapping[str, Any], offer: Offer, limits: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted of one start of a sweep, as plain data; `provenance` is that of its Results."""
    return {
        "question": study.question,
        "command": shlex.join(["workbench", *sys.argv[1:]]),
        "git": provenance["git_commit"],
        "versions": provenance["versions"],
        "limits": dict(limits),
        "offer": of_offer(offer),
    }


def of_offer(offer: Offer) -> dict[str, Any]:
    """An offer as a Result keeps it."""
    return {
        "id": offer.id,
        "name": offer.name,
        "platform": offer.platform,
        "instance": offer.instance,
        "gpus": offer.gpus,
        "usd_per_hour": str(offer.usd_per_hour),
        "usd_per_kwh": None if offer.usd_per_kwh is None else str(offer.usd_per_kwh),
        "date": offer.date,
    }


def _git_commit(path: Path | None) -> str | None:
    """The commit of the folder that the study stands in, with `+` when it has changes; None outside a repository."""
    if path is None:
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
