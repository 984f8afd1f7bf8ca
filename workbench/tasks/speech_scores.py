"""Scores of what was written down of speech, by jiwer."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import EnvironmentFault
from workbench.formulations.speech import plain


def speech_scores(truth: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Word and character error rates over all texts together, in per cent, and the accuracies that are 100 less them.

    Texts are compared in small letters and without marks. One without a word in it counts for nothing.

    Raises:
        EnvironmentFault: jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise EnvironmentFault(
            "speech is scored by the package jiwer, which is not installed. Install it with pip: 'workbench[audio]' has it."
        ) from error
    # Against a text without words an error rate has no denominator.
    pairs = [(plain(a), plain(b)) for a, b in zip(truth, predicted, strict=True) if plain(a)]
    if not pairs:
        return {}
    wanted, given = (list(side) for side in zip(*pairs, strict=True))
    errors = {"wer": 100 * float(jiwer.wer(wanted, given)), "cer": 100 * float(jiwer.cer(wanted, given))}
    # An error rate passes 100 % where more words are written than were said.
    return errors | {
        "word_accuracy": max(0.0, 100 - errors["wer"]),
        "character_accuracy": max(0.0, 100 - errors["cer"]),
    }
