"""Recommendation: what a user has next, out of all items, by what it had before."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from workbench.data import counts
from workbench.data.histories import LONGEST_HISTORY
from workbench.data.interactions import Interactions
from workbench.errors import DataError, UsageError
from workbench.formulations import Counts, Embedding, Example, Formulation, Ranking
from workbench.space import check, is_number, is_whole
from workbench.tasks import request
from workbench.tasks.base import Task
from workbench.tasks.ranking_scores import ranking_scores
from workbench.tasks.tables import TableTask, texts_of

COLD = "cold_"
"""Prefix of the scores of items that nobody had in what is learned from."""


@dataclass(frozen=True, kw_only=True)
class Recommendation(TableTask):
    """Recommend items; made by `recommendation`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = (
        *("ndcg_at_10", "recall_at_10", "mrr"),
        *("cold_ndcg_at_10", "cold_recall_at_10", "cold_mrr"),
    )
    bounds: ClassVar[tuple[str, ...]] = ("max_length",)

    items: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    text: str | None = None
    history: int = 3
    prior: float = 1.0
    max_length: int = 128
    temperature: float = 0.05
    # All items with their texts; None: those of the data. Set by `portable` alone.
    collection: tuple[tuple[str, str], ...] | None = field(default=None, repr=False, metadata={"later": True})
    # Items of what is learned from, with how often each was had; None: those of the data. Set by `portable` alone.
    learned: tuple[tuple[str, int], ...] | None = field(default=None, repr=False, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "history", lambda v: is_whole(v) and 1 <= v <= LONGEST_HISTORY, f"a whole number, 1 to {LONGEST_HISTORY}")
        check(self, "prior", lambda v: is_number(v) and 0 <= v <= 1, "a number, 0 to 1")
        check(self, "max_length", lambda v: is_whole(v) and v >= 8, "a whole number of at least 8")
        check(self, "temperature", lambda v: is_number(v) and v > 0, "a number above 0")

    @property
    def form(self) -> Interactions:
        return Interactions(self.items, self.user, self.item, self.time, self.text)

    @property
    def texts(self) -> Mapping[str, str]:
        """The texts of all items, by their ids, in an order that depends on those alone."""
        return self._collected if self.collection is not None else texts_of(self.data, self.form, self.digest())

    @functools.cached_property
    def _collected(self) -> dict[str, str]:
        return dict(self.collection or ())

    def asked(self) -> Mapping[str, str]:
        return {"history": request.TEXTS}

    def example(self, row: Mapping[str, Any]) -> Example:
        strange = [name for name in row["history"] if name not in self.texts]
        if strange:
            raise DataError(f"history has {strange[0][:60]!r}, which is none of the {len(self.texts):,} items. Leave it out.")
        return row

    def portable(self) -> Task:
        return replace(self, collection=tuple(self.texts.items()), learned=tuple(sorted(self._had().items())))

    def formulation(self, kind: str) -> Formulation:
        if kind == counts.NAME:
            return Counts(lambda: [*self.texts], before, next_item, user_of)
        if kind != "encoder":
            raise UsageError(f"a model of kind {kind!r} makes no embeddings of texts. Choose an encoder, or {counts.NAME!r}.")
        return Embedding(
            self.query_of, lambda example: [next_item(example)], lambda examples: [*self.texts], self.texts.__getitem__,
            self.max_length, self.temperature, without=before, prior=self.log_shares if self.prior else None,
        )  # fmt: skip

    def query_of(self, example: Example) -> str:
        """The texts of the user's last items, the latest first, as it is the end that is cut off."""
        return " ".join(self.texts[name] for name in reversed(before(example)[-self.history :]))

    def log_shares(self, names: Sequence[str]) -> np.ndarray:
        """`prior` times the logarithm of each item's share of what is learned from, each counted once
        more than it was had: where nothing is learned from, all are equal.
        """
        had = self._had()
        found: np.ndarray = self.prior * np.log([(had[name] + 1) / (had.total() + len(names)) for name in names])
        return found

    def _had(self) -> Counter[str]:
        if self.learned is not None:
            return Counter(dict(self.learned))
        return Counter(next_item(example) for example in self.splits().train)

    def score(self, examples: Sequence[Example], predictions: Sequence[Ranking]) -> dict[str, float]:
        scores = _scores(examples, predictions)
        cold = [(example, found) for example, found in zip(examples, predictions, strict=True) if example["cold"]]
        if cold:
            scores |= {f"{COLD}{name}": value for name, value in _scores(*zip(*cold, strict=True)).items()}
        return scores


def before(example: Example) -> Sequence[str]:
    """The items that the user of an example had before, the latest last."""
    items: Sequence[str] = example["history"]
    return items


def next_item(example: Example) -> str:
    """The item that came next."""
    return str(example["item"])


def user_of(example: Example) -> str:
    """The user of an example."""
    return str(example["user"])


def _scores(examples: Sequence[Example], predictions: Sequence[Ranking]) -> dict[str, float]:
    return ranking_scores([{next_item(example): 1} for example in examples], predictions, recall_at=(10,))


def recommendation(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    items: str | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    text: str | None = None,
    history: int = 3,
    prior: float = 1.0,
    max_length: int = 128,
    temperature: float = 0.05,
    seed: int = 0,
    name: str | None = None,
) -> Recommendation:
    """Recommendation of a user's next item, scored by trec_eval's NDCG and recall at 10 and
    reciprocal rank (0 to 100) over all items that the user has not had.

    The last item of each user is held out for test, the one before it for dev. The same scores of
    the items that nobody had in what train is made of are `cold_ndcg_at_10`, `cold_recall_at_10`
    and `cold_mrr`, absent where there are none.

    Args:
        data: `"pycalls"`; a folder with `interactions` and `items` (CSV, TSV, JSON, JSON lines,
            parquet, Arrow); or the file of interactions.
        train: Examples to learn from: an item that followed on others. A smaller number takes a
            prefix of what a larger one takes. Nobody labels them, so a label's price is 0.
        dev: The most users that grade each checkpoint; the data may have fewer.
        test: The most users held out to the end.
        items: The file of the items, where `data` is a file; None: `items` beside it.
        user: Column of the users, where it is called otherwise than usual (`user`, `user_id`, …).
        item: Column of the items' ids, likewise (`item`, `item_id`, …; in the items' file also
            `id`).
        time: Column of the time, likewise (`time`, `timestamp`, `date`, …): numbers or dates. Where
            there is none the order of the rows is that of time.
        text: Column of an item's text, likewise (`text`, `title`, `name`, `description`).
        history: How many of a user's last items an embedding model reads, 1 to 50. The model
            `counts` sees all of them.
        prior: How much an embedding model's scores depend on how often each item of `train` was had,
            0 to 1: they are cosine / temperature plus so many times the logarithm of its share. With
            1 the score is how likely the item is, which is best over all items; with 0 it is what
            stands out behind the history, which finds more of the items that nobody had. It is that
            of all of `train`, also at checkpoints before its end. Without training it is nothing.
        max_length: Tokens of a row, special tokens included. A longer one loses its end.
        temperature: Cosines are divided by it in the loss of an embedding model.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return Recommendation(
        data=data, train=train, dev=dev, test=test, items=items, user=user, item=item, time=time, text=text, history=history,
        prior=prior, max_length=max_length, temperature=temperature, seed=seed, name=name,
    )  # fmt: skip
