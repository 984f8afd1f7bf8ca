"""What can be known to be wrong before anything is spent."""

from __future__ import annotations

import random

from workbench import prices
from workbench.errors import Refused
from workbench.meter import Meter
from workbench.prices import Offer
from workbench.space import Choice, Value
from workbench.study import Study


def check_data(study: Study) -> None:
    """Read the data of every task that the study names, with as many examples as it may ask for.

    Raises:
        DataError: They are not as they must be.
        UsageError: There are fewer examples.
    """
    dimensions = study.dimensions
    task = dimensions["task"].space if "task" in dimensions else None
    for label in task.labels if isinstance(task, Choice) else (None,):
        known: dict[str, Value] = {"task": label} if task else {}
        for name, dimension in dimensions.items():
            if not dimension.exists(known):
                continue
            numbers = [x for x in getattr(dimension.space, "labels", ()) if isinstance(x, (int, float))]
            most = max(numbers, default=None) if numbers else getattr(dimension.space, "high", None)
            known.setdefault(name, dimension.space.sample(random.Random(0)) if most is None else most)
        study.resolve(known).task.splits()


def check_offer(offer: Offer, meter: Meter) -> None:
    """Raise Refused when the offer is not the price of this machine: a GPU is never billed as a desktop, nor as another model."""
    if not meter.devices:
        return
    gpu = meter.devices[0].name
    if offer.gpus and prices.same_gpu(gpu, offer.gpu) is False:
        known = prices.gpu(gpu)
        assert known is not None  # as it is another one
        raise Refused(
            f"this machine has a {gpu}, and {offer.name!r} prices a {offer.gpu}. Name what this machine costs; "
            f"`workbench prices --gpu {known.name}` lists its offers; `workbench front --platform …` prices results elsewhere."
        )
    if offer.gpus == 0:
        raise Refused(
            f"this machine has a {gpu}, and {offer.name!r} prices a machine without a GPU. Name what it costs, e.g. "
            "--platform vast or --platform aws:g6.xlarge; or hide the GPU with CUDA_VISIBLE_DEVICES= to train on the CPU."
        )
