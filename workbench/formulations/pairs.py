"""Documents put in order for a query by reading both together: a cross-encoder's score, or a
language model's yes or no.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.formulations.base import Example, Formulation, Reach, Rows, Shots, losing_ends, padded_inputs, tokenized
from workbench.formulations.embedding import Ranking, ranked
from workbench.formulations.text import TextGeneration, text_generation
from workbench.objectives import Classes, Inference, Objective, Odds, Score, Tokens

YES, NO = "yes", "no"
"""A language model's answers to whether a document answers a query."""


@dataclass(frozen=True)
class CrossEncoder(Formulation):
    """A score for each document beside the query. An item of the loss is such a pair, right or
    wrong.

    Attributes:
        query: The query of an example.
        taught: Names of the documents that an example is learned by: first one that answers it,
            then some that do not.
        candidates: Names of the documents to be put in order for an example.
        text: The text of a document, by its name.
        max_length: The most tokens of query and document together; longer pairs lose their end.
    """

    query: Callable[[Example], str]
    taught: Callable[[Example], Sequence[str]]
    candidates: Callable[[Example], Sequence[str]]
    text: Callable[[str], str]
    max_length: int

    @property
    def auto_class(self) -> str:
        return "AutoModelForSequenceClassification"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"num_labels": 1}

    @property
    def longest_row(self) -> int:
        return self.max_length

    @property
    def objective(self) -> Objective:
        return Classes(several=True)  # a single class, which a pair has or not

    def inference(self, processor: Any) -> Inference:
        return Score()

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        names, of = _beside(examples, self.taught if answers else self.candidates)
        queries = [self.query(examples[i]) for i in of.tolist()]
        flat = [name for each in names for name in each]
        columns = tokenized(queries, processor, self.max_length, [self.text(name) for name in flat])
        if answers:
            right = [place == 0 for each in names for place in range(len(each))]
            columns["labels"] = np.array(right, np.float32).reshape(-1, 1)
        return Rows(columns, of, np.ones(len(of), np.int64), padded_inputs(processor), flat)

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[float], processor: Any) -> list[Ranking]:
        """The candidates of each query, best first."""
        return in_order(len(examples), rows, outputs)

    def reach(self, examples: Sequence[Example], processor: Any) -> Reach:
        """Every candidate can be the first; pairs that are longer than a row lose their end."""
        pairs = [(self.query(example), self.text(name)) for example in examples for name in self.taught(example)]
        return losing_ends(pairs, processor, self.max_length)


@dataclass(frozen=True)
class WrittenRelevance(Formulation):
    """A language model is asked of each document whether it answers the query; the score is how
    much likelier yes is than no.

    Attributes:
        plain: Question and answer as text, of an example that is a pair: `{"query", "document",
            "answer"}`.
        query: The query of an example.
        taught: Names of the documents that an example is learned by, as in `CrossEncoder`.
        candidates: Names of the documents to be put in order for an example.
        text: The text of a document, by its name.
    """

    plain: TextGeneration
    query: Callable[[Example], str]
    taught: Callable[[Example], Sequence[str]]
    candidates: Callable[[Example], Sequence[str]]
    text: Callable[[str], str]

    @property
    def auto_class(self) -> str:
        return self.plain.auto_class

    @property
    def takes_shots(self) -> bool:
        return True

    @property
    def objective(self) -> Objective:
        return Tokens(shift=self.plain.decoder)

    def inference(self, processor: Any) -> Inference:
        yes, no = (self.plain.answer_ids(answer, processor) for answer in (YES, NO))
        # Some tokenisers write both answers with the same first token (a blank): the first that
        # differs counts.
        alike = next(i for i, (one, other) in enumerate(zip(yes, no, strict=False)) if one != other)
        return Odds(yes[alike], no[alike], tuple(yes[:alike]))

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        """A row for each pair; pairs that are longer than the model takes are left out. A shot is
        shown as a document that answers its query and one that does not.
        """
        names, of = _beside(examples, self.taught if answers else self.candidates)
        asked = [pair for example, each in zip(examples, names, strict=True) for pair in self._pairs(example, each)]
        rows = self.plain.encode(asked, processor, answers=answers, shots=self._shown(shots))
        extra = [name for each in names for name in each]
        # `plain` numbers pairs, of which some were left out; rows have to name queries.
        return dataclasses.replace(rows, example=of[rows.example], extra=[extra[i] for i in rows.example])

    def _shown(self, shots: Shots) -> Shots:
        """The pairs that stand before each question: of each shot a document that answers it, and
        one that does not.
        """

        def pairs(some: Sequence[Example]) -> list[Example]:
            return [pair for shot in some for pair in self._pairs(shot, self.taught(shot)[:2])]

        return (lambda pair: pairs(shots(pair["example"]))) if callable(shots) else pairs(shots)

    def question(self, example: Example) -> str:
        return self.query(example)

    def _pairs(self, example: Example, names: Sequence[str]) -> list[Example]:
        query = self.query(example)
        one = {"example": example, "query": query}
        return [{**one, "document": self.text(name), "answer": NO if i else YES} for i, name in enumerate(names)]

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[float], processor: Any) -> list[Ranking]:
        """The candidates of each query, best first; those that were too long to be asked are
        missing.
        """
        return in_order(len(examples), rows, outputs)


def _beside(examples: Sequence[Example], documents: Callable[[Example], Sequence[str]]) -> tuple[list[Sequence[str]], np.ndarray]:
    """Names of each example's documents, and for each pair with a query the index of its example,
    shape (pairs,).
    """
    names = [documents(example) for example in examples]
    return names, np.repeat(np.arange(len(examples)), [len(each) for each in names])


def in_order(count: int, rows: Rows, scores: Sequence[float]) -> list[Ranking]:
    """The documents of each example's rows, named by `extra`, best first."""
    starts = np.searchsorted(rows.example, np.arange(count + 1)).tolist()
    spans = [slice(first, last) for first, last in itertools.pairwise(starts)]
    return [ranked(rows.extra[each], np.array(scores[each])) for each in spans]


def relevance(
    kind: str,
    task: object,
    encoder: CrossEncoder,
) -> Formulation:
    """How a kind of model tells whether documents answer a query, by reading both together.

    Args:
        kind: The kind of model, as `Task.formulation` gets it.
        task: The task, for errors.
        encoder: The formulation for an encoder. Another kind of model is asked about the same
            queries and documents.

    Raises:
        UsageError: This kind of model reads no text.
    """
    if kind == "encoder":
        return encoder
    plain = text_generation(kind, task, _prompt, _answer, max_new_tokens=4)
    return WrittenRelevance(plain, encoder.query, encoder.taught, encoder.candidates, encoder.text)


def _prompt(pair: Example) -> str:
    return f"Query: {pair['query']}\nDocument: {pair['document']}\n\nDoes the document answer the query, yes or no?"


def _answer(pair: Example) -> str:
    return str(pair["answer"])
