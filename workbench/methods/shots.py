"""Which labelled examples stand before a question: the first of all, or those that are like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workbench.formulations import Example, Formulation, Shots
from workbench.methods.base import Method


def shots(method: Method, formulation: Formulation, train: Sequence[Example]) -> Shots:
    """The examples that a method puts before questions, as `Formulation.encode` takes them; none
    where it asks without any.

    Args:
        method: The method, without holes.
        formulation: Tells the text of a question, and whether examples can stand before it at all.
        train: The labelled examples that are bought.
    """
    if not (method.shots and formulation.takes_shots):
        return ()
    if method.choose == "first":
        return train[: method.shots]
    return nearest(train, formulation.question, method.shots)


def nearest(known: Sequence[Example], text: Callable[[Example], str], count: int) -> Callable[[Example], Sequence[Example]]:
    """Make a function that chooses the `count` known examples whose texts are likest to a
    question's, the likest last.

    Likeness is the cosine of TF-IDF vectors of the characters of words, two to four at a time. It
    needs no model, is quick, always gives the same and depends on no language. Of equal ones the
    earlier is taken.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text(example) for example in known]
    # TfidfVectorizer raises an error where no text has a character.
    if not any(each.strip() for each in texts):
        return lambda example: known[:count]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    table = vectors.fit_transform(texts)

    def choose(example: Example) -> Sequence[Example]:
        likeness = (table @ vectors.transform([text(example)]).T).toarray()[:, 0]
        # Stable, so that the earlier of two equal ones is taken on every machine.
        best = (-likeness).argsort(kind="stable")[:count]
        return [known[i] for i in best[::-1]]

    return choose
