"""Whether rows and answers in use are distributed as on the dev set.

Lengths and confidences are compared by the Kolmogorov-Smirnov statistic, the largest distance between the two
cumulative distributions. Classes, words and embeddings are compared by the population stability index, the sum over parts
of (p - q) ln(p / q), of which 0.1 is taken for a change worth a look and 0.25 for a large one (Siddiqi 2006,
Credit Risk Scorecards).

Of few rows both are large by chance. So each threshold is at least what chance alone passes in `CHANCE` / 5 of
the looks: by Kolmogorov's distribution, and by PSI / (1/n + 1/m) having a chi-squared one (Yurdakul & Naranjo
2020, Journal of Risk Model Validation 14:4). An unchanged stream is then called drifted, by any of the five,
in at most one of a hundred looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.watching.history import Line, Row
from workbench.watching.reference import Reference

RECENT = 500
"""The latest rows that are compared."""

FEWEST = 50
"""With fewer nothing is said."""

CHANCE = 0.01
"""Share of looks at an unchanged stream that may call it drifted."""

MEASURES = 5
KS_WORTH, PSI_WORTH = 0.1, 0.1
"""Changes below these are not worth a look, however sure they are."""


@dataclass(frozen=True)
class Drift:
    """How one thing is distributed, against the dev set.

    Attributes:
        what: `length`, `class`, `confidence`, `words` or `embeddings`.
        measure: `KS` or `PSI`.
        value: The measure.
        threshold: Above this it is called drifted.
        rows: Rows in use that were compared.
        examples: Examples of the dev set.
    """

    what: str
    measure: str
    value: float
    threshold: float
    rows: int
    examples: int

    @property
    def drifted(self) -> bool:
        """Whether it is no longer distributed as on the dev set."""
        return self.value > self.threshold


def drifts(known: Reference, rows: Sequence[Row], words: Sequence[Line] = (), embeddings: Sequence[Line] = ()) -> list[Drift]:
    """Compare the latest rows of a model with the dev set that it was graded on.

    Args:
        known: How the dev set is distributed.
        rows: Rows that the model answered, the first one first.
        words: Counts of words of such rows, the first one first.
        embeddings: The same of embeddings.

    Returns:
        What can be compared: there are enough rows, and both sides have it.
    """
    recent = rows[-RECENT:]
    lengths = [row.length for row in recent if row.length is not None]
    scores = [row.score for row in recent if row.score is not None]
    labels = Counter(row.label for row in recent if row.label is not None)
    found = [_ks("length", known.lengths, lengths, known.examples), _classes(known, labels)]
    found += [_ks("confidence", known.scores, scores, known.examples)]
    found += [_spread("words", known.edges, words, known.examples)]
    found += [_spread("embeddings", known.embedding_edges, embeddings, known.examples)]
    return [each for each in found if each is not None and each.rows >= FEWEST]


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The population stability index of two sets of counts by part. Half a count is added to each part, so that none is empty."""
    p, q = (np.asarray(each, float) + 0.5 for each in (expected, actual))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def psi_threshold(parts: int, expected: int, actual: int, chance: float) -> float:
    """What the index passes by chance in a share of cases, or `PSI_WORTH` where that is higher."""
    from scipy.stats import chi2

    return max(PSI_WORTH, float(chi2.isf(chance, max(1, parts - 1))) * (1 / expected + 1 / actual))


def ks_threshold(expected: int, actual: int, chance: float) -> float:
    """What the Kolmogorov-Smirnov statistic passes by chance in a share of cases, or `KS_WORTH` where that is higher."""
    from scipy.stats import kstwobign

    return max(KS_WORTH, float(kstwobign.isf(chance)) * float(np.sqrt(1 / expected + 1 / actual)))


def _ks(what: str, expected: Sequence[float], actual: Sequence[float], examples: int) -> Drift | None:
    if not expected or not actual:
        return None
    from scipy.stats import ks_2samp

    value = float(ks_2samp(expected, actual).statistic)
    return Drift(what, "KS", value, ks_threshold(examples, len(actual), CHANCE / MEASURES), len(actual), examples)


def _classes(known: Reference, actual: Mapping[str, int]) -> Drift | None:
    if not known.labels or not actual:
        return None
    names = [*dict.fromkeys([*known.labels, *actual])]
    counts = [[of.get(name, 0) for name in names] for of in (known.labels, actual)]
    (m, n), parts = map(sum, counts), len(names)
    return Drift("class", "PSI", psi(*counts), psi_threshold(parts, m, n, CHANCE / MEASURES), n, known.examples)


def _spread(what: str, edges: Sequence[Sequence[float]], counted: Sequence[Line], examples: int) -> Drift | None:
    """Of the numbers of some vectors, the one that has moved most."""
    lines = list[Line]()
    for line in reversed(counted):
        lines.append(line)
        if sum(each["rows"] for each in lines) >= RECENT:
            break
    if not lines or not edges or any(len(line["parts"]) != len(edges) for line in lines):
        return None
    rows = sum(line["rows"] for line in lines)
    counts = np.sum([line["parts"] for line in lines], axis=0)
    even = [examples / counts.shape[1]] * counts.shape[1]
    limit = psi_threshold(counts.shape[1], examples, rows, CHANCE / MEASURES / len(counts))
    return Drift(what, "PSI", max(psi(even, of) for of in counts.tolist()), limit, rows, examples)
