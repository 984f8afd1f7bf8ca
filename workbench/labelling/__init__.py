"""Fewer labels: which examples are worth a label, and which need none because a model is sure of them.

choosing    the next examples of a pool, by each strategy
strategies  `uncertainty`, `diversity`, `badge`, `pseudo_labels`, `distil` as values in a study file
"""

from __future__ import annotations

from workbench.labelling.choosing import Chooser, surest
from workbench.labelling.strategies import (
    Distillation,
    PseudoLabels,
    Strategy,
    badge,
    distil,
    diversity,
    problem,
    pseudo_labels,
    uncertainty,
)

__all__ = [
    "Chooser",
    "Distillation",
    "PseudoLabels",
    "Strategy",
    "badge",
    "distil",
    "diversity",
    "problem",
    "pseudo_labels",
    "surest",
    "uncertainty",
]
