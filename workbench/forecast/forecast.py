"""What a forecast says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from workbench.estimate import Estimate, total
from workbench.usage import Work


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a recipe will take.

    Attributes:
        model: The model's name.
        method: The method's name.
        seconds: Cold: what it starts from, load, data, training to the end and one evaluation. Of a segment: what it adds. None:
            unknown.
        spent_seconds: What a sweep spends on it: an evaluation at every checkpoint, and writing it where that is known. What it
            starts from takes nothing where that is at hand.
        phases: Seconds by phase, one evaluation.
        energy_j: Joules of the cold seconds; None: unknown.
        peak_memory_bytes: Highest memory of what trains; None: unknown.
        flops: FLOPs of training and one evaluation by `workbench.flops`; None where the formula has no answer.
        tokens: Training tokens, padding excluded: from a sample of the examples.
        steps: Optimiser steps.
        labels: Distinct labelled examples whose labels reach the loss, those of what it starts from included.
        evaluations: Checkpoints.
        parameters: All parameters.
        trainable_parameters: Those that learn.
        work: What each of the phases does, one evaluation: steps and FLOPs, which are None where the formula has no answer.
        between_seconds: The part of the spent seconds that lies beside the phases, at all checkpoints; None: not seen yet.
        spent_energy_j: Joules of the spent seconds; None: unknown.
        labels_by_order: `labels` by the order in which they are bought (`workbench.result.label_order`).
        pretrain_share: The share of the phase `pretrain` that a sweep spends: 0 where what it starts from is at hand.
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
    labels_by_order: Mapping[str, int] = field(default_factory=dict)
    pretrain_share: float = 1.0

    def sharing(self, share: float) -> Forecast:
        """Return the forecast of a run that spends a share of what making its start takes, 0 to 1, and others the rest."""
        evaluate, pretrain = self.phases["evaluate"], self.phases.get("pretrain")
        if pretrain is None or evaluate is None or self.spent_seconds is None:
            return self
        parts = {**self.phases, "pretrain": pretrain * share, "evaluate": evaluate * float(self.evaluations)}
        spent = total([*parts.values(), self.between_seconds] if self.between_seconds else parts.values())
        if spent is None:
            return self
        spent = replace(spent, note=self.spent_seconds.note)
        joules = self.spent_energy_j and self.spent_energy_j * (spent.value / max(self.spent_seconds.value, 1e-12))
        return replace(self, spent_seconds=spent, spent_energy_j=joules, pretrain_share=share)
