"""Scores of written texts, 0 to 100, by kept libraries: torchmetrics and sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.tasks.squad_score import squad_score


def text_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`exact_match` (equal but for the space around), SQuAD's `f1` of words, `chrf` (Popović 2015) and `rouge_l` (Lin 2004).

    Args:
        predictions: One text an example.
        references: The text that is wanted of each.

    Returns:
        The scores; nothing of no texts.
    """
    if not predictions:
        return {}
    from torchmetrics.functional.text import rouge_score

    exact = [given.strip() == wanted.strip() for given, wanted in zip(predictions, references, strict=True)]
    # Without `rougeLsum`, one of the defaults: for it torchmetrics downloads a tokeniser of nltk.
    rouge = rouge_score(list(predictions), list(references), rouge_keys="rougeL")
    return {
        "exact_match": 100 * sum(exact) / len(exact),
        "f1": squad_score(predictions, [[wanted] for wanted in references])["f1"],
        "chrf": float(_metric("CHRF").corpus_score(list(predictions), [list(references)]).score),
        "rouge_l": 100 * float(rouge["rougeL_fmeasure"]),
    }


def translation_scores(predictions: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> dict[str, float]:
    """`bleu` and `chrf` of a whole set of translations as sacreBLEU has them (Post 2018, arXiv:1804.08771).

    Args:
        predictions: One translation an example.
        references: The translation that is wanted of each.
        tokenize: sacreBLEU's tokeniser for BLEU: `13a`; `zh`, `ja-mecab`, `ko-mecab` for those languages.

    Returns:
        The scores; nothing of no translations.
    """
    if not predictions:
        return {}
    # sacreBLEU takes sets of references, each as long as the predictions, not a list a prediction.
    # And it sums n-grams over all of them: the mean over sentences is another score.
    texts = list(predictions), [list(references)]
    return {
        "bleu": float(_metric("BLEU", tokenize=tokenize).corpus_score(*texts).score),
        "chrf": float(_metric("CHRF").corpus_score(*texts).score),
    }


def signature(tokenize: str = "13a") -> str:
    """Return sacreBLEU's signatures of both scores, without which they cannot be compared with
    others' reports.
    """
    found = []
    for name, settings in (("BLEU", {"tokenize": tokenize}), ("chrF", {})):
        metric = _metric(name.upper(), **settings)
        metric.corpus_score(["a"], [["a"]])  # the number of references is known then
        found.append(f"{name}|{metric.get_signature()}")
    return ", ".join(found)


def _metric(name: str, **settings: str) -> Any:
    from sacrebleu import metrics

    return getattr(metrics, name)(**settings)
