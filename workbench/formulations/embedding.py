"""An encoder as an embedding model (bi-encoder): queries and documents each become a vector, and
the nearest belong together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.formulations.base import Example, Formulation, Reach, Rows, Shots, losing_ends, padded_inputs, tokenized
from workbench.objectives import NO_TARGET, Embed, InBatchNegatives, Inference, Objective

DEEPEST = 100
"""The most documents that a ranking has."""

QUERIES_AT_ONCE = 256
"""Queries that are compared with all documents at once, which bounds the memory of their scores."""

Ranking = tuple[tuple[str, float], ...]
"""Names of documents with their scores, best first."""


@dataclass(frozen=True)
class Embedding(Formulation):
    """The documents nearest to a query by the cosine of their vectors.

    Attributes:
        query: The query of an example.
        taught: Names of the documents that an example is learned by: first the one to be found,
            then wrong ones. None: nothing is learned by it, and no loss asks for it.
        searched: Names of the documents that examples are searched in, for all examples together.
        text: The text of a document, by its name.
        max_length: The most tokens of a row; longer rows lose their end.
        temperature: Divides similarities, as in `InBatchNegatives`.
        among: Names of the documents to be put in order for an example; None: all that are
            searched.
        without: Names of documents that are never found for an example; None: there are none.
        prior: The logarithm of how likely each document is to be looked for at all, by its name.
            Documents are then put in order by cosine / temperature plus this. Learned among the
            other documents of its step, a cosine tells by how much a query makes a document
            likelier, so that this sum is the logarithm of how likely it is then (Yi et al. 2019,
            doi:10.1145/3298689.3346996). None: by cosines alone.
    """

    query: Callable[[Example], str]
    taught: Callable[[Example], Sequence[str]]
    searched: Callable[[Sequence[Example]], Sequence[str]]
    text: Callable[[str], str]
    max_length: int
    temperature: float
    among: Callable[[Example], Sequence[str]] | None = None
    without: Callable[[Example], Collection[str]] | None = None
    prior: Callable[[Sequence[str]], np.ndarray] | None = None

    @property
    def auto_class(self) -> str:
        return "AutoModel"

    @property
    def longest_row(self) -> int:
        return self.max_length

    @property
    def apart(self) -> Embedding:
        # Candidates of its own are part of an example: those are encoded with it.
        return self if self.among is not None else dataclasses.replace(self, searched=_nothing)

    @property
    def objective(self) -> Objective:
        return InBatchNegatives(self.temperature)

    def inference(self, processor: Any) -> Inference:
        return Embed()

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """A row for each query. To learn from, its documents follow each query; to be searched, all
        documents follow all queries.
        """
        if not answers:
            names = self.searched(examples)
            texts = [self.query(example) for example in examples] + [self.text(name) for name in names]
            # Documents that are searched belong to no single example, which this number says.
            of = np.concatenate([np.arange(len(examples)), np.full(len(names), len(examples))])
            extra = [*([""] * len(examples)), *names]
            columns = tokenized(texts, processor, self.max_length)
            return Rows(columns, of, np.zeros(len(of), np.int64), padded_inputs(processor), extra)
        texts, labels, rows_of = [], [], []
        # Equal queries and equal documents share a number, by which the loss tells a document that
        # is right for a query from a negative.
        numbers: dict[tuple[str, str], int] = {}
        for i, example in enumerate(examples):
            names = self.taught(example)
            if not names:
                continue
            of_names = [numbers.setdefault(("document", name), len(numbers)) for name in names]
            texts += [self.query(example), *map(self.text, names)]
            labels += [(numbers.setdefault(("query", self.query(example)), len(numbers)), of_names[0])]
            labels += [(NO_TARGET, number) for number in of_names]
            rows_of += [i] * (1 + len(names))
        targets = np.array(labels, np.int64).reshape(-1, 2)
        columns = {**tokenized(texts, processor, self.max_length), "labels": targets}
        # Only queries are items of the loss.
        items = (targets[:, 0] != NO_TARGET).astype(np.int64)
        return Rows(columns, np.array(rows_of, np.int64), items, padded_inputs(processor), together=True)

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[np.ndarray], processor: Any) -> list[Ranking]:
        """The nearest documents of each query."""
        count = len(examples)
        asked, searched, names = np.array(outputs[:count]), np.array(outputs[count:]), rows.extra[count:]
        place = {name: i for i, name in enumerate(names)}
        known = np.zeros(len(names)) if self.prior is None else self.temperature * self.prior(names)
        rankings: list[Ranking] = []
        for first in range(0, count, QUERIES_AT_ONCE):
            some = slice(first, first + QUERIES_AT_ONCE)
            for example, scores in zip(examples[some], asked[some] @ searched.T + known, strict=True):
                own = range(len(names)) if self.among is None else [place[name] for name in self.among(example)]
                if self.without is not None:
                    barred = {place[name] for name in self.without(example)}
                    own = [i for i in own if i not in barred]
                rankings.append(ranked([names[i] for i in own], scores[list(own)]))
        return rankings

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Every document can be found; texts that are longer than a row lose their end."""
        texts = {self.text(name) for example in examples for name in self.taught(example)}
        return losing_ends([(text,) for text in (*map(self.query, examples), *sorted(texts))], processor, self.max_length)


def _nothing(examples: Sequence[Example]) -> Sequence[str]:
    return ()


def ranked(names: Sequence[str], scores: np.ndarray) -> Ranking:
    """Documents by their scores, best first, at most `DEEPEST`; equal ones as they were given."""
    best = np.argsort(-scores, kind="stable")[:DEEPEST]
    return tuple((names[i], float(scores[i])) for i in best)
