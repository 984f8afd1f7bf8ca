"""Formulations: how a kind of model computes a task. A new kind of model is a new formulation, never a branch of the loop."""

from __future__ import annotations

from workbench.formulations.base import Example, Formulation, Reach, Rows
from workbench.formulations.classes import Classification, Labelled, WrittenClasses, classification
from workbench.formulations.embedding import Embedding, Ranking
from workbench.formulations.pairs import CrossEncoder, WrittenRelevance, relevance
from workbench.formulations.spans import SpanExtraction
from workbench.formulations.text import Message, TextGeneration, text_generation

__all__ = [
    "Classification",
    "CrossEncoder",
    "Embedding",
    "Example",
    "Formulation",
    "Labelled",
    "Message",
    "Ranking",
    "Reach",
    "Rows",
    "SpanExtraction",
    "TextGeneration",
    "WrittenClasses",
    "WrittenRelevance",
    "classification",
    "relevance",
    "text_generation",
]
