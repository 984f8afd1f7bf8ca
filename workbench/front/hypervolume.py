"""The hypervolume of a front: how much of score and cost it dominates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workbench import pareto
from workbench.front.objectives import View
from workbench.result import COSTS, Result


def hypervolume(results: Sequence[Result], view: View) -> float:
    """Return the volume that Results dominate up to the study's reference point, in score x decades of cost; 0 without a point.

    Costs enter as log10, so that halving a cost counts the same at a cent as at a hundred dollars.

    Raises:
        KeyError: The study has no reference point for one of the view's objectives.
    """
    # The score is negated already, so every coordinate is minimised and the reference is an upper
    # corner.
    points = [view.coordinates(result) for result in results if not view.unmet(result)]
    reference = (-view.reference[view.maximize], *(_decade(name, view.reference[name]) for name in view.minimize))
    found = [(p[0], *map(_decade, view.minimize, p[1:])) for p in points if p is not None]
    return pareto.hypervolume(found, reference)


def _decade(name: str, value: float) -> float:
    """Return log10 of a cost. No label counts as one label, since 0 has no logarithm."""
    return math.log10(max(value, COSTS[name].least))
