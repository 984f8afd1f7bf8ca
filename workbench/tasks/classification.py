"""Classification: which class a text is of, or which several; encoders mark it, language models write its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench import formulations
from workbench.data import redaction
from workbench.data.labelled import LabelledTexts, fold_label
from workbench.errors import DataError, UsageError, did_you_mean
from workbench.formulations import Example, Formulation, Labelled
from workbench.space import check, is_whole
from workbench.tasks import perturbations, request
from workbench.tasks.base import Splits
from workbench.tasks.class_scores import commonest_scores, label_scores, several_scores
from workbench.tasks.tables import LabelledTask, columns, named


@dataclass(frozen=True, kw_only=True)
class Classification(LabelledTask):
    """Tell the class of a text; made by `classification`, which explains the fields."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    lower_is_better: ClassVar[tuple[str, ...]] = ("calibration_error",)
    per_example: ClassVar[tuple[str, ...]] = metrics
    bounds: ClassVar[tuple[str, ...]] = ("max_length",)
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    teachable: ClassVar[bool] = True
    several: ClassVar[bool] = False

    text: str | tuple[str, ...] | None
    label: str | tuple[str, ...] | None
    max_length: int
    instruction: str
    # `later`: left out of a recipe while it has its default, so ids from before the field still
    # hold.
    fold_labels: bool = field(default=False, metadata={"later": True})
    opposites: tuple[tuple[str, str], ...] | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "max_length", lambda value: is_whole(value) and value >= 8, "a whole number of at least 8")
        if not isinstance(self.fold_labels, bool):  # no hole either: it decides which classes there are
            raise UsageError(f"fold_labels must be True or False; got {self.fold_labels!r}.")

    @property
    def form(self) -> LabelledTexts:
        return LabelledTexts(
            self.text,
            self.label,
            self.several,
            tuple(name for name, _ in self.labels),
            self.group,
            self.fold_labels,
            redact=self.finders,
        )

    def formulation(self, kind: str) -> Formulation:
        return formulations.classification(
            kind, self, self.words(), _text, _labels, max_length=self.max_length, instruction=self.instruction, several=self.several
        )

    def splits(self) -> Splits:
        found, known = super().splits(), [*self.words()] if self.opposites else []
        for name in dict(self.opposites or ()):
            if name not in known:
                raise UsageError(f"opposites names {name!r}, which is no label of {self.data!r}.{did_you_mean(name, known)}")
        return found

    def opposite(self, example: Example) -> Example | None:
        other = None if self.several else dict(self.opposites or ()).get(example["labels"][0])
        return None if other is None else self.with_class(example, other)

    def told(self, example: Example, prediction: Labelled) -> Example | None:
        return {**example, "labels": [*prediction.labels]} if self.several or prediction.labels else None

    def class_names(self) -> Sequence[str]:
        return () if self.several else [*self.words()]

    def asked(self) -> Mapping[str, str]:
        return {"text": request.TEXT if isinstance(self.text, str | None) else request.TEXTS}

    def example(self, row: Mapping[str, Any]) -> Example:
        texts = 1 if isinstance(self.text, str | None) else len(self.text)
        if texts > 1 and len(row["text"]) != texts:
            raise DataError(f"text must be a list of {texts} texts; got {len(row['text'])}.")
        return {**row, "labels": []}

    def constant_scores(self) -> dict[str, float]:
        return {} if self.several else commonest_scores(self.splits().dev)

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        return label_scores(examples, predictions)


class SeveralLabels(Classification):
    """Tell all classes of a text; made by `classification(…, several=True)`."""

    metrics: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "subset_accuracy")
    lower_is_better: ClassVar[tuple[str, ...]] = ()
    per_example: ClassVar[tuple[str, ...]] = metrics
    several: ClassVar[bool] = True

    def score(self, examples: Sequence[Example], predictions: Sequence[Labelled]) -> dict[str, float]:
        return several_scores([_labels(example) for example in examples], [each.labels for each in predictions], [*self.words()])


def _text(example: Example) -> str | tuple[str, str]:
    return example["text"] if isinstance(example["text"], str) else tuple(example["text"])


def _labels(example: Example) -> Sequence[str]:
    labels: Sequence[str] = example["labels"]
    return labels


def _both_ways(opposites: Mapping[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    if opposites is not None and not isinstance(opposites, Mapping):
        raise UsageError(f'opposites={opposites!r}: give a label for a label: opposites={{"positive": "negative"}}.')
    pairs = [(str(one), str(other)) for one, other in (opposites or {}).items()]
    return tuple(sorted({*pairs, *((other, one) for one, other in pairs)})) or None


def classification(
    data: str,
    *,
    train: int,
    dev: int = 256,
    test: int = 1024,
    text: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    labels: Mapping[object, str] | Sequence[str] | None = None,
    group: str | None = None,
    several: bool = False,
    max_length: int = 128,
    instruction: str = "The topic of this text in one or two words:",
    fold_labels: bool = False,
    seed: int = 0,
    name: str | None = None,
    redact: str | Sequence[str] | None = None,
    perturb: str | Sequence[str] | None = None,
    opposites: Mapping[str, str] | None = None,
) -> Classification:
    """Classification of texts, scored by accuracy and macro-averaged F1 (0 to 100); the calibration
    error is recorded beside them.

    Args:
        data: `"pytopics"` or `"opinions"`; a file (CSV, TSV, JSON, JSON lines, parquet, Arrow), a
            folder of them, or a name on the hub.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most examples that grade each checkpoint; the data may have fewer.
        test: The most examples held out to the end.
        text: Column of the text, or the two columns of a pair; None: the one called `text`,
            `sentence` or `utterance`.
        label: Column of the label; None: the one called `label`, `category`, `intent` or `class`.
        labels: All labels there may be; or a mapping to what a language model is to call them.
            None: those of the training side.
        group: Column of groups, such as languages: the scores of the worst group are recorded too
            (`worst_group_accuracy`).
        several: A text may have any number of labels: in a list, or in a text with | between them;
            or `label` names columns of 0 and 1. Scored by micro and macro F1, and by subset
            accuracy.
        max_length: Tokens of an encoder's row, special tokens included. A longer one loses its end.
        instruction: The question that a language model is asked after the text.
        fold_labels: Labels that differ only by case, blanks and underscores are one: they are read
            in lower case, with blanks. Such labels are refused otherwise, as most of them are slips
            of the keyboard.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, before anything is kept:
            kinds out of `email`, `phone`, `card`, `iban` and `name`, or `"all"`; None: nothing.
        perturb: What users write is also graded with slips of the keyboard (`typos`), all in `capitals`, in other words
            (`paraphrase`), with a `negation` that changes nothing, with a hidden instruction (`injection`), or turned into its
            opposite (`negated`, where `opposites` are known): the metrics of each stand beside the others (`typos_accuracy`);
            None: not.
        opposites: Labels whose texts have the other's label once they are negated: `{"positive": "negative"}`, which holds both
            ways.

    Raises:
        UsageError: A value is out of its range. Data is read later, by `splits`.
    """
    kind = SeveralLabels if several else Classification
    known = named(labels)
    if fold_labels is True:
        # Labels that fold to one are one, called by the words of the last.
        known = tuple({fold_label(label): said for label, said in known}.items())
    return kind(
        data=data, train=train, dev=dev, test=test, text=columns(text), label=columns(label), group=group, max_length=max_length,
        labels=known, instruction=instruction, fold_labels=fold_labels, seed=seed, name=name, redact=redaction.checked(redact),
        perturb=perturbations.checked(perturb, opposites=bool(opposites)), opposites=_both_ways(opposites),
    )  # fmt: skip
