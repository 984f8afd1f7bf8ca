"""Tasks that are about queries and the documents that answer them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from workbench.data import fingerprints
from workbench.data.searches import Searches
from workbench.errors import UsageError
from workbench.formulations import Example
from workbench.space import Space, check, is_number, is_whole
from workbench.tasks.tables import TableTask, texts_of


@dataclass(frozen=True, kw_only=True)
class SearchTask(TableTask):
    """Base of tasks with queries and documents.

    Attributes:
        query: Column of the queries; None: found by its name.
        positive: Column of the documents that answer them, likewise.
        negative: Column of documents that do not, likewise.
        group: Column of groups.
        max_length: Tokens of a row at most.
        temperature: Cosines are divided by it in the loss of embeddings.
        before: Texts put before each query and each document.
    """

    bounds: ClassVar[tuple[str, ...]] = ("max_length",)
    inputs: ClassVar[tuple[str, ...]] = ("query",)

    query: str | None = None
    positive: str | None = None
    negative: str | None = None
    group: str | None = None
    max_length: int = 128
    temperature: float = 0.05
    before: tuple[str, str] | Sequence[str] = ("", "")
    # All documents that there are, with their names; None: those of the data. Set by `portable` alone.
    collection: tuple[tuple[str, str], ...] | None = field(default=None, repr=False, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_length", lambda v: is_whole(v) and v >= 8, "a whole number of at least 8")
        check(self, "temperature", lambda v: is_number(v) and v > 0, "a number above 0")
        # Tasks are keys of caches, so every field must have a hash.
        if isinstance(self.before, list):
            object.__setattr__(self, "before", tuple(self.before))
        given: Any = self.before
        if not isinstance(given, Space) and not (
            isinstance(given, tuple) and len(given) == 2 and all(isinstance(each, str) for each in given)
        ):
            raise UsageError(f'before={given!r}: give what stands before a query and before a document: ("query: ", "passage: ").')

    @property
    def form(self) -> Searches:
        return Searches(self.query, self.positive, self.negative, self.group, redact=self.finders)

    @property
    def texts(self) -> Mapping[str, str]:
        """All documents, by their names, in an order that depends on those alone."""
        return self._collected if self.collection is not None else texts_of(self.data, self.form, self.digest())

    @functools.cached_property
    def _collected(self) -> dict[str, str]:
        return dict(self.collection or ())

    def searchable(self) -> Sequence[Example]:
        return fingerprints.dataset(self.data, self.form).documents

    def query_of(self, example: Example) -> str:
        """The query of an example, with what stands before it."""
        return f"{self.before[0]}{example['query']}"

    def text_of(self, name: str) -> str:
        """The text of a document, with what stands before it."""
        return f"{self.before[1]}{self.texts[name]}"

    def alike(self, example: Example, count: int) -> list[str]:
        """Return the documents that share the rarest words with a query, by TF-IDF, nearest first.

        Args:
            example: The query. Documents that answer it are left out.
            count: How many documents to return, at most.
        """
        found = _alike(self.data, self.form, self.digest(), example["query"], count + len(example["relevant"]))
        return [name for name in found if name not in example["relevant"]][:count]


def taught(example: Example) -> list[str]:
    """Return the names of the best document of a query and of those known not to answer it; none
    where no document answers it.
    """
    grades: Mapping[str, int] = example["relevant"]
    if not grades:
        return []
    return [max(grades, key=lambda name: grades[name]), *(name for name in example["negatives"] if name not in grades)]


@functools.lru_cache(maxsize=4)
def _index(data: str, form: Searches, digest: str) -> tuple[Any, Any, list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = texts_of(data, form, digest)
    words = TfidfVectorizer(sublinear_tf=True)
    # Shape (words, documents) in CSR: a query (1, words) is then one sparse product.
    return words, words.fit_transform(texts.values()).T.tocsr(), [*texts]


@functools.lru_cache(maxsize=1 << 16)
def _alike(data: str, form: Searches, digest: str, query: str, count: int) -> tuple[str, ...]:
    words, matrix, names = _index(data, form, digest)
    scores = (words.transform([query]) @ matrix).toarray()[0]
    # Stable: documents that score alike keep the order of `names` on every machine.
    return tuple(names[i] for i in np.argsort(-scores, kind="stable")[:count])
