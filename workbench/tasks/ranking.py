"""Ranking: candidates for a query put in order; by cross-encoders, by embeddings, or by a language model's yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from workbench import formulations
from workbench.data import redaction
from workbench.formulations import Embedding, Example, Formulation
from workbench.space import check, is_whole
from workbench.tasks import request
from workbench.tasks.base import Task
from workbench.tasks.ranking_scores import ranking_scores
from workbench.tasks.searches import SearchTask, taught

CROSS, BI = "cross-encoder", "bi-encoder"
"""How an encoder sees a query and a document: both in one row, or each in its own."""


@dataclass(frozen=True, kw_only=True)
class Ranking(SearchTask):
    """Put candidates in order; made by `ranking`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("ndcg_at_10", "mrr")

    candidates: int = 20
    negatives: int = 4
    encoder: str = CROSS

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "candidates", lambda v: is_whole(v) and 2 <= v <= 100, "a whole number, 2 to 100")
        check(self, "negatives", lambda v: is_whole(v) and v >= 1, "a whole number of at least 1")
        check(self, "encoder", lambda v: v in (CROSS, BI), f"{CROSS!r} or {BI!r}")

    def formulation(self, kind: str) -> Formulation:
        if kind == "encoder" and self.encoder == BI:
            return Embedding(
                self.query_of, self.taught, self.searched, self.text_of, self.max_length, self.temperature, self.ordered
            )
        both = formulations.CrossEncoder(self.query_of, self.taught, self.ordered, self.text_of, self.max_length)
        return formulations.relevance(kind, self, both)

    def taught(self, example: Example) -> list[str]:
        """The best document of a query and `negatives` others: those known not to answer it, then those that seem to."""
        right, *wrong = taught(example)
        return [right, *dict.fromkeys([*wrong, *self.alike(example, self.negatives)])][: 1 + self.negatives]

    def ordered(self, example: Example) -> list[str]:
        """The candidates of a query: those that answer it, those known not to, and those that seem to; in an order by name."""
        if "documents" in example:
            return [*dict.fromkeys(example["documents"])]
        wrong = [name for name in example["negatives"] if name not in example["relevant"]]
        found = [*dict.fromkeys([*example["relevant"], *wrong, *self.alike(example, self.candidates)])]
        # By name: the order in which candidates are read must not tell which of them answers. None
        # that answers is left out, as the ideal order that NDCG divides by counts them all.
        return sorted(found[: max(self.candidates, len(example["relevant"]))])

    def asked(self) -> Mapping[str, str]:
        return {"query": request.TEXT, "documents": request.TEXTS}

    def question(self, example: Example) -> dict[str, Any]:
        return {"query": example["query"], "documents": [self.texts[name] for name in self.ordered(example)]}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "relevant": {}, "negatives": []}

    def portable(self) -> Task:
        return replace(self, collection=())  # each request brings its own documents, and their texts are their names

    def returned(self, predictions: Sequence[formulations.Ranking]) -> Sequence[formulations.Ranking]:
        names = {text: name for name, text in self.texts.items()}
        return [tuple((names.get(text, text), score) for text, score in each) for each in predictions]

    def text_of(self, name: str) -> str:
        return super().text_of(name) if self.collection is None else f"{self.before[1]}{name}"

    def searched(self, examples: Sequence[Example]) -> list[str]:
        """All candidates of these examples."""
        return [*dict.fromkeys(name for example in examples for name in self.ordered(example))]

    def score(self, examples: Sequence[Example], predictions: Sequence[formulations.Ranking]) -> dict[str, float]:
        return ranking_scores([example["relevant"] for example in examples], predictions)


def ranking(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    candidates: int = 20,
    negatives: int = 4,
    encoder: str = CROSS,
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
) -> Ranking:
    """Ranking of a few documents for each query, scored by trec_eval's NDCG at 10 and reciprocal
    rank (0 to 100).

    Args:
        data: As `retrieval` takes it: `"pysearch"`, a table of queries and documents, a folder as
            BEIR has it, a name on the hub.
        train: Labelled examples to train on: pairs of a query and a document that was judged to
            answer it. A smaller number takes a prefix of what a larger one takes.
        dev: The most queries that grade each checkpoint; the data may have fewer.
        test: The most queries held out to the end.
        candidates: How many documents are put in order for a query, 2 to 100: those that answer it,
            those of `negative`, then those that share the rarest words with it (TF-IDF).
        negatives: How many documents that do not answer it are trained on with each one that does;
            chosen likewise.
        encoder: How an encoder does it: `"cross-encoder"` reads query and document together and
            gives a score, `"bi-encoder"` compares their embeddings. A language model is asked of
            each document whether it answers the query, yes or no.
        query: Column of the queries, where it is called otherwise.
        positive: Column of the documents that answer them, likewise.
        negative: Column of documents that do not, likewise: a text or a list.
        group: Column of groups, such as languages: the scores of the worst group are recorded too.
        max_length: Tokens of an encoder's row, special tokens included. A longer one loses its end.
        temperature: Cosines are divided by it in the loss of a bi-encoder.
        before: Texts put before each query and each document.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return Ranking(
        data=data, train=train, dev=dev, test=test, candidates=candidates, negatives=negatives, encoder=encoder, query=query,
        positive=positive, negative=negative, group=group, max_length=max_length, temperature=temperature, before=before,
        seed=seed, name=name, redact=redaction.checked(redact),
    )  # fmt: skip
