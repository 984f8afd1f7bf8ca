"""Formulations: how a kind of model computes a task. A new kind of model is a new formulation,
never a branch of the loop.

    base       model class, encoding, objective, inference and decoding of one way
    classes    the class of a text, by a head or by its written name
    counts     the next item by counts of who had what
    embedding  a bi-encoder: queries and documents become vectors
    media      the class of an image or of a sound
    modelling  how likely a model finds a text
    pairs      a query and a document read together: cross-encoders
    spans      an encoder marks the answer in a text by its first and last token
    speech     what is said in a sound (CTC)
    text       a language model writes its answer behind a prompt
    tokens     which words of a text are entities
"""

from __future__ import annotations

from workbench.formulations.base import GREEDY, READINGS, Example, Formulation, Reach, Rows, Shots
from workbench.formulations.classes import Classification, Labelled, WrittenClasses, classification
from workbench.formulations.counts import Counts
from workbench.formulations.embedding import Embedding, Ranking
from workbench.formulations.media import MediaClassification, audio_classification, image_classification
from workbench.formulations.modelling import CausalModelling, LanguageModelling, Likelihood, MaskedModelling, language_modelling
from workbench.formulations.pairs import CrossEncoder, WrittenRelevance, relevance
from workbench.formulations.spans import SpanExtraction
from workbench.formulations.speech import SpeechRecognition, speech_recognition
from workbench.formulations.text import Message, TextGeneration, text_generation
from workbench.formulations.tokens import TaggedText, TokenClassification, TokenLimits, WrittenEntities, token_classification

__all__ = [
    "GREEDY",
    "READINGS",
    "CausalModelling",
    "Classification",
    "Counts",
    "CrossEncoder",
    "Embedding",
    "Example",
    "Formulation",
    "Labelled",
    "LanguageModelling",
    "Likelihood",
    "MaskedModelling",
    "MediaClassification",
    "Message",
    "Ranking",
    "Reach",
    "Rows",
    "Shots",
    "SpanExtraction",
    "SpeechRecognition",
    "TaggedText",
    "TextGeneration",
    "TokenClassification",
    "TokenLimits",
    "WrittenClasses",
    "WrittenRelevance",
    "classification",
    "relevance",
    "WrittenEntities",
    "audio_classification",
    "image_classification",
    "language_modelling",
    "speech_recognition",
    "text_generation",
    "token_classification",
]
