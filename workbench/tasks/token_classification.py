"""Token classification: which words of a text are entities, and of what type; encoders tag them, language models write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import formulations
from workbench.data import redaction
from workbench.data.tagged import TaggedWords
from workbench.formulations import Example, Formulation
from workbench.space import check, is_whole
from workbench.tasks import request
from workbench.tasks.entity_scores import entity_scores
from workbench.tasks.tables import LabelledTask, named


@dataclass(frozen=True, kw_only=True)
class TokenClassification(LabelledTask):
    """Find the entities of a text; made by `token_classification`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "token_accuracy")
    bounds: ClassVar[tuple[str, ...]] = ("max_length", "max_new_tokens")
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)

    tokens: str | None
    tags: str | None
    names: tuple[str, ...]
    max_length: int
    stride: int
    max_new_tokens: int
    instruction: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, low in {"max_length": 8, "stride": 0, "max_new_tokens": 1}.items():
            check(self, field, lambda value, low=low: is_whole(value) and value >= low, f"a whole number of at least {low}")  # type: ignore[misc]

    @property
    def form(self) -> TaggedWords:
        return TaggedWords(
            self.tokens, self.tags, self.names, tuple(name for name, _ in self.labels), self.group, redact=self.finders
        )

    def formulation(self, kind: str) -> Formulation:
        limits = formulations.TokenLimits(max_length=self.max_length, stride=self.stride, max_new_tokens=self.max_new_tokens)
        text = formulations.TaggedText(_words, _tags)
        return formulations.token_classification(kind, self, self.words(), text, limits, instruction=self.instruction)

    def asked(self) -> Mapping[str, str]:
        return {"tokens": request.TEXTS}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "tags": ["O"] * len(row["tokens"])}

    def score(self, examples: Sequence[Example], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
        return entity_scores([_tags(example) for example in examples], predictions)


def _words(example: Example) -> Sequence[str]:
    words: Sequence[str] = example["tokens"]
    return words


def _tags(example: Example) -> Sequence[str]:
    tags: Sequence[str] = example["tags"]
    return tags


def token_classification(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    tokens: str | None = None,
    tags: str | None = None,
    names: Sequence[str] = (),
    labels: Mapping[object, str] | Sequence[str] | None = None,
    group: str | None = None,
    max_length: int = 128,
    stride: int = 32,
    max_new_tokens: int = 64,
    instruction: str = "Name every {types} in this text, as type: words; type: words. If there is none, say none.",
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
) -> TokenClassification:
    """Entities of texts, scored by seqeval's strict precision, recall and F1 over whole entities (0
    to 100), and by words.

    Args:
        data: A file of CoNLL's columns (`.conll`, `.bio`, `.iob`, `.iob2`, `.txt`), a table with
            lists of words and tags, one of texts with spans of characters, a SQuAD file with a
            question for each type; a folder of them, or a name on the hub.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most examples that grade each checkpoint; the data may have fewer.
        test: The most examples held out to the end.
        tokens: Column of the words; None: the one called `tokens` or `words`.
        tags: Column of the tags (BIO, BIOES or BILOU), or of the spans; None: the one called
            `tags`, `ner_tags` or `labels`.
        names: Names of the tags in the order of their numbers, where the data has numbers.
        labels: All types of entity there may be; or a mapping to what a language model is to call
            them. None: those of train.
        group: Column of groups, such as languages: the scores of the worst group are recorded too
            (`worst_group_f1`).
        max_length: Tokens of an encoder's row, special tokens included. A longer text is read in
            several rows.
        stride: Tokens that neighbouring rows of a text share.
        max_new_tokens: Tokens of a language model's answer at most.
        instruction: The question that a language model is asked after the text; `{types}` in it
            stands for the names of the types.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    return TokenClassification(
        data=data, train=train, dev=dev, test=test, tokens=tokens, tags=tags, names=tuple(names), labels=named(labels), group=group,
        max_length=max_length, stride=stride, max_new_tokens=max_new_tokens, instruction=instruction, seed=seed, name=name,
        redact=redaction.checked(redact),
    )  # fmt: skip
