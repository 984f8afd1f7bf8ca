"""Tasks: data, prompts and answers, and the score that grades them. One short file a task, without tensor code."""

from __future__ import annotations

from workbench.formulations import Example
from workbench.tasks.audio_classification import AudioClassification, audio_classification
from workbench.tasks.base import Splits, Task
from workbench.tasks.classification import Classification, classification
from workbench.tasks.image_classification import ImageClassification, image_classification
from workbench.tasks.language_modelling import LanguageModelling, language_modelling
from workbench.tasks.question_answering import QuestionAnswering, question_answering
from workbench.tasks.ranking import Ranking, ranking
from workbench.tasks.retrieval import Retrieval, retrieval
from workbench.tasks.speech_recognition import SpeechRecognition, speech_recognition
from workbench.tasks.text_generation import TextGeneration, text_generation
from workbench.tasks.token_classification import TokenClassification, token_classification
from workbench.tasks.translation import Translation, translation

__all__ = [
    "AudioClassification",
    "Classification",
    "Example",
    "ImageClassification",
    "LanguageModelling",
    "QuestionAnswering",
    "Ranking",
    "Retrieval",
    "SpeechRecognition",
    "Splits",
    "Task",
    "TextGeneration",
    "TokenClassification",
    "Translation",
    "audio_classification",
    "classification",
    "image_classification",
    "language_modelling",
    "question_answering",
    "ranking",
    "retrieval",
    "speech_recognition",
    "text_generation",
    "token_classification",
    "translation",
]
