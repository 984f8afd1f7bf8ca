"""The next item by counts of who had what: histories are numbers of items, and no text is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data import counts
from workbench.formulations.base import Example, Formulation, Rows, Shots
from workbench.formulations.embedding import DEEPEST, Ranking
from workbench.formulations.media import stacked
from workbench.objectives import NO_ITEM, BestItems, Histories, Inference, Objective


@dataclass(frozen=True)
class Counts(Formulation):
    """Items in order for a user, by a model of counts.

    Attributes:
        items: Ids of all items, in an order that is always the same.
        history: Ids of the items that the user of an example had before, the latest last.
        item: Id of the item that came next.
        user: The user of an example.
    """

    items: Callable[[], Sequence[str]]
    history: Callable[[Example], Sequence[str]]
    item: Callable[[Example], str]
    user: Callable[[Example], str]

    @property
    def auto_class(self) -> str:
        return counts.AUTO_CLASS

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"num_items": len(self.items())}

    @property
    def objective(self) -> Objective:
        return Histories()

    def inference(self, processor: Any) -> Inference:
        return BestItems(DEEPEST)

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """A row for each example: `history`, and as its `labels` the numbers of user and next item,
        shape (rows, 2).
        """
        place = {name: i for i, name in enumerate(self.items())}
        rows = [np.array([place[name] for name in self.history(example)], np.int64) for example in examples]
        longest = max(map(len, rows), default=0)
        # All of one length, as they are fitted on together.
        filled = [np.pad(row, (0, longest - len(row)), constant_values=NO_ITEM) for row in rows]
        columns: dict[str, Any] = {"history": filled}
        if answers:
            users: dict[str, int] = {}
            pairs = [(users.setdefault(self.user(each), len(users)), place[self.item(each)]) for each in examples]
            columns["labels"] = np.array(pairs, np.int64).reshape(-1, 2)
        sizes, ones = np.full(len(rows), max(1, longest), np.int64), np.ones(len(rows), np.int64)
        return Rows(columns, np.arange(len(rows)), ones, stacked, sizes=sizes, raw=True)

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[Any], processor: Any) -> list[Ranking]:
        """The best items of each example with their scores."""
        names = self.items()
        return [tuple((names[i], float(score)) for i, score in zip(*each, strict=True)) for each in outputs]
