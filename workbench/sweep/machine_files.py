"""What starts the workers of a sweep on machines that somebody rents or schedules: files to be read, and started by a person.

Each machine runs the same line, `workbench worker STUDY --storage URL`, at its own offer. No secret is written into a file: the
database's password comes from the file that `PGPASSFILE` names, which is mounted or copied beside it. Neither SkyPilot, Kubernetes
nor Slurm is started here, and none of them has run these files for us: they are checked by their parts.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath
from typing import Any

from workbench.errors import Refused, UsageError
from workbench.prices import Offer
from workbench.quantities import dollars

NOTICE_SECONDS = 120
"""How long a worker has from SIGTERM to the end: enough to finish an optimiser step and to write the state."""

SECRET, STUDY_CLAIM = "workbench-pgpass", "workbench-study"
"""Names of a Secret and of a volume claim of Kubernetes."""

WHEEL = f"workbench-{metadata.version('workbench')}-py3-none-any.whl"
"""The file that holds this package: it is on no index."""

INSTALL = f"pip install './{WHEEL}[postgresql]'"
"""Installs it on a machine that has got the study's folder, with the file in it."""

_STARTS = {".sky.yaml": "sky launch", ".k8s.yaml": "kubectl apply -f", ".slurm": "sbatch"}

_SKY = {"aws": "aws", "gcp": "gcp", "azure": "azure", "lambda": "lambda", "runpod": "runpod", "vast": "vast", "nebius": "nebius"}
"""Platforms that SkyPilot knows, by our names."""

_SKY_GPUS = {"A100-40GB": "A100"}
"""GPUs that SkyPilot calls otherwise."""

_TYPED = ("aws", "gcp", "azure")
"""Platforms whose Kubernetes nodes are labelled with the instance types that the price book has."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What is to be started.

    Attributes:
        study: The study's file, relative to its folder.
        name: The study's name, for the jobs.
        offer: What each machine is, and costs.
        count: How many machines.
        storage: The ledger's URL, which all of them reach.
        states: Where they share states and weights; None: nowhere.
        install: The command that installs this package on a fresh machine.
        image: The container image that holds it.
        folder: Where the files are written, as seen from the study's folder.
    """

    study: str
    name: str
    offer: Offer
    count: int
    storage: str
    states: str | None
    install: str
    image: str
    folder: PurePath

    def __post_init__(self) -> None:
        check(self.study, self.storage, self.states)

    @property
    def words(self) -> list[str]:
        """The line that each machine runs."""
        states = ["--states", self.states] if self.states else []
        workers = ["--workers", str(self.offer.gpus)] if self.offer.gpus > 1 else []
        return [
            "workbench",
            "worker",
            self.study,
            "--storage",
            self.storage,
            *states,
            "--platform",
            self.offer.name,
            *workers,
            "--yes",
        ]

    @property
    def head(self) -> str:
        """What a reader of any of the files has to know."""
        each = dollars(float(self.offer.usd_per_hour))
        date = self.offer.date.split(" (")[0]  # without the book's remarks
        return f"{self.count} x {self.offer.name}, {each} an hour each while they are held (price as of {date})."

    def start(self, name: str) -> str:
        """The command that starts the machines of a file, to be typed in the study's folder, which goes along."""
        suffix = next(suffix for suffix in _STARTS if name.endswith(suffix))
        return f"{_STARTS[suffix]} {shlex.quote(str(self.folder / name))}"

    def started(self, name: str) -> str:
        """What a file says about how it is started."""
        return f"Start it in the folder in which `workbench up` was run, by: {self.start(name)}"


def check(study: str, storage: str, states: str | None) -> None:
    """Say what other machines cannot work with.

    Args:
        study: The study's file.
        storage: The ledger's URL.
        states: Where states and weights are shared; None: nowhere.

    Raises:
        Refused: An address holds a password.
        UsageError: The ledger is a file, or the study's path is absolute.
    """
    for url in (storage, states or ""):
        if re.match(r"[^/]*://[^/@]*:[^/@]*@", url):
            raise Refused(
                "the address holds a password, which would stand in the files. Leave it out, and put it into the file that "
                "PGPASSFILE names."
            )
    if not storage or storage.startswith("sqlite"):
        raise UsageError(
            "several machines need a ledger on a server. Name it: --storage postgresql+psycopg2://user@host/name, and its "
            "password in the file that PGPASSFILE names."
        )
    if PurePath(study).is_absolute():
        raise UsageError(f"{study} is on this machine alone. Run this in the study's folder, which goes along.")


def sky(machines: Machines) -> dict[str, Any] | None:
    """A task of SkyPilot's, as plain data; None where it does not know the platform."""
    offer = machines.offer
    if offer.platform not in _SKY:
        return None
    where = "/".join(part for part in (_SKY[offer.platform], offer.region) if part)
    resources: dict[str, Any] = {"infra": where, "use_spot": offer.commitment == "spot"}
    if offer.gpus:
        resources["accelerators"] = f"{_SKY_GPUS.get(offer.gpu, offer.gpu)}:{offer.gpus}"
    if offer.platform in ("aws", "azure"):
        resources["instance_type"] = offer.instance
    return {
        "name": machines.name,
        "num_nodes": machines.count,
        "workdir": ".",
        "resources": resources,
        "envs": {"PGPASSFILE": "/tmp/workbench-pgpass"},  # noqa: S108  on the rented machine
        "file_mounts": {"/tmp/workbench-pgpass": "~/.pgpass"},  # noqa: S108
        "setup": machines.install,
        "run": f'chmod 600 "$PGPASSFILE"\nexec {shlex.join(machines.words)}\n',
    }


def kubernetes(machines: Machines) -> dict[str, Any]:
    """An Indexed Job of Kubernetes, as plain data."""
    offer = machines.offer
    container: dict[str, Any] = {
        "name": "worker",
        "image": machines.image,
        "workingDir": "/study",
        "command": machines.words,
        "env": [{"name": "PGPASSFILE", "value": "/secrets/pgpass"}, {"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "volumeMounts": [
            {"name": "study", "mountPath": "/study"},
            {"name": "pgpass", "mountPath": "/secrets", "readOnly": True},
        ],
    }
    if offer.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": offer.gpus}}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": NOTICE_SECONDS,
        "containers": [container],
        "volumes": [
            {"name": "study", "persistentVolumeClaim": {"claimName": STUDY_CLAIM}},
            # PostgreSQL's library refuses a password file that others may read.
            {"name": "pgpass", "secret": {"secretName": SECRET, "defaultMode": 0o400}},
        ],
    }
    if offer.platform in _TYPED:
        pod["nodeSelector"] = {"node.kubernetes.io/instance-type": offer.instance}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _dns(machines.name)},
        "spec": {
            "completionMode": "Indexed",
            "completions": machines.count,
            "parallelism": machines.count,
            "backoffLimitPerIndex": 6,
            "podFailurePolicy": {
                "rules": [
                    # A mistake in the words or the study would be the same again.
                    {"action": "FailIndex", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [1, 2, 3, 4]}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                ]
            },
            "template": {"metadata": {"labels": {"app": "workbench"}}, "spec": pod},
        },
    }


def slurm(machines: Machines) -> str:
    """A job array of Slurm's, as the text of a script."""
    gpus = f"#SBATCH --gpus={machines.offer.gpus}\n" if machines.offer.gpus else ""
    return f"""#!/usr/bin/env bash
# {machines.head}
# {machines.started(f"{machines.name}.slurm")}
#SBATCH --job-name={machines.name}
#SBATCH --array=0-{machines.count - 1}
#SBATCH --nodes=1
#SBATCH --ntasks=1
{gpus}#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={machines.name}.%a.log
# SIGTERM so long before the end: the step at hand is finished, and its state kept.
#SBATCH --signal=TERM@{NOTICE_SECONDS}
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PGPASSFILE="${{PGPASSFILE:-$HOME/.pgpass}}"
srun {shlex.join(machines.words)}
"""


def _dns(name: str) -> str:
    """A name as Kubernetes takes it: small letters, digits and dashes, at most 63."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "workbench"
