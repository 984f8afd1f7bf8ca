"""What a cloud's metadata service tells a machine of itself: what it is, and that it is about to be taken away.

It is asked only where `--platform metadata` says so. AWS gives two minutes' notice of a spot interruption, Google Cloud and Azure
half a minute:

- AWS: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
- Google Cloud: https://cloud.google.com/compute/docs/instances/preemptible#preemption-detection
- Azure: https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import EnvironmentFault

METADATA = "metadata"
"""The name of an offer that asks the cloud's metadata service which machine this is: nothing is asked otherwise."""

_SERVICE = "http://169.254.169.254"  # link-local: the same on all three clouds, and nothing leaves the machine's host
_SECONDS = 2.0

_COMPUTE = "/metadata/instance/compute?api-version=2021-02-01"
_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_TAKEN_AWAY = ("Preempt", "Terminate")

Fetch = Callable[[str, str, Mapping[str, str]], str]
"""Asks the service: method, path, headers; raises OSError."""


def fetch(method: str, path: str, headers: Mapping[str, str]) -> str:
    """What the metadata service of this machine's cloud answers. Raises OSError."""
    request = urllib.request.Request(_SERVICE + path, method=method, headers=dict(headers))  # noqa: S310  a fixed address
    # Past any proxy: it would answer for another machine, and what is asked would leave this one.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_SECONDS) as answer:
        return str(answer.read().decode().strip())


def offer_name(fetch: Fetch = fetch) -> str:
    """The name of an offer, by the instance type that the service tells. Raises EnvironmentFault where there is none."""
    for ask in (_aws, _gcp, _azure):
        try:
            return ask(fetch)
        except (OSError, ValueError, KeyError):  # it is another cloud's, or there is none
            continue
    raise EnvironmentFault(
        f"there are no metadata of a cloud at {_SERVICE}: AWS, Google Cloud and Azure have them. Name this machine's offer by "
        "--platform, or by its host in the table [machines] of workbench.toml."
    )


def interruption(platform: str, fetch: Fetch = fetch) -> str:
    """Why this machine is about to be taken away, in the words of its cloud; empty while it is not.

    Args:
        platform: The platform of its offer; of others than these clouds nothing is known.
        fetch: Asks the service.

    Raises:
        OSError, ValueError, KeyError: It does not answer, or not as it is known to.
    """
    ask = {"aws": _aws_notice, "gcp": _gcp_notice, "azure": _azure_notice}.get(platform)
    return ask(fetch) if ask else ""


def _aws(fetch: Fetch) -> str:
    headers = _aws_headers(fetch)
    kind = fetch("GET", "/latest/meta-data/instance-type", headers)
    spot = fetch("GET", "/latest/meta-data/instance-life-cycle", headers) == "spot"
    return _named("aws", kind, fetch("GET", "/latest/meta-data/placement/region", headers), spot=spot)


def _aws_headers(fetch: Fetch) -> Mapping[str, str]:
    token = fetch("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    return {"X-aws-ec2-metadata-token": token}


def _aws_notice(fetch: Fetch) -> str:
    headers = _aws_headers(fetch)
    # Not found until there is one, which raises as a service does that is not there: both mean that nothing is known.
    said = json.loads(fetch("GET", "/latest/meta-data/spot/instance-action", headers))
    return f"AWS: {said['action']} at {said['time']}"


_GCP_HEADERS = {"Metadata-Flavor": "Google"}


def _gcp(fetch: Fetch) -> str:
    kind, zone = (
        fetch("GET", f"/computeMetadata/v1/instance/{name}", _GCP_HEADERS).rpartition("/")[2] for name in ("machine-type", "zone")
    )
    spot = fetch("GET", "/computeMetadata/v1/instance/scheduling/preemptible", _GCP_HEADERS).upper() == "TRUE"
    return _named("gcp", kind, zone.rpartition("-")[0], spot=spot)


def _gcp_notice(fetch: Fetch) -> str:
    preempted = fetch("GET", "/computeMetadata/v1/instance/preempted", _GCP_HEADERS).upper() == "TRUE"
    return "Google Cloud: preempted" if preempted else ""


def _azure(fetch: Fetch) -> str:
    known = _azure_compute(fetch)
    return _named("azure", str(known["vmSize"]), str(known["location"]), spot=known.get("priority") == "Spot")


def _azure_compute(fetch: Fetch) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(fetch("GET", _COMPUTE, {"Metadata": "true"}))
    return known


def _azure_notice(fetch: Fetch) -> str:
    for event in json.loads(fetch("GET", _EVENTS, {"Metadata": "true"}))["Events"]:
        # It tells of every machine of an availability set.
        if event["EventType"] in _TAKEN_AWAY and _azure_compute(fetch)["name"] in event["Resources"]:
            return f"Azure: {event['EventType']} not before {event['NotBefore'] or 'now'}"
    return ""


def _named(platform: str, instance: str, region: str, *, spot: bool) -> str:
    """An offer's name, as far as it is needed: a price of the same region where the book has one, and a spot price for spot."""
    if not spot:
        return f"{platform}:{instance}"
    return f"{platform}:{instance}:{region}:spot"
