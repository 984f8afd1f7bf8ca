"""Prices of today from gpuhunt's catalogue: the optional extra `live`, the only house of gpuhunt, and never part of the book.

They come over the network from a bucket of dstack's and, for some marketplaces, from the platforms themselves. Nothing else in
the workbench asks for them; a study is priced by the book until a price of here is written into `workbench.toml`.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable
from decimal import Decimal
from importlib import metadata
from typing import Any

from workbench.errors import EnvironmentFault
from workbench.prices.offers import Offer

_NAMES = {"lambdalabs": "lambda", "vastai": "vast"}
"""Platforms that gpuhunt calls otherwise than our book."""


def offers(
    query: Callable[[], Iterable[Any]] | None = None, *, today: Callable[[], datetime.date] = datetime.date.today
) -> tuple[Offer, ...]:
    """Return the offers that can be rented now, of NVIDIA GPUs and of machines without one, by
    gpuhunt's catalogue.

    A platform whose catalogue cannot be read is missing from them. Left out are rows without a
    price, and spot rows that repeat the list price: in catalogues that means unknown.

    Args:
        query: Returns gpuhunt's `CatalogItem`s; `gpuhunt.query` unless given.
        today: The date that the offers carry.

    Raises:
        EnvironmentFault: gpuhunt is not installed, or its catalogue cannot be reached.
    """
    try:
        import gpuhunt
    except ImportError as error:
        raise EnvironmentFault(
            "live prices need gpuhunt, which is not installed. Install the extra: pip install 'workbench[live]'. "
            "Without --live the shipped price book is shown."
        ) from error
    logging.getLogger("gpuhunt").addHandler(logging.NullHandler())  # else it prints a traceback for every platform out of reach
    try:
        items = list((query or gpuhunt.query)())
    except (OSError, gpuhunt.GPUHuntError) as error:  # requests' and urllib's errors are OSErrors
        raise EnvironmentFault(
            f"gpuhunt's catalogue cannot be reached: {error}. Try again, or leave --live out for the shipped book."
        ) from error
    source = f"gpuhunt {metadata.version('gpuhunt')} catalogue"
    wanted = [i for i in items if i.price > 0 and (not i.gpu_count or i.gpu_vendor == gpuhunt.AcceleratorVendor.NVIDIA)]
    # Where a catalogue has no spot price it repeats the list price.
    firm = {(*_place(i), i.price) for i in wanted if not i.spot}
    return tuple(_offer(i, source, today().isoformat()) for i in wanted if not (i.spot and (*_place(i), i.price) in firm))


def _place(item: Any) -> tuple[str, str, str]:
    return item.provider, item.instance_name, item.location


def _offer(item: Any, source: str, date: str) -> Offer:
    return Offer(
        platform=_NAMES.get(item.provider, item.provider),
        instance=item.instance_name,
        gpu=item.gpu_name or "" if item.gpu_count else "",
        gpus=item.gpu_count,
        region=item.location,
        commitment="spot" if item.spot else "on_demand",
        # Through text: Decimal(0.1) would be 0.1000000000000000055…
        amount=Decimal(str(item.price)),
        source=source,
        date=date,
        confidence="live",
        gpu_memory_gb=None if item.gpu_memory is None else float(item.gpu_memory),
        vcpus=None if item.cpu is None else float(item.cpu),
        memory_gib=None if item.memory is None else float(item.memory),
    )
