"""Scores of classification, 0 to 100: those of scikit-learn, and the expected calibration error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from workbench.formulations import Example, Labelled

BINS = 15
"""Of confidence, in the calibration error, as in Guo et al. (2017)."""


def class_scores(truth: Sequence[str], predicted: Sequence[str], confidence: Sequence[float | None]) -> dict[str, float]:
    """Accuracy and macro-averaged F1 of one label an example, and `calibration_error` where every prediction has a confidence.

    Args:
        truth: The label of each example.
        predicted: What was predicted; "" is no label at all, and wrong.
        confidence: Probability that the model gives to each prediction, 0 to 1, or None.
    """
    from sklearn.metrics import accuracy_score, f1_score

    # "" is no class: averaged among the others it would lower macro F1 by a class that nobody has.
    labels = sorted({*truth, *predicted} - {""})
    scores = {
        "accuracy": 100 * float(accuracy_score(truth, predicted)),
        # scikit-learn takes 0 too, but warns at every evaluation.
        "macro_f1": 100 * float(f1_score(truth, predicted, labels=labels, average="macro", zero_division=0)),
    }
    known = [each for each in confidence if each is not None]
    # An error over a part of the predictions would be that of another set of examples.
    if len(known) == len(truth):
        right = np.array([a == b for a, b in zip(truth, predicted, strict=True)], float)
        scores["calibration_error"] = calibration_error(np.array(known), right)
    return scores


def label_scores(examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
    """`class_scores` of examples with one of `labels` each, and what was predicted of them."""
    given = [next(iter(prediction.labels), "") for prediction in predictions]
    return class_scores([example["labels"][0] for example in examples], given, [each.confidence for each in predictions])


def commonest_scores(examples: Sequence[Example]) -> dict[str, float]:
    """Return the `label_scores` of giving all examples, at least one, the label that most of them
    have.
    """
    commonest = Counter(example["labels"][0] for example in examples).most_common(1)[0][0]
    return label_scores(examples, [Labelled((commonest,), None)] * len(examples))


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error, 0 to 100: how far confidence is from the share that is right, over bins of equal width.

    It is the mean over examples of |share right - mean confidence| of the bin that each is in (Guo et al. 2017, arXiv:1706.04599).

    Args:
        confidence: Shape (examples,), 0 to 1.
        right: Shape (examples,), 1 where the prediction is right, else 0.
        bins: How many there are.
    """
    # A confidence of exactly 1 belongs to the last bin, not to one behind it.
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, right - confidence, bins)  # of each bin its examples times the difference of its means
    return 100 * float(np.abs(gaps).sum() / len(confidence))


def several_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]) -> dict[str, float]:
    """F1 over all decisions (micro), its mean over labels (macro), and the share of examples with just the right labels (subset).

    Args:
        truth: The labels of each example.
        predicted: Those predicted.
        labels: All that there are.
    """
    from sklearn.metrics import accuracy_score, f1_score

    wanted, given = (np.array([[name in each for name in labels] for each in of], bool) for of in (truth, predicted))
    return {
        "micro_f1": 100 * float(f1_score(wanted, given, average="micro", zero_division=0)),
        "macro_f1": 100 * float(f1_score(wanted, given, average="macro", zero_division=0)),
        "subset_accuracy": 100 * float(accuracy_score(wanted, given)),
    }
