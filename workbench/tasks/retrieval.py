"""Retrieval: the documents of a collection that answer a query, found by the nearness of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from workbench.data import redaction
from workbench.errors import UsageError
from workbench.formulations import Embedding, Example, Formulation, Ranking
from workbench.space import check, is_whole
from workbench.tasks import request
from workbench.tasks.base import Task
from workbench.tasks.ranking_scores import ranking_scores
from workbench.tasks.searches import SearchTask, taught


@dataclass(frozen=True, kw_only=True)
class Retrieval(SearchTask):
    """Find documents; made by `retrieval`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("ndcg_at_10", "recall_at_1", "recall_at_10", "mrr")

    documents: int | None = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "documents", lambda v: v is None or (is_whole(v) and v >= 2), "a whole number of at least 2, or None for all")

    def formulation(self, kind: str) -> Formulation:
        if kind != "encoder":
            raise UsageError(f"a model of kind {kind!r} makes no embeddings of texts. Choose an encoder.")
        return Embedding(self.query_of, taught, self.searched, self.text_of, self.max_length, self.temperature)

    def searched(self, examples: Sequence[Example]) -> list[str]:
        """Documents that these examples are searched in: those that answer them, and the first of the others."""
        own = dict.fromkeys(name for example in examples for name in example["relevant"])
        most = len(self.texts) if self.documents is None else max(self.documents, len(own))
        # `texts` is ordered by a hash of names, so the others are a draw that no seed changes.
        return [*own, *[name for name in self.texts if name not in own][: most - len(own)]]

    def asked(self) -> Mapping[str, str]:
        return {"query": request.TEXT}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "relevant": {}, "negatives": []}

    def portable(self) -> Task:
        # Those that the dev set was graded on: other documents would be another, harder task.
        kept = self.searched(self.splits().dev)
        return replace(self, collection=tuple((name, self.texts[name]) for name in kept), documents=None)

    def notes(self) -> list[str]:
        count = len(self.texts)
        few = self.documents is not None and self.documents < count
        told = f"Queries are searched in {self.documents:,} of {count:,} documents, which is easier; documents=None takes all."
        return [*super().notes(), *([told] if few else [])]

    def score(self, examples: Sequence[Example], predictions: Sequence[Ranking]) -> dict[str, float]:
        return ranking_scores([example["relevant"] for example in examples], predictions, recall_at=(1, 10))


def retrieval(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    documents: int | None = 1024,
    query: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    group: str | None = None,
    max_length: int = 128,
    temperature: float = 0.05,
    before: tuple[str, str] = ("", ""),
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
) -> Retrieval:
    """Retrieval by an embedding model, scored by trec_eval's NDCG at 10, recall at 1 and 10, and
    reciprocal rank (0 to 100).

    Args:
        data: `"pysearch"`; a file (CSV, TSV, JSON, JSON lines, parquet, Arrow) with columns
            `query`, `positive` and maybe `negative`, or a folder of such; a folder as BEIR has it,
            with `corpus.jsonl`, `queries.jsonl` and `qrels/`; or a name on the hub.
        train: Labelled examples to train on: pairs of a query and a document that was judged to
            answer it. A smaller number takes a prefix of what a larger one takes.
        dev: The most queries that grade each checkpoint; the data may have fewer.
        test: The most queries held out to the end.
        documents: Documents that are searched, at most; None: all. Those that answer the queries
            are always among them. Each checkpoint embeds all of them.
        query: Column of the queries, where it is called otherwise.
        positive: Column of the documents that answer them, likewise.
        negative: Column of documents that do not, likewise: a text or a list. They are learned from
            beside those of other queries.
        group: Column of groups, such as languages: the scores of the worst group are recorded too.
        max_length: Tokens of a query or document, special tokens included. A longer one loses its
            end.
        temperature: Cosines are divided by it in the loss.
        before: Texts put before each query and each document, for models that were trained so:
            `("query: ", "passage: ")`.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return Retrieval(
        data=data, train=train, dev=dev, test=test, documents=documents, query=query, positive=positive, negative=negative,
        group=group, max_length=max_length, temperature=temperature, before=before, seed=seed, name=name,
        redact=redaction.checked(redact),
    )  # fmt: skip
