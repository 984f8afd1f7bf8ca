"""Exact match and F1 of extracted answers, by the published rules.

English is scored as SQuAD is (Rajpurkar et al. 2016, 2018), by torchmetrics: lower case, no punctuation, no articles, the
best of several gold answers, and no answer is right exactly where there is none. Other languages follow MLQA (Lewis et
al. 2020): the language's own articles, all punctuation of Unicode, Chinese by character.
"""

from __future__ import annotations

import functools
import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workbench.errors import UsageError, did_you_mean

ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "hi": "",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    # As published: `^` behind a letter never matches, but scores must be those that others report.
    "ar": r"\sال^|ال",
    "zh": "",
}
"""What is left out in each language that has a published rule; a regular expression, "" for none."""


def check_language(language: str) -> None:
    """Raises UsageError for a language without a published rule."""
    if language not in ARTICLES:
        raise UsageError(
            f"language={language!r}: there is no published rule to score answers in it.{did_you_mean(language, ARTICLES)}"
        )


def squad_score(predictions: Sequence[str], golds: Sequence[Sequence[str]], language: str = "en") -> dict[str, float]:
    """Mean exact match and F1 over questions, each 0 to 100.

    Args:
        predictions: One answer a question; "" is "no answer".
        golds: The gold answers of each question; none, or none with a word in it, where there is no answer.
        language: A key of `ARTICLES`.

    Raises:
        UsageError: There is no question, or no rule for the language.
    """
    check_language(language)
    if len(predictions) != len(golds):
        raise ValueError(f"{len(predictions)} predictions for {len(golds)} questions")
    if not predictions:
        raise UsageError("there is no question to score: the set of examples is empty.")
    # SQuAD v2 counts only gold answers that normalisation leaves something of.
    kept = [[gold for gold in each if normalise(gold, language)] or [""] for each in golds]
    if language != "en":
        pairs = [_best(prediction, each, language) for prediction, each in zip(predictions, kept, strict=True)]
        exact, f1 = (sum(scores) for scores in zip(*pairs, strict=True))
        return {"exact_match": 100 * exact / len(pairs), "f1": 100 * f1 / len(pairs)}
    from torchmetrics.functional.text import squad

    given = [{"id": str(i), "prediction_text": text} for i, text in enumerate(predictions)]
    wanted: Any = [{"id": str(i), "answers": {"text": texts, "answer_start": [0] * len(texts)}} for i, texts in enumerate(kept)]
    return {name: float(value) for name, value in squad(given, wanted).items()}


def normalise(text: str, language: str) -> str:
    """Lower case, without punctuation and articles, words (in Chinese: characters) parted by one space."""
    text = "".join(character for character in text.lower() if character not in _punctuation(language))
    if ARTICLES[language]:
        text = re.sub(ARTICLES[language], " ", text)
    if language == "zh":
        text = re.sub("([\u4e00-\u9fa5])", r" \1 ", text)
    return " ".join(text.split())


def _best(prediction: str, golds: Sequence[str], language: str) -> tuple[float, float]:
    """Highest exact match and highest F1 against any of the gold answers, 0 to 1."""
    given = normalise(prediction, language)
    wanted = [normalise(gold, language) for gold in golds]
    # Each the best over the gold answers, as SQuAD has it, and not both of one answer.
    return float(given in wanted), max(_f1(given.split(), gold.split()) for gold in wanted)


def _f1(given: Sequence[str], wanted: Sequence[str]) -> float:
    if not given or not wanted:  # no answer agrees with no answer only
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


@functools.cache
def _punctuation(language: str) -> frozenset[str]:
    """ASCII's as in SQuAD for English, else also every character of a category P of Unicode as in MLQA."""
    if language == "en":
        return frozenset(string.punctuation)
    unicode = (chr(i) for i in range(sys.maxunicode) if unicodedata.category(chr(i)).startswith("P"))
    return frozenset(unicode) | frozenset(string.punctuation)
