"""Question answering from a text: the answer is a part of it, which an encoder marks and a language model writes; or none."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench.data import fingerprints, redaction
from workbench.data.forms import Form
from workbench.data.readers import QUESTIONS
from workbench.errors import UsageError
from workbench.formulations import Example, Formulation, SpanExtraction, text_generation
from workbench.space import Space, check, is_number, is_whole
from workbench.tasks import perturbations, request
from workbench.tasks.base import Splits, Task
from workbench.tasks.squad_score import check_language, squad_score
from workbench.tasks.tables import TableTask

NO_ANSWER = "unanswerable"
"""What a language model is to say where a text does not answer."""


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(TableTask):
    """Answer questions by a span of a context; made by `question_answering`, which explains the
    fields.
    """

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    per_example: ClassVar[tuple[str, ...]] = metrics
    bounds: ClassVar[tuple[str, ...]] = ("max_length", "stride", "max_answer_tokens")
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    teachable: ClassVar[bool] = True

    max_length: int
    stride: int
    max_answer_tokens: int
    null_threshold: float
    language: str
    # Whether there may be no answer; None: as the training side has it. Set by `portable` alone.
    unanswerable: bool | None = field(default=None, metadata={"later": True})
    group: str | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        for each, low in {"max_length": 32, "stride": 0, "max_answer_tokens": 1}.items():
            check(self, each, lambda value, low=low: is_whole(value) and value >= low, f"a whole number of at least {low}")  # type: ignore[misc]
        check(self, "null_threshold", lambda value: is_number(value) and math.isfinite(value), "a finite number")
        if not isinstance(self.language, Space):
            check_language(self.language)

    def provision(self) -> None:
        super().provision()
        # The first score imports torchmetrics, which no run should pay for.
        squad_score([""], [[""]], self.language)

    def splits(self) -> Splits:
        # Not in `__post_init__`: while a recipe is put together, each of the two may still be a
        # hole.
        if self.stride >= self.max_length - self.max_length // 2:
            raise UsageError(
                f"stride={self.stride} leaves no room to advance in rows of max_length={self.max_length}, half of which a "
                "question may take. Lower the stride or raise max_length."
            )
        return super().splits()

    @property
    def form(self) -> Form:
        """How the data are read."""
        return dataclasses.replace(QUESTIONS, redact=self.finders, group=self.group)

    def told(self, example: Example, prediction: str) -> Example | None:
        start = example["context"].find(prediction)
        if not prediction:  # which is an answer only where there may be none
            return {**example, "answers": {"text": [], "answer_start": []}} if self._has_unanswerable() else None
        # What a writer says in words of its own can be marked nowhere.
        return {**example, "answers": {"text": [prediction], "answer_start": [start]}} if start >= 0 else None

    def answered(self, example: Example, answer: str) -> Example | None:
        if answer == NO_ANSWER:
            return {**example, "answers": {"text": [], "answer_start": []}}
        # A person may use words of their own: these grade, and cannot be marked.
        return {**example, "answers": {"text": [answer], "answer_start": [example["context"].find(answer)]}}

    def formulation(self, kind: str) -> Formulation:
        if kind == "encoder":
            return SpanExtraction(self.max_length, self.stride, self.max_answer_tokens, self.null_threshold, self._has_unanswerable)
        return text_generation(kind, self, _prompt, _answer, max_new_tokens=self.max_answer_tokens)

    def _has_unanswerable(self) -> bool:
        if self.unanswerable is not None:
            return self.unanswerable
        # The training side decides for all: a grade must not tell on its question.
        return _has_unanswerable(self.data, self.form, self.digest())

    def asked(self) -> Mapping[str, str]:
        return {"question": request.TEXT, "context": request.TEXT}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "answers": {"text": [], "answer_start": []}}

    def portable(self) -> Task:
        return dataclasses.replace(self, unanswerable=self._has_unanswerable())

    def score(self, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
        given = ["" if prediction == NO_ANSWER else prediction for prediction in predictions]
        return squad_score(given, [example["answers"]["text"] for example in examples], self.language)


def _prompt(example: Example) -> str:
    return (
        f"Answer the question with a few words of the text and nothing else.\n\nText: {example['context']}\n\n"
        f"Question: {example['question']}\nAnswer:"
    )


def _answer(example: Example) -> str:
    return str(next(iter(example["answers"]["text"]), NO_ANSWER))


def question_answering(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    max_length: int = 192,
    stride: int = 32,
    max_answer_tokens: int = 48,
    null_threshold: float = 0.0,
    language: str = "en",
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
    perturb: str | Sequence[str] | None = None,
    group: str | None = None,
) -> QuestionAnswering:
    """Extractive question answering, scored by exact match and F1 (0 to 100) as SQuAD is.

    Args:
        data: `"pydocs"`, a file (SQuAD v1.1 or v2, JSON lines, parquet), a folder of them, or a
            name on the hub.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most examples that grade each checkpoint; the data may have fewer.
        test: The most examples held out to the end.
        max_length: Tokens of a row, question and special tokens included. Longer contexts become
            several windows.
        stride: Tokens of context that neighbouring windows share.
        max_answer_tokens: Tokens of an answer at most.
        null_threshold: How much likelier, in logits, no answer must be than the best span. Read
            only where the training data has unanswerable questions.
        language: Whose rules score the answers: en, de, es, vi, ar, hi or zh.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.
        perturb: The question is also graded with slips of the keyboard (`typos`), all in `capitals`, in other words
            (`paraphrase`), with a `negation` that changes nothing, or with a hidden instruction (`injection`): the metrics of
            each stand beside the others (`typos_f1`); None: not.
        group: Column of groups, such as who asks or in which language: the key of it stands beside the question. The scores of
            the worst group and the gap to the best are recorded too. None: there are none.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return QuestionAnswering(
        data=data, train=train, dev=dev, test=test, max_length=max_length, stride=stride, max_answer_tokens=max_answer_tokens,
        null_threshold=null_threshold, language=language, seed=seed, name=name, redact=redaction.checked(redact),
        perturb=perturbations.checked(perturb), group=group,
    )  # fmt: skip


@functools.lru_cache(maxsize=8)
def _has_unanswerable(data: str, form: Form, digest: str) -> bool:
    # The digest is a part of the key alone: an edited file is read again.
    return any(not example["answers"]["text"] for example in fingerprints.dataset(data, form).train)
