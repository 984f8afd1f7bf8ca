"""Support: questions of customers, answered as they were before or handed over to a person."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench.data import cache, fingerprints, redaction
from workbench.data.past_answers import PastAnswers, held_by_another
from workbench.formulations import Example, Ranking
from workbench.space import check, is_number
from workbench.tasks.hand_over import Reply, hand_over_scores
from workbench.tasks.retrieval import Retrieval


@dataclass(frozen=True, kw_only=True)
class Support(Retrieval):
    """Answer or hand over; made by `support`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = (
        "answered_at_precision", "answer_f1", "answer_precision", "recall_at_1", "recall_at_10",
    )  # fmt: skip
    lower_is_better: ClassVar[tuple[str, ...]] = ("hand_over_rate",)

    precision: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "precision", lambda v: is_number(v) and 0 < v < 1, "a share between 0 and 1")

    @property
    def form(self) -> PastAnswers:
        return PastAnswers(self.query, self.positive, None, self.group, redact=self.finders)

    def digest(self) -> str:
        # Examples once stood in the order of their answers' alphabet: what learned of those first ones is another result.
        return hashlib.sha256(f"{super().digest()} in a random order".encode()).hexdigest()[:16]

    @property
    def answers(self) -> Mapping[str, str]:
        """The answer that each document stands for."""
        return _answers(self.data, self.form, self.digest())

    def notes(self) -> list[str]:
        folder = cache.expanded(self.data)
        held = held_by_another(folder, self.form) if folder.is_dir() else {}
        told = [f"All of {name} stands in {whole}, too: {name} is left out." for name, whole in held.items()]
        return [*told, *super().notes()]

    def score(self, examples: Sequence[Example], predictions: Sequence[Ranking]) -> dict[str, float]:
        answers = self.answers
        known = {answers[name] for name in self.searched(examples)}
        replies, places = [], []
        for example, ranking in zip(examples, predictions, strict=True):
            gold = example["answer"] if example["answer"] in known else ""
            told = [answers[name] for name, _ in ranking]
            nearest = ranking[0][1]
            other = next((cosine for said, (_, cosine) in zip(told, ranking, strict=True) if said != told[0]), 0.0)
            # How near it is, by how much nearer than any other answer, and both: which of them
            # tells best where the answer is right differs from data to data.
            sure = (nearest, nearest - other, 2 * nearest - other)
            replies.append(Reply(told[0], sure, told[0] == gold, gold))
            if gold:
                places.append(told.index(gold) if gold in told else len(told))
        recalls = {f"recall_at_{k}": 100 * sum(place < k for place in places) / len(places) for k in (1, 10) if places}
        return {**hand_over_scores(replies, self.precision), **recalls}


@functools.lru_cache(maxsize=4)
def _answers(data: str, form: PastAnswers, digest: str) -> dict[str, str]:
    return {each["id"]: each["answer"] for each in fingerprints.dataset(data, form).documents}


def support(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    documents: int | None = 1024,
    precision: float = 0.9,
    question: str | None = None,
    answer: str | None = None,
    group: str | None = None,
    max_length: int = 128,
    temperature: float = 0.05,
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
) -> Support:
    """Customer service: the answer that was given before, found by an embedding model, or a person.

    It is scored by the share of questions that are answered where a stated share of the answers
    must be right, by SQuAD v2's F1 of the answers, and by how often the right one is found (0 to
    100). Some questions cannot be answered, and should be handed over.

    Args:
        data: `"pysupport"`; a file with columns `question` (or `text`) and `answer` (or `label`,
            `category`, `intent`), or a folder of such; or SQuAD files, as
            `workbench.data.past_answers` reads them.
        train: Labelled examples to train on: questions with the right answer. A smaller number
            takes a prefix of what a larger one takes. The collection is there without them.
        dev: The most questions that grade each checkpoint; the data may have fewer.
        test: The most questions held out to the end.
        documents: Documents that are searched, at most; None: all.
        precision: Share of the given answers that should be right. How sure a model must be, by
            how near an answer is or how much nearer than others, is set on one half of the graded
            questions and used on the other, then the reverse.
        question: Column of the questions, where it is called otherwise.
        answer: Column of the answers, likewise. An empty one is no answer: to be handed over.
        group: Column of groups, such as languages: the scores of the worst group are recorded too.
        max_length: Tokens of a question or document, special tokens included.
        temperature: Cosines are divided by it in the loss.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return Support(
        data=data, train=train, dev=dev, test=test, documents=documents, precision=precision, query=question, positive=answer,
        group=group, max_length=max_length, temperature=temperature, seed=seed, name=name, redact=redaction.checked(redact),
    )  # fmt: skip
