"""Scores of entities, 0 to 100: those of seqeval, strictly by BIO."""

from __future__ import annotations

from collections.abc import Sequence


def entity_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 over all entities (micro), and the share of words with the right tag.

    An entity is right where its words are just those and its type is the one. One that does not begin with `B-` is none (seqeval's
    mode "strict" with the scheme IOB2).

    Args:
        truth: The tags of each example's words: `O`, `B-type`, `I-type`.
        predicted: Those predicted, one for each word.
    """
    from seqeval.metrics import accuracy_score
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    # seqeval tells rows from a single row by `isinstance(…, list)`: tuples of tags would be one
    # row.
    both = [list(map(list, tags)) for tags in (truth, predicted)]
    scores = {"token_accuracy": 100 * float(accuracy_score(*both))}
    if not any(tag != "O" for tags in both for row in tags for tag in row):
        return scores  # neither has an entity: there is no share to tell
    found = precision_recall_fscore_support(*both, average="micro", scheme=IOB2, zero_division=0)
    return scores | {name: 100 * float(value) for name, value in zip(("precision", "recall", "f1"), found, strict=False)}
