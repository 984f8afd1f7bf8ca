"""A commented study for a user's own data and this machine: what `workbench init DATA` writes."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from workbench import training
from workbench.cli.init_recommendation import recommendation_study
from workbench.cli.init_texts import HEAD, METHODS, end, few_labels
from workbench.data import fingerprints, inspection, models
from workbench.data.builtin import MODELS
from workbench.data.forms import BUILT_IN
from workbench.data.labelled import LABEL, TEXT, AlikeLabels, LabelledTexts, in_order
from workbench.data.media import LabelledFiles
from workbench.data.tagged import TaggedWords
from workbench.errors import EnvironmentFault, UsageError
from workbench.report.caveats import few_examples

FEW_LABELS = 256
"""Heads that are fitted on embeddings are tried too where the smaller number of labels is at most
this. On `pytopics` they were the best with 64 to 256 labels (`studies/intents.py`).
"""

WRITER = "smollm2-135m"
"""A language model that needs no network. On a CPU it takes seconds to be asked for the classes of
a hundred texts.
"""

WITH_HEAD = ("image_classification", "audio_classification")
"""Tasks whose studies have a method that tunes the output layer alone."""

FETCHED = {
    "image_classification": ("facebook/deit-tiny-patch16-224", "facebook/deit-small-patch16-224"),
    "audio_classification": ("facebook/wav2vec2-base", "facebook/hubert-base-ls960"),
}
"""Small models from the hub, for tasks that no built-in model does."""

TASKS = (
    *("classification", "question_answering", "token_classification", "image_classification", "audio_classification"),
    "recommendation",
)
"""Kinds of task that a study can be written for."""

WHAT = {
    **dict.fromkeys(("classification", "token_classification"), "texts"),
    "question_answering": "questions",
    "image_classification": "images",
    "audio_classification": "sounds",
}
"""The word for what is labelled, by kind of task."""

DEV = 256
"""The most examples that grade where a task is not told how many (`dev=` of `workbench.tasks`)."""

FEWEST = 32
"""The smallest number of labels that is tried beside a larger one."""

ENGLISH = 0.2
"""The share of characters outside ASCII above which a text is taken not to be English, which is
what the built-in models read.
"""


@dataclass(frozen=True)
class Seen:
    """What was found out about the data, to be put into a study.

    Attributes:
        call: The call that makes the task, without `train=` and the closing bracket.
        about: Sentences on what was seen in the data.
        kind: The kind of task, one of `TASKS`.
        score: The score that is maximised, and the others that could be.
        rows: The number of examples to learn from.
        least: The number of labels below which nothing is worth a trial.
        texts: Some of the texts, to see how long they are.
        dev: The number of examples to grade by.
        per_example: The scores that are known example by example, as in `Task.per_example`.
        warned: Sentences on what is doubtful in the data.
        nameless: Whether labels are numbers, or a text has several. A language model is not asked
            for such labels without an example.
    """

    call: str
    about: tuple[str, ...]
    kind: str
    score: tuple[str, ...]
    rows: int
    least: int
    texts: Sequence[str]
    dev: int
    per_example: Sequence[str] = ()
    warned: tuple[str, ...] = ()
    nameless: bool = False


@dataclass(frozen=True)
class Written:
    """A study that was written.

    Attributes:
        text: The file's text.
        told: What of the data has to be known before anything is spent on them, a sentence each.
    """

    text: str
    told: tuple[str, ...]


def study_text(data: str, task: str | None = None, text: str | None = None, label: str | None = None) -> Written:
    """Write a study of a data set, as the text of a file.

    Args:
        data: A built-in data set, a file, a folder, or a name on the hub.
        task: One of `TASKS`; None to tell it by the columns.
        text: The column of the texts; None to look for it.
        label: The column of the labels; None to look for it.

    Returns:
        The study, and what has to be said of the data.

    Raises:
        UsageError: The columns do not tell what the data are for, or there is no task for them; or as `workbench.data.load`.
    """
    if task is None:
        task = BUILT_IN[data] if data in BUILT_IN else inspection.task_of(data)
    if task not in TASKS:
        raise UsageError(
            f"{data!r} looks like data for {task}, and init writes studies for {', '.join(TASKS)}. Name one of them with "
            "--task, or write the study by hand: `workbench init` writes one to begin with."
        )
    if task == "recommendation":
        return Written(*recommendation_study(data))
    if task in FETCHED:
        return _written(_files(data, task, label))
    if task == "token_classification":
        return _written(_entities(data, text, label))
    return _written(_classification(data, text, label) if task == "classification" else _questions(data))


def _classification(data: str, text: str | None, label: str | None) -> Seen:
    several, columns = False, ""
    if data not in BUILT_IN:
        there = inspection.look(data)
        label = label or there.label()
        text = text or there.text(label)
        several = any(isinstance(row.get(label), list) for row in there.rows)
        known = {"text": text, "label": label}
        named = {"text": TEXT, "label": LABEL}
        columns = "".join(
            f", {field}={_quoted(name)}"
            for field, name in known.items()
            if name not in named[field] or sum(each in there.columns for each in named[field]) > 1
        ) + (", several=True" if several else "")
    form = LabelledTexts(text, label, several) if data not in BUILT_IN else LabelledTexts()
    folded = ""
    try:
        found = fingerprints.dataset(data, form)
    except AlikeLabels as error:
        # Two spellings of one label would be two classes. The study
        # is written so that it runs, and says what was folded.
        found = fingerprints.dataset(data, replace(form, fold=True))
        columns += ", fold_labels=True"
        folded = str(error).partition(" Where they are one,")[0]
        folded = f"{folded} They are read as one (fold_labels=True): take that out where they are not."
    labels = in_order(name for example in found.train for name in example["labels"])
    shown = ", ".join(labels[:5]) + (", …" if labels[5:] else "")
    read = f" Texts are in {text!r}, labels in {label!r}." if text else ""
    about = (
        f"{len(found.train):,} texts to learn from with {len(labels)} labels ({shown}), {len(found.dev):,} to grade by, "
        f"{len(found.test):,} held out to the end.{read}",
        *([folded] if folded else []),
        *found.notes,
    )
    score = ("macro_f1", "micro_f1", "subset_accuracy") if several else ("accuracy", "macro_f1")
    texts = [example["text"] for example in found.train[:500]]
    call = f"classification({_quoted(data)}{columns}"
    # A language model is asked for a label by its name, and a number names nothing.
    numbers = all(label.removeprefix("-").isdecimal() for label in labels)
    return Seen(
        call, about, "classification", score, len(found.train), 4 * len(labels), texts, len(found.dev), score,
        warned=(*([folded] if folded else []), *found.notes), nameless=several or numbers,
    )  # fmt: skip


def _questions(data: str) -> Seen:
    found = fingerprints.dataset(data)
    unanswerable = sum(not example["answers"]["text"] for example in found.train)
    none = f", {unanswerable:,} of them without an answer" if unanswerable else ""
    about = (f"{len(found.train):,} questions to learn from{none}, {len(found.dev):,} to grade by, {len(found.test):,} held out.",)
    texts = [f"{example['question']} {example['context']}" for example in found.train[:500]]
    call = f"question_answering({_quoted(data)}"
    score = ("f1", "exact_match")
    return Seen(call, about, "question_answering", score, len(found.train), 128, texts, len(found.dev), score)


def _entities(data: str, text: str | None, label: str | None) -> Seen:
    form = TaggedWords(text, label)
    found = fingerprints.dataset(data, form)
    types = in_order(name for example in found.train for name in form.labels_of(example))
    shown = ", ".join(types[:5]) + (", …" if types[5:] else "")
    about = (
        f"{len(found.train):,} texts to learn from with entities of {len(types)} types ({shown}), {len(found.dev):,} to grade by, "
        f"{len(found.test):,} held out to the end.",
        *found.notes,
    )
    named = {"tokens": text, "tags": label}
    columns = "".join(f", {field}={_quoted(name)}" for field, name in named.items() if name)
    texts = [" ".join(example["tokens"]) for example in found.train[:500]]
    score = ("f1", "precision", "recall", "token_accuracy")
    call = f"token_classification({_quoted(data)}{columns}"
    return Seen(call, about, "token_classification", score, len(found.train), 8 * len(types), texts, len(found.dev))


def _files(data: str, task: str, label: str | None) -> Seen:
    media = "image" if task == "image_classification" else "sound"
    found = fingerprints.dataset(data, LabelledFiles(media, label=label))
    labels = in_order(name for example in found.train for name in example["labels"])
    shown = ", ".join(labels[:5]) + (", …" if labels[5:] else "")
    about = (
        f"{len(found.train):,} {media}s to learn from with {len(labels)} labels ({shown}), {len(found.dev):,} to grade by, "
        f"{len(found.test):,} held out to the end.",
        *found.notes,
    )
    column = f", label={_quoted(label)}" if label else ""
    call = f"{task}({_quoted(data)}{column}"
    score = ("accuracy", "macro_f1")
    return Seen(call, about, task, score, len(found.train), 4 * len(labels), (), len(found.dev), score)


class _Choices(NamedTuple):
    """What a study chooses from, as text.

    Attributes:
        models: The argument `model=`.
        methods: The argument `method=`, with its comment.
        names: What is imported for them.
        groups: Names of groups of models, above the study; empty without groups.
        note: A sentence on the models; empty where there is none to add.
    """

    models: str
    methods: str
    names: tuple[str, ...]
    groups: str = ""
    note: str = ""


def _choices(seen: Seen, models: Sequence[str], fewest: int) -> _Choices:
    """The models and methods for data of which `fewest` labels are tried."""
    shown = f"choice({', '.join(map(_quoted, models))})" if models[1:] else _quoted(models[0])
    names: tuple[str, ...] = (
        "bitfit",
        "choice",
        "full",
        "integers",
        "loguniform",
        "peft",
        *(("head",) if seen.kind in WITH_HEAD else ("logistic",) if seen.kind == "classification" else ()),
    )
    if seen.kind != "classification" or fewest > FEW_LABELS or not _at_hand(models[0]):
        return _Choices(shown, METHODS[seen.kind], names)
    names += ("setfit",)
    if seen.nameless or _is_foreign(seen.texts) or not _at_hand(WRITER):
        return _Choices(shown, few_labels(), names)
    return _Choices(
        "choice(*ENCODERS, *WRITERS)",
        few_labels(encoders="ENCODERS", writers="WRITERS"),
        (*names, "zero_shot"),
        groups=f"ENCODERS, WRITERS = ({', '.join(map(_quoted, models))}), ({_quoted(WRITER)},)\n\n",
        note=f" {WRITER} is a language model, which is only asked here.",
    )


def _written(seen: Seen) -> Written:
    trains = _sizes(seen.rows, seen.least)
    train = f"choice({trains[0]}, {trains[1]})" if trains[1:] else str(trains[0])
    models, machine = _models()
    if seen.kind in FETCHED:
        models, machine = [*FETCHED[seen.kind]], "Small ones, which are fetched from the model hub."
    chosen = _choices(seen, models, trains[0])
    machine += chosen.note
    length, tokens = _length(seen.texts, models[0]) if seen.texts else (0, "")
    what = WHAT[seen.kind]
    others = " or ".join(f'"{name}"' for name in seen.score[1:])
    scores = f"  # or another score of the task: {others}" if others else ""
    foreign = ""
    if _is_foreign(seen.texts):
        foreign = "\n        # Your texts are not in English, which these models were made for: name one for your language."
    questions = seen.kind == "question_answering"
    steps, size = ("1, 2", "") if questions else ("4, 8", f", max_length={length}" if seen.texts else "")
    tokens = "" if questions else tokens
    graded = min(seen.dev, DEV)
    known = graded if seen.score[0] in seen.per_example else None
    doubts = few_examples({"graded_examples": graded, "dev_examples": known, "dev_whole": seen.dev < DEV})
    about = "\n        # ".join(_folded(" ".join((*seen.about, tokens, *doubts))))
    sizes = "\n        # Two numbers of them are tried." if trains[1:] else ""
    machine = "\n        # ".join(_folded(machine))
    text = f'''"""Which model, tuned how and on how many labels, does best on my {what} per dollar?"""

{HEAD}
from workbench import {", ".join(("Recipe", "Study", *sorted(chosen.names)))}
from workbench.tasks import {seen.kind}

{chosen.groups}study = Study(
    Recipe(
        # The data. {about}
        # `train` is how many labelled {what} are used: what people are paid for (`label_usd` below).{sizes}
        task={seen.call}, train={train}{size}),
        # The models.
        # {machine}{foreign}
        # Others: a name on the model hub ("name@revision"), or a folder.
        model={chosen.models},{chosen.methods}
        # Passes over the data. Every checkpoint on the way is a model that could be deployed, and a point of the front.
        epochs=integers({steps}),
        batch_size=8,
    ),
    maximize="{seen.score[0]}",{scores}
{end(12 if "setfit" in chosen.names else 8)}'''
    return Written(text, (*seen.warned, *doubts))


def _is_foreign(texts: Sequence[str | Sequence[str]]) -> bool:
    """Whether texts have more characters that are not ASCII than English has."""
    plain = ["".join(text) for text in texts]
    return sum(not character.isascii() for text in plain for character in text) > ENGLISH * sum(map(len, plain))


def _at_hand(model: str) -> bool:
    """Whether a built-in model is installed."""
    try:
        return MODELS[model].place.exists()
    except EnvironmentFault:
        return False


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _sizes(rows: int, least: int) -> list[int]:
    """Return the numbers of labels to try: a small one, and four times as many where there are so
    many rows, never more than there are.

    With few rows all of them are tried, and a quarter of them where that is at least `least` and
    `FEWEST`.
    """
    few = 128
    while few < least:
        few *= 2
    few = min(few, rows)
    if rows >= 1.5 * few:
        return [few, min(4 * few, rows)]
    # A quarter, in whole batches of 8.
    small = max(least, FEWEST, rows // 32 * 8)
    return [small, rows] if rows >= 2 * small else [few]


def _models() -> tuple[list[str], str]:
    """Return the models that fit this machine, the smallest first, and a sentence that says why."""
    if training.device().type != "cpu":
        return ["minilm-l3", "minilm-l6"], "Built-in ones, which need no network; this machine's GPU has room for far larger ones."
    return ["minilm-l2", "minilm-l3"], "Built-in ones that this machine, without a GPU, tunes in a minute; minilm-l6 is larger."


def _length(texts: Sequence[str | Sequence[str]], model: str) -> tuple[int, str]:
    """Return the tokens that a row needs to hold 19 in 20 texts, from 32 to 256, and a sentence on
    it.
    """
    plain = [text if isinstance(text, str) else " ".join(text) for text in texts]
    try:
        sizes = [len(ids) for ids in models.tokenizer(model)(plain, verbose=False)["input_ids"]]
    except EnvironmentFault:  # the built-in models are not installed: the plan says so
        sizes = [len(text) // 3 for text in plain]
    # The last of 19 cuts into twentieths is the 95 % quantile.
    cut = statistics.quantiles(sizes, n=20)[-1] if sizes[1:] else max(sizes)
    length = min(256, max(32, 16 * -(-int(cut) // 16)))
    return length, f"They have {statistics.median(sizes):.0f} tokens in the median; max_length={length} holds 19 of 20 whole."


def _folded(text: str, width: int = 112) -> list[str]:
    return textwrap.wrap(text.replace("\n", " "), width, break_long_words=False)
