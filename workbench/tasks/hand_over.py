"""Scores of a system that answers or hands over to a person, by how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.tasks.squad_score import squad_score


@dataclass(frozen=True)
class Reply:
    """The reply that a system would give to a question.

    Attributes:
        text: The answer.
        sure: How sure it is, by each of several measures; the higher the surer.
        right: Whether that is the right answer.
        gold: The right answer; "" where the system has none that is right.
    """

    text: str
    sure: tuple[float, ...]
    right: bool
    gold: str


def hand_over_scores(replies: Sequence[Reply], precision: float) -> dict[str, float]:
    """`answered_at_precision`, `answer_f1`, `answer_precision` and `hand_over_rate`, 0 to 100.

    A reply is given where it is surer than a threshold; else a person is asked. Threshold and
    measure are those by which most of one half of the questions would be answered, and are used on
    the other half; then the halves change places.
    `answered_at_precision` is the share of all questions that are answered, and `hand_over_rate` the
    others. `answer_precision` is the share of given answers that are right, absent where none is
    given. `answer_f1` is SQuAD v2's: F1 of the words of what was given, and for a question that was
    handed over 100 if the system has no right answer, else 0.

    Args:
        replies: A reply to each question.
        precision: The least share of given answers that should be right, 0 to 1.
    """
    sure = np.array([each.sure for each in replies])  # (replies, measures)
    right = np.array([each.right for each in replies], bool)
    given = np.zeros(len(replies), bool)
    for half in (0, 1):
        seen, asked = sure[1 - half :: 2], sure[half::2]
        least = np.array([threshold(column, right[1 - half :: 2], precision) for column in seen.T])
        best = int((seen >= least).sum(axis=0).argmax())
        given[half::2] = asked[:, best] >= least[best]
    said = [each.text if given[i] else "" for i, each in enumerate(replies)]
    scores = {
        "answered_at_precision": 100 * float(given.mean()),
        "hand_over_rate": 100 * float(1 - given.mean()),
        "answer_f1": squad_score(said, [[each.gold] if each.gold else [] for each in replies])["f1"],
    }
    if given.any():
        scores["answer_precision"] = 100 * float(right[given].mean())
    return scores


def threshold(sure: np.ndarray, right: np.ndarray, precision: float) -> float:
    """The lowest confidence from which on replies are right often enough; infinite where there is
    none.

    One more wrong reply is counted than there are, as in Laplace's rule of succession: the best of
    many thresholds would otherwise promise more than it keeps.

    Args:
        sure: Confidence of each reply, shape (replies,).
        right: Whether each is right, shape (replies,).
        precision: The least share of them that should be right, 0 to 1.
    """
    order = np.argsort(-sure, kind="stable")
    wrong, count = np.cumsum(~right[order]), np.arange(1, len(order) + 1)
    # With equal confidences all are answered or none.
    last = np.append(sure[order][1:] < sure[order][:-1], True)
    good = np.flatnonzero(((wrong + 1) / (count + 1) <= 1 - precision + 1e-12) & last)
    return float(sure[order][good[-1]]) if len(good) else float("inf")
