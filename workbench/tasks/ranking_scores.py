"""Scores of rankings, 0 to 100, by trec_eval itself (the package pytrec-eval-terrier)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def ranking_scores(
    relevant: Sequence[Mapping[str, int]], rankings: Sequence[Sequence[tuple[str, float]]], recall_at: Sequence[int] = ()
) -> dict[str, float]:
    """`ndcg_at_10`, `mrr` and, for each k, `recall_at_k`: means over queries.

    Documents with one score are put in the order of trec_eval, by their names.

    Args:
        relevant: Of each query the grade of every document that answers it, at least 1; others answer nothing.
        rankings: Of each query documents and their scores.
        recall_at: The k.
    """
    import pytrec_eval

    measures = {"ndcg_cut.10", "recip_rank", *(f"recall.{k}" for k in recall_at)}
    # pytrec_eval is written in C and takes plain dicts alone.
    evaluator = pytrec_eval.RelevanceEvaluator({str(i): dict(grades) for i, grades in enumerate(relevant)}, measures)
    found = evaluator.evaluate({str(i): dict(ranking) for i, ranking in enumerate(rankings)})
    names = {"ndcg_cut_10": "ndcg_at_10", "recip_rank": "mrr", **{f"recall_{k}": f"recall_at_{k}" for k in recall_at}}
    return {name: 100 * float(np.mean([each[theirs] for each in found.values()])) for theirs, name in names.items()}
