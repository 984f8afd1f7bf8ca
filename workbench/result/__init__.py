"""The record of one recipe that was run, and its two costs: that of the point from cold, and what was spent.

record    scores, usage and provenance, written once, read for ever
inputs    whether what it depends on is still what it was
costs     what a point costs from cold, at any offer
spending  what a sweep has spent
"""

from workbench.result.costs import COSTS, MeanCosts, carried, cost, estimate, mean_costs, same_machine
from workbench.result.inputs import current
from workbench.result.record import SCHEMA, STATUSES, Result, again, by_run, is_again, originals
from workbench.result.spending import Spending, labelled_set, labels_bought, spending, spent_usd

__all__ = [
    "COSTS",
    "SCHEMA",
    "STATUSES",
    "MeanCosts",
    "Result",
    "Spending",
    "again",
    "by_run",
    "carried",
    "cost",
    "current",
    "estimate",
    "is_again",
    "labelled_set",
    "labels_bought",
    "mean_costs",
    "originals",
    "same_machine",
    "spending",
    "spent_usd",
]
