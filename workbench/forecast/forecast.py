"""What a forecast says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.estimate import Estimate
from workbench.usage import Work


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a recipe will take.

    Attributes:
        model: The model's name.
        method: The method's name.
        seconds: Cold: load, data, training to the end and one evaluation. Of a segment: what it adds. None: unknown.
        spent_seconds: What a sweep spends on it: an evaluation at every checkpoint, and writing it where that is known.
        phases: Seconds by phase, one evaluation.
        energy_j: Joules of the cold seconds; None: unknown.
        peak_memory_bytes: Highest memory of what trains; None: unknown.
        flops: FLOPs of training and one evaluation by `workbench.flops`; None where the formula has no answer.
        tokens: Training tokens, padding excluded: from a sample of the examples.
        steps: Optimiser steps.
        labels: Distinct labelled examples whose labels reach the loss.
        evaluations: Checkpoints.
        parameters: All parameters.
        trainable_parameters: Those that learn.
        work: What each of the phases does, one evaluation: steps and FLOPs, which are None where the formula has no answer.
        between_seconds: The part of the spent seconds that lies beside the phases, at all checkpoints; None: not seen yet.
        spent_energy_j: Joules of the spent seconds; None: unknown.
    """

    model: str
    method: str
    seconds: Estimate | None
    spent_seconds: Estimate | None
    phases: Mapping[str, Estimate | None]
    energy_j: Estimate | None
    peak_memory_bytes: Estimate | None
    flops: float | None
    tokens: float
    steps: int
    labels: int
    evaluations: int
    parameters: int
    trainable_parameters: int
    work: Mapping[str, Work] = field(default_factory=dict)
    between_seconds: Estimate | None = None
    spent_energy_j: Estimate | None = None
