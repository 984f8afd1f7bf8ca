"""What a model learns from, and how it is asked: losses as sums over target items, and ways to read
a model's answers.

A loss is a sum, which the training loop divides by the target items of the whole optimiser step. So
the gradient does not depend on how a step is cut into micro-batches.
"""

from __future__ import annotations

from workbench.objectives.base import NO_TARGET, TARGETS, Answers, Batch, Inference, Objective, Passes, Read, inputs_of
from workbench.objectives.embedding import AlikePairs, Embed, InBatchNegatives, embeddings, pooled
from workbench.objectives.generation import Generate
from workbench.objectives.likelihood import Likelihood
from workbench.objectives.losses import Classes, Ctc, Likelihoods, Spans, Tokens
from workbench.objectives.scoring import Odds, Score

__all__ = [
    "NO_TARGET",
    "TARGETS",
    "AlikePairs",
    "Answers",
    "Batch",
    "Classes",
    "Ctc",
    "Embed",
    "Generate",
    "InBatchNegatives",
    "Inference",
    "Likelihood",
    "Likelihoods",
    "Objective",
    "Odds",
    "Passes",
    "Read",
    "Score",
    "Spans",
    "Tokens",
    "embeddings",
    "inputs_of",
    "pooled",
]
