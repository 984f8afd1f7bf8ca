"""Formulations: how a kind of model computes a task. A new kind of model is a new formulation, never a branch of the loop."""

from __future__ import annotations

from workbench.formulations.base import READINGS, Example, Formulation, Reach, Rows, Shots
from workbench.formulations.classes import Classification, Labelled, WrittenClasses, classification
from workbench.formulations.spans import SpanExtraction
from workbench.formulations.text import Message, TextGeneration, text_generation

__all__ = [
    "READINGS",
    "Classification",
    "Example",
    "Formulation",
    "Labelled",
    "Message",
    "Reach",
    "Rows",
    "Shots",
    "SpanExtraction",
    "TextGeneration",
    "WrittenClasses",
    "classification",
    "text_generation",
]
