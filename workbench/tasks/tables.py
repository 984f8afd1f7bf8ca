"""Tasks whose data are a table of texts: how they are read, cut to the labels that are bought, and told of."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workbench.data import fingerprints, redaction
from workbench.data.forms import Form
from workbench.data.labelled import check_names, in_order, in_words
from workbench.data.tables import Table
from workbench.errors import UsageError
from workbench.formulations import Example
from workbench.space import Space, check, is_whole
from workbench.tasks import perturbations
from workbench.tasks.base import Splits, Task


@dataclass(frozen=True, kw_only=True)
class TableTask(Task):
    """Base of tasks that read a table. A task says by its `form` which columns those are.

    Attributes:
        data: A built-in data set, a file, a folder of them, or a name on the hub, as
            `workbench.data.load` takes it.
        train: Labelled examples to train on. A smaller number takes a prefix of what a larger one
            takes.
        dev: The most examples that grade each checkpoint; the data may have fewer.
        test: The most examples held out to the end.
        seed: Orders the training examples. Dev and test are the same for every seed.
        name: What reports call the task; None calls it by its data.
        redact: What is replaced by placeholders as the data are read, kinds out of
            `workbench.data.redaction.KINDS`; None: nothing.
        perturb: How the examples that grade are perturbed as well, kinds out of
            `workbench.tasks.perturbations.KINDS`; None: not at all.
    """

    data: str
    train: int
    dev: int = 256
    test: int = 1024
    seed: int = 0
    name: str | None = None
    redact: tuple[str, ...] | None = field(default=None, metadata={"later": True})
    perturb: tuple[str, ...] | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "redact", redaction.checked(self.redact))
        object.__setattr__(self, "perturb", perturbations.checked(self.perturb, opposites=bool(getattr(self, "opposites", None))))
        # `low=low`: a lambda would see the value of the last turn of the loop.
        for setting, low in {"train": 0, "dev": 1, "test": 0, "seed": 0}.items():
            check(self, setting, lambda value, low=low: is_whole(value) and value >= low, f"a whole number of at least {low}")  # type: ignore[misc]
        check(self, "name", lambda value: value is None or isinstance(value, str), "a name, or None")
        if not isinstance(self.data, (str, Space)) or not self.data:
            raise UsageError(f"data must be the name of a data set, or the path of a file or folder; got {self.data!r}.")

    @property
    def finders(self) -> tuple[str, ...]:
        """What is redacted, and by what, as a form takes it."""
        return redaction.finders(self.redact or ())

    @property
    @abstractmethod
    def form(self) -> Form:
        """Which columns are read, and what becomes of their rows."""

    def splits(self) -> Splits:
        # Cut after shuffling by the data's seed: a smaller training set is a prefix of a larger
        # one.
        train, dev, test = _shuffled(self.data, self.form, self.digest(), self.seed)
        if self.train > len(train):
            raise UsageError(f"train={self.train}: {self.data!r} has {len(train)} examples to train on. Ask for at most that many.")
        return Splits(train[: self.train], dev[: self.dev], test[: self.test])

    def pool(self) -> Sequence[Example]:
        return _shuffled(self.data, self.form, self.digest(), self.seed)[0]

    def digest(self) -> str:
        return fingerprints.data(self.data, self.form)

    def notes(self) -> list[str]:
        self.splits()
        return [*fingerprints.dataset(self.data, self.form).notes, *self.redaction_notes()]


@dataclass(frozen=True, kw_only=True)
class LabelledTask(TableTask):
    """Base of tasks that read a table with labels.

    Attributes:
        labels: All labels there may be, each with what it is called in words, as `named` makes them; empty: those of train.
        group: Column of groups, by which scores are told apart; None: `group`, where there is one.
    """

    labels: tuple[tuple[str, str], ...] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(dict(self.labels), "labels=")
        self.form  # noqa: B018  what is wrong with the columns is found here

    @property
    @abstractmethod
    def form(self) -> Table:
        """As of any table; its `labels_of` gives the labels of an example."""

    def portable(self) -> Task:
        return dataclasses.replace(self, labels=tuple(self.words().items()))

    def sharing(self, other: Task) -> Task:
        own = self.words()
        if isinstance(other, LabelledTask) and {*other.words()} <= {*own}:
            return dataclasses.replace(other, labels=tuple(own.items()))
        return other

    def words(self) -> dict[str, str]:
        """All labels in their order, each in words."""
        return dict(self.labels or _words(self.data, self.form, self.digest()))


def named(labels: Mapping[object, str] | Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Pair each label that a user gives with its name in words: the value of a mapping, else the
    label's own words.

    Raises:
        UsageError: `labels` is a single text.
    """
    if isinstance(labels, str):
        raise UsageError(f"labels={labels!r}: give all labels in a list, or what each is called in a mapping.")
    pairs = labels.items() if isinstance(labels, Mapping) else ((each, in_words(str(each))) for each in labels or ())
    return tuple((str(each), said) for each, said in pairs)


def columns(given: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Return the name of a column, or those of several as a tuple: tasks need a hash."""
    return given if given is None or isinstance(given, str) else tuple(given)


@functools.lru_cache(maxsize=8)
def _words(data: str, form: Table, digest: str) -> tuple[tuple[str, str], ...]:
    # The digest is a part of the key alone, here and below: an edited file is read again.
    train = fingerprints.dataset(data, form).train
    return tuple((name, in_words(name)) for name in in_order(name for example in train for name in form.labels_of(example)))


@functools.lru_cache(maxsize=8)
def _shuffled(data: str, form: Form, digest: str, seed: int) -> tuple[tuple[Example, ...], ...]:
    found = fingerprints.dataset(data, form)
    return found.shuffled("train", seed), found.shuffled("dev"), found.shuffled("test")


@functools.lru_cache(maxsize=4)
def texts_of(data: str, form: Form, digest: str) -> dict[str, str]:
    """The documents or items of a data set with their texts, by their names, in an order that depends on the names alone: which
    ones are searched, and which of two that score alike comes first, depends on no order of the file and on no seed.
    """
    found = {each["id"]: each["text"] for each in fingerprints.dataset(data, form).documents}
    return {name: found[name] for name in sorted(found, key=lambda name: hashlib.blake2b(name.encode()).digest())}
