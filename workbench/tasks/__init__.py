"""Tasks: data, prompts and answers, and the score that grades them. One short file a task, without tensor code.

alarm_scores          precision and delay of alarms, by river's Page-Hinkley test
audio_classification  the task: which class a sound is of
base                  Task and Splits: what a task is
class_scores          accuracy, F1 and calibration error
classification        the task: which class or classes a text is of
continual             the task: several tasks, one after the other
entity_scores         entity F1, by seqeval
hand_over             answers or a person: precision, and what is answered at it
image_classification  the task: which class an image is of
language_modelling    the task: to know the language of some texts
media                 the base of tasks about images or sound
monitoring            the task: the class of each text of a stream, and alarms
question_answering    the task: the answer to a question, out of a text
perturbations         typos, other words, negations, hidden instructions: how robust a model is
ranking               the task: candidates for a query, put in order
ranking_scores        NDCG, MRR and others, by trec_eval itself
recommendation        the task: what a user has next, out of all items
refusals              whether a model declines what is harmful, and answers what is not
request               what a request for a prediction holds
retrieval             the task: documents found by embeddings
rewording             English in other words, and negated, by rule
searches              the base of tasks about queries and documents
source                a fingerprint of a user's own task's code
speech_recognition    the task: what is said in a sound
speech_scores         word and character error rates, by jiwer
squad_score           exact match and F1 by SQuAD's rules
support               the task: an answer that was given before, or a person
tables                the base of tasks whose data are a table of texts
text_generation       the task: prompts answered by text
text_scores           BLEU, chrF, ROUGE, by kept libraries
token_classification  the task: entities in a text
translation           the task: a text in another language
"""

from __future__ import annotations

from workbench.formulations import Example
from workbench.tasks.audio_classification import AudioClassification, audio_classification
from workbench.tasks.base import Splits, Task
from workbench.tasks.classification import Classification, classification
from workbench.tasks.continual import Continual, continual
from workbench.tasks.image_classification import ImageClassification, image_classification
from workbench.tasks.language_modelling import LanguageModelling, language_modelling
from workbench.tasks.monitoring import Monitoring, monitoring
from workbench.tasks.question_answering import QuestionAnswering, question_answering
from workbench.tasks.ranking import Ranking, ranking
from workbench.tasks.recommendation import Recommendation, recommendation
from workbench.tasks.retrieval import Retrieval, retrieval
from workbench.tasks.speech_recognition import SpeechRecognition, speech_recognition
from workbench.tasks.support import Support, support
from workbench.tasks.text_generation import TextGeneration, text_generation
from workbench.tasks.token_classification import TokenClassification, token_classification
from workbench.tasks.translation import Translation, translation

__all__ = [
    "AudioClassification",
    "Classification",
    "Continual",
    "Example",
    "ImageClassification",
    "LanguageModelling",
    "Monitoring",
    "QuestionAnswering",
    "Ranking",
    "Recommendation",
    "Retrieval",
    "SpeechRecognition",
    "Splits",
    "Task",
    "Support",
    "TextGeneration",
    "TokenClassification",
    "Translation",
    "audio_classification",
    "classification",
    "continual",
    "image_classification",
    "language_modelling",
    "monitoring",
    "question_answering",
    "ranking",
    "recommendation",
    "retrieval",
    "speech_recognition",
    "support",
    "text_generation",
    "token_classification",
    "translation",
]
