"""What a model learns from, and how it is asked: losses as sums over target items, and ways to read
a model's answers.

A loss is a sum, which the training loop divides by the target items of the whole optimiser step. So
the gradient does not depend on how a step is cut into micro-batches.

    base        Objective and Inference: the two sides of a model that the loop knows
    counting    histories as numbers of items, and the items that suit them best
    embedding   one vector a row, learned from pairs
    generation  answers written by greedy decoding, freely or out of a few
    likelihood  which of a few answers is likeliest
    losses      losses, each summed over its target items
    packing     passes in which a model's layers see no padding
    prompts     the prompts that a decoder reads before it answers
    scoring     one number a row
"""

from __future__ import annotations

from workbench.objectives.base import NO_TARGET, TARGETS, Answers, Batch, Inference, Objective, Passes, Read, inputs_of
from workbench.objectives.counting import NO_ITEM, BestItems, Histories
from workbench.objectives.embedding import AlikePairs, Embed, InBatchNegatives, embeddings, pooled
from workbench.objectives.generation import Generate
from workbench.objectives.likelihood import Likelihood
from workbench.objectives.losses import Classes, Ctc, Likelihoods, Spans, Tokens
from workbench.objectives.scoring import Odds, Score

__all__ = [
    "NO_ITEM",
    "NO_TARGET",
    "TARGETS",
    "AlikePairs",
    "Answers",
    "Batch",
    "BestItems",
    "Classes",
    "Ctc",
    "Embed",
    "Generate",
    "Histories",
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
