"""How far a training is, for whoever watches it from outside the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workbench.usage import Work


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
    """

    by_order: dict[str, int] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    phase: str = "train"
    unlabelled: set[str] = field(default_factory=set)
    labels_of: Callable[[int], int] = lambda examples: examples

    @property
    def labels(self) -> int:
        """Distinct labelled examples, all together."""
        return sum(self.by_order.values())

    def saw(self, labels: Mapping[str, int]) -> None:
        """Note that so many labels, by the order in which they are bought, have reached the loss."""
        seen = {name: max(self.by_order.get(name, 0), count) for name, count in labels.items() if name not in self.unlabelled}
        self.by_order = {**self.by_order, **seen}  # a new one, as other threads may be reading
