"""Which offer prices the machine that works: one that the settings name for its host, or one that its cloud's metadata tell.

A sweep may spend on unequal machines. Each worker bills the offer of its own.
"""

from __future__ import annotations

import fnmatch
import json
import socket
import urllib.request
from collections.abc import Callable, Mapping

from workbench import settings
from workbench.errors import EnvironmentFault

METADATA = "metadata"
"""The name of an offer that asks the cloud's metadata service which machine this is: nothing is asked otherwise."""

_SERVICE = "http://169.254.169.254"  # link-local: the same on all three clouds, and nothing leaves the machine's host
_SECONDS = 2.0

Fetch = Callable[[str, str, Mapping[str, str]], str]
"""Asks the service: method, path, headers; raises OSError."""


def own_offer(asked: str | None, host: str | None = None, fetch: Fetch | None = None) -> str | None:
    """The name of the offer of this machine; None where only the study or the settings say what prices compute.

    Args:
        asked: What the flag or the environment variable names; `metadata` asks the cloud.
        host: The name of this host; None to ask it.
        fetch: Asks the metadata service; None for the real one.

    Raises:
        EnvironmentFault: The metadata were asked for, and there are none.
        DataError: The settings file is wrong.
    """
    if asked == METADATA:
        return _from_metadata(fetch or _fetch)
    if asked is not None:
        return asked
    name = host or socket.gethostname()
    return next((offer for pattern, offer in settings.load().machines.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _from_metadata(fetch: Fetch) -> str:
    """The name of an offer by the instance type that the cloud's metadata service tells. Raises EnvironmentFault."""
    for ask in (_aws, _gcp, _azure):
        try:
            return ask(fetch)
        except (OSError, ValueError, KeyError):  # it is another cloud's, or there is none
            continue
    raise EnvironmentFault(
        f"there are no metadata of a cloud at {_SERVICE}: AWS, Google Cloud and Azure have them. Name this machine's offer by "
        "--platform, or by its host in the table [machines] of workbench.toml."
    )


def _aws(fetch: Fetch) -> str:
    token = fetch("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    headers = {"X-aws-ec2-metadata-token": token}
    kind = fetch("GET", "/latest/meta-data/instance-type", headers)
    spot = fetch("GET", "/latest/meta-data/instance-life-cycle", headers) == "spot"
    return _named("aws", kind, fetch("GET", "/latest/meta-data/placement/region", headers), spot=spot)


def _gcp(fetch: Fetch) -> str:
    headers = {"Metadata-Flavor": "Google"}
    kind, zone = (
        fetch("GET", f"/computeMetadata/v1/instance/{name}", headers).rpartition("/")[2] for name in ("machine-type", "zone")
    )
    spot = fetch("GET", "/computeMetadata/v1/instance/scheduling/preemptible", headers).upper() == "TRUE"
    return _named("gcp", kind, zone.rpartition("-")[0], spot=spot)


def _azure(fetch: Fetch) -> str:
    known = json.loads(fetch("GET", "/metadata/instance/compute?api-version=2021-02-01", {"Metadata": "true"}))
    return _named("azure", str(known["vmSize"]), str(known["location"]), spot=known.get("priority") == "Spot")


def _named(platform: str, instance: str, region: str, *, spot: bool) -> str:
    """An offer's name, as far as it is needed: a price of the same region where the book has one, and a spot price for spot."""
    if not spot:
        return f"{platform}:{instance}"
    return f"{platform}:{instance}:{region}:spot"


def _fetch(method: str, path: str, headers: Mapping[str, str]) -> str:
    request = urllib.request.Request(_SERVICE + path, method=method, headers=dict(headers))  # noqa: S310  a fixed address
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
        return str(answer.read().decode().strip())
