"""Methods whose head is not learned step by step but fitted at once: on embeddings of the labelled
examples, or on counts of who had what.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.data import counts
from workbench.errors import UsageError
from workbench.methods.base import Method, count_of, names_of
from workbench.space import ends, is_number


def knn(*, neighbours: int = 5, name: str = "knn", models: Sequence[str] = ()) -> Method:
    """The classes of the labelled examples nearest to a text, whose embeddings are kept. Nothing is
    learned.

    The nearer an example, the more it counts: by the inverse of its cosine distance.

    Args:
        neighbours: How many examples vote, at least 1.
        name: What it is called in tables and paths.
        models: As `Method.models`.

    Raises:
        UsageError: `neighbours` is no whole number of at least 1.
    """
    return Method(name, "knn", None, {"neighbours": count_of("neighbours", neighbours)}, names_of(models))


def logistic(*, C: float = 1.0, name: str = "logistic", models: Sequence[str] = ()) -> Method:  # noqa: N803  as elsewhere
    """Logistic regression on embeddings of the pre-trained model, which is left as it is.

    Args:
        C: Inverse of the strength of the L2 penalty, > 0, as in scikit-learn.
        name: What it is called in tables and paths.
        models: As `Method.models`.
    """
    _check(C)
    return Method(name, "logistic", None, {"C": C}, names_of(models))


def setfit(*, learning_rate: float, C: float = 1.0, name: str = "setfit", models: Sequence[str] = ()) -> Method:  # noqa: N803
    """Embeddings learn from pairs of texts to be near within a class and apart between classes;
    then a head is fitted on them.

    This is for few labels (Tunstall et al. 2022, arXiv:2209.11055). All pairs among the examples of
    a step are used; pairs of one class weigh as much as the others together. At each checkpoint the
    head of `logistic` is fitted on the examples that were seen by then.

    Args:
        learning_rate: As `Method.learning_rate`.
        C: As in `logistic`.
        name: What it is called in tables and paths.
        models: As `Method.models`.

    Raises:
        UsageError: `C` is no number above 0.
    """
    _check(C)
    return Method(name, "setfit", learning_rate, {"C": C}, names_of(models))


def popularity(*, name: str = "popularity", models: Sequence[str] = (counts.NAME,)) -> Method:
    """What most users had is recommended to everybody: a baseline for recommendation, by counts alone.

    Args:
        name: What it is called in tables and paths.
        models: As `Method.models`; only the built-in model `counts` can do it.
    """
    return Method(name, "popularity", None, models=names_of(models))


def item_item(*, neighbours: int = 50, name: str = "item_item", models: Sequence[str] = (counts.NAME,)) -> Method:
    """What users had who had the same: collaborative filtering by items (Sarwar et al. 2001), which
    reads no text.

    Two items are alike by the cosine of their users. An item's score is its likeness to all items
    of the history, summed; items that share no user with it follow by their popularity.

    Args:
        neighbours: Of each item how many others that are most like it are kept, at least 1.
        name: What it is called in tables and paths.
        models: As `Method.models`; only the built-in model `counts` can do it.

    Raises:
        UsageError: `neighbours` is no whole number of at least 1.
    """
    return Method(name, "item_item", None, {"neighbours": count_of("neighbours", neighbours)}, names_of(models))


def _check(strength: float) -> None:
    for each in ends(strength):
        if not is_number(each) or each <= 0:
            raise UsageError(f"C must be a number above 0; got {each!r}.")
