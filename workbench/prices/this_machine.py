"""Which offer prices the machine that works: one that the settings name for its host, or one that its cloud's metadata tell.

A sweep may spend on unequal machines. Each worker bills the offer of its own.
"""

from __future__ import annotations

import fnmatch
import socket

from workbench import settings
from workbench.prices import cloud_metadata
from workbench.prices.cloud_metadata import METADATA, Fetch


def own_offer(asked: str | None, host: str | None = None, fetch: Fetch = cloud_metadata.fetch) -> str | None:
    """The name of the offer of this machine; None where only the study or the settings say what prices compute.

    Args:
        asked: What the flag or the environment variable names; `metadata` asks the cloud.
        host: The name of this host; None to ask it.
        fetch: Asks the metadata service.

    Raises:
        EnvironmentFault: The metadata were asked for, and there are none.
        DataError: The settings file is wrong.
    """
    if asked == METADATA:
        return cloud_metadata.offer_name(fetch)
    if asked is not None:
        return asked
    name = host or socket.gethostname()
    return next((offer for pattern, offer in settings.load().machines.items() if fnmatch.fnmatchcase(name, pattern)), None)
