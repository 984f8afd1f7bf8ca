"""Which labelled examples stand before a question: the first of all, or those that are like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workbench.formulations import Example, Formulation, Shots
from workbench.methods.base import Method


def shots(method: Method, formulation: Formulation, train: Sequence[Example]) -> Shots:
    """The examples that a method puts before questions, as `Formulation.encode` takes them; none where it asks without.

    Args:
        method: The method, without holes.
        formulation: What asks; it tells the text of a question.
        train: The examples that are bought.
    """
    if not (method.shots and formulation.takes_shots):
        return ()
    if method.choose == "first":
        return train[: method.shots]
    return nearest(train, formulation.question, method.shots)


def nearest(known: Sequence[Example], text: Callable[[Example], str], count: int) -> Callable[[Example], Sequence[Example]]:
    """Chooses `count` of the known examples by how like their texts are to that of a question, the likest last.

    Likeness is the cosine of TF-IDF vectors of the characters of words, two to four at a time: it needs no model, is quick and
    always the same, and knows no language. Of equal ones the earlier is taken.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text(example) for example in known]
    if not any(each.strip() for each in texts):  # nothing to be like
        return lambda example: known[:count]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    table = vectors.fit_transform(texts)

    def choose(example: Example) -> Sequence[Example]:
        likeness = (table @ vectors.transform([text(example)]).T).toarray()[:, 0]
        best = (-likeness).argsort(kind="stable")[:count]
        return [known[i] for i in best[::-1]]

    return choose
