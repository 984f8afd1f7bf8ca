"""How far a training is, for whoever watches it from outside the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.usage import Work

if TYPE_CHECKING:
    from workbench.training.resume_state import ResumeState


@dataclass
class Progress:
    """How far a training is, for whoever watches it from outside the loop: it tells what was done
    when the training breaks off.

    Attributes:
        by_order: Distinct labelled examples whose labels have reached the loss, in the whole run and in what its parents are made
            by, by the order in which they are bought.
        work: The work of training since the last checkpoint.
        phase: What is being done: `train`, or `pretrain` while a parent is made.
        unlabelled: Orders of corpora, whose texts nobody labelled.
        labels_of: How many labels have reached the loss once so many examples have.
        stepping: Whether optimiser steps are being made, and not an evaluation, say.
        leave: Ask for the end of the training after the step at hand; `left` is then its state.
        left: The state to continue from, of a training that was left between two checkpoints.
        runs_ahead: Runs of the same kind that are expected after this one in this process; None: unknown. Compiling is not tried
            then.
        compiling: What other processes of this machine have found about compiling, by family (`compiling.Verdict`).
    """

    by_order: dict[str, int] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    phase: str = "train"
    unlabelled: set[str] = field(default_factory=set)
    labels_of: Callable[[int], int] = lambda examples: examples
    stepping: bool = False
    leave: bool = False
    left: ResumeState | None = None
    runs_ahead: float | None = None
    compiling: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def ask_to_leave(self) -> bool:
        """Have the training end after the step at hand, with its state in `left`; whether it is at a place where it can."""
        self.leave = self.stepping and self.phase == "train"
        return self.leave

    @property
    def labels(self) -> int:
        """Distinct labelled examples, all together."""
        return sum(self.by_order.values())

    def saw(self, labels: Mapping[str, int]) -> None:
        """Note that so many labels, by the order in which they are bought, have reached the loss."""
        seen = {name: max(self.by_order.get(name, 0), count) for name, count in labels.items() if name not in self.unlabelled}
        self.by_order = {**self.by_order, **seen}  # a new one, as other threads may be reading
