"""The record of one recipe that was run, and its two costs: that of the point from cold, and what was spent.

record          scores, usage and provenance, written once, read for ever
causes          why work ended without a checkpoint
legacy          what records of earlier versions lack
model_names     what people call the model that a recipe tunes
inputs          whether what it depends on is still what it was
costs           what a point costs from cold, at any offer
spending        what a sweep has spent
efficiency      how much of what a machine could have computed became finished work
outdated        what is said of Results whose inputs have changed since
sharing         what is said of workers that share a device
recorded_offer  an offer as a Result keeps it, and back
room            what ran out of memory, and on which devices it may yet be made
usage_parts     what of a point's cost was consumed on which machine
"""

from workbench.result.causes import Cause
from workbench.result.costs import (
    COSTS,
    MINIMIZABLE,
    Axis,
    Cost,
    carried,
    cost,
    estimate,
    mean_costs,
    same_machine,
)
from workbench.result.inputs import current
from workbench.result.model_names import model_name
from workbench.result.record import AGAIN, Result, again, by_run, furthest, originals
from workbench.result.recorded_offer import offer_record
from workbench.result.room import Room, seen_from, settled, too_large
from workbench.result.spending import (
    Labels,
    Spending,
    label_order,
    labels_bought,
    labels_by_order,
    labels_of,
    last_start,
    merged_labels,
    spending,
    spent_usd,
)
from workbench.result.usage_parts import UsagePart

__all__ = [
    "AGAIN",
    "COSTS",
    "MINIMIZABLE",
    "Axis",
    "Cause",
    "Cost",
    "Labels",
    "Result",
    "Room",
    "Spending",
    "UsagePart",
    "again",
    "by_run",
    "carried",
    "cost",
    "current",
    "estimate",
    "furthest",
    "label_order",
    "labels_bought",
    "labels_by_order",
    "labels_of",
    "last_start",
    "mean_costs",
    "merged_labels",
    "model_name",
    "offer_record",
    "originals",
    "same_machine",
    "seen_from",
    "settled",
    "spending",
    "spent_usd",
    "too_large",
]
